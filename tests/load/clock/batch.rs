//! One worker's batch: who waits, who runs, and when the evaluation under way ends. A plain struct that is told the time.
//!
//! Evaluations follow each other without a gap in the time that the clock keeps: the next begins where the last was due to end,
//! however late somebody looks. So a timer that is a millisecond late makes one answer late by that, and takes nothing from what the worker
//! gets done.

use std::time::{Duration, Instant};

use darkroom_engine::slots::{SlotId, Slots};
use darkroom_engine::waiting::{Abandon, Entry, Waiting};
use darkroom_engine::{Budget, Cost};

use super::pace::Pace;

/// Weight of the newest evaluation in the smoothed time, as the engine's.
const SMOOTHING: f64 = 0.2;

/// Who hears of a request's work.
pub(in crate::load) trait Listener {
    /// Nobody listens any more.
    fn is_gone(&self) -> bool;
    /// `done` evaluations are behind it here, the last of which ended at `at`; not told of the very last.
    fn evaluated(&mut self, done: u32, at: Instant);
    /// All are; it waited for `queued` and ran for `computed`.
    fn finished(self, queued: Duration, computed: Duration);
    /// Its deadline passed.
    fn expired(self);
}

/// Work for the batch.
pub(in crate::load) struct Job<L> {
    pub(in crate::load) listener: L,
    pub(in crate::load) cost: Cost,
    pub(in crate::load) evaluations: u32,
    pub(in crate::load) entered: Instant,
}

impl<L: Listener> Abandon for Job<L> {
    fn is_abandoned(&self) -> bool {
        self.listener.is_gone()
    }
}

struct Member<L> {
    slot: SlotId,
    job: Job<L>,
    deadline: Option<Instant>,
    done: u32,
    began: Instant,
}

impl<L> Member<L> {
    fn left(&self) -> u32 {
        self.job.evaluations - self.done
    }
}

struct Evaluation {
    members: Vec<SlotId>,
    ends: Instant,
}

/// How busy it is; see `GetLoadResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::load) struct Load {
    pub(in crate::load) running: usize,
    pub(in crate::load) running_pixels: usize,
    pub(in crate::load) waiting: usize,
    pub(in crate::load) remaining_evaluations: u64,
    pub(in crate::load) step_seconds: f64,
    pub(in crate::load) remaining_seconds: f64,
}

/// See the module's text.
pub(in crate::load) struct Batch<L> {
    pace: Pace,
    budget: Budget,
    slots: Slots,
    waiting: Waiting<Job<L>>,
    members: Vec<Member<L>>,
    running: Option<Evaluation>,
    step_seconds: f64,
}

impl<L: Listener> Batch<L> {
    pub(in crate::load) fn new(pace: Pace, budget: Budget, queue_limit: usize) -> Self {
        Self {
            pace,
            budget,
            slots: Slots::new(budget),
            waiting: Waiting::new(queue_limit),
            members: Vec::new(),
            running: None,
            step_seconds: 0.0,
        }
    }

    /// Puts work in line.
    ///
    /// # Errors
    /// When the line is full: after what time a place in the batch is likely to be free.
    pub(in crate::load) fn push(&mut self, job: Job<L>, deadline: Option<Instant>) -> Result<(), Option<Duration>> {
        let now = job.entered;
        self.waiting.push(job, deadline, now).map_err(|_| self.next_slot())
    }

    /// Does all that is due by `now`; says when the next thing is.
    pub(in crate::load) fn advance(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let begins = match self.running.take() {
                Some(evaluation) if evaluation.ends > now => {
                    let ends = evaluation.ends;
                    self.running = Some(evaluation);
                    return Some(ends);
                }
                Some(evaluation) => {
                    self.end(&evaluation);
                    evaluation.ends
                }
                // It was idle until somebody came.
                None => self.waiting.iter().next()?.entered,
            };
            self.leave(begins);
            self.join(begins);
            self.begin(begins);
        }
    }

    /// Everybody goes, and is given back.
    pub(in crate::load) fn clear(&mut self) -> Vec<L> {
        self.running = None;
        let mut gone = Vec::new();
        for member in self.members.drain(..) {
            self.slots.release(member.slot);
            gone.push(member.job.listener);
        }
        while let Some(entry) = self.waiting.pop() {
            gone.push(entry.item.listener);
        }
        gone
    }

    pub(in crate::load) fn load(&self) -> Load {
        let running = self.members.iter().map(|member| (member.job.cost, member.left()));
        let work: Vec<(Cost, u32)> =
            running.chain(self.waiting.iter().map(|job| (job.cost, job.evaluations))).collect();
        Load {
            running: self.members.len(),
            running_pixels: self.slots.used().pixels,
            waiting: self.waiting.len(),
            remaining_evaluations: work.iter().map(|(_, evaluations)| u64::from(*evaluations)).sum(),
            step_seconds: self.step_seconds,
            remaining_seconds: work.iter().map(|(cost, left)| self.share_seconds(cost, &work) * f64::from(*left)).sum(),
        }
    }

    fn end(&mut self, evaluation: &Evaluation) {
        for slot in &evaluation.members {
            let Some(index) = self.members.iter().position(|member| member.slot == *slot) else { continue };
            let member = &mut self.members[index];
            member.done += 1;
            if member.left() > 0 {
                member.job.listener.evaluated(member.done, evaluation.ends);
                continue;
            }
            let Member { job, began, .. } = self.members.remove(index);
            self.slots.release(*slot);
            job.listener.finished(began - job.entered, evaluation.ends - began);
        }
    }

    /// Whoever is cancelled or late makes room.
    fn leave(&mut self, at: Instant) {
        let is_late = |member: &Member<L>| member.deadline.is_some_and(|deadline| deadline <= at);
        for member in self.members.extract_if(.., |member| member.job.listener.is_gone() || is_late(member)) {
            self.slots.release(member.slot);
            member.job.listener.expired();
        }
        self.waiting.drop_abandoned();
        for entry in self.waiting.take_expired(at) {
            entry.item.listener.expired();
        }
    }

    /// Whoever was there by then, and fits.
    fn join(&mut self, at: Instant) {
        while let Some(Entry { item: job, deadline, .. }) =
            self.waiting.pop_fitting(|job| job.entered <= at && self.slots.fits(&job.cost))
        {
            let slot = self.slots.occupy(job.cost);
            self.members.push(Member { slot, job, deadline, done: 0, began: at });
        }
    }

    fn begin(&mut self, at: Instant) {
        let Some((_, members)) = self.slots.next_batch() else { return };
        let served = self.members.iter().filter(|member| members.contains(&member.slot));
        let took = self.pace.evaluation(served.map(|member| member.job.cost.pixels()).sum());
        let seconds = took.as_secs_f64();
        self.step_seconds = match self.step_seconds {
            0.0 => seconds,
            before => before + SMOOTHING * (seconds - before),
        };
        self.running = Some(Evaluation { members, ends: at + took });
    }

    fn next_slot(&self) -> Option<Duration> {
        let soonest = self.members.iter().map(Member::left).min().unwrap_or(1).max(1) as usize;
        let seconds = self.step_seconds * (soonest * self.slots.groups().max(1)) as f64;
        (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// A request's part of an evaluation in the company that the work and the budget give it.
    fn share_seconds(&self, cost: &Cost, work: &[(Cost, u32)]) -> f64 {
        let of_size = work.iter().filter(|(other, _)| other.size == cost.size);
        let together =
            of_size.map(|(other, _)| other.pixels()).sum::<usize>().min(self.budget.pixels).max(cost.pixels());
        self.pace.seconds(together) * cost.pixels() as f64 / together.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
