//! What stands for textual inversions among a prompt's tokens.

use std::collections::HashMap;
use std::ops::Range;

use tokenizers::AddedToken;

use super::{Piece, Tokenizer};
use crate::LoadError;
use crate::inversion::{Inversion, Inversions};

/// Which tokens are not themselves. Vectors have ids as tokens do, behind those of the vocabulary.
#[derive(Default)]
pub(super) struct Known {
    /// By the id that an inversion's own word has got.
    words: HashMap<u32, Range<u32>>,
    /// By the first token of a file's name: those that begin with it, the longest first.
    names: HashMap<u32, Vec<Name>>,
}

/// The tokens of a file's name, and what they stand for.
struct Name {
    tokens: Vec<u32>,
    ids: Range<u32>,
}

impl Known {
    /// The inversion that `tokens` begin with, and how many of them it takes.
    pub(super) fn at_start_of(&self, tokens: &[u32]) -> Option<(Range<u32>, usize)> {
        let first = tokens.first()?;
        if let Some(ids) = self.words.get(first) {
            return Some((ids.clone(), 1));
        }
        let name = self.names.get(first)?.iter().find(|name| tokens.starts_with(&name.tokens))?;
        Some((name.ids.clone(), name.tokens.len()))
    }
}

impl Tokenizer {
    /// This tokenizer with `inversions`, whose vectors are the rows from `first` on of the text encoder's table.
    ///
    /// Their own words are found as diffusers finds them, wherever they stand; names of files as AUTOMATIC1111's web UI does, by their
    /// tokens (`find_embedding_at_position` of its `modules/textual_inversion/textual_inversion.py`).
    ///
    /// # Errors
    /// [`LoadError`] for a name or a word that stands for something else already.
    pub fn with_inversions(mut self, inversions: &Inversions, first: usize) -> Result<Self, LoadError> {
        // A vocabulary's ids are 32 bits wide, and files of as many vectors are not to be had.
        let mut next = u32::try_from(first).unwrap_or(u32::MAX);
        let mut places = Vec::new();
        for inversion in inversions.iter() {
            let ids = next..next.saturating_add(inversion.count as u32);
            next = ids.end;
            if let Some(word) = &inversion.word {
                self.add_word(inversion, word, ids.clone())?;
            }
            places.push((inversion, ids));
        }
        // Only once all words are known: a name may hold one.
        for (inversion, ids) in places {
            self.add_name(inversion, ids)?;
        }
        for names in self.known.names.values_mut() {
            names.sort_by_key(|name| std::cmp::Reverse(name.tokens.len()));
        }
        Ok(self)
    }

    fn add_word(&mut self, Inversion { file, .. }: &Inversion, word: &str, ids: Range<u32>) -> Result<(), LoadError> {
        if self.pipeline.token_to_id(word).is_some() {
            return Err(LoadError::malformed(file, format!("its word {word:?} is in the vocabulary already")));
        }
        let malformed = |error: tokenizers::Error| LoadError::malformed(file, error);
        self.pipeline.add_tokens([AddedToken::from(word, false)]).map_err(malformed)?;
        let id = self.pipeline.token_to_id(word);
        let id = id.ok_or_else(|| LoadError::malformed(file, format!("its word {word:?} cannot be a token")))?;
        self.known.words.insert(id, ids);
        Ok(())
    }

    fn add_name(&mut self, Inversion { file, name, .. }: &Inversion, ids: Range<u32>) -> Result<(), LoadError> {
        let tokens: Vec<u32> = self.tokens(name).into_iter().map(|(id, _)| id).collect();
        let Some(first) = tokens.first() else {
            return Err(LoadError::malformed(file, format!("its name {name:?} has no tokens")));
        };
        let names = self.known.names.entry(*first).or_default();
        if names.iter().any(|known| known.tokens == tokens) {
            return Err(LoadError::malformed(file, format!("its name {name:?} is that of another one, to a prompt")));
        }
        names.push(Name { tokens, ids });
        Ok(())
    }

    /// What a text consists of: tokens, and inversions in the place of those that stand for them.
    pub(crate) fn pieces(&self, text: &str) -> Vec<Piece> {
        let tokens = self.tokens(text);
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        let (mut pieces, mut at) = (Vec::new(), 0);
        while let Some((id, start)) = tokens.get(at) {
            let (ids, taken) = self.known.at_start_of(&ids[at..]).unwrap_or((*id..*id + 1, 1));
            pieces.push(Piece { ids, start: *start });
            at += taken;
        }
        pieces
    }

    /// Tokens, each with the byte of the text that it begins at.
    fn tokens(&self, text: &str) -> Vec<(u32, usize)> {
        // Byte-level tokens spell any text, so there is nothing to fail on.
        let Ok(encoding) = self.pipeline.encode(text, false) else { return Vec::new() };
        encoding.get_ids().iter().copied().zip(encoding.get_offsets().iter().map(|(start, _)| *start)).collect()
    }
}
