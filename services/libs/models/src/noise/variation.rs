//! A seed's noise, turned some way towards another seed's: pictures that are much alike.

/// How alike two directions are from which on the way between them is taken to be straight.
const STRAIGHT: f64 = 0.9995;

/// Turns `noise`, `[channels, height, width]`, by `strength` of the way to `other`: spherical interpolation, of each channel's
/// columns, as `slerp` in `modules/rng.py` of AUTOMATIC1111's web UI has it with its variation seeds. 0 changes nothing, 1 gives `other`.
///
/// Where the two are nearly the same, and where a column has no direction to turn to, the way is straight. (There the weights of the
/// straight way are exchanged, which shows in nothing: it is taken for noise that is the same.)
///
/// # Panics
/// When the lengths differ, or are no multiple of height · width.
pub fn vary(noise: &mut [f32], other: &[f32], [height, width]: [usize; 2], strength: f64) {
    assert_eq!(noise.len(), other.len());
    assert!(noise.len().is_multiple_of(height * width));
    let columns: Vec<Column> = (0..noise.len() / height)
        .map(|index| {
            let first = index / width * height * width + index % width;
            Column::of(noise, other, first, height, width)
        })
        .collect();
    let mean = columns.iter().map(|column| column.cosine).sum::<f64>() / columns.len() as f64;
    for column in columns {
        let [own, others] = if mean > STRAIGHT { [1.0 - strength, strength] } else { column.weights(strength) };
        for at in (0..height).map(|row| column.first + row * width) {
            noise[at] = (own * f64::from(noise[at]) + others * f64::from(other[at])) as f32;
        }
    }
}

/// One of a channel's columns.
struct Column {
    /// Its topmost value.
    first: usize,
    /// Of the angle between the two.
    cosine: f64,
}

impl Column {
    fn of(noise: &[f32], other: &[f32], first: usize, height: usize, width: usize) -> Self {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            let rows = (0..height).map(|row| first + row * width);
            rows.map(|at| f64::from(a[at]) * f64::from(b[at])).sum()
        };
        let lengths = (product(noise, noise) * product(other, other)).sqrt();
        Self { first, cosine: product(noise, other) / lengths }
    }

    /// What the two weigh.
    fn weights(&self, strength: f64) -> [f64; 2] {
        let angle = self.cosine.clamp(-1.0, 1.0).acos();
        let sine = angle.sin();
        // In one dimension there is nothing to turn, and a length of 0 has no direction.
        if sine.is_nan() || sine <= 1e-6 {
            return [1.0 - strength, strength];
        }
        [((1.0 - strength) * angle).sin() / sine, (strength * angle).sin() / sine]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generator, Rng};
    use super::*;

    fn noise(seed: u64, n: usize) -> Vec<f32> {
        Generator::new(Rng::Cpu, seed).randn(n)
    }

    #[test]
    fn the_ends_are_the_two_seeds() {
        let (own, other) = (noise(1, 128), noise(2, 128));
        for (strength, expected) in [(0.0, &own), (1.0, &other)] {
            let mut varied = own.clone();
            vary(&mut varied, &other, [8, 4], strength);
            assert!(varied.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        let mut same = own.clone();
        vary(&mut same, &own, [8, 4], 0.3);
        assert!(same.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn half_way_keeps_the_length_of_what_stands_at_right_angles() {
        let mut varied = vec![1.0, 0.0];
        vary(&mut varied, &[0.0, 1.0], [2, 1], 0.5);
        assert!(varied.iter().all(|value| (value - 0.5_f32.sqrt()).abs() < 1e-6));
    }

    #[test]
    fn without_a_direction_nothing_is_divided_by_zero() {
        for (mut own, other, height) in [(vec![1.0, 2.0], vec![3.0, -1.0], 1), (vec![0.0, 0.0], vec![1.0, 1.0], 2)] {
            let width = 2 / height;
            vary(&mut own, &other, [height, width], 0.25);
            assert!(own.iter().all(|value| value.is_finite()), "{own:?}");
        }
    }
}
