//! The texts that one UNet has prepared: requests with the same text share it, and what all of them take is counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::context::{Context, Owner};
use crate::compute::ModelError;

/// Texts in use, found by what they were made of. The empty prompt of every guided request is one, and so is the prompt of a
/// request's pictures.
pub(super) struct Texts<T> {
    owner: Owner,
    known: Vec<(blake3::Hash, Weak<Counted<T>>)>,
    memory: TextMemory,
}

/// Bytes of the keys and values of all texts in use, whoever holds them, and of the adapters that they were prepared with.
#[derive(Clone, Debug, Default)]
pub struct TextMemory(Arc<AtomicUsize>);

/// Bytes that count for as long as somebody holds it.
pub(super) struct Held {
    bytes: usize,
    memory: TextMemory,
}

impl TextMemory {
    /// How many now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { bytes, memory: self.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A text that counts for as long as somebody holds it.
struct Counted<T> {
    text: T,
    _held: Held,
}

impl<T: Send + Sync + 'static> Texts<T> {
    pub(super) fn new() -> Self {
        Self { owner: Owner::new(), known: Vec::new(), memory: TextMemory::default() }
    }

    pub(super) fn memory(&self) -> TextMemory {
        self.memory.clone()
    }

    /// The text of these embeddings with what `adapters` names: one in use, or what `prepare` makes, with the bytes that it takes.
    pub(super) fn get(
        &mut self,
        prompt_embeds: &[f32],
        adapters: &str,
        prepare: impl FnOnce() -> Result<(T, usize), ModelError>,
    ) -> Result<Context, ModelError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytemuck::cast_slice(prompt_embeds));
        let digest = hasher.update(adapters.as_bytes()).finalize();
        self.known.retain(|(_, text)| text.strong_count() > 0);
        let used = self.known.iter().find(|(known, _)| *known == digest).and_then(|(_, text)| text.upgrade());
        let text = match used {
            Some(text) => text,
            None => {
                let (text, bytes) = prepare()?;
                let text = Arc::new(Counted { text, _held: self.memory.hold(bytes) });
                self.known.push((digest, Arc::downgrade(&text)));
                text
            }
        };
        Ok(Context::new(self.owner, text))
    }

    /// A text that this UNet prepared.
    pub(super) fn open<'a>(&self, context: &'a Context) -> Result<&'a T, ModelError> {
        context.open::<Counted<T>>(self.owner).map(|counted| &counted.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_prepared_once_and_counted_until_the_last_is_gone() {
        let mut texts = Texts::new();
        let memory = texts.memory();
        let first = texts.get(&[1.0, 2.0], "", || Ok(("first", 100))).unwrap();
        let again = texts.get(&[1.0, 2.0], "", || panic!("it is in use")).unwrap();
        let other = texts.get(&[2.0, 1.0], "", || Ok(("other", 20))).unwrap();
        assert_eq!((*texts.open(&again).unwrap(), *texts.open(&other).unwrap()), ("first", "other"));
        assert_eq!(memory.bytes(), 120);
        drop((first, other));
        assert_eq!(memory.bytes(), 100);
        drop(again);
        assert_eq!(memory.bytes(), 0);
        texts.get(&[1.0, 2.0], "", || Ok(("anew", 100))).unwrap();
        assert_eq!(memory.bytes(), 0);
    }
}
