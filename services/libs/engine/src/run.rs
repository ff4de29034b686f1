//! The state of one request that is being denoised: its plan, its named state tensors, and its place in both and in the
//! noise. It can be written down between any two evaluations and taken up again, here or elsewhere, with the same bits.

use darkroom_samplers::{Evaluation, LATENTS, Plan, Source};

use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::given::{Given, Keep};
use crate::model::NoiseSource;
use crate::update::{self, Operands, Scratch};

/// One request between two evaluations.
///
/// For every evaluation: [`Run::prepare_input`], the model on [`Run::input`] and [`Run::timestep`], [`Run::advance`] with
/// what the model answered. All buffers are made at the start; none is made later.
pub struct Run {
    plan: Plan,
    /// Index of the next evaluation.
    next: usize,
    states: Vec<Vec<f32>>,
    /// The latents as the model sees them, and behind them the further channels that it sees.
    input: Vec<f32>,
    keep: Option<Keep>,
    noise: Box<dyn NoiseSource>,
    /// The draws of one evaluation. The first `drawn` draws of the sequence after the initial latents are used up.
    draws: Vec<Vec<f32>>,
    drawn: usize,
    scratch: Scratch,
}

impl Run {
    /// Draws the initial latents of `elements` values and stands before the first evaluation.
    ///
    /// # Errors
    /// [`RunError::Plan`] when the plan reads a tensor that does not exist or noise that was drawn before, or when what is given
    /// does not fit it.
    pub fn new(plan: Plan, elements: usize, given: Given, mut noise: Box<dyn NoiseSource>) -> Result<Self, RunError> {
        let sizes = check(&plan)?;
        given.check(&plan, elements)?;
        let mut states = vec![vec![0.0; elements]; plan.num_states];
        noise.fill(&mut states[LATENTS]);
        let initial_noise = given.mask.is_some().then(|| states[LATENTS].clone());
        given.begin(&plan.initial, &mut states[LATENTS]);
        Ok(Self::at(plan, &sizes, 0, states, given.kept(initial_noise), noise, 0))
    }

    /// Stands where `checkpoint` was made, with `noise` (the request's own, from its start) moved to its place in the
    /// sequence.
    ///
    /// # Errors
    /// As [`Run::new`], and [`RunError::Checkpoint`] when the checkpoint does not belong to the plan.
    pub fn resume(
        plan: Plan,
        elements: usize,
        given: Given,
        mut noise: Box<dyn NoiseSource>,
        checkpoint: Checkpoint,
    ) -> Result<Self, RunError> {
        let sizes = check(&plan)?;
        given.check(&plan, elements)?;
        checkpoint.check(&plan, elements)?;
        let Checkpoint { evaluation, states, noise_draws, .. } = checkpoint;
        // The initial latents came first.
        let initial_noise = given.mask.is_some().then(|| {
            let mut draw = vec![0.0; elements];
            noise.fill(&mut draw);
            draw
        });
        for _ in usize::from(initial_noise.is_some())..=noise_draws {
            noise.skip(elements);
        }
        Ok(Self::at(plan, &sizes, evaluation, states, given.kept(initial_noise), noise, noise_draws))
    }

    fn at(
        plan: Plan,
        sizes: &Sizes,
        next: usize,
        states: Vec<Vec<f32>>,
        (keep, mut further_channels): (Option<Keep>, Vec<f32>),
        noise: Box<dyn NoiseSource>,
        drawn: usize,
    ) -> Self {
        let elements = states[LATENTS].len();
        let mut input = vec![0.0; elements];
        input.append(&mut further_channels);
        Self {
            next,
            states,
            input,
            keep,
            noise,
            draws: vec![vec![0.0; elements]; sizes.draws],
            drawn,
            scratch: Scratch::new(sizes.updates),
            plan,
        }
    }

    /// Where it stands.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            plan_version: Plan::VERSION,
            evaluation: self.next,
            states: self.states.clone(),
            noise_draws: self.drawn,
        }
    }

    /// Bytes of a checkpoint.
    pub fn checkpoint_bytes(&self) -> usize {
        self.states.iter().map(|state| size_of_val(state.as_slice())).sum()
    }

    /// The evaluation that comes next; `None` when the request is finished.
    pub fn evaluation(&self) -> Option<&Evaluation> {
        self.plan.evaluations.get(self.next)
    }

    /// Evaluations done, before a checkpoint that it was resumed from too.
    pub fn done(&self) -> usize {
        self.next
    }

    /// Evaluations still to do.
    pub fn remaining(&self) -> usize {
        self.plan.evaluations.len() - self.next
    }

    /// The steps that the request asked for.
    pub fn num_inference_steps(&self) -> usize {
        self.plan.num_inference_steps
    }

    /// The step that the user sees as finished after the next evaluation, if that finishes one.
    pub fn finishes_step(&self) -> Option<usize> {
        let before = self.next.checked_sub(1).map_or(0, |last| self.plan.evaluations[last].step);
        self.evaluation().map(|evaluation| evaluation.step).filter(|step| *step > before)
    }

    /// Scales the latents as the next evaluation wants them; further channels stay as they are.
    pub fn prepare_input(&mut self) {
        let Some(evaluation) = self.plan.evaluations.get(self.next) else { return };
        for (input, value) in self.input.iter_mut().zip(&self.states[evaluation.input]) {
            *input = (f64::from(*value) * evaluation.input_scale) as f32;
        }
    }

    /// The model's input, as [`Run::prepare_input`] left it.
    pub fn input(&self) -> &[f32] {
        &self.input
    }

    /// Values of the latents.
    pub fn elements(&self) -> usize {
        self.states[LATENTS].len()
    }

    /// The timestep of the next evaluation.
    pub fn timestep(&self) -> f32 {
        self.evaluation().map_or(0.0, |evaluation| evaluation.timestep)
    }

    /// The picture that the next evaluation's model output promises: x₀ predicted from it, for previews.
    pub fn predicted_original(&self, output: &[f32]) -> Vec<f32> {
        let Some(evaluation) = self.evaluation() else { return self.states[LATENTS].clone() };
        let (a, b) = evaluation.pred_original;
        let predict = |(x, eps): (&f32, &f32)| (a * f64::from(*x) + b * f64::from(*eps)) as f32;
        self.states[evaluation.input].iter().zip(output).map(predict).collect()
    }

    /// Applies the next evaluation's updates to the states. `output` is the model's output after guidance.
    ///
    /// Returns what [`Run::finishes_step`] said before.
    ///
    /// # Errors
    /// [`RunError::NotFinite`] when the output holds a NaN or an infinity; the states are as before.
    pub fn advance(&mut self, output: &[f32]) -> Result<Option<usize>, RunError> {
        if !output.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { evaluation: self.next });
        }
        let Some(evaluation) = self.plan.evaluations.get(self.next) else { return Ok(None) };
        let first_noise = self.drawn;
        for draw in self.draws.iter_mut().take(draws_until(evaluation, first_noise)) {
            self.noise.fill(draw);
            self.drawn += 1;
        }
        let operands = Operands { output, noise: &self.draws, first_noise };
        update::apply(&evaluation.updates, &mut self.states, &operands, &mut self.scratch);
        let finished = self.finishes_step();
        self.next += 1;
        if let Some(keep) = &self.keep {
            keep.put_back(&self.plan, self.next, &mut self.states);
        }
        Ok(finished)
    }

    /// The latents, once no evaluation remains.
    pub fn into_latents(mut self) -> Vec<f32> {
        self.states.swap_remove(LATENTS)
    }
}

/// Memory that a run of `plan` on latents of `elements` values holds, with a checkpoint that waits for its reader and what
/// the model answers for its rows.
pub fn held_bytes(plan: &Plan, elements: usize, given: &Given, rows: usize) -> usize {
    let mut drawn = 0;
    let draws = plan.evaluations.iter().map(|evaluation| {
        let draws = draws_until(evaluation, drawn);
        drawn += draws;
        draws
    });
    let tensors = 2 * plan.num_states + 1 + draws.max().unwrap_or(0) + rows + given.held_tensors();
    let further = given.further_channels.len();
    elements.saturating_mul(tensors).saturating_add(further).saturating_mul(size_of::<f32>())
}

/// The draws of noise, after the initial latents, that the evaluations before this one use up.
pub(crate) fn draws_before(plan: &Plan, evaluation: usize) -> usize {
    let before = plan.evaluations.iter().take(evaluation);
    before.fold(0, |drawn, evaluation| drawn + draws_until(evaluation, drawn))
}

struct Sizes {
    /// Most draws that one evaluation needs.
    draws: usize,
    /// Most updates of one evaluation.
    updates: usize,
}

/// How many draws must be made before this evaluation's updates, when `drawn` were made before: all that it reads and,
/// so that every draw keeps its index, all before those.
fn draws_until(evaluation: &Evaluation, drawn: usize) -> usize {
    evaluation.noise_draws().map(|index| index + 1).max().map_or(0, |until| until.saturating_sub(drawn))
}

/// Checks once what `advance` relies on at every evaluation.
fn check(plan: &Plan) -> Result<Sizes, RunError> {
    let mut sizes = Sizes { draws: 0, updates: 0 };
    let mut drawn = 0;
    if plan.evaluations.is_empty() || plan.num_states == 0 {
        return Err(RunError::Plan("it has no evaluations or no states"));
    }
    for evaluation in &plan.evaluations {
        let sources = evaluation.updates.iter().flat_map(|update| &update.terms).filter_map(|term| match term.source {
            Source::State(id) => Some(id),
            Source::ModelOutput | Source::Noise(_) => None,
        });
        let targets = evaluation.updates.iter().map(|update| update.target);
        if sources.chain(targets).chain([evaluation.input]).any(|id| id >= plan.num_states) {
            return Err(RunError::Plan("it names a state that does not exist"));
        }
        if evaluation.noise_draws().any(|index| index < drawn) {
            return Err(RunError::Plan("it reads noise that an earlier evaluation used"));
        }
        let draws = draws_until(evaluation, drawn);
        drawn += draws;
        sizes = Sizes { draws: sizes.draws.max(draws), updates: sizes.updates.max(evaluation.updates.len()) };
    }
    Ok(sizes)
}
