//! CLIP's tokenizer: a prompt becomes as many token ids as the text tower has positions.

mod pipeline;
mod vocabulary;

use crate::config::ClipConfig;
use crate::error::LoadError;
use crate::source::Files;
use vocabulary::Vocabulary;

/// Turns prompts into token ids, as transformers' `CLIPTokenizer` does.
pub struct Tokenizer {
    pipeline: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    length: usize,
}

/// A prompt's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenized {
    /// Start token, at most `length - 2` tokens of the prompt, end token, padding: always the tokenizer's length, 77 in v1.
    pub ids: Vec<u32>,
    /// How many tokens the whole prompt has, without start and end; more than `length - 2` were not all kept.
    pub token_count: usize,
    /// The end of the prompt that found no place, as it was written; empty when everything did.
    pub dropped_text: String,
}

impl Tokenizer {
    /// The vocabulary in `tokenizer/` of a diffusers folder.
    pub(crate) fn from_folder(files: &Files, config: &ClipConfig) -> Result<Self, LoadError> {
        Self::new(Vocabulary::from_folder(files)?, config)
    }

    /// CLIP's own vocabulary, for a single file that brings none; `file` is that file, for messages.
    pub(crate) fn clip(file: &str, config: &ClipConfig) -> Result<Self, LoadError> {
        Self::new(Vocabulary::clip(file)?, config)
    }

    /// The vocabulary of a `tokenizer.json`.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn from_json(blob: &crate::weights::Blob, config: &ClipConfig) -> Result<Self, LoadError> {
        Self::new(Vocabulary::from_json(blob)?, config)
    }

    fn new(vocabulary: Vocabulary, config: &ClipConfig) -> Result<Self, LoadError> {
        vocabulary.check_fits(config.vocab_size)?;
        let (bos, eos, pad) =
            (vocabulary.id(&vocabulary.bos)?, vocabulary.id(&vocabulary.eos)?, vocabulary.id(&vocabulary.pad)?);
        let pipeline = pipeline::build(vocabulary)?;
        Ok(Self { pipeline, bos, eos, pad, length: config.max_position_embeddings })
    }

    /// Tokens of every encoded prompt, with start, end and padding: the positions of the text tower.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The tokens of a prompt. Anything is a prompt, the empty one too.
    #[must_use]
    pub fn encode(&self, text: &str) -> Tokenized {
        let room = self.length - 2;
        // Byte-level tokens spell any text, so there is nothing to fail on; if there were, the text would be reported as
        // dropped rather than lost.
        let Ok(encoding) = self.pipeline.encode(text, false) else {
            return Tokenized { ids: self.framed(&[]), token_count: 0, dropped_text: text.trim().to_owned() };
        };
        let tokens = encoding.get_ids();
        let dropped = encoding.get_offsets().get(room).map_or("", |(start, _)| tail(text, *start));
        let ids = self.framed(&tokens[..tokens.len().min(room)]);
        Tokenized { ids, token_count: tokens.len(), dropped_text: dropped.trim().to_owned() }
    }

    fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = vec![self.pad; self.length];
        ids[0] = self.bos;
        ids[1..=tokens.len()].copy_from_slice(tokens);
        ids[tokens.len() + 1] = self.eos;
        ids
    }
}

/// `text` from `start` on; a token may begin within a character, which then belongs to what was dropped.
fn tail(text: &str, start: usize) -> &str {
    let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[start..]
}
