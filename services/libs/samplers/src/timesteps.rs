//! Which timesteps a sampler visits: exactly as many as asked for, all of them trained ones.

use crate::config::TimestepSpacing;

/// A way to choose timesteps, with the numbers it depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spacing {
    pub(crate) kind: TimestepSpacing,
    pub(crate) steps_offset: usize,
    pub(crate) num_train_timesteps: usize,
}

impl Spacing {
    /// `n` whole timesteps from the noisiest down, as diffusers' PNDM and DDIM choose them.
    pub(crate) fn whole(self, n: usize) -> Vec<i64> {
        match self.kind {
            TimestepSpacing::Leading => self.leading(n, self.num_train_timesteps / n, 0),
            TimestepSpacing::Trailing => self.trailing(n),
            TimestepSpacing::Linspace => self.linspace(n).map(|t| t.round_ties_even() as i64).collect(),
        }
    }

    /// `n` timesteps as diffusers' Euler, Heun and KDPM2 schedulers choose them: `linspace` is not rounded to whole ones.
    pub(crate) fn fractional(self, n: usize) -> Vec<f32> {
        match self.kind {
            TimestepSpacing::Leading | TimestepSpacing::Trailing => {
                self.whole(n).into_iter().map(|t| t as f32).collect()
            }
            TimestepSpacing::Linspace => self.linspace(n).map(|t| t as f32).collect(),
        }
    }

    /// `n` whole timesteps as diffusers' DPM-Solver and UniPC choose them: the first `n` of the `n + 1` that would end at 0, except
    /// when they are `trailing`.
    pub(crate) fn whole_above_zero(self, n: usize) -> Vec<i64> {
        match self.kind {
            // With as many steps as timesteps the stride would be 0: it stays 1.
            TimestepSpacing::Leading => self.leading(n, (self.num_train_timesteps / (n + 1)).max(1), 1),
            TimestepSpacing::Trailing => self.trailing(n),
            TimestepSpacing::Linspace => self.linspace(n + 1).take(n).map(|t| t.round_ties_even() as i64).collect(),
        }
    }

    /// `first`, `first + 1`, … times the stride, plus the offset. Where the offset would lead past the last trained timestep
    /// (v1 with 1000 steps, for which diffusers fails or repeats a timestep) all of them move down.
    fn leading(self, n: usize, stride: usize, first: usize) -> Vec<i64> {
        let highest = ((first + n - 1) * stride) as i64;
        let offset = (self.steps_offset as i64).min(self.last() - highest);
        (first..first + n).rev().map(|i| (i * stride) as i64 + offset).collect()
    }

    /// From the last timestep down by a fractional stride, in the arithmetic of `numpy.arange`, whose first difference makes
    /// all others. For some `n` it yields one timestep more; that one is never used here.
    fn trailing(self, n: usize) -> Vec<i64> {
        let start = self.num_train_timesteps as f64;
        let stride = (start - start / n as f64) - start;
        (0..n).map(|i| (start + i as f64 * stride).round_ties_even() as i64 - 1).collect()
    }

    /// `numpy.linspace` from the last timestep down to 0; a single timestep is 0.
    fn linspace(self, n: usize) -> impl Iterator<Item = f64> {
        let last = self.last() as f64;
        let stride = if n > 1 { last / (n - 1) as f64 } else { 0.0 };
        (0..n).rev().map(move |i| if i > 0 && i == n - 1 { last } else { i as f64 * stride })
    }

    fn last(self) -> i64 {
        self.num_train_timesteps as i64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spacing(kind: TimestepSpacing) -> Spacing {
        Spacing { kind, steps_offset: 1, num_train_timesteps: 1000 }
    }

    #[test]
    fn the_reference_choice_for_fifty_steps() {
        let timesteps = spacing(TimestepSpacing::Leading).whole(50);
        assert_eq!((timesteps[0], timesteps[1], timesteps[49]), (981, 961, 1));
    }

    #[test]
    fn every_count_is_exact_and_every_timestep_was_trained() {
        for kind in [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace] {
            for n in 1..=1000 {
                let spacing = spacing(kind);
                for timesteps in [spacing.whole(n), spacing.whole_above_zero(n)] {
                    assert_eq!(timesteps.len(), n);
                    assert!(timesteps.iter().all(|t| (0..1000).contains(t)), "{kind:?} {n}: {timesteps:?}");
                    assert!(timesteps.windows(2).all(|pair| pair[0] >= pair[1]), "{kind:?} {n}: {timesteps:?}");
                }
                let fractional = spacing.fractional(n);
                assert_eq!(fractional.len(), n);
                assert!(fractional.iter().all(|t| (0.0..=999.0).contains(t)));
            }
        }
    }

    #[test]
    fn as_many_steps_as_timesteps_visit_all_of_them() {
        for kind in [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace] {
            let timesteps = spacing(kind).whole(1000);
            assert!(timesteps.into_iter().eq((0..1000).rev()), "{kind:?}");
        }
    }
}
