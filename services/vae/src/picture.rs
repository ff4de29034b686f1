//! Between 8-bit pictures, row by row with their colours together, and the model's numbers, colour by colour.

use darkroom_engine::ModelError;
use darkroom_models::noise::Generator;
use darkroom_models::stage::Posterior;

/// Red, green, blue.
pub(crate) const COLOURS: usize = 3;

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

/// The posterior's mean, or a draw from it with this seed's noise, times the scaling factor.
pub(crate) fn to_latents(posterior: Posterior, seed: Option<u64>, scaling_factor: f64) -> Vec<f32> {
    let Posterior { mut mean, std } = posterior;
    if let Some(seed) = seed {
        let noise = Generator::new(seed).randn(mean.len());
        for ((value, std), noise) in mean.iter_mut().zip(std).zip(noise) {
            *value += std * noise;
        }
    }
    let factor = scaling_factor as f32;
    mean.iter().map(|value| value * factor).collect()
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
        assert_eq!(to_latents(posterior.clone(), None, 2.0), [2.0; 32]);
        let drawn = to_latents(posterior.clone(), Some(7), 2.0);
        assert_ne!(drawn, [2.0; 32]);
        assert_eq!(drawn, to_latents(posterior, Some(7), 2.0));
    }
}
