//! Prompts as the text tower takes them: windows of as many tokens as it has positions, and what each token weighs.
//!
//! There are two ways to read a text. *Plain* is the reference's (CompVis and diffusers): every sign is itself, one window, and what does
//! not fit is left out. *Weighted* is AUTOMATIC1111's: brackets weigh words ([`syntax`]), and a longer text goes on in further
//! windows ([`chunks`]).

mod chunks;
mod syntax;

use crate::tokenizer::Tokenizer;

/// A prompt that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// At least one.
    pub windows: Vec<Window>,
    /// Tokens of the whole text, without those that begin and end windows.
    pub token_count: usize,
    /// The end of the text that found no place, as it was written, but for the brackets of a weighted prompt; empty when everything did.
    pub dropped_text: String,
    /// How many tokens that is.
    pub dropped_tokens: usize,
}

/// What the text tower sees at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Start token, tokens of the prompt, end token, padding: the tokenizer's length.
    pub ids: Vec<u32>,
    /// What each of them weighs; `None`: all 1.
    pub weights: Option<Vec<f32>>,
}

/// Why a weighted prompt cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// Of `(word:weight)`, or of a word within many brackets.
    #[error("a word's weight is {0}; expected a number from -1000 to 1000")]
    Weight(String),
}

impl Prompt {
    /// Reads a text as the reference does. Anything is a prompt, the empty one too.
    #[must_use]
    pub fn plain(tokenizer: &Tokenizer, text: &str) -> Self {
        let tokens = tokenizer.encode(text);
        let windows = vec![Window { ids: tokens.ids, weights: None }];
        let dropped_tokens = tokens.token_count.saturating_sub(tokenizer.length() - 2);
        Self { windows, token_count: tokens.token_count, dropped_text: tokens.dropped_text, dropped_tokens }
    }

    /// Reads a text with brackets, in at most `most_windows` windows, not 0.
    ///
    /// # Errors
    /// [`PromptError`] for a weight that is no number or too large.
    pub fn weighted(tokenizer: &Tokenizer, text: &str, most_windows: usize) -> Result<Self, PromptError> {
        Ok(chunks::windows(tokenizer, &syntax::segments(text)?, most_windows))
    }
}

impl Window {
    /// Weighs this window's embeddings `[tokens, width]`, row-major: each is multiplied, and all together are brought back to the mean that they
    /// had (`EmphasisOriginal` of that web UI's `modules/sd_emphasis.py`).
    pub fn weigh(&self, prompt_embeds: &mut [f32]) {
        let Some(weights) = &self.weights else { return };
        let mean = mean(prompt_embeds);
        let width = prompt_embeds.len() / weights.len();
        for (embedding, weight) in prompt_embeds.chunks_exact_mut(width.max(1)).zip(weights) {
            embedding.iter_mut().for_each(|value| *value *= weight);
        }
        let back = (mean / self::mean(prompt_embeds)) as f32;
        // A mean of 0 cannot be brought back.
        if back.is_finite() {
            prompt_embeds.iter_mut().for_each(|value| *value *= back);
        }
    }
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_multiply_and_keep_the_mean() {
        let window = Window { ids: vec![0, 1, 2], weights: Some(vec![1.0, 2.0, 1.0]) };
        let mut embeds = [1.0, 3.0, 2.0, 4.0, 1.0, 1.0];
        window.weigh(&mut embeds);
        // The mean was 2, becomes 3 and is 2 again.
        let third = |value: f32| value * 2.0 / 3.0;
        assert_eq!(embeds, [1.0, 3.0, 4.0, 8.0, 1.0, 1.0].map(third));
    }

    #[test]
    fn a_mean_of_nothing_is_left_alone() {
        let window = Window { ids: vec![0, 1], weights: Some(vec![1.0, 0.5]) };
        let mut embeds = [1.0, -1.0, 3.0, -3.0];
        window.weigh(&mut embeds);
        assert_eq!(embeds, [1.0, -1.0, 1.5, -1.5]);
        let plain = Window { ids: vec![0, 1], weights: None };
        plain.weigh(&mut embeds);
        assert_eq!(embeds, [1.0, -1.0, 1.5, -1.5]);
    }
}
