//! One evaluation's linear updates, applied in one pass over the state tensors.
//!
//! `target = Σ coefficient · source`, for several targets at once, every source as it was before. The work goes block by
//! block: all targets of a block are summed in f64 before the first of them is written, so "as it was before" holds without
//! a copy of the states, and the order of the sums depends on the plan alone.

use darkroom_samplers::{Source, Update};

/// Values in a block: a block of every operand together stays in the first-level cache.
const BLOCK: usize = 512;

/// The sums of one block, made once a request.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<f64>);

impl Scratch {
    /// Room for `updates` simultaneous updates.
    pub(crate) fn new(updates: usize) -> Self {
        Self(vec![0.0; updates * BLOCK])
    }
}

/// What updates may read besides the states.
pub(crate) struct Operands<'a> {
    /// The model's output, after guidance.
    pub(crate) output: &'a [f32],
    /// The draws of this evaluation; the first one has the index `first_noise`.
    pub(crate) noise: &'a [Vec<f32>],
    pub(crate) first_noise: usize,
}

/// Applies `updates`. All tensors are of one length; the indexes were checked when the request was made.
pub(crate) fn apply(updates: &[Update], states: &mut [Vec<f32>], operands: &Operands<'_>, scratch: &mut Scratch) {
    let len = operands.output.len();
    for start in (0..len).step_by(BLOCK) {
        let range = start..len.min(start + BLOCK);
        for (update, sums) in updates.iter().zip(scratch.0.chunks_exact_mut(BLOCK)) {
            let sums = &mut sums[..range.len()];
            sums.fill(0.0);
            for term in &update.terms {
                let source = match term.source {
                    Source::State(id) => &states[id],
                    Source::ModelOutput => operands.output,
                    Source::Noise(index) => &operands.noise[index - operands.first_noise],
                };
                accumulate(sums, term.coefficient, &source[range.clone()]);
            }
        }
        for (update, sums) in updates.iter().zip(scratch.0.chunks_exact(BLOCK)) {
            for (value, sum) in states[update.target][range.clone()].iter_mut().zip(sums) {
                *value = *sum as f32;
            }
        }
    }
}

fn accumulate(sums: &mut [f64], coefficient: f64, source: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(source) {
        *sum += coefficient * f64::from(*value);
    }
}

#[cfg(test)]
mod tests {
    use darkroom_samplers::Term;
    use proptest::prelude::*;

    use super::*;

    fn term(source: Source, coefficient: f64) -> Term {
        Term { source, coefficient }
    }

    #[test]
    fn updates_are_simultaneous_across_blocks() {
        let len = 2 * BLOCK + 3;
        let mut states = vec![vec![1.0; len], vec![2.0; len]];
        // A swap: wrong at once if one update saw the other's result.
        let updates = [
            Update { target: 0, terms: vec![term(Source::State(1), 1.0)] },
            Update { target: 1, terms: vec![term(Source::State(0), 1.0)] },
        ];
        let operands = Operands { output: &vec![0.0; len], noise: &[], first_noise: 0 };
        apply(&updates, &mut states, &operands, &mut Scratch::new(2));
        assert!(states[0].iter().all(|value| *value == 2.0) && states[1].iter().all(|value| *value == 1.0));
    }

    proptest! {
        #[test]
        fn updates_equal_the_plain_sum_in_f64(
            len in 1usize..1200, coefficients in proptest::array::uniform4(-3.0f64..3.0), seed in 0u32..1000,
        ) {
            let tensor = |salt: u32| -> Vec<f32> {
                (0..len as u32).map(|i| ((i * 7919 + salt * 104_729 + seed) % 2003) as f32 / 500.0 - 2.0).collect()
            };
            let mut states = vec![tensor(1), tensor(2)];
            let (output, noise) = (tensor(3), vec![tensor(4)]);
            let [a, b, c, d] = coefficients;
            let sources = [Source::State(0), Source::State(1), Source::ModelOutput, Source::Noise(5)];
            let terms = sources.into_iter().zip(coefficients).map(|(source, k)| term(source, k)).collect();
            let expected: Vec<f32> = (0..len).map(|i| {
                let parts = [states[0][i], states[1][i], output[i], noise[0][i]].map(f64::from);
                (a * parts[0] + b * parts[1] + c * parts[2] + d * parts[3]) as f32
            }).collect();
            let operands = Operands { output: &output, noise: &noise, first_noise: 5 };
            apply(&[Update { target: 1, terms }], &mut states, &operands, &mut Scratch::new(1));
            prop_assert_eq!(&states[1], &expected);
        }
    }
}
