//! A day in seconds: requests, the orchestrator's queue, denoisers on clocks, Prometheus and the controller, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use darkroom_engine::Cost;
use darkroom_orchestrator::Config;
use darkroom_orchestrator::simulation::{Ask, Denoiser, Place, Queue, Slot, Waiting};

use super::controller::Controller;
use super::figures::{Course, Fate, Figures};
use super::pods::{Leaving, PodId, Pods};
use super::prometheus::Prometheus;
use super::scene::Scene;
use super::worker::{News, PictureId, Worker};
use crate::load::arrivals::Arrival;
use crate::load::clock::Facts;
use crate::load::clock::facts::GUIDED;

/// Latent pixels of one evaluation of a picture.
const PIXELS: u64 = (GUIDED * Facts::SIZE.height * Facts::SIZE.width) as u64;
/// Between two points of the curves.
const SAMPLE: Duration = Duration::from_secs(15);
/// Requests that have come are waited for so long after the last.
const GRACE: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    /// It has waited for a denoiser as long as it may.
    Impatience(usize),
    /// A pod takes work.
    Ready(PodId),
    /// A pod hears that it shall leave.
    Told(PodId),
    /// A worker's batch has something to say.
    Due(PodId),
    Scrape,
    Look,
    Sample,
}

struct Picture {
    request: usize,
    place: Place,
    slot: Slot,
    done: u32,
    /// Where it is, and how many evaluations were behind it when it came there.
    at: Option<(PodId, u32)>,
}

/// See the module's text.
pub struct World<'a> {
    scene: &'a Scene,
    facts: Facts,
    trace: Vec<Arrival>,
    begin: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    order: u64,
    queue: Queue,
    waiting: VecDeque<(usize, Waiting)>,
    places: HashMap<Place, usize>,
    pictures: HashMap<PictureId, Picture>,
    slots: HashMap<Slot, PictureId>,
    workers: BTreeMap<PodId, Worker>,
    leaving: HashMap<PodId, Leaving>,
    pods: Pods,
    controller: Controller,
    prometheus: Prometheus,
    course: Course,
}

/// Plays a scene to its end.
///
/// # Errors
/// When the trace cannot be drawn.
pub fn play(scene: &Scene) -> anyhow::Result<Figures> {
    Ok(play_trace(scene, scene.trace.draw(scene.machine, scene.seed)?, Duration::from_secs_f64(scene.trace.seconds())))
}

/// Plays a scene with other requests than its own, which come for `seconds`.
#[must_use]
pub fn play_trace(scene: &Scene, trace: Vec<Arrival>, seconds: Duration) -> Figures {
    let mut world = World::new(scene, trace);
    world.run(seconds);
    world.course.figures()
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, trace: Vec<Arrival>) -> Self {
        let begin = Instant::now();
        let config = Config {
            queue_seconds: scene.queue_seconds,
            // Told right: it speaks of 2×64×64 latent pixels.
            assumed_step_seconds: scene.machine.facts().evaluation_seconds().0 * 8192.0 / PIXELS as f64,
            ..Config::default()
        };
        let [scrape, sync, poll] = scene.first_looks();
        let mut world = Self {
            scene,
            facts: scene.machine.facts(),
            begin,
            events: BinaryHeap::new(),
            order: 0,
            queue: Queue::new(&config, begin),
            waiting: VecDeque::new(),
            places: HashMap::new(),
            pictures: HashMap::new(),
            slots: HashMap::new(),
            workers: BTreeMap::new(),
            leaving: HashMap::new(),
            pods: Pods::new(scene.delays, scene.seed),
            controller: Controller::new(&scene.scaling, begin + sync, poll),
            prometheus: Prometheus::new(scene.scaling.load_range),
            course: Course::new(trace.len()),
            trace,
        };
        world.at(begin + scrape, Event::Scrape);
        world.at(begin, Event::Sample);
        world.at(world.controller.due(), Event::Look);
        if scene.scaling.keda.is_none() {
            // The first is there from the start.
            world.pods.start(begin);
            world.at(begin, Event::Ready(0));
        }
        if let Some(first) = world.trace.first().map(|arrival| arrival.at) {
            world.at(begin + first, Event::Arrival(0));
        }
        world
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn run(&mut self, seconds: Duration) {
        let last = self.trace.last().map_or(Duration::ZERO, |arrival| arrival.at);
        let end = self.begin + last.max(seconds);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            let idle = self.pictures.is_empty() && self.waiting.is_empty() && self.queue.depth() == 0;
            if now > end + GRACE || (now > end && idle) {
                break;
            }
            self.happens(event, now);
        }
    }

    fn happens(&mut self, event: Event, now: Instant) {
        match event {
            Event::Arrival(index) => {
                if let Some(next) = self.trace.get(index + 1) {
                    self.at(self.begin + next.at, Event::Arrival(index + 1));
                }
                self.arrive(index, now);
            }
            Event::Impatience(index) => {
                if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == index)
                    && let Some((_, waiting)) = self.waiting.remove(at)
                {
                    self.queue.stop_waiting(&waiting);
                    self.course.ended(Fate::Unserved, self.age(index, now));
                }
            }
            Event::Ready(id) => {
                if self.pods.ready(id, now) {
                    self.workers.insert(id, Worker::new(&self.facts));
                    self.refit(now);
                }
            }
            Event::Told(id) => self.told(id, now),
            // Only the latest word on when it is due counts.
            Event::Due(id) => {
                if self.workers.get(&id).is_some_and(|worker| worker.due == Some(now)) {
                    self.due(id, now);
                }
            }
            Event::Scrape => {
                self.prometheus.scraped(self.queue.work_seconds(), self.queue.admitted_seconds(), now);
                self.at(now + self.scene.scrape, Event::Scrape);
            }
            Event::Look => {
                let replicas = self.pods.count();
                if let Some(scaled) = self.controller.look(self.prometheus.signals(now), replicas, now) {
                    self.course.scaled(now - self.begin, scaled);
                    self.scale(scaled.to, now);
                }
                self.at(self.controller.due(), Event::Look);
            }
            Event::Sample => {
                let ready = self.workers.values().filter(|worker| !worker.draining).count() as u32;
                let work = self.queue.work_seconds();
                self.course.sample(now - self.begin, self.pods.count(), ready, work, self.pods.spent(now));
                self.at(now + SAMPLE, Event::Sample);
            }
        }
    }

    fn age(&self, index: usize, now: Instant) -> Duration {
        now - (self.begin + self.trace[index].at)
    }

    fn ask(&self, index: usize) -> Ask {
        let arrival = self.trace[index];
        Ask {
            client: format!("caller {}", arrival.identity),
            images: 1,
            evaluations: arrival.steps + 1,
            pixels: PIXELS,
        }
    }

    fn arrive(&mut self, index: usize, now: Instant) {
        if self.workers.values().any(|worker| !worker.draining) {
            self.enter(index, now);
            return self.pump(now);
        }
        let ask = self.ask(index);
        match self.queue.wait(&ask, now) {
            Ok(waiting) => {
                self.waiting.push_back((index, waiting));
                self.at(now + self.scene.no_worker_wait, Event::Impatience(index));
            }
            Err(_) => self.course.ended(Fate::Refused, Duration::ZERO),
        }
    }

    fn enter(&mut self, index: usize, now: Instant) {
        let waited = self.age(index, now);
        let ask = self.ask(index);
        match self.queue.enter(&ask, waited, now) {
            Ok(place) => _ = self.places.insert(place, index),
            Err(_) => self.course.ended(Fate::Refused, waited),
        }
    }

    /// The denoisers that take work have changed.
    fn refit(&mut self, now: Instant) {
        let (alone, batch_seconds) = self.facts.evaluation_seconds();
        let batch_pixels = self.facts.budget().pixels as u64;
        let denoiser = Denoiser { batch_pixels, picture: (PIXELS, alone), batch_seconds };
        let count = self.workers.values().filter(|worker| !worker.draining).count();
        self.queue.set_denoisers(&vec![denoiser; count]);
        if count > 0 {
            while let Some((index, waiting)) = self.waiting.pop_front() {
                self.queue.stop_waiting(&waiting);
                self.enter(index, now);
            }
        }
        self.pump(now);
    }

    /// Free slots go to whose turn it is.
    fn pump(&mut self, now: Instant) {
        while let Some(slot) = self.queue.resume() {
            if let Some(picture) = self.slots.get(&slot).copied() {
                self.send(picture, now);
            }
        }
        while let Some(grant) = self.queue.grant(now) {
            let Some(request) = self.places.get(&grant.place).copied() else { continue };
            if let Some(waited) = grant.waited {
                self.course.started(waited);
            }
            let picture = request as PictureId;
            let new = Picture { request, place: grant.place, slot: grant.slot, done: 0, at: None };
            self.pictures.insert(picture, new);
            self.slots.insert(grant.slot, picture);
            self.send(picture, now);
        }
    }

    /// To the denoiser with the least work before it.
    fn send(&mut self, id: PictureId, now: Instant) {
        let takers = self.workers.iter().filter(|(_, worker)| !worker.draining);
        let chosen = takers.min_by(|(_, left), (_, right)| left.backlog().total_cmp(&right.backlog()));
        let (Some(pod), Some(picture)) = (chosen.map(|(pod, _)| *pod), self.pictures.get_mut(&id)) else { return };
        picture.at = Some((pod, picture.done));
        let left = self.trace[picture.request].steps + 1 - picture.done;
        let cost = Cost { size: Facts::SIZE, rows: GUIDED, bytes: 0 };
        if let Some(worker) = self.workers.get_mut(&pod) {
            worker.push(id, cost, left, now);
            self.due(pod, now);
        }
    }

    /// A worker does what is due, and what it tells is heard.
    fn due(&mut self, pod: PodId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&pod) else { return };
        let next = worker.advance(now);
        let (news, draining) = (worker.news(), worker.draining);
        for (id, told) in news {
            self.hear(id, told, now);
        }
        if draining {
            return self.hand_over(pod, now);
        }
        self.expect(pod, next);
        self.pump(now);
    }

    /// A worker has something to say then.
    fn expect(&mut self, pod: PodId, next: Option<Instant>) {
        let Some(worker) = self.workers.get_mut(&pod) else { return };
        let before = std::mem::replace(&mut worker.due, next);
        if let Some(next) = next.filter(|_| next != before) {
            self.at(next, Event::Due(pod));
        }
    }

    fn hear(&mut self, id: PictureId, told: News, now: Instant) {
        let Some(picture) = self.pictures.get_mut(&id) else { return };
        let (slot, place, request) = (picture.slot, picture.place, picture.request);
        let of = self.trace[request].steps;
        match told {
            News::Evaluated(here) => {
                picture.done = picture.at.map_or(0, |(_, before)| before) + here;
                self.queue.progress(slot, picture.done.saturating_sub(1), of);
            }
            News::Finished(took) => {
                let whole = picture.at.is_some_and(|(_, before)| before == 0);
                self.queue.progress(slot, of, of);
                if whole {
                    self.queue.measure(slot, took.as_secs_f64());
                }
                self.queue.release(slot);
                self.queue.leave(place);
                self.pictures.remove(&id);
                self.slots.remove(&slot);
                self.places.remove(&place);
                self.course.ended(Fate::Served, self.age(request, now));
            }
        }
    }

    fn scale(&mut self, to: u32, now: Instant) {
        while self.pods.count() < to {
            let (id, ready) = self.pods.start(now);
            self.at(ready, Event::Ready(id));
        }
        while self.pods.count() > to {
            let Some(leaving) = self.pods.stop(now) else { break };
            self.leaving.insert(leaving.id, leaving);
            self.at(leaving.told, Event::Told(leaving.id));
        }
    }

    /// It drains: nothing new comes, and what runs is handed over when the evaluation under way ends.
    fn told(&mut self, pod: PodId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&pod) else { return self.gone(pod, now) };
        worker.draining = true;
        let ends = worker.advance(now);
        self.refit(now);
        match ends {
            Some(_) => self.expect(pod, ends),
            None => self.gone(pod, now),
        }
    }

    fn hand_over(&mut self, pod: PodId, now: Instant) {
        let left = self.workers.get_mut(&pod).map(Worker::hand_over).unwrap_or_default();
        self.course.handed_on(left.len());
        for id in left {
            if let Some(picture) = self.pictures.get_mut(&id) {
                picture.at = None;
                self.queue.park(picture.slot);
            }
        }
        self.gone(pod, now);
        self.pump(now);
    }

    fn gone(&mut self, pod: PodId, now: Instant) {
        self.workers.remove(&pod);
        if let Some(leaving) = self.leaving.remove(&pod) {
            self.pods.gone(&leaving, now);
        }
    }
}

#[cfg(test)]
mod tests;
