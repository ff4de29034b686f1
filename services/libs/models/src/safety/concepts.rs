//! Thresholds: how near a picture's embedding may come to those of what must not be there.
//!
//! `StableDiffusionSafetyChecker.forward` of diffusers, number by number in f32 as numpy has them there: a score is rounded to
//! three digits before it is compared with zero, and one special concept that is found makes the checker stricter by 0.01 for all that
//! follow.

use crate::LoadError;
use crate::compute::{Backend, Scope};

/// Concepts that flag a picture.
const CONCEPTS: usize = 17;
/// Concepts that only make the checker stricter.
const SPECIAL: usize = 3;
/// How much stricter.
const ADJUSTMENT: f32 = 0.01;
/// The least length that an embedding is divided by, as `torch.nn.functional.normalize` has it.
const LEAST_LENGTH: f32 = 1e-12;

/// Embeddings of one length, and how near each may come.
struct Thresholds {
    /// Row by row, each of length one.
    embeddings: Vec<Vec<f32>>,
    thresholds: Vec<f32>,
}

/// Both kinds of concepts.
pub(crate) struct Concepts {
    concepts: Thresholds,
    special: Thresholds,
}

/// What the checker says of a picture. A score above zero is a concept that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct SafetyScores {
    /// Cosine less threshold, with the adjustment, in three digits: of the 17 concepts that flag a picture.
    pub concepts: Vec<f32>,
    /// The same of the 3 that only make the checker stricter.
    pub special: Vec<f32>,
}

impl SafetyScores {
    /// Whether any concept was found.
    #[must_use]
    pub fn flagged(&self) -> bool {
        self.concepts.iter().any(|score| *score > 0.0)
    }
}

impl Concepts {
    /// Reads the four tensors.
    pub(crate) fn load<B: Backend>(scope: &Scope<'_, B>, width: usize) -> Result<Self, LoadError> {
        let read = |name: &str, count: usize| -> Result<Thresholds, LoadError> {
            let rows = scope.values(name, &[count, width])?;
            let thresholds = scope.values(&format!("{name}_weights"), &[count])?;
            Ok(Thresholds { embeddings: rows.chunks_exact(width).map(normalised).collect(), thresholds })
        };
        Ok(Self { concepts: read("concept_embeds", CONCEPTS)?, special: read("special_care_embeds", SPECIAL)? })
    }

    /// Scores an embedding of as many values as the concepts' have.
    pub(crate) fn scores(&self, embedding: &[f32]) -> SafetyScores {
        let embedding = normalised(embedding);
        let mut adjustment = 0.0;
        let special = self.special.distances(&embedding).map(|distance| {
            let score = rounded(distance + adjustment);
            if score > 0.0 {
                adjustment = ADJUSTMENT;
            }
            score
        });
        let special = special.collect();
        let concepts = self.concepts.distances(&embedding).map(|distance| rounded(distance + adjustment)).collect();
        SafetyScores { concepts, special }
    }
}

impl Thresholds {
    /// Cosine less threshold, of each.
    fn distances(&self, embedding: &[f32]) -> impl Iterator<Item = f32> {
        self.embeddings.iter().zip(&self.thresholds).map(move |(concept, threshold)| {
            let cosine: f32 = concept.iter().zip(embedding).map(|(a, b)| a * b).sum();
            cosine - threshold
        })
    }
}

fn normalised(values: &[f32]) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(LEAST_LENGTH);
    values.iter().map(|value| value / length).collect()
}

/// To three digits, half to even.
fn rounded(value: f32) -> f32 {
    (value * 1000.0).round_ties_even() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Concepts along axes of their own, all far away but the named ones.
    fn concepts(found: &[(usize, f32)], special: &[(usize, f32)]) -> Concepts {
        let make = |count: usize, near: &[(usize, f32)]| Thresholds {
            embeddings: vec![vec![1.0, 0.0]; count],
            thresholds: (0..count)
                .map(|index| near.iter().find(|(at, _)| *at == index).map_or(2.0, |(_, threshold)| *threshold))
                .collect(),
        };
        Concepts { concepts: make(CONCEPTS, found), special: make(SPECIAL, special) }
    }

    #[test]
    fn a_score_is_rounded_before_it_is_compared() {
        // The cosine is 1.
        let flagged = |threshold| concepts(&[(16, threshold)], &[]).scores(&[3.0, 0.0]).flagged();
        assert!(flagged(0.9994));
        assert!(!flagged(0.9996));
        assert!(!flagged(1.0));
    }

    #[test]
    fn a_special_concept_makes_all_that_follow_stricter() {
        let near = [(3, 1.005)];
        assert!(!concepts(&near, &[]).scores(&[1.0, 0.0]).flagged());
        let scores = concepts(&near, &[(0, 1.005), (1, 0.5), (2, 1.005)]).scores(&[1.0, 0.0]);
        assert_eq!((scores.special, scores.concepts[3]), (vec![-0.005, 0.5, 0.005], 0.005));
    }

    #[test]
    fn an_empty_embedding_is_no_division_by_zero() {
        let scores = concepts(&[(0, -0.5)], &[]).scores(&[0.0, 0.0]);
        assert_eq!((scores.concepts[0], scores.flagged()), (0.5, true));
    }
}
