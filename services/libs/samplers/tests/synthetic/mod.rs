//! Runs a plan in f64 over the synthetic model of `tests/golden/make_samplers.py`.

use darkroom_samplers::{LATENTS, Plan, Source};

/// A plan between two evaluations.
pub(crate) struct Run<'a> {
    plan: &'a Plan,
    next: usize,
    /// NaN until they are written: a plan that reads one too early shows.
    pub(crate) states: Vec<Vec<f64>>,
}

impl<'a> Run<'a> {
    /// Before the first evaluation; `original` is the picture to begin from, if there is one.
    pub(crate) fn new(plan: &'a Plan, original: &[f64], initial_noise: &[f64]) -> Self {
        let mut states = vec![vec![f64::NAN; initial_noise.len()]; plan.num_states];
        let originals = original.iter().copied().chain(std::iter::repeat(0.0));
        let begin = |(noise, original): (&f64, f64)| plan.initial.original * original + plan.initial.noise * noise;
        states[LATENTS] = initial_noise.iter().zip(originals).map(begin).collect();
        Self { plan, next: 0, states }
    }

    /// What the model sees next.
    pub(crate) fn input(&self) -> Vec<f64> {
        let evaluation = &self.plan.evaluations[self.next];
        self.states[evaluation.input].iter().map(|value| value * evaluation.input_scale).collect()
    }

    /// One evaluation of the synthetic model.
    pub(crate) fn advance(&mut self, noise: &[Vec<f64>]) {
        let timestep = f64::from(self.plan.evaluations[self.next].timestep);
        let output: Vec<f64> =
            self.input().iter().zip(0..).map(|(x, i)| 0.8 * x + 0.1 * (0.01 * timestep + f64::from(i)).sin()).collect();
        self.apply(&output, noise);
    }

    /// One evaluation that gave `output`.
    pub(crate) fn apply(&mut self, output: &[f64], noise: &[Vec<f64>]) {
        let before = self.states.clone();
        for update in &self.plan.evaluations[self.next].updates {
            let mut sum = vec![0.0; output.len()];
            for term in &update.terms {
                let source = match term.source {
                    Source::State(id) => &before[id],
                    Source::ModelOutput => output,
                    Source::Noise(i) => &noise[i],
                };
                for (sum, value) in sum.iter_mut().zip(source) {
                    *sum += term.coefficient * value;
                }
            }
            self.states[update.target] = sum;
        }
        self.next += 1;
    }
}
