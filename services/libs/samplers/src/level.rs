//! One amount of noise in the variables of DPM-Solver, for the samplers that step in λ.

use crate::planning::Steps;
use crate::schedule::NoiseSchedule;

/// x = α · x₀ + σ · ε with α² + σ² = 1: Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling
/// in Around 10 Steps" (2022), equation 2.1.
#[derive(Clone, Copy)]
pub(crate) struct Level {
    pub(crate) alpha: f64,
    pub(crate) sigma: f64,
}

impl Level {
    /// From ᾱ: the square of α.
    pub(crate) fn of_alpha_cumprod(alpha_cumprod: f64) -> Self {
        Self { alpha: alpha_cumprod.sqrt(), sigma: (1.0 - alpha_cumprod).sqrt() }
    }

    /// From noise in units of the picture.
    pub(crate) fn new(sigma: f64) -> Self {
        let alpha = 1.0 / sigma.hypot(1.0);
        Self { alpha, sigma: sigma * alpha }
    }

    /// x₀ from x and ε, as their coefficients.
    pub(crate) fn original(self) -> (f64, f64) {
        (1.0 / self.alpha, -self.sigma / self.alpha)
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite where there is no noise.
    pub(crate) fn lambda(self) -> f64 {
        (self.alpha / self.sigma).ln()
    }

    /// How far it is in λ to a level of less noise.
    pub(crate) fn length(self, to: Self) -> f64 {
        to.lambda() - self.lambda()
    }

    /// The exact step to another level while x₀ stays what it is, as the coefficients of x and x₀. The second is
    /// α · (1 − e^(−h)); with σ_t / σ_s in place of the exponential it is right for a final σ of zero too.
    pub(crate) fn transfer(self, to: Self) -> (f64, f64) {
        let ratio = to.sigma / self.sigma;
        (ratio, to.alpha - self.alpha * ratio)
    }
}

/// Timesteps and levels of the steps that are taken, the noisiest first, for samplers that step in λ.
pub(crate) fn levels(schedule: &NoiseSchedule, steps: Steps) -> (Vec<f32>, Vec<Level>) {
    let levels = schedule.whole_levels(steps).split_off(steps.skipped);
    levels.into_iter().map(|(timestep, sigma)| (timestep, Level::new(sigma))).unzip()
}

/// How far to go on along the line from the previous x₀ to the current one: h / (2 · h₀), half the ratio of this step's
/// length in λ to the one before. Where that one had no length (1000 `linspace` steps visit a timestep twice) there is no
/// line, and the step is of first order.
pub(crate) fn extrapolation(before: Level, from: Level, to: Level) -> f64 {
    let previous = before.length(from);
    if previous > 0.0 { from.length(to) / (2.0 * previous) } else { 0.0 }
}
