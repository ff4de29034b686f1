//! The batch of running requests and one turn of it: leave, join, evaluate. Driven by the model's thread, or by a test.
//!
//! Invariants, true between any two evaluations: a request holds a slot exactly while it is a member; what was cancelled or
//! has expired is gone before the model is called again; a failure ends the requests it belongs to and no others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{ModelError, RunError, guarded};
use crate::events::Sender;
use crate::guidance::combine;
use crate::load::LoadCell;
use crate::model::{DenoiseModel, Row};
use crate::observer::{Observer, WasteReason};
use crate::queue::Queue;
use crate::request::{Finished, Step, Submission};
use crate::run::Run;
use crate::slots::{Budget, LatentSize, SlotId, Slots};
use crate::waiting::Entry;

/// Where the time comes from: the clock of the machine, or a test's own.
pub(crate) type Clock = Box<dyn Fn() -> Instant + Send>;

/// A request that runs.
struct Member<C> {
    run: Run,
    prompt: C,
    guidance: Option<(C, f32)>,
    preview_every: usize,
    events: Sender<Step, Finished>,
    deadline: Option<Instant>,
    started: Instant,
    queued: Duration,
}

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
        let is_late = |member: &Member<_>| member.deadline.is_some_and(|deadline| deadline <= now);
        let leaving: Vec<_> = self
            .members
            .iter()
            .filter_map(|(id, member)| {
                // A reader also leaves when its deadline passes: that is no cancellation.
                let reason = if is_late(member) { WasteReason::Deadline } else { WasteReason::Cancelled };
                (is_late(member) || member.events.is_abandoned()).then_some((*id, reason))
            })
            .collect();
        for (id, reason) in leaving {
            self.end(id, reason, RunError::DeadlineExceeded);
        }
    }

    /// Lets waiting requests join, first come first served, while there is room.
    fn admit(&mut self, now: Instant) {
        loop {
            let slots = &self.slots;
            let joining = self.queue.with(|waiting| {
                let fits = waiting.front().is_some_and(|next| slots.fits(next.request.shape()));
                if fits { waiting.pop() } else { None }
            });
            match joining {
                Some(entry) => self.join(entry, now),
                None => return,
            }
        }
    }

    fn join(&mut self, entry: Entry<Submission>, now: Instant) {
        let Entry { item: Submission { request, events }, since, deadline } = entry;
        let queued = now.saturating_duration_since(since);
        self.observer.started(queued);
        let (shape, elements, tokens) = (request.shape(), request.elements(), request.tokens);
        let model = &mut self.model;
        let prepared = guarded(|| -> Result<_, RunError> {
            let prompt = model.prepare(&request.prompt_embeds, tokens)?;
            let guidance = match &request.guidance {
                Some(guidance) => {
                    Some((model.prepare(&guidance.negative_prompt_embeds, tokens)?, guidance.scale as f32))
                }
                None => None,
            };
            Ok((prompt, guidance, Run::new(request.plan, elements, request.noise)?))
        });
        match prepared {
            Ok((prompt, guidance, run)) => {
                let preview_every = request.preview_every;
                let member = Member { run, prompt, guidance, preview_every, events, deadline, started: now, queued };
                self.members.insert(self.slots.occupy(shape), member);
            }
            Err(error) => {
                tracing::warn!(%error, "a request could not be prepared");
                self.observer.wasted(WasteReason::Failed, 0);
                events.end(Err(error));
            }
        }
    }

    /// Calls the model once for `ids`, all of one size.
    fn evaluate(&mut self, size: LatentSize, ids: &[SlotId]) {
        for id in ids {
            if let Some(member) = self.members.get_mut(id) {
                member.run.prepare_input();
            }
        }
        let mut rows = Vec::with_capacity(2 * ids.len());
        for member in ids.iter().filter_map(|id| self.members.get(id)) {
            let row = |context| Row { latents: member.run.input(), timestep: member.run.timestep(), context };
            rows.extend(member.guidance.iter().map(|(negative, _)| row(negative)));
            rows.push(row(&member.prompt));
        }
        let lengths: Vec<_> = rows.iter().map(|row| row.latents.len()).collect();
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
        drop(rows);
        let now = (self.clock)();
        let took = now.saturating_duration_since(start);
        match outputs {
            Ok(outputs) => {
                self.load.evaluated(took);
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

    /// Takes one member's rows of the model's answer.
    fn advance(&mut self, id: SlotId, outputs: &mut impl Iterator<Item = Vec<f32>>, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let unconditional = member.guidance.as_ref().map(|(_, scale)| (outputs.next(), *scale));
        let Some(mut output) = outputs.next() else { return };
        if let Some((Some(unconditional), scale)) = &unconditional {
            combine(unconditional, &mut output, *scale);
        }
        let preview = member.preview_is_due().then(|| member.run.predicted_original(&output));
        // The noise source is the caller's code: it is guarded as the model is.
        let run = &mut member.run;
        match guarded(|| run.advance(&output)) {
            Err(error) => self.end(id, WasteReason::Failed, error),
            Ok(finished_step) => {
                if let Some(step) = finished_step {
                    let of = member.run.num_inference_steps();
                    member.events.progress(Step { step, of, predicted_original: preview });
                }
                if member.run.remaining() == 0 {
                    self.finish(id, now);
                }
            }
        }
    }

    fn finish(&mut self, id: SlotId, now: Instant) {
        self.slots.release(id);
        if let Some(Member { run, events, started, queued, .. }) = self.members.remove(&id) {
            let computed = now.saturating_duration_since(started);
            events.end(Ok(Finished { latents: run.into_latents(), computed, queued }));
        }
    }

    /// Ends a request without a result.
    fn end(&mut self, id: SlotId, reason: WasteReason, error: RunError) {
        self.slots.release(id);
        if let Some(member) = self.members.remove(&id) {
            self.observer.wasted(reason, member.run.done());
            member.events.end(Err(error));
        }
    }

    fn publish(&self) {
        let remaining = self.members.values().map(|member| member.run.remaining());
        let soonest = remaining.clone().min().unwrap_or(0);
        let total = remaining.sum::<usize>();
        self.load.update(|load| {
            load.running = self.members.len();
            load.remaining_evaluations = total as u64;
            load.soonest_evaluations = soonest;
            load.groups = self.slots.groups();
        });
        self.observer.waiting(self.queue.len());
        self.observer.running(self.members.len());
    }
}

impl<C> Member<C> {
    /// Whether the next evaluation finishes a step that wants a preview.
    fn preview_is_due(&self) -> bool {
        self.preview_every > 0 && self.run.finishes_step().is_some_and(|step| step.is_multiple_of(self.preview_every))
    }
}
