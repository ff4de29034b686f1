//! What an evaluation takes: something by itself, and something for each latent pixel in it.

use std::time::Duration;

use darkroom_engine::Budget;

/// Seconds of evaluations, as a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds of an evaluation, whatever is in it.
    pub base: f64,
    /// Seconds more for each latent pixel of each row.
    pub per_pixel: f64,
}

impl Pace {
    /// Of an evaluation for so many latent pixels of all rows.
    #[must_use]
    pub fn evaluation(self, pixels: usize) -> Duration {
        Duration::try_from_secs_f64(self.seconds(pixels)).unwrap_or(Duration::MAX)
    }

    /// The same in seconds.
    #[must_use]
    pub fn seconds(self, pixels: usize) -> f64 {
        self.base + self.per_pixel * pixels as f64
    }

    /// Requests a second of `pixels` each that a worker gets done when its batch is always as full as `budget` allows.
    #[must_use]
    pub fn capacity(self, budget: Budget, pixels: usize, evaluations: u32) -> f64 {
        let together = (budget.pixels / pixels.max(1)).max(1);
        together as f64 / (self.seconds(together * pixels) * f64::from(evaluations.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_that_of_full_batches() {
        let pace = Pace { base: 0.01, per_pixel: 0.00001 };
        let budget = Budget { pixels: 2048, bytes: usize::MAX, pictures: usize::MAX };
        // Four guided pictures of 16×16 latents: 0.01 + 0.02048 s for all of them, four times.
        assert!((pace.capacity(budget, 512, 4) - 4.0 / (4.0 * 0.03048)).abs() < 1e-9);
        assert_eq!(pace.capacity(budget, 4096, 1), 1.0 / (0.01 + 0.04096), "what is larger than the budget runs alone");
    }
}
