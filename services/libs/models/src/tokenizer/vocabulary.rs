//! A byte-pair vocabulary as it is stored: tokens, merges and the three special tokens.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::Fields;
use crate::error::LoadError;
use crate::source::Files;
use crate::weights::Blob;

/// The largest vocabulary file that is read, in bytes; CLIP's has one megabyte.
const MAX_BYTES: usize = 32 << 20;

const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";

/// CLIP's vocabulary as the files of a folder.
pub(crate) const CLIPS_FILES: [(&str, &[u8]); 3] = [
    ("vocab.json", include_bytes!("../../assets/clip-tokenizer/vocab.json")),
    ("merges.txt", include_bytes!("../../assets/clip-tokenizer/merges.txt")),
    ("special_tokens_map.json", include_bytes!("../../assets/clip-tokenizer/special_tokens_map.json")),
];

/// What `tokenizer_config.json` says of it, the length of a text for which the model was made left aside.
pub(crate) const CLIPS_CONFIG: &[u8] = include_bytes!("../../assets/clip-tokenizer/tokenizer_config.json");

type Tokens = HashMap<String, u32>;
type Merges = Vec<(String, String)>;

/// Tokens with their ids, and the merges in the order of their rank.
pub(super) struct Vocabulary {
    /// The file, for messages.
    pub(super) file: String,
    pub(super) tokens: Tokens,
    pub(super) merges: Merges,
    pub(super) bos: String,
    pub(super) eos: String,
    pub(super) pad: String,
}

impl Vocabulary {
    /// CLIP's vocabulary, which ships with us (`assets/clip-tokenizer`, MIT).
    pub(super) fn clip(file: &str) -> Result<Self, LoadError> {
        let (tokens, merges) = (CLIPS_FILES[0].1, CLIPS_FILES[1].1);
        let (bos, eos, pad) = (BOS.into(), EOS.into(), EOS.into());
        let tokens = parse_tokens(file, &parse_json(file, tokens)?)?;
        Ok(Self { file: file.into(), tokens, merges: parse_merges(file, merges)?, bos, eos, pad })
    }

    /// `vocab.json` and `merges.txt`, or `tokenizer.json`, which recent transformers releases write in their place.
    pub(super) fn from_folder(files: &Files) -> Result<Self, LoadError> {
        let (file, tokens, merges) = match files.open("tokenizer/vocab.json")? {
            Some(blob) => {
                let merges = files.require("tokenizer/merges.txt")?;
                let tokens = parse_tokens(blob.file(), &read_json(&blob)?)?;
                (blob.file().to_owned(), tokens, parse_merges(merges.file(), &merges)?)
            }
            None => {
                let Some(blob) = files.open("tokenizer/tokenizer.json")? else {
                    let what = "holds no vocabulary: expected tokenizer/vocab.json and merges.txt, or tokenizer.json";
                    return Err(LoadError::incomplete(files.name(), what));
                };
                let (tokens, merges) = parse_model(&blob)?;
                (blob.file().to_owned(), tokens, merges)
            }
        };
        let config = files.open("tokenizer/tokenizer_config.json")?;
        let config = config.as_ref().map(|blob| Fields::parse(blob.file(), blob)).transpose()?;
        let special =
            |field: &str, default: &str| special_token(config.as_ref(), field).unwrap_or_else(|| default.into());
        let (bos, eos) = (special("bos_token", BOS), special("eos_token", EOS));
        let pad = special("pad_token", &eos);
        Ok(Self { file, tokens, merges, bos, eos, pad })
    }

    /// `tokenizer.json` alone, with CLIP's special tokens.
    #[cfg(feature = "fuzzing")]
    pub(super) fn from_json(blob: &Blob) -> Result<Self, LoadError> {
        let (tokens, merges) = parse_model(blob)?;
        Ok(Self { file: blob.file().to_owned(), tokens, merges, bos: BOS.into(), eos: EOS.into(), pad: EOS.into() })
    }

    /// Whether both turn every text into the same tokens.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let special = |vocabulary: &Self| [vocabulary.bos.clone(), vocabulary.eos.clone(), vocabulary.pad.clone()];
        self.tokens == other.tokens && self.merges == other.merges && special(self) == special(other)
    }

    /// The id of a special token.
    pub(super) fn id(&self, token: &str) -> Result<u32, LoadError> {
        let id = self.tokens.get(token).copied();
        id.ok_or_else(|| LoadError::malformed(&self.file, format!("it lacks the special token {token:?}")))
    }

    /// Refuses tokens that the text encoder has no row for.
    pub(super) fn check_fits(&self, rows: usize) -> Result<(), LoadError> {
        match self.tokens.iter().max_by_key(|(_, id)| **id) {
            Some((token, id)) if *id as usize >= rows => {
                let expected = format!("below {rows}, the rows of the text encoder's token embedding");
                Err(LoadError::config(&self.file, &format!("the id of token {token:?}"), id, expected))
            }
            _ => Ok(()),
        }
    }
}

/// Tokens and merges of a `tokenizer.json`.
fn parse_model(blob: &Blob) -> Result<(Tokens, Merges), LoadError> {
    let model = &read_json(blob)?["model"];
    Ok((parse_tokens(blob.file(), &model["vocab"])?, merge_list(blob.file(), &model["merges"])?))
}

fn special_token(config: Option<&Fields<'_>>, field: &str) -> Option<String> {
    // A plain string, or a token with options of its own.
    match config?.get(field)? {
        Value::String(token) => Some(token.clone()),
        token => Some(token.get("content")?.as_str()?.to_owned()),
    }
}

fn read_json(blob: &Blob) -> Result<Value, LoadError> {
    parse_json(blob.file(), blob)
}

fn parse_json(file: &str, bytes: &[u8]) -> Result<Value, LoadError> {
    check_size(file, bytes)?;
    serde_json::from_slice(bytes).map_err(|error| LoadError::malformed(file, format!("not JSON: {error}")))
}

fn check_size(file: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let fits = bytes.len() <= MAX_BYTES;
    let what = || format!("a vocabulary of {} bytes; at most {MAX_BYTES} are read", bytes.len());
    if fits { Ok(()) } else { Err(LoadError::malformed(file, what())) }
}

/// `{"token": id, …}`.
fn parse_tokens(file: &str, value: &Value) -> Result<Tokens, LoadError> {
    let object = value.as_object().ok_or_else(|| LoadError::malformed(file, "its vocabulary is not an object"))?;
    let token = |(token, id): (&String, &Value)| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| LoadError::malformed(file, format!("token {token:?} has no id")))?;
        Ok((token.clone(), id))
    };
    object.iter().map(token).collect()
}

/// One merge a line, "left right", after a line with the version.
fn parse_merges(file: &str, bytes: &[u8]) -> Result<Merges, LoadError> {
    check_size(file, bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|error| LoadError::malformed(file, error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    lines.map(|(number, line)| pair(line).ok_or_else(|| not_a_pair(file, number + 1))).collect()
}

/// The merges of a `tokenizer.json`: pairs, or as older releases wrote them "left right".
fn merge_list(file: &str, value: &Value) -> Result<Merges, LoadError> {
    let list = value.as_array().ok_or_else(|| LoadError::malformed(file, "its merges are not a list"))?;
    let merge = |value: &Value| match value {
        Value::String(line) => pair(line),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    };
    list.iter().enumerate().map(|(number, value)| merge(value).ok_or_else(|| not_a_pair(file, number + 1))).collect()
}

fn pair(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let whole = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    whole.then(|| (left.to_owned(), right.to_owned()))
}

fn not_a_pair(file: &str, number: usize) -> LoadError {
    LoadError::malformed(file, format!("merge {number} is not a pair of tokens"))
}
