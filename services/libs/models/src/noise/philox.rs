//! PyTorch's normal noise on a CUDA GPU, computed anywhere.
//!
//! There, each value of a tensor has a thread of its own, and the thread's number is the subsequence of the counter-based engine
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) that it draws from. Each call of `torch.randn` takes
//! the next block of four words of every subsequence and uses two of them, by Box and Muller's transform
//! (`aten/src/ATen/native/cuda/DistributionTemplates.h`; cuRAND's `curand_normal.h`).
//!
//! That holds up to as many values as the GPU runs threads at once, past which a thread makes several values. The smallest cards of the
//! last ten years run some 40,000 and large ones over 200,000; the latents of a picture of 512×512 pixels are 16,384 values, of 1024×1024
//! 65,536.

use std::f32::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key from round to round: the golden ratio, and √3 − 1.
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// One seed's noise, call after call.
#[derive(Clone)]
pub(super) struct CudaGenerator {
    key: [u32; 2],
    /// Calls that were made.
    calls: u64,
}

impl CudaGenerator {
    pub(super) fn new(seed: u64) -> Self {
        Self { key: halves(seed), calls: 0 }
    }

    pub(super) fn fill(&mut self, values: &mut [f32]) {
        let block = halves(self.calls);
        for (subsequence, value) in (0u64..).zip(values) {
            let subsequence = halves(subsequence);
            let words = philox([block[0], block[1], subsequence[0], subsequence[1]], self.key);
            *value = normal(words[0], words[1]);
        }
        self.skip();
    }

    pub(super) fn skip(&mut self) {
        self.calls = self.calls.wrapping_add(1);
    }
}

/// Lower and upper.
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [0, 1].map(|i| key[i].wrapping_add(KEY_STEPS[i]));
        }
        let [first, second] = [0, 1].map(|i| u64::from(counter[2 * i]) * u64::from(MULTIPLIERS[i]));
        let ([low, high], [other_low, other_high]) = (halves(first), halves(second));
        counter = [other_high ^ counter[1] ^ key[0], other_low, high ^ counter[3] ^ key[1], low];
    }
    counter
}

/// The first of the two normals that two words make.
fn normal(x: u32, y: u32) -> f32 {
    const STEP: f32 = 1.0 / (1_u64 << 32) as f32;
    const ANGLE_STEP: f32 = STEP * TAU;
    // Never 0, where the logarithm would be infinite.
    let uniform = x as f32 * STEP + STEP / 2.0;
    let angle = y as f32 * ANGLE_STEP + ANGLE_STEP / 2.0;
    (-2.0 * uniform.ln()).sqrt() * angle.sin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_published_ones() {
        // `kat_vectors` of the authors' Random123: philox4x32 of 10 rounds.
        for (counter, key, words) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), words);
        }
    }

    #[test]
    fn a_seed_is_wider_than_a_word() {
        let drawn = |seed| {
            let mut values = [0.0; 4];
            CudaGenerator::new(seed).fill(&mut values);
            values
        };
        assert_ne!(drawn(1), drawn(1 + (1 << 32)));
    }
}
