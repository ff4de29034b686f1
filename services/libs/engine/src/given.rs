//! What a request brings besides its text and its seed: a picture to begin from, a mask of what may change in it, and further
//! channels that an inpainting model looks at.
//!
//! Any model can keep a picture outside a mask: before every evaluation, what is not to change is replaced by the picture's own
//! latents, noised to the level at which the model looks next, with the request's initial noise; after the last one by the
//! picture's latents themselves. That is what diffusers' `StableDiffusionInpaintPipeline` does with a UNet of four channels.

use darkroom_samplers::{Initial, LATENTS, Plan};

use crate::error::RunError;

/// What a request brings besides its text and its seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// A picture's latents `[channels, height, width]`, in the UNet's scale.
    pub original: Option<Vec<f32>>,
    /// `[height, width]` of 0 (kept as in `original`) to 1 (made anew).
    pub mask: Option<Vec<f32>>,
    /// `[further channels, height, width]` that stand behind the latents in the model's input, the same at every evaluation.
    pub further_channels: Vec<f32>,
}

/// What is put back into the states of a run after every evaluation.
#[derive(Debug)]
pub(crate) struct Keep {
    original: Vec<f32>,
    mask: Vec<f32>,
    /// The initial noise.
    noise: Vec<f32>,
}

impl Given {
    /// Whether the plan of a request with latents of `elements` values can begin with this.
    pub(crate) fn check(&self, plan: &Plan, elements: usize) -> Result<(), RunError> {
        let fits = |original: &Vec<f32>| original.len() == elements;
        if !self.original.as_ref().map_or(plan.initial.original == 0.0 && self.mask.is_none(), fits) {
            return Err(RunError::Plan("it begins from a picture of other latents, or there is none"));
        }
        if self.mask.as_ref().is_some_and(|mask| mask.is_empty() || !elements.is_multiple_of(mask.len())) {
            return Err(RunError::Plan("its mask is of another size than its latents"));
        }
        Ok(())
    }

    /// Turns the initial draw of unit normal noise into the latents that the plan begins with.
    pub(crate) fn begin(&self, initial: &Initial, draw: &mut [f32]) {
        match &self.original {
            Some(original) if initial.original != 0.0 => {
                for (value, original) in draw.iter_mut().zip(original) {
                    *value = (initial.original * f64::from(*original) + initial.noise * f64::from(*value)) as f32;
                }
            }
            _ => draw.iter_mut().for_each(|value| *value = (f64::from(*value) * initial.noise) as f32),
        }
    }

    /// What the run puts back, where `noise` is the request's initial draw, and the further channels.
    pub(crate) fn kept(self, noise: Option<Vec<f32>>) -> (Option<Keep>, Vec<f32>) {
        let Self { original, mask, further_channels } = self;
        let keep = original.zip(mask).zip(noise).map(|((original, mask), noise)| Keep { original, mask, noise });
        (keep, further_channels)
    }

    /// Tensors of the latents' size that a run holds because of this.
    pub(crate) fn held_tensors(&self) -> usize {
        // The original, the mask at most, and the initial noise.
        if self.mask.is_some() { 3 } else { usize::from(self.original.is_some()) }
    }
}

impl Keep {
    /// Puts the picture back where it is kept, once `done` evaluations of `plan` are done: into the state that the next one looks
    /// at, at that one's noise level, or into the result.
    pub(crate) fn put_back(&self, plan: &Plan, done: usize, states: &mut [Vec<f32>]) {
        let (state, signal, level) = match plan.evaluations.get(done) {
            // x₀ = a · x + b · ε says what x consists of.
            Some(next) => (next.input, 1.0 / next.pred_original.0, -next.pred_original.1 / next.pred_original.0),
            None => (LATENTS, 1.0, 0.0),
        };
        let masks = self.mask.iter().cycle();
        let kept = self.original.iter().zip(&self.noise).zip(masks);
        for (value, ((original, noise), mask)) in states[state].iter_mut().zip(kept) {
            let (original, noise, mask) = (f64::from(*original), f64::from(*noise), f64::from(*mask));
            let kept = signal * original + level * noise;
            *value = (mask * f64::from(*value) + (1.0 - mask) * kept) as f32;
        }
    }
}
