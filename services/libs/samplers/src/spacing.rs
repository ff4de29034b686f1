//! How noise levels are spaced between the noisiest and the quietest one, where that is not left to the timesteps that the sampler's class
//! chooses.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;

/// Karras' ρ: how much denser small σ stand than large ones.
const RHO: f64 = 7.0;

/// Where the σ of a sampler lie that steps in σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigmaSpacing {
    /// Denser towards small σ: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
    /// equation 5; diffusers' `use_karras_sigmas`.
    Karras,
    /// Evenly in log σ: diffusers' `use_exponential_sigmas`.
    Exponential,
}

impl SigmaSpacing {
    /// Every spacing.
    pub const ALL: [Self; 2] = [Self::Karras, Self::Exponential];

    /// The name that requests use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Karras => "karras",
            Self::Exponential => "exponential",
        }
    }

    /// `n` levels from `largest` down to `smallest`.
    pub(crate) fn sigmas(self, n: usize, largest: f64, smallest: f64) -> Vec<f64> {
        let share = |i: usize| if n > 1 { i as f64 / (n - 1) as f64 } else { 0.0 };
        let between = |from: f64, to: f64| move |i: usize| from + share(i) * (to - from);
        match self {
            Self::Karras => {
                let root = between(largest.powf(1.0 / RHO), smallest.powf(1.0 / RHO));
                (0..n).map(|i| root(i).powf(RHO)).collect()
            }
            Self::Exponential => {
                let log = between(largest.ln(), smallest.ln());
                (0..n).map(|i| log(i).exp()).collect()
            }
        }
    }
}

impl fmt::Display for SigmaSpacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SigmaSpacing {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|spacing| spacing.name() == name).ok_or_else(|| ParseError {
            what: "sigma_spacing",
            name: name.to_owned(),
            supported: "karras or exponential",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spacing_goes_from_end_to_end() {
        for spacing in SigmaSpacing::ALL {
            let sigmas = spacing.sigmas(9, 14.0, 0.03);
            assert!((sigmas[0] - 14.0).abs() < 1e-9 && (sigmas[8] - 0.03).abs() < 1e-9, "{sigmas:?}");
            assert!(sigmas.windows(2).all(|pair| pair[1] < pair[0]));
            assert_eq!(spacing.sigmas(1, 14.0, 0.03).len(), 1);
            assert_eq!(spacing.name().parse(), Ok(spacing));
        }
    }
}
