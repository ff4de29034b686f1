//! Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) as the reference script writes it.

/// `eps = u + scale · (c − u)`, written over `conditional`; in f32 as the reference computes it.
pub(crate) fn combine(unconditional: &[f32], conditional: &mut [f32], scale: f32) {
    for (c, u) in conditional.iter_mut().zip(unconditional) {
        *c = u + scale * (*c - u);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_moves_away_from_the_unconditional_prediction() {
        for (scale, expected) in [(0.0, [1.0, -2.0]), (1.0, [2.0, 0.0]), (7.5, [8.5, 13.0])] {
            let mut conditional = [2.0, 0.0];
            combine(&[1.0, -2.0], &mut conditional, scale);
            assert_eq!(conditional, expected);
        }
    }
}
