//! One setting after the other changed from what is shipped, so that each can be seen by itself.

use std::fmt;
use std::time::Duration;

use rayon::prelude::*;

use super::figures::Figures;
use super::hpa::{Change, Policy};
use super::pods::Delays;
use super::scene::{Machine, Scene, Trace};
use super::world::play;

/// A change of a scene, and how it is told.
type Variation = (&'static str, fn(&mut Scene));

/// What is changed.
const VARIATIONS: &[Variation] = &[
    ("as shipped", |_| ()),
    ("the queue alone", |scene| scene.scaling.hpa.targets.truncate(1)),
    ("load 0.6", |scene| load(scene, 0.6, 300)),
    ("load 0.7", |scene| load(scene, 0.7, 300)),
    ("load 0.9", |scene| load(scene, 0.9, 300)),
    ("load over 1 min", |scene| load(scene, 0.8, 60)),
    ("load over 2 min", |scene| load(scene, 0.8, 120)),
    ("load over 10 min", |scene| load(scene, 0.8, 600)),
    ("polling every 30 s", |scene| keda(scene, 30, 300)),
    ("polling every 5 s", |scene| keda(scene, 5, 300)),
    ("cooldown 60 s", |scene| keda(scene, 15, 60)),
    ("cooldown 900 s", |scene| keda(scene, 15, 900)),
    ("scrapes every 5 s", |scene| scene.scrape = Duration::from_secs(5)),
    ("scrapes every 30 s", |scene| scene.scrape = Duration::from_secs(30)),
    ("up: window 60 s", |scene| scene.scaling.hpa.up.window = Duration::from_secs(60)),
    ("up: one pod a minute", |scene| scene.scaling.hpa.up.policies = vec![pods(1, 60)]),
    ("up: four pods a minute", |scene| scene.scaling.hpa.up.policies = vec![pods(4, 60)]),
    ("up: twice as many or four in a minute", |scene| {
        scene.scaling.hpa.up.policies = vec![percent(100), pods(4, 60)];
    }),
    ("the queue alone, down: one pod a minute", |scene| {
        scene.scaling.hpa.targets.truncate(1);
        scene.scaling.hpa.down.policies = vec![pods(1, 60)];
    }),
    ("down: one pod a minute", |scene| scene.scaling.hpa.down.policies = vec![pods(1, 60)]),
    ("down: half in a minute", |scene| scene.scaling.hpa.down.policies = vec![percent(50)]),
    ("two nodes, more on demand", |scene| scene.delays = Delays::COLD),
    ("queue_seconds 600", |scene| scene.queue_seconds = 600.0),
    ("large GPUs", |scene| scene.machine = Machine::Fast),
    ("small GPUs", |scene| scene.machine = Machine::Slow),
];

fn keda(scene: &mut Scene, polling: u64, cooldown: u64) {
    if let Some(keda) = &mut scene.scaling.keda {
        (keda.polling, keda.cooldown) = (Duration::from_secs(polling), Duration::from_secs(cooldown));
    }
}

fn load(scene: &mut Scene, target: f64, seconds: u64) {
    scene.scaling.hpa.targets.truncate(1);
    scene.scaling.hpa.targets.push(target);
    scene.scaling.load_range = Duration::from_secs(seconds);
}

fn percent(percent: u32) -> Policy {
    Policy { change: Change::Percent(percent), period: Duration::from_secs(60) }
}

fn pods(count: u32, seconds: u64) -> Policy {
    Policy { change: Change::Pods(count), period: Duration::from_secs(seconds) }
}

/// Every change, on all traces.
pub struct Around(Vec<(&'static str, Vec<Figures>)>);

impl Around {
    /// Plays all of them, on all processors.
    ///
    /// # Errors
    /// When a trace cannot be drawn.
    pub fn run(scene: impl Fn(Trace) -> Scene + Sync) -> anyhow::Result<Self> {
        let row = |(name, change): Variation| -> anyhow::Result<_> {
            let figures = Trace::ALL.into_iter().map(|trace| {
                let mut scene = scene(trace);
                change(&mut scene);
                play(&scene)
            });
            Ok((name, figures.collect::<anyhow::Result<Vec<_>>>()?))
        };
        Ok(Self(VARIATIONS.par_iter().copied().map(row).collect::<anyhow::Result<_>>()?))
    }
}

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| changed | steady | burst | wave |\n| --- | --- | --- | --- |")?;
        for (name, rows) in &self.0 {
            let cells: Vec<String> = rows.iter().map(Figures::cell).collect();
            writeln!(f, "| {name} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}
