//! The steps from text to tokens, put together as `CLIPTokenizer` of transformers 5 does it.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::vocabulary::Vocabulary;
use crate::error::LoadError;

/// What one word is: the special tokens, English contractions, letters, one digit, or other signs together.
/// OpenAI CLIP, `clip/simple_tokenizer.py`.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub(super) fn build(vocabulary: Vocabulary) -> Result<Tokenizer, LoadError> {
    let Vocabulary { file, tokens, merges, bos, eos, pad } = vocabulary;
    let malformed = |error: tokenizers::Error| LoadError::malformed(&file, error);
    let words = BPE::builder()
        .vocab_and_merges(tokens.into_iter().collect::<Vocab>(), merges)
        .unk_token(eos.clone())
        .end_of_word_suffix("</w>".into())
        .build()
        .map_err(malformed)?;
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(malformed)?;
    // Words are what the pattern finds; the rest, which is white space, is removed.
    let split =
        Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true).map_err(malformed)?;
    let mut tokenizer = Tokenizer::new(words);
    let normalizers = Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizers)).map_err(malformed)?;
    let bytes = ByteLevel::default().add_prefix_space(false);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), bytes.into()])));
    // A prompt may name the special tokens, and then means them.
    let special = [bos, eos, pad].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(special).map_err(malformed)?;
    Ok(tokenizer)
}
