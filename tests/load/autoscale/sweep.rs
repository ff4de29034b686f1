//! All settings that are compared, what each came to on the three traces, and which are shipped.

use std::fmt;

use rayon::prelude::*;

use super::figures::{Figures, OBJECTIVE};
use super::pods::Delays;
use super::scene::{Choice, Machine, Scene, Trace};
use super::world::play;

/// Queued seconds for each replica.
const THRESHOLDS: [f64; 6] = [5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
/// Without the second signal and with it.
const LOADS: [Option<f64>; 2] = [None, Some(0.8)];
/// Of replicas, in an hour. Each start has its cost where nodes and images have to come first.
const MOST_SCALINGS: f64 = 8.0;
/// Times the cost of the cheapest: what differs by less is as cheap.
const NEARLY: f64 = 1.1;
/// Seconds of the stabilisation window downwards.
const WINDOWS: [u64; 3] = [60, 300, 600];

/// One of the settings, and what it came to on each trace.
pub struct Row {
    /// The settings.
    pub choice: Choice,
    /// In the order of [`Trace::ALL`].
    pub figures: Vec<Figures>,
}

impl Row {
    /// Nineteen of twenty requests of each trace begin within the objective, none is refused or lost, and replicas change eight times an
    /// hour at most.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figures| {
            let failed = figures.refused + figures.unserved + figures.lost;
            figures.wait.p95 <= OBJECTIVE && failed == 0 && figures.scalings_an_hour() <= MOST_SCALINGS
        })
    }

    /// Scalings that turned back soon, on all traces.
    #[must_use]
    pub fn flaps(&self) -> usize {
        self.figures.iter().map(|figures| figures.flaps).sum()
    }

    /// Replicas at a time, as the mean of the traces.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.figures.iter().map(Figures::mean_replicas).sum::<f64>() / self.figures.len().max(1) as f64
    }
}

/// All settings on all traces.
pub struct Sweep {
    /// In the order in which they are printed.
    pub rows: Vec<Row>,
}

impl Sweep {
    /// Plays all of them, on all processors.
    ///
    /// # Errors
    /// When a trace cannot be drawn.
    pub fn run(machine: Machine, delays: Delays, seed: u64) -> anyhow::Result<Self> {
        let mut choices = Vec::new();
        for to_zero in [true, false] {
            for load in LOADS {
                for window in WINDOWS {
                    choices.extend(THRESHOLDS.map(|threshold| Choice { threshold, load, window, to_zero }));
                }
            }
        }
        let row = |choice: Choice| -> anyhow::Result<Row> {
            let played = |trace| play(&Scene { delays, ..Scene::new(machine, trace, seed, choice) });
            let figures = Trace::ALL.into_iter().map(played);
            Ok(Row { choice, figures: figures.collect::<anyhow::Result<_>>()? })
        };
        Ok(Self { rows: choices.into_par_iter().map(row).collect::<anyhow::Result<_>>()? })
    }

    /// Of those that hold and are nearly as cheap as any that does, the one that turns back least often; with or without the last one
    /// taken away.
    #[must_use]
    pub fn chosen(&self, to_zero: bool) -> Option<&Row> {
        let holding = || self.rows.iter().filter(|row| row.choice.to_zero == to_zero && row.holds());
        let cheapest = holding().map(Row::cost).min_by(f64::total_cmp)?;
        holding().filter(|row| row.cost() <= NEARLY * cheapest).min_by_key(|row| row.flaps())
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| zero | queued | load | window | steady | burst | wave | cost | holds |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let Choice { threshold, load, window, to_zero } = row.choice;
            let load = load.map_or("–".to_owned(), |load| load.to_string());
            write!(f, "| {} | {threshold} | {load} | {window} |", if to_zero { "yes" } else { "no" })?;
            for figures in &row.figures {
                write!(f, " {} |", figures.cell())?;
            }
            writeln!(f, " {:.2} | {} |", row.cost(), if row.holds() { "yes" } else { "" })?;
        }
        Ok(())
    }
}
