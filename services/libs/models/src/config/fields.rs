//! Reading a JSON object field by field, so that every refusal names the file, the field, the value and what would fit.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::LoadError;

/// The largest configuration file that is read, in bytes; real ones have a few thousand.
pub(crate) const MAX_CONFIG_BYTES: usize = 1 << 20;
/// The most entries a list in a configuration may have.
const MAX_LIST: usize = 16;

/// One JSON object of a configuration file. A field that is absent or `null` takes its default.
pub(crate) struct Fields<'a> {
    file: &'a str,
    object: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(file: &'a str, bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            let what = format!("a configuration of {} bytes; at most {MAX_CONFIG_BYTES} are read", bytes.len());
            return Err(LoadError::malformed(file, what));
        }
        let object =
            serde_json::from_slice(bytes).map_err(|error| LoadError::malformed(file, format!("not JSON: {error}")))?;
        Ok(Self { file, object })
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The object nested under `field`, if there is one.
    pub(crate) fn nested(&self, field: &str) -> Option<Fields<'a>> {
        let object = self.get(field)?.as_object()?.clone();
        Some(Self { file: self.file, object })
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, LoadError> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| self.wrong(field, "a string"))).transpose()
    }

    pub(crate) fn flag(&self, field: &str, default: bool) -> Result<bool, LoadError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(field, "true or false"))
    }

    /// A whole number within `range`; without a default the field is required.
    pub(crate) fn count(
        &self,
        field: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
    ) -> Result<usize, LoadError> {
        match (self.get(field), default) {
            (Some(value), _) => self.count_of(field, value, &range),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.absent(field, format!("a whole number, {} to {}", range.start(), range.end()))),
        }
    }

    /// A finite number within `range`.
    pub(crate) fn number(&self, field: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64, LoadError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let expected = || self.wrong(field, format!("a number, {} to {}", range.start(), range.end()));
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(expected)
    }

    /// A list of whole numbers, or one number that stands for a list of `length` equal ones.
    pub(crate) fn counts(
        &self,
        field: &str,
        length: usize,
        default: Option<usize>,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>, LoadError> {
        match self.get(field) {
            Some(Value::Array(list)) if list.len() == length => {
                list.iter().map(|value| self.count_of(field, value, &range)).collect()
            }
            Some(Value::Array(_)) => Err(self.wrong(field, format!("one number or a list of {length}"))),
            _ => Ok(vec![self.count(field, default, range)?; length]),
        }
    }

    /// A list of one to sixteen whole numbers.
    pub(crate) fn count_list(&self, field: &str, range: RangeInclusive<usize>) -> Result<Vec<usize>, LoadError> {
        let expected = || format!("a list of 1 to {MAX_LIST} whole numbers, each {} to {}", range.start(), range.end());
        let Some(value) = self.get(field) else { return Err(self.absent(field, expected())) };
        let list = value.as_array().filter(|list| (1..=MAX_LIST).contains(&list.len()));
        let list = list.ok_or_else(|| self.wrong(field, expected()))?;
        list.iter().map(|value| self.count_of(field, value, &range)).collect()
    }

    /// A list of `length` strings, each of which must be among `known`.
    pub(crate) fn words(&self, field: &str, length: usize, known: &[&str]) -> Result<Option<Vec<&str>>, LoadError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let expected = || self.wrong(field, format!("a list of {length} names, each one of {}", known.join(", ")));
        let list = value.as_array().filter(|list| list.len() == length).ok_or_else(expected)?;
        let word = |value: &'_ Value| value.as_str().filter(|word| known.contains(word)).is_some();
        if !list.iter().all(word) {
            return Err(expected());
        }
        Ok(Some(list.iter().filter_map(Value::as_str).collect()))
    }

    /// Refuses any value of `field` but `only` (and its absence), saying what `feature` the value asks for.
    pub(crate) fn only(&self, field: &str, only: impl Into<Value>, feature: &str) -> Result<(), LoadError> {
        match self.get(field) {
            Some(value) if *value != only.into() => Err(self.unsupported(field, feature)),
            _ => Ok(()),
        }
    }

    /// Refuses `field` unless it is absent or null.
    pub(crate) fn never(&self, field: &str, feature: &str) -> Result<(), LoadError> {
        if self.get(field).is_some() { Err(self.unsupported(field, feature)) } else { Ok(()) }
    }

    /// "FILE is not supported: FEATURE (field is value); Darkroom runs Stable Diffusion v1".
    pub(crate) fn unsupported(&self, field: &str, feature: &str) -> LoadError {
        let value = self.shown(field);
        LoadError::unsupported(self.file, format!("{feature} ({field} is {value}); Darkroom runs Stable Diffusion v1"))
    }

    pub(crate) fn wrong(&self, field: &str, expected: impl Display) -> LoadError {
        LoadError::config(self.file, field, self.shown(field), expected)
    }

    fn absent(&self, field: &str, expected: impl Display) -> LoadError {
        LoadError::config(self.file, field, "absent", expected)
    }

    fn count_of(&self, field: &str, value: &Value, range: &RangeInclusive<usize>) -> Result<usize, LoadError> {
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| range.contains(count));
        count.ok_or_else(|| {
            let expected = format!("a whole number, {} to {}", range.start(), range.end());
            LoadError::config(self.file, field, shortened(value), expected)
        })
    }

    fn shown(&self, field: &str) -> String {
        self.get(field).map_or_else(|| "absent".into(), shortened)
    }
}

/// A value as JSON, cut where a hostile file would flood the message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
