//! The same controller over real processes in real time, so that the simulation can be held against them.
//!
//! Everything is faster by one factor: evaluations, the controller's and Prometheus' periods, the pods' delays. So a few minutes of a
//! scene take a minute, and figures are given in the scene's own seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use darkroom_proto::v1::OutputFormat;
use tokio::time::sleep_until;

use super::controller::Controller;
use super::figures::{Course, Fate, Figures};
use super::pods::{PodId, Pods};
use super::prometheus::Prometheus;
use super::scene::Scene;
use super::stand::{Stand, ready};
use crate::load::arrivals::Arrival;
use crate::load::asking::{Target, Wish, open};
use crate::load::outcome::{End, Outcome};

/// What came of it, in the scene's seconds.
pub struct Live {
    /// As a simulation gives them, but for the waits, which only a mean is known of.
    pub figures: Figures,
    /// Mean of `darkroom_queue_wait_seconds`.
    pub mean_wait: f64,
}

/// Something to do, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Duty {
    Look,
    Scrape,
    Ready(PodId),
    Told(PodId),
}

/// Plays `trace`, which ends after `seconds`, `speed` times as fast as it is.
///
/// # Errors
/// When a process cannot be started or asked.
pub async fn play(scene: &Scene, trace: &[Arrival], seconds: Duration, speed: f64) -> anyhow::Result<Live> {
    let flags = [
        format!("--check-interval-ms={}", (1000.0 / speed).max(10.0) as u64),
        format!("--no-worker-wait-seconds={}", (scene.no_worker_wait.as_secs_f64() / speed).ceil()),
    ];
    let most = scene.scaling.hpa.max as usize;
    let stand = Stand::start(scene.machine, speed, most, &flags).await?;
    let wish = Wish {
        prompts: 8,
        sampler: "plms".into(),
        guidance_scale: 2.0,
        format: OutputFormat::Latents,
        preview_every: 0,
        deadline: None,
        check_latents: true,
        read_spent: false,
        api_keys: true,
        first_seed: scene.seed,
    };
    let target = Target::connect(&stand.address(), 4, wish, false).await?;
    let fast: Vec<Arrival> =
        trace.iter().map(|arrival| Arrival { at: arrival.at.div_f64(speed), ..*arrival }).collect();
    let until = seconds.div_f64(speed);
    let asking = tokio::spawn(async move { open(&target, fast, until, 4 * until).await });
    let mut cluster = Cluster::new(scene, stand, speed, trace.len());
    while !asking.is_finished() {
        cluster.step().await?;
    }
    cluster.end(asking.await??).await
}

/// Pods as processes, and who decides on them.
struct Cluster {
    begin: Instant,
    speed: f64,
    scrape: Duration,
    stand: Stand,
    pods: Pods,
    /// Where each runs.
    running: HashMap<PodId, usize>,
    leaving: HashMap<PodId, super::pods::Leaving>,
    controller: Controller,
    duties: Vec<(Instant, Duty)>,
    prometheus: Prometheus,
    course: Course,
}

impl Cluster {
    fn new(scene: &Scene, stand: Stand, speed: f64, requests: usize) -> Self {
        let begin = Instant::now();
        let [scrape, sync, poll] = scene.first_looks();
        let controller = Controller::new(&scene.scaling, begin + sync, poll);
        Self {
            begin,
            speed,
            scrape: scene.scrape,
            stand,
            pods: Pods::new(scene.delays, scene.seed),
            running: HashMap::new(),
            leaving: HashMap::new(),
            duties: vec![(begin + scrape, Duty::Scrape), (controller.due(), Duty::Look)],
            controller,
            prometheus: Prometheus::new(scene.scaling.load_range),
            course: Course::new(requests),
        }
    }

    /// Waits for the next duty, or a little if that is long, and does it.
    async fn step(&mut self) -> anyhow::Result<()> {
        let next = self.duties.iter().enumerate().min_by_key(|(_, (at, _))| *at).map(|(index, _)| index);
        let Some((at, duty)) = next.map(|index| self.duties[index]) else { return Ok(()) };
        let real = self.begin + (at - self.begin).div_f64(self.speed);
        let soon = Instant::now() + Duration::from_millis(200);
        if real > soon {
            sleep_until(soon.into()).await;
            return Ok(());
        }
        sleep_until(real.into()).await;
        self.duties.retain(|other| *other != (at, duty));
        match duty {
            Duty::Scrape => {
                let metrics = self.stand.metrics().await?;
                let seconds = |series| metrics.sum(series, &[]) * self.speed;
                let queued = seconds("darkroom_queued_work_seconds");
                self.prometheus.scraped(queued, seconds("darkroom_admitted_work_seconds_total"), at);
                let ready = ready(&metrics, "denoiser") as u32;
                self.course.sample(at - self.begin, self.pods.count(), ready, queued, self.pods.spent(at));
                self.duties.push((at + self.scrape, Duty::Scrape));
            }
            Duty::Look => {
                if let Some(scaled) = self.controller.look(self.prometheus.signals(at), self.pods.count(), at) {
                    self.course.scaled(at - self.begin, scaled);
                    self.scale(scaled.to, at);
                }
                self.duties.push((self.controller.due(), Duty::Look));
            }
            Duty::Ready(pod) => {
                if self.pods.ready(pod, at) {
                    let place = self.stand.start_denoiser().await?;
                    self.running.insert(pod, place);
                }
            }
            Duty::Told(pod) => {
                if let Some(place) = self.running.remove(&pod) {
                    self.stand.stop_denoiser(place).await?;
                }
                if let Some(leaving) = self.leaving.remove(&pod) {
                    self.pods.gone(&leaving, at);
                }
            }
        }
        Ok(())
    }

    fn scale(&mut self, to: u32, now: Instant) {
        while self.pods.count() < to {
            let (pod, ready) = self.pods.start(now);
            self.duties.push((ready, Duty::Ready(pod)));
        }
        while self.pods.count() > to {
            let Some(leaving) = self.pods.stop(now) else { break };
            self.leaving.insert(leaving.id, leaving);
            self.duties.push((leaving.told, Duty::Told(leaving.id)));
        }
    }

    async fn end(mut self, outcomes: Vec<Outcome>) -> anyhow::Result<Live> {
        for outcome in &outcomes {
            match outcome.end {
                End::Completed => self.course.ended(Fate::Served, outcome.latency.mul_f64(self.speed)),
                End::Refused(..) => self.course.ended(Fate::Refused, Duration::ZERO),
                // Counted as lost.
                End::Failed(_) | End::Cut | End::Wrong => {}
            }
        }
        let metrics = self.stand.metrics().await?;
        let waits = |what| metrics.sum(&format!("darkroom_queue_wait_seconds_{what}"), &[]);
        let (sum, count) = (waits("sum"), waits("count"));
        let mean_wait = if count > 0.0 { self.speed * sum / count } else { 0.0 };
        Ok(Live { figures: self.course.figures(), mean_wait })
    }
}
