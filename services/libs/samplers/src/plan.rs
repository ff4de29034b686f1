//! The form that every sampler takes: model evaluations and the linear updates between them.

use crate::sampler::Sampler;
use crate::start::Initial;

/// Names a state tensor of a plan: `0..num_states`, all of the latents' shape.
pub type StateId = usize;

/// The state that starts as scaled noise and ends as the result.
pub const LATENTS: StateId = 0;

/// Everything a sampler does for one request, decided before it starts.
///
/// Before the first evaluation, state [`LATENTS`] is what `initial` says and no other state is read before it is written. After
/// the last one, state [`LATENTS`] is the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whose plan it is.
    pub sampler: Sampler,
    /// The steps that are taken: fewer than were asked for where it begins from a picture. Evaluations can be more: see
    /// [`Evaluation::step`].
    pub num_inference_steps: usize,
    /// The initial latents.
    pub initial: Initial,
    /// How many state tensors the updates name.
    pub num_states: usize,
    /// What is done, in order.
    pub evaluations: Vec<Evaluation>,
}

/// One run of the model and what follows from its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The model's timestep; Euler's, Heun's and DPM2's may lie between two trained ones.
    pub timestep: f32,
    /// Steps that the user sees as finished after this evaluation.
    pub step: usize,
    /// The state that the model looks at.
    pub input: StateId,
    /// Multiplies that state on its way into the model; the state itself is not scaled.
    pub input_scale: f64,
    /// What changes, all at once: every right-hand side reads the states as they were before this evaluation.
    pub updates: Vec<Update>,
    /// `(a, b)` of the predicted x₀: `a · state[input] + b · model output`, with the input unscaled. So the input consists of
    /// `1 / a` of the picture and `-b / a` of noise.
    pub pred_original: (f64, f64),
}

/// `target = Σ coefficient · source`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The state that is replaced.
    pub target: StateId,
    /// What it becomes.
    pub terms: Vec<Term>,
}

/// One summand of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The tensor.
    pub source: Source,
    /// Its factor.
    pub coefficient: f64,
}

/// A tensor that an update reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A state, as it was before this evaluation.
    State(StateId),
    /// The noise that the model predicted at this evaluation, after guidance.
    ModelOutput,
    /// The request's i-th draw of unit normal noise after the initial latents, from 0. Draws are read in order and once.
    Noise(usize),
}

impl Plan {
    /// Which generation of plans this code makes. It goes up whenever a sampler's plan for the same request changes, so that
    /// what was begun under one plan is never continued under another.
    pub const VERSION: u32 = 1;

    pub(crate) fn new(
        sampler: Sampler,
        num_inference_steps: usize,
        initial: Initial,
        evaluations: Vec<Evaluation>,
    ) -> Self {
        let targets = evaluations.iter().flat_map(|evaluation| &evaluation.updates).map(|update| update.target);
        let num_states = 1 + targets.max().unwrap_or(LATENTS);
        Self { sampler, num_inference_steps, initial, num_states, evaluations }
    }

    /// How often the model runs.
    #[must_use]
    pub fn num_evaluations(&self) -> usize {
        self.evaluations.len()
    }

    /// How many draws of noise the plan reads besides the initial latents.
    #[must_use]
    pub fn num_noise_draws(&self) -> usize {
        let noise = self.evaluations.iter().flat_map(Evaluation::noise_draws);
        noise.max().map_or(0, |last| last + 1)
    }
}

impl Evaluation {
    /// The draws of noise that this evaluation's updates read.
    pub fn noise_draws(&self) -> impl Iterator<Item = usize> + '_ {
        let terms = self.updates.iter().flat_map(|update| &update.terms);
        terms.filter_map(|term| if let Source::Noise(index) = term.source { Some(index) } else { None })
    }
}

impl Update {
    pub(crate) fn new<const N: usize>(target: StateId, terms: [(Source, f64); N]) -> Self {
        let terms = terms.into_iter().map(|(source, coefficient)| Term { source, coefficient }).collect();
        Self { target, terms }
    }

    /// Adds noise, unless there is none to add: a draw that changes nothing need not be made.
    pub(crate) fn with_noise(mut self, index: usize, coefficient: f64) -> Self {
        if coefficient > 0.0 {
            self.terms.push(Term { source: Source::Noise(index), coefficient });
        }
        self
    }
}
