//! The batch of running requests and one turn of it: leave, join, evaluate. Driven by the model's thread, or by a test.
//!
//! Invariants, true between any two evaluations: a request holds a slot exactly while it is a member; what was cancelled or
//! has expired is gone before the model is called again; a failure ends the requests it belongs to and no others; once the
//! queue is closed, every member has told where it stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{ModelError, RunError, guarded};
use crate::load::LoadCell;
use crate::member::{Advanced, Member};
use crate::model::DenoiseModel;
use crate::observer::{Observer, WasteReason};
use crate::queue::Queue;
use crate::request::Submission;
use crate::slots::{Budget, LatentSize, SlotId, Slots};
use crate::step_times::StepTime;

/// Where the time comes from: the clock of the machine, or a test's own.
pub(crate) type Clock = Box<dyn Fn() -> Instant + Send>;

/// Whether a turn called the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Evaluated,
    Idle,
}

/// The running requests and their model.
pub(crate) struct Batch<M: DenoiseModel> {
    model: M,
    queue: Arc<Queue<Submission>>,
    slots: Slots,
    members: BTreeMap<SlotId, Member<M::Context>>,
    load: Arc<LoadCell>,
    observer: Arc<dyn Observer>,
    clock: Clock,
}

impl<M: DenoiseModel> Batch<M> {
    pub(crate) fn new(
        model: M,
        queue: Arc<Queue<Submission>>,
        budget: Budget,
        load: Arc<LoadCell>,
        observer: Arc<dyn Observer>,
        clock: Clock,
    ) -> Self {
        Self { model, queue, slots: Slots::new(budget), members: BTreeMap::new(), load, observer, clock }
    }

    /// Lets requests leave and join, then evaluates one group.
    pub(crate) fn turn(&mut self) -> Turn {
        let now = (self.clock)();
        self.dismiss(now);
        self.admit(now);
        if !self.queue.is_open() {
            for member in self.members.values_mut() {
                member.tell_draining(now);
            }
        }
        self.publish();
        let Some((size, ids)) = self.slots.next_batch() else { return Turn::Idle };
        self.evaluate(size, &ids);
        self.publish();
        Turn::Evaluated
    }

    /// Ends what has expired or lost its reader.
    fn dismiss(&mut self, now: Instant) {
        let expired = self.queue.with(|waiting| {
            waiting.drop_abandoned();
            waiting.take_expired(now)
        });
        for entry in expired {
            entry.item.events.end(Err(RunError::DeadlineExceeded));
        }
        let leaving: Vec<_> = self
            .members
            .iter()
            .filter_map(|(id, member)| {
                // A reader also leaves when its deadline passes: that is no cancellation.
                let is_late = member.is_late(now);
                let reason = if is_late { WasteReason::Deadline } else { WasteReason::Cancelled };
                (is_late || member.is_abandoned()).then_some((*id, reason))
            })
            .collect();
        for (id, reason) in leaving {
            self.end(id, reason, RunError::DeadlineExceeded);
        }
    }

    /// Lets waiting requests join while there is room.
    fn admit(&mut self, now: Instant) {
        loop {
            let (slots, model) = (&self.slots, &self.model);
            let cost = |next: &Submission| next.request.cost(model);
            let joining = self.queue.with(|waiting| waiting.pop_fitting(|next| slots.fits(&cost(next))));
            let Some(entry) = joining else { return };
            let cost = cost(&entry.item);
            self.observer.started(now.saturating_duration_since(entry.since));
            match Member::join(&mut self.model, entry, now) {
                Ok(member) => _ = self.members.insert(self.slots.occupy(cost), member),
                Err(error) => {
                    tracing::warn!(%error, "a request could not be prepared");
                    self.observer.wasted(WasteReason::Failed, 0);
                }
            }
        }
    }

    /// Calls the model once for `ids`, all of one size.
    fn evaluate(&mut self, size: LatentSize, ids: &[SlotId]) {
        for id in ids {
            if let Some(member) = self.members.get_mut(id) {
                member.prepare_input();
            }
        }
        let rows: Vec<_> = ids.iter().filter_map(|id| self.members.get(id)).flat_map(Member::rows).collect();
        let lengths: Vec<_> = rows.iter().map(|row| row.outputs).collect();
        let model = &mut self.model;
        let start = (self.clock)();
        let outputs = guarded(|| -> Result<_, ModelError> {
            let outputs = model.predict(&rows, size)?;
            if outputs.iter().map(Vec::len).eq(lengths) {
                Ok(outputs)
            } else {
                Err("it answered with other sizes than it was asked for".into())
            }
        });
        let rows = rows.len();
        let now = (self.clock)();
        let took = now.saturating_duration_since(start);
        match outputs {
            Ok(outputs) => {
                self.load.evaluated(took);
                self.load.timed(&StepTime { size, rows, took });
                self.observer.evaluated(ids.len(), took);
                let mut outputs = outputs.into_iter();
                for id in ids {
                    self.advance(*id, &mut outputs, now);
                }
            }
            Err(error) => {
                tracing::error!(%error, requests = ids.len(), "an evaluation failed; its requests end with it");
                for id in ids {
                    self.end(*id, WasteReason::Failed, error.clone());
                }
            }
        }
    }

    fn advance(&mut self, id: SlotId, outputs: &mut impl Iterator<Item = Vec<f32>>, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        match member.advance(outputs, now) {
            Advanced::Runs => {}
            Advanced::Failed(error) => self.end(id, WasteReason::Failed, error),
            Advanced::Finished => {
                self.slots.release(id);
                if let Some(member) = self.members.remove(&id) {
                    member.finish(now);
                }
            }
        }
    }

    /// Ends a request without a result.
    fn end(&mut self, id: SlotId, reason: WasteReason, error: RunError) {
        self.slots.release(id);
        if let Some(member) = self.members.remove(&id) {
            self.observer.wasted(reason, member.computed());
            member.fail(error);
        }
    }

    fn publish(&self) {
        let remaining: Vec<_> = self.members.values().map(Member::remaining).collect();
        let evaluations = remaining.iter().map(|request| request.evaluations);
        let soonest = evaluations.clone().min().unwrap_or(0);
        let total = evaluations.sum::<usize>();
        self.load.update(|load| {
            load.running = remaining.len();
            load.running_pixels = self.slots.used().pixels;
            load.remaining_evaluations = total as u64;
            load.soonest_evaluations = soonest;
            load.groups = self.slots.groups();
        });
        self.load.set_running(remaining);
        self.observer.waiting(self.queue.len());
        self.observer.running(self.members.len(), self.slots.used());
    }
}
