//! The noise schedule: how much of a picture is left at each timestep.

use crate::config::{BetaSchedule, ScheduleConfig, TimestepSpacing};
use crate::error::ScheduleError;
use crate::level::Level;
use crate::planning::Steps;
use crate::spacing::SigmaSpacing;
use crate::timesteps::Spacing;

/// Longer tables are a mistake in a file, not a model.
const MOST_TRAIN_TIMESTEPS: usize = 100_000;

/// How a model was noised in training: x_t = √ᾱ_t · x₀ + √(1 − ᾱ_t) · ε, Ho et al., "Denoising Diffusion Probabilistic
/// Models" (2020), equation 4.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// ᾱ by timestep, strictly falling, each the nearest f32: models are trained with such a table and both references
    /// sample with one. It matters where little noise is left: σ at timestep 0 differs by 1.3e-5 of itself.
    alphas_cumprod: Vec<f64>,
    /// σ = √((1 − ᾱ) / ᾱ) by timestep, strictly rising: the noise in units of the picture.
    sigmas: Vec<f64>,
    final_alpha_cumprod: f64,
    timestep_spacing: Option<TimestepSpacing>,
    steps_offset: usize,
}

impl NoiseSchedule {
    /// Computes the tables of `config`.
    ///
    /// # Errors
    /// [`ScheduleError`] when its numbers describe no schedule.
    pub fn new(config: &ScheduleConfig) -> Result<Self, ScheduleError> {
        let n = config.num_train_timesteps;
        if !(2..=MOST_TRAIN_TIMESTEPS).contains(&n) {
            return Err(ScheduleError::NumTrainTimesteps(n));
        }
        let (start, end) = (config.beta_start, config.beta_end);
        // Written so that a NaN is refused too.
        if !(0.0 < start && start <= end && end < 1.0) {
            return Err(ScheduleError::Betas { start, end });
        }
        let mut alpha_cumprod = 1.0;
        let alphas_cumprod: Vec<f64> = betas(config.beta_schedule, start, end, n)
            .map(|beta| {
                alpha_cumprod *= 1.0 - beta;
                f64::from(alpha_cumprod as f32)
            })
            .collect();
        // σ² would overflow and ᾱ lose its digits well below this.
        if alpha_cumprod < 1e-30 {
            return Err(ScheduleError::TooNoisy(alpha_cumprod));
        }
        let falls = |pair: &[f64]| pair[1] < pair[0];
        if alphas_cumprod.first() == Some(&1.0) || !alphas_cumprod.windows(2).all(falls) {
            return Err(ScheduleError::TooQuiet { start, end });
        }
        let sigmas = alphas_cumprod.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect();
        let final_alpha_cumprod =
            if config.set_alpha_to_one.unwrap_or(false) { 1.0 } else { alphas_cumprod.first().copied().unwrap_or(1.0) };
        Ok(Self {
            alphas_cumprod,
            sigmas,
            final_alpha_cumprod,
            timestep_spacing: config.timestep_spacing,
            steps_offset: config.steps_offset.unwrap_or(1),
        })
    }

    /// Length of the schedule.
    #[must_use]
    pub fn num_train_timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// ᾱ at every timestep: the share of the picture in the variance of a noised one.
    #[must_use]
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// ᾱ at a timestep; before the first one, where the last step of PLMS and DDIM leads, the final one.
    pub(crate) fn alpha_cumprod(&self, timestep: i64) -> f64 {
        let Ok(timestep) = usize::try_from(timestep) else { return self.final_alpha_cumprod };
        let last = self.alphas_cumprod.len() - 1;
        self.alphas_cumprod.get(timestep.min(last)).copied().unwrap_or(self.final_alpha_cumprod)
    }

    /// How noisy a timestep is.
    pub(crate) fn level(&self, timestep: i64) -> Level {
        Level::of_alpha_cumprod(self.alpha_cumprod(timestep))
    }

    /// σ at a timestep, between two trained ones on the line that joins theirs (`numpy.interp`).
    pub(crate) fn sigma(&self, timestep: f32) -> f64 {
        let below = timestep.floor();
        let share = f64::from(timestep - below);
        let at = |index: usize| self.sigmas.get(index.min(self.sigmas.len() - 1)).copied().unwrap_or(0.0);
        let (low, high) = (at(below as usize), at(below as usize + 1));
        low + share * (high - low)
    }

    /// The timestep of a σ, on the line in log σ between the trained ones around it, as k-diffusion's `sigma_to_t` has it; at
    /// most the last and at least the first one. Not quite the inverse of [`Self::sigma`], whose lines are in σ.
    pub(crate) fn timestep(&self, sigma: f64) -> f32 {
        let above = self.sigmas.partition_point(|&trained| trained <= sigma);
        let below = above.saturating_sub(1).min(self.sigmas.len() - 2);
        let (low, high) = (self.sigmas[below].ln(), self.sigmas[below + 1].ln());
        let share = ((sigma.ln() - low) / (high - low)).clamp(0.0, 1.0);
        (below as f64 + share) as f32
    }

    /// Timesteps and σ of all steps, the noisiest first, as diffusers' Euler, Heun, LMS and KDPM2 schedulers choose them: other spacings
    /// reach from the first σ that timesteps have to the last.
    pub(crate) fn fractional_levels(&self, steps: Steps) -> Vec<(f32, f64)> {
        let timesteps = self.spacing(TimestepSpacing::Linspace).fractional(steps.n);
        let levels: Vec<(f32, f64)> = timesteps.into_iter().map(|timestep| (timestep, self.sigma(timestep))).collect();
        let Some(spacing) = steps.spacing else { return levels };
        let (largest, smallest) = (levels[0].1, levels[levels.len() - 1].1);
        let sigmas = spacing.sigmas(steps.n, largest, smallest);
        sigmas.into_iter().map(|sigma| (self.timestep(sigma), sigma)).collect()
    }

    /// Timesteps and σ of all steps, the noisiest first, as diffusers' DPM-Solver and UniPC choose them: other spacings reach over all that
    /// was trained. The timesteps are whole, Karras' rounded and exponential ones cut off.
    pub(crate) fn whole_levels(&self, steps: Steps) -> Vec<(f32, f64)> {
        let Some(spacing) = steps.spacing else {
            let timesteps = self.spacing(TimestepSpacing::Linspace).whole_above_zero(steps.n);
            return timesteps.into_iter().map(|timestep| (timestep as f32, self.sigma(timestep as f32))).collect();
        };
        let whole = |timestep: f32| match spacing {
            // There the noisiest lies just below its timestep: logarithms are in f32.
            SigmaSpacing::Exponential => (timestep - 1e-3).max(0.0).trunc(),
            SigmaSpacing::Karras => timestep.round_ties_even(),
        };
        let (largest, smallest) = (self.sigmas[self.sigmas.len() - 1], self.sigmas[0]);
        let sigmas = spacing.sigmas(steps.n, largest, smallest);
        sigmas.into_iter().map(|sigma| (whole(self.timestep(sigma)), sigma)).collect()
    }

    /// Where a sampler's timesteps lie, if its class has `default` for a model that does not say.
    pub(crate) fn spacing(&self, default: TimestepSpacing) -> Spacing {
        Spacing {
            kind: self.timestep_spacing.unwrap_or(default),
            steps_offset: self.steps_offset,
            num_train_timesteps: self.num_train_timesteps(),
        }
    }
}

fn betas(kind: BetaSchedule, start: f64, end: f64, n: usize) -> impl Iterator<Item = f64> {
    let (from, to) = match kind {
        BetaSchedule::Linear => (start, end),
        BetaSchedule::ScaledLinear => (start.sqrt(), end.sqrt()),
    };
    (0..n).map(move |i| {
        let value = from + (to - from) * (i as f64 / (n - 1) as f64);
        match kind {
            BetaSchedule::Linear => value,
            BetaSchedule::ScaledLinear => value * value,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut ScheduleConfig)) -> Result<NoiseSchedule, ScheduleError> {
        let mut config = ScheduleConfig::default();
        change(&mut config);
        NoiseSchedule::new(&config)
    }

    #[test]
    fn v1_ends_where_the_paper_trains() {
        let schedule = with(|_| ()).unwrap();
        assert_eq!(schedule.num_train_timesteps(), 1000);
        assert_eq!(schedule.alphas_cumprod()[0], f64::from(1.0 - 0.00085_f32));
        // k-diffusion's sigma_max of Stable Diffusion v1.
        assert!((schedule.sigma(999.0) - 14.6146).abs() < 1e-4);
        assert!(schedule.alphas_cumprod().windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn sigma_is_linear_between_timesteps() {
        let schedule = with(|_| ()).unwrap();
        let middle = 0.5 * (schedule.sigma(10.0) + schedule.sigma(11.0));
        assert!((schedule.sigma(10.5) - middle).abs() < 1e-15);
    }

    #[test]
    fn a_sigma_leads_to_its_timestep() {
        let schedule = with(|_| ()).unwrap();
        for timestep in [0.0, 1.0, 500.0, 998.0, 999.0] {
            assert!((schedule.timestep(schedule.sigma(timestep)) - timestep).abs() < 1e-3);
        }
        let middle = (schedule.sigma(10.0) * schedule.sigma(11.0)).sqrt();
        assert!((schedule.timestep(middle) - 10.5).abs() < 1e-6);
        assert_eq!([schedule.timestep(1e-9), schedule.timestep(1e9)], [0.0, 999.0]);
    }

    #[test]
    fn numbers_that_make_no_schedule_are_refused() {
        assert_eq!(with(|c| c.num_train_timesteps = 1), Err(ScheduleError::NumTrainTimesteps(1)));
        assert!(matches!(with(|c| c.beta_start = f64::NAN), Err(ScheduleError::Betas { .. })));
        assert!(matches!(with(|c| c.beta_end = 0.0001), Err(ScheduleError::Betas { .. })));
        assert!(matches!(with(|c| c.beta_end = 1.0), Err(ScheduleError::Betas { .. })));
        assert!(matches!(with(|c| (c.beta_start, c.beta_end) = (0.5, 0.9)), Err(ScheduleError::TooNoisy(_))));
        assert!(matches!(with(|c| c.beta_start = 1e-9), Err(ScheduleError::TooQuiet { .. })));
    }
}
