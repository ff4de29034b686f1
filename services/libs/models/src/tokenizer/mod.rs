//! CLIP's tokenizer: a prompt becomes as many token ids as the text tower has positions.

mod inversions;
mod pipeline;
mod vocabulary;

use std::ops::Range;

use crate::config::ClipConfig;
use crate::error::LoadError;
use crate::source::Files;
use vocabulary::Vocabulary;
pub(crate) use vocabulary::{CLIPS_CONFIG, CLIPS_FILES};

/// The token of a comma that no sign follows.
const COMMA: &str = ",</w>";

/// Turns prompts into token ids, as transformers' `CLIPTokenizer` does.
pub struct Tokenizer {
    pipeline: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    length: usize,
    /// A comma that ends a word.
    comma: Option<u32>,
    known: inversions::Known,
}

/// One token of a text, or the vectors of an inversion that stands there.
pub(crate) struct Piece {
    pub(crate) ids: Range<u32>,
    /// The byte that it begins at.
    pub(crate) start: usize,
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

    /// Whether the vocabulary of a folder is CLIP's own.
    pub(crate) fn is_clips(files: &Files) -> Result<bool, LoadError> {
        Ok(Vocabulary::from_folder(files)?.same_as(&Vocabulary::clip(files.name())?))
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
        let comma = vocabulary.tokens.get(COMMA).copied();
        let pipeline = pipeline::build(vocabulary)?;
        let known = inversions::Known::default();
        Ok(Self { pipeline, bos, eos, pad, length: config.max_position_embeddings, comma, known })
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
        let pieces = self.pieces(text);
        let token_count = pieces.iter().map(|piece| piece.ids.len()).sum();
        // A text that has no tokens would be one that could not be read: it is reported, not lost.
        let mut dropped = if pieces.is_empty() { text } else { "" };
        let mut tokens = Vec::with_capacity(room);
        for piece in pieces {
            let left = room - tokens.len();
            let start = piece.start;
            let is_whole = piece.ids.len() <= left;
            tokens.extend(piece.ids.take(left));
            if !is_whole {
                dropped = tail(text, start);
                break;
            }
        }
        Tokenized { ids: self.framed(&tokens), token_count, dropped_text: dropped.trim().to_owned() }
    }

    /// Whether it is a comma, behind which a text may be parted.
    pub(crate) fn is_comma(&self, piece: &Piece) -> bool {
        piece.ids.len() == 1 && Some(piece.ids.start) == self.comma
    }

    /// At most `length - 2` tokens between the start token and the end token, and padding.
    pub(crate) fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = vec![self.pad; self.length];
        ids[0] = self.bos;
        ids[1..=tokens.len()].copy_from_slice(tokens);
        ids[tokens.len() + 1] = self.eos;
        ids
    }
}

/// `text` from `start` on; a token may begin within a character, which then belongs to what was dropped.
pub(crate) fn tail(text: &str, start: usize) -> &str {
    let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[start..]
}
