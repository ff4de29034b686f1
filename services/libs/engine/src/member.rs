//! A request that runs: its state, its prepared texts, and who hears of it.

use std::time::{Duration, Instant};

use tracing::Span;

use crate::error::{RunError, guarded};
use crate::events::Sender;
use crate::guidance::combine;
use crate::load::Remaining;
use crate::model::{DenoiseModel, Row};
use crate::pace::CheckpointPace;
use crate::request::{Finished, Guidance, Step, Submission};
use crate::run::Run;
use crate::slots::LatentSize;
use crate::waiting::Entry;

pub(crate) struct Member<C> {
    size: LatentSize,
    run: Run,
    /// Evaluations that were done before it came here.
    resumed_at: usize,
    prompt: C,
    guidance: Option<(C, f32)>,
    embedded_guidance: Option<f32>,
    preview_every: usize,
    pace: CheckpointPace,
    told_draining: bool,
    events: Sender,
    deadline: Option<Instant>,
    started: Instant,
    queued: Duration,
    /// Of its computing.
    span: Span,
}

/// What becomes of a member after an evaluation.
#[derive(Debug, PartialEq)]
pub(crate) enum Advanced {
    Runs,
    Finished,
    Failed(RunError),
}

impl<C> Member<C> {
    /// Prepares what waited for its slot. A failure ends it.
    pub(crate) fn join<M: DenoiseModel<Context = C>>(
        model: &mut M,
        entry: Entry<Submission>,
        now: Instant,
    ) -> Result<Self, RunError> {
        let Entry { item: Submission { request, events, in_line }, since, deadline, .. } = entry;
        let span = in_line.leave();
        let (size, elements, tokens) = (request.size, request.elements(), request.tokens);
        let resumed_at = request.resume_from.as_ref().map_or(0, |checkpoint| checkpoint.evaluation);
        // The noise source is the caller's code: it is guarded as the model is.
        let prepared = guarded(|| -> Result<_, RunError> {
            let prompt = model.prepare(&request.prompt_embeds, tokens, &request.adapters)?;
            let guidance = match &request.guidance {
                Some(Guidance { tokens, negative_prompt_embeds, scale }) => {
                    Some((model.prepare(negative_prompt_embeds, *tokens, &request.adapters)?, *scale as f32))
                }
                None => None,
            };
            let run = match request.resume_from {
                Some(checkpoint) => Run::resume(request.plan, elements, request.given, request.noise, checkpoint)?,
                None => Run::new(request.plan, elements, request.given, request.noise)?,
            };
            Ok((prompt, guidance, run))
        });
        match prepared {
            Ok((prompt, guidance, run)) => Ok(Self {
                size,
                resumed_at,
                pace: CheckpointPace::new(run.checkpoint_bytes()),
                run,
                prompt,
                guidance,
                embedded_guidance: request.embedded_guidance.map(|scale| scale as f32),
                preview_every: request.preview_every,
                told_draining: false,
                events,
                deadline,
                started: now,
                queued: now.saturating_duration_since(since),
                span,
            }),
            Err(error) => {
                drop(span);
                events.end(Err(error.clone()));
                Err(error)
            }
        }
    }

    /// Whether its deadline has passed.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_abandoned()
    }

    /// Evaluations computed here.
    pub(crate) fn computed(&self) -> usize {
        self.run.done() - self.resumed_at
    }

    /// What it has still to do.
    pub(crate) fn remaining(&self) -> Remaining {
        Remaining { size: self.size, rows: self.num_rows(), evaluations: self.run.remaining() }
    }

    /// Rows of the model's batch.
    pub(crate) fn num_rows(&self) -> usize {
        1 + usize::from(self.guidance.is_some())
    }

    pub(crate) fn prepare_input(&mut self) {
        self.run.prepare_input();
    }

    /// Its rows of the model's batch: the unconditional one first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_, C>> {
        let (latents, outputs, timestep) = (self.run.input(), self.run.elements(), self.run.timestep());
        let guidance_scale = self.embedded_guidance;
        let row = move |context| Row { latents, outputs, timestep, context, guidance_scale };
        self.guidance.iter().map(|(negative, _)| negative).chain([&self.prompt]).map(row)
    }

    /// Takes its rows of the model's answer, and tells what came of them.
    pub(crate) fn advance(&mut self, outputs: &mut impl Iterator<Item = Vec<f32>>, now: Instant) -> Advanced {
        let unconditional = self.guidance.as_ref().map(|(_, scale)| (outputs.next(), *scale));
        let Some(mut output) = outputs.next() else { return Advanced::Runs };
        if let Some((Some(unconditional), scale)) = &unconditional {
            combine(unconditional, &mut output, *scale);
        }
        let preview = self.preview_is_due().then(|| self.run.predicted_original(&output));
        // The noise source again.
        let run = &mut self.run;
        match guarded(|| run.advance(&output)) {
            Err(error) => return Advanced::Failed(error),
            Ok(None) => {}
            Ok(Some(step)) => {
                let of = self.run.num_inference_steps();
                self.events.step(Step { step, of, predicted_original: preview });
            }
        }
        if self.run.remaining() == 0 {
            return Advanced::Finished;
        }
        if self.pace.is_due(now) {
            self.tell_checkpoint(now);
        }
        Advanced::Runs
    }

    /// Tells, once, that the thread will end: where the request stands, so that nothing done here is done again, and then that.
    pub(crate) fn tell_draining(&mut self, now: Instant) {
        if std::mem::replace(&mut self.told_draining, true) {
            return;
        }
        if self.computed() > 0 {
            self.tell_checkpoint(now);
        }
        self.events.draining();
    }

    fn tell_checkpoint(&mut self, now: Instant) {
        self.events.checkpoint(self.run.checkpoint());
        self.pace.told(now);
    }

    /// Whether the next evaluation finishes a step that wants a preview.
    fn preview_is_due(&self) -> bool {
        self.preview_every > 0 && self.run.finishes_step().is_some_and(|step| step.is_multiple_of(self.preview_every))
    }

    pub(crate) fn finish(mut self, now: Instant) {
        let computed = now.saturating_duration_since(self.started);
        self.close_span();
        self.events.end(Ok(Finished { latents: self.run.into_latents(), computed, queued: self.queued }));
    }

    /// Before its end is told: whoever hears that ends the spans around it.
    fn close_span(&mut self) {
        self.span.record("darkroom.evaluations", self.computed() as i64);
        self.span = Span::none();
    }

    /// Ends it without a result.
    pub(crate) fn fail(mut self, error: RunError) {
        self.close_span();
        self.events.end(Err(error));
    }
}
