//! Where a plan begins: at noise alone, or some way into the noise over a picture.
//!
//! Meng et al., "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations" (2022): a picture is noised as far
//! as `strength` says, and brought back from there.

use crate::error::PlanError;

/// What state [`LATENTS`](crate::LATENTS) is made of before the first evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Initial {
    /// Multiplies the latents of the picture to begin from; 0 where there is none.
    pub original: f64,
    /// Multiplies unit normal noise.
    pub noise: f64,
}

/// Where a plan begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// At noise.
    Noise,
    /// At a noised picture. Of `num_inference_steps` ⌊strength · `num_inference_steps`⌋ are taken.
    Strength {
        /// Above 0, to 1; so much that at least one step is taken.
        strength: f64,
        /// Which timestep that is, and how much noise.
        way: StrengthWay,
    },
}

/// How the references begin from a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrengthWay {
    /// CompVis' `scripts/img2img.py`, with DDIM alone: `stochastic_encode` takes the noise of the timestep after the one that is
    /// evaluated first. At strength 1, where the script fails, there is as much more noise as between any two timesteps, but no more
    /// than was trained.
    CompVis,
    /// diffusers' `StableDiffusionImg2ImgPipeline`: the last of the sampler's own timesteps, and the noise of the first of them. A
    /// sampler's history begins there.
    ///
    /// PLMS goes on in the middle of its list of timesteps, in which the second one stands twice, as `PNDMScheduler` does: its first
    /// step then leads to another timestep than the one that is evaluated next.
    Diffusers,
}

impl Start {
    /// How many of `n` steps are passed over.
    ///
    /// # Errors
    /// [`PlanError::Strength`] for one that is not above 0 and at most 1, or that leaves no step.
    pub(crate) fn skipped(self, n: usize) -> Result<usize, PlanError> {
        let Self::Strength { strength, .. } = self else { return Ok(0) };
        // Both references round down, in this precision. A NaN is in no range.
        let taken = (n as f64 * strength) as usize;
        if !(0.0..=1.0).contains(&strength) || taken == 0 {
            return Err(PlanError::Strength { strength, num_inference_steps: n });
        }
        Ok(n - taken)
    }
}
