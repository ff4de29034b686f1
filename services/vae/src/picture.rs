//! Between 8-bit pictures, row by row with their colours together, and the model's numbers, colour by colour.

use darkroom_engine::ModelError;
use darkroom_models::noise::{Generator, Rng};
use darkroom_models::stage::Posterior;

/// Red, green, blue.
pub(crate) const COLOURS: usize = 3;

/// A picture as it leaves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    /// `[height, width, 3]`.
    pub(crate) rgb: Vec<u8>,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// `[3, height, width]` of about −1..1 → `[height, width, 3]`: `round(255 · clamp(x/2 + 0.5, 0, 1))`, half to even, as
/// diffusers' image processor has it.
///
/// # Errors
/// A value that is not finite, which would become black without a word.
pub(crate) fn to_bytes(planes: &[f32]) -> Result<Vec<u8>, ModelError> {
    if !planes.iter().all(|value| value.is_finite()) {
        return Err("the picture holds a value that is not finite; try a higher precision".into());
    }
    let pixels = planes.len() / COLOURS;
    let byte = |value: f32| (255.0 * (value / 2.0 + 0.5).clamp(0.0, 1.0)).round_ties_even() as u8;
    Ok((0..pixels).flat_map(|pixel| [0, 1, 2].map(|colour| byte(planes[colour * pixels + pixel]))).collect())
}

/// `[height, width, 3]` → `[3, height, width]` of −1..1: `2 · (x / 255) − 1`.
pub(crate) fn to_planes(bytes: &[u8]) -> Vec<f32> {
    let pixels = bytes.len() / COLOURS;
    let value = |byte: u8| 2.0 * (f32::from(byte) / 255.0) - 1.0;
    (0..COLOURS).flat_map(|colour| (0..pixels).map(move |pixel| value(bytes[pixel * COLOURS + colour]))).collect()
}

/// Makes `planes` grey where `mask`, `[height, width]`, is 128 or more, as diffusers' inpainting pipeline does for its UNet: there
/// the mask is split at 0.5, and a masked value is 0.
pub(crate) fn grey_out(planes: &mut [f32], mask: &[u8]) {
    for (value, mask) in planes.iter_mut().zip(mask.iter().cycle()) {
        if *mask >= 128 {
            *value = 0.0;
        }
    }
}

/// How the posterior is drawn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draws {
    /// A draw with the noise of each; none is the posterior's mean.
    pub(crate) seeds: Vec<u64>,
    pub(crate) rng: Rng,
    /// Draws of as many values that were made of each seed's noise before.
    pub(crate) before: u32,
}

/// The posterior's mean, or one draw after the other, times the scaling factor.
pub(crate) fn to_latents(posterior: &Posterior, draws: &Draws, scaling_factor: f64) -> Vec<f32> {
    let Posterior { mean, std } = posterior;
    let factor = scaling_factor as f32;
    if draws.seeds.is_empty() {
        return mean.iter().map(|value| value * factor).collect();
    }
    let draw = |seed: &u64| {
        let mut generator = Generator::new(draws.rng, *seed);
        (0..draws.before).for_each(|_| generator.skip(mean.len()));
        let noise = generator.randn(mean.len());
        mean.iter().zip(std).zip(noise).map(|((mean, std), noise)| (mean + std * noise) * factor).collect::<Vec<_>>()
    };
    draws.seeds.iter().flat_map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_planes_are_each_others_inverse() {
        let bytes: Vec<u8> = (0..=254).chain([255, 128, 7]).collect();
        assert_eq!(bytes.len() % COLOURS, 0);
        let planes = to_planes(&bytes);
        assert_eq!(planes[0], -1.0);
        assert_eq!(to_bytes(&planes).unwrap(), bytes);
    }

    #[test]
    fn values_beyond_the_range_are_clamped_and_ties_go_to_even() {
        // Zero is exactly between 127 and 128.
        assert_eq!(to_bytes(&[-7.0, 9.0, 0.0]).unwrap(), [0, 255, 128]);
        assert!(to_bytes(&[0.0, f32::NAN, 0.0]).is_err());
    }

    #[test]
    fn a_seed_draws_around_the_mean() {
        let posterior = Posterior { mean: vec![1.0; 32], std: vec![0.5; 32] };
        let drawn = |seeds: &[u64], before| {
            to_latents(&posterior, &Draws { seeds: seeds.to_vec(), before, ..Draws::default() }, 2.0)
        };
        assert_eq!(drawn(&[], 0), [2.0; 32]);
        let mut noise = Generator::new(Rng::Cpu, 7);
        let expected = |noise: Vec<f32>| noise.into_iter().map(|noise| (1.0 + 0.5 * noise) * 2.0).collect::<Vec<_>>();
        let [first, second] = [0, 1].map(|_| expected(noise.randn(32)));
        assert_eq!(drawn(&[7], 0), first);
        assert_eq!(drawn(&[7], 1), second);
        assert_eq!(drawn(&[8, 7], 0)[32..], first);
    }

    #[test]
    fn the_masked_part_is_grey() {
        let mut planes = to_planes(&[255; 12]);
        grey_out(&mut planes, &[0, 127, 128, 255]);
        assert_eq!(planes, [1.0, 1.0, 0.0, 0.0].repeat(COLOURS));
    }
}
