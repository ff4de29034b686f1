//! The embeddings of prompts, kept: a text that comes again, such as the empty one, needs no text encoder.
//!
//! quick_cache holds them, bounded in bytes; what is used again outlives what came once. Equal texts that come at the same
//! time share one call: if its request is cancelled or fails, the next in line makes its own.

use std::sync::Arc;

use darkroom_proto::v1::{PromptSyntax, TextEmbedding};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

use crate::metrics::OrchestratorMetrics;
use crate::selection::Identity;

/// Bytes of an entry besides its tensor and its texts, roughly.
const OVERHEAD: u64 = 256;
/// Of an embedding of v1's text encoder, f32 [77, 768]: with it the number of entries is estimated, no more.
const USUAL_BYTES: u64 = 77 * 768 * 4;

/// Everything that an embedding depends on.
///
/// It hashes as [`Key`] does: the same fields in the same order.
#[derive(Debug, Hash)]
pub(crate) struct Asked<'a> {
    /// The text encoder's weights and arithmetic.
    pub(crate) encoder: &'a Identity,
    pub(crate) clip_skip: u32,
    pub(crate) syntax: PromptSyntax,
    /// Names and weights of the LoRAs that change the encoder; empty without any.
    pub(crate) loras: &'a str,
    pub(crate) text: &'a str,
}

/// As it is kept. What is found needs none of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    encoder: Identity,
    clip_skip: u32,
    syntax: PromptSyntax,
    loras: String,
    text: String,
}

impl From<&Asked<'_>> for Key {
    fn from(asked: &Asked<'_>) -> Self {
        let Asked { encoder, clip_skip, syntax, loras, text } = *asked;
        Self { encoder: encoder.clone(), clip_skip, syntax, loras: loras.to_owned(), text: text.to_owned() }
    }
}

impl Equivalent<Arc<Key>> for Asked<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        (self.text, self.loras, self.syntax, self.clip_skip, self.encoder)
            == (key.text.as_str(), key.loras.as_str(), key.syntax, key.clip_skip, &key.encoder)
    }
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Arc<Key>, TextEmbedding> for Bytes {
    fn weight(&self, key: &Arc<Key>, embedding: &TextEmbedding) -> u64 {
        let tensor = embedding.prompt_embeds.as_ref().map_or(0, |tensor| tensor.data.len());
        OVERHEAD + (tensor + key.text.len() + key.loras.len() + embedding.dropped_text.len()) as u64
    }
}

/// See the module's text.
pub(crate) struct EmbeddingCache {
    /// `None`: nothing is kept.
    cache: Option<Cache<Arc<Key>, TextEmbedding, Bytes>>,
    metrics: Arc<OrchestratorMetrics>,
}

impl EmbeddingCache {
    /// An empty cache of at most `bytes`; 0 keeps nothing.
    pub(crate) fn new(bytes: u64, metrics: Arc<OrchestratorMetrics>) -> Self {
        // One shard: the bound holds for all entries together, and a few look-ups a request contend for nothing.
        let entries = usize::try_from(bytes / USUAL_BYTES).unwrap_or(usize::MAX).max(1);
        let options = OptionsBuilder::new().weight_capacity(bytes).estimated_items_capacity(entries).shards(1).build();
        let cache = options.ok().filter(|_| bytes > 0).map(|options| {
            Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        Self { cache, metrics }
    }

    /// The embedding of what is `asked` for, kept or made by `encode`.
    ///
    /// # Errors
    /// What `encode` answers.
    pub(crate) async fn get<E>(
        &self,
        asked: Asked<'_>,
        encode: impl Future<Output = Result<TextEmbedding, E>>,
    ) -> Result<TextEmbedding, E> {
        if let Some(kept) = self.cache.as_ref().and_then(|cache| cache.get(&asked)) {
            self.metrics.prompt_cache_hits_total.increment(1);
            return Ok(kept);
        }
        let mut missed = false;
        let encode = async {
            missed = true;
            self.metrics.prompt_cache_misses_total.increment(1);
            encode.await
        };
        let Some(cache) = &self.cache else { return encode.await };
        let embedding = cache.get_or_insert_async(&Arc::new(Key::from(&asked)), encode).await?;
        if missed {
            self.metrics.prompt_cache_bytes.set(cache.weight() as f64);
        } else {
            self.metrics.prompt_cache_hits_total.increment(1);
        }
        Ok(embedding)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use darkroom_proto::v1::Tensor;
    use darkroom_service_kit::Metrics;
    use proptest::prelude::*;

    use super::*;

    fn cache(bytes: u64) -> EmbeddingCache {
        EmbeddingCache::new(bytes, Arc::new(OrchestratorMetrics::new(Metrics::new("test"))))
    }

    fn encoder(revision: &str) -> Identity {
        Identity { revision: revision.into(), precision: "f32".into() }
    }

    fn asked<'a>(encoder: &'a Identity, clip_skip: u32, text: &'a str) -> Asked<'a> {
        Asked { encoder, clip_skip, syntax: PromptSyntax::Plain, loras: "", text }
    }

    fn embedding(value: f32) -> TextEmbedding {
        TextEmbedding { prompt_embeds: Some(Tensor::from_f32(&[1, 64], &[value; 64])), ..TextEmbedding::default() }
    }

    async fn ask(cache: &EmbeddingCache, asked: Asked<'_>, made: &Cell<u32>) -> TextEmbedding {
        let encode = async {
            made.set(made.get() + 1);
            tokio::task::yield_now().await;
            Ok::<_, ()>(embedding(made.get() as f32))
        };
        cache.get(asked, encode).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_text_is_encoded_once_and_any_difference_counts() {
        let (cache, made) = (cache(1 << 20), Cell::new(0));
        let (r, s) = (encoder("r"), encoder("s"));
        let first = ask(&cache, asked(&r, 0, "a"), &made).await;
        assert_eq!(ask(&cache, asked(&r, 0, "a"), &made).await, first);
        assert_eq!(made.get(), 1);
        let weighted = Asked { syntax: PromptSyntax::Weighted, ..asked(&r, 0, "a") };
        let changed = Asked { loras: "flat 1", ..asked(&r, 0, "a") };
        for other in [asked(&r, 0, "b"), asked(&r, 1, "a"), asked(&s, 0, "a"), asked(&r, 0, ""), weighted, changed] {
            ask(&cache, other, &made).await;
        }
        assert_eq!(made.get(), 7);
    }

    #[tokio::test]
    async fn nothing_is_kept_in_no_bytes() {
        let (cache, made, r) = (cache(0), Cell::new(0), encoder("r"));
        ask(&cache, asked(&r, 0, "a"), &made).await;
        ask(&cache, asked(&r, 0, "a"), &made).await;
        assert_eq!(made.get(), 2);
    }

    #[tokio::test]
    async fn equal_texts_at_once_share_a_call_and_take_over_from_one_that_is_dropped() {
        let (cache, made, r) = (cache(1 << 20), Cell::new(0), encoder("r"));
        {
            let endless = cache.get(asked(&r, 0, "a"), std::future::pending::<Result<_, ()>>());
            let others =
                async { tokio::join!(ask(&cache, asked(&r, 0, "a"), &made), ask(&cache, asked(&r, 0, "a"), &made)) };
            tokio::pin!(endless, others);
            tokio::select! {
                biased;
                _ = &mut endless => panic!("it never ends"),
                _ = &mut others => panic!("they wait for it"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(made.get(), 0);
        }
        let (one, other) = tokio::join!(ask(&cache, asked(&r, 0, "a"), &made), ask(&cache, asked(&r, 0, "a"), &made));
        assert_eq!((one == other, made.get()), (true, 1));
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (cache, made, r) = (cache(1 << 20), Cell::new(0), encoder("r"));
        let failed = cache.get(asked(&r, 0, "a"), async { Err::<TextEmbedding, _>("down") }).await;
        assert_eq!(failed, Err("down"));
        ask(&cache, asked(&r, 0, "a"), &made).await;
        assert_eq!(made.get(), 1);
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_answers_are_right(texts in prop::collection::vec(0u32..40, 1..200), bytes in 1u64..20_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (cache, r) = (cache(bytes), encoder("r"));
            for text in texts {
                let found = runtime.block_on(cache.get(asked(&r, 0, &text.to_string()), async { Ok::<_, ()>(embedding(text as f32)) }));
                prop_assert_eq!(found.unwrap(), embedding(text as f32));
                prop_assert!(cache.cache.as_ref().unwrap().weight() <= bytes);
            }
        }
    }
}
