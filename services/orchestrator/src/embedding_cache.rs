//! The embeddings of prompts, kept: a text that comes again, such as the empty one, needs no text encoder.
//!
//! quick_cache holds them, bounded in bytes; what is used again outlives what came once. Equal texts that come at the same
//! time share one call: if its request is cancelled or fails, the next in line makes its own.

use std::sync::Arc;

use darkroom_proto::v1::TextEmbedding;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::metrics::OrchestratorMetrics;
use crate::selection::Identity;

/// Bytes of an entry besides its tensor and its texts, roughly.
const OVERHEAD: u64 = 256;
/// Of an embedding of v1's text encoder, f32 [77, 768]: with it the number of entries is estimated, no more.
const USUAL_BYTES: u64 = 77 * 768 * 4;

/// Everything that an embedding depends on. There is one way of reading a prompt so far; a second one belongs in here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The text encoder's weights and arithmetic.
    pub(crate) encoder: Identity,
    pub(crate) clip_skip: u32,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Arc<Key>, TextEmbedding> for Bytes {
    fn weight(&self, key: &Arc<Key>, embedding: &TextEmbedding) -> u64 {
        let tensor = embedding.prompt_embeds.as_ref().map_or(0, |tensor| tensor.data.len());
        OVERHEAD + (tensor + key.text.len() + embedding.dropped_text.len()) as u64
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

    /// The embedding for `key`, kept or made by `encode`.
    ///
    /// # Errors
    /// What `encode` answers.
    pub(crate) async fn get<E>(
        &self,
        key: Key,
        encode: impl Future<Output = Result<TextEmbedding, E>>,
    ) -> Result<TextEmbedding, E> {
        let mut missed = false;
        let encode = async {
            missed = true;
            self.metrics.prompt_cache_misses_total.increment(1);
            encode.await
        };
        let Some(cache) = &self.cache else { return encode.await };
        let embedding = cache.get_or_insert_async(&Arc::new(key), encode).await?;
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

    fn key(text: &str, clip_skip: u32, revision: &str) -> Key {
        let encoder = Identity { revision: revision.into(), precision: "f32".into() };
        Key { encoder, clip_skip, text: text.into() }
    }

    fn embedding(value: f32) -> TextEmbedding {
        TextEmbedding { prompt_embeds: Some(Tensor::from_f32(&[1, 64], &[value; 64])), ..TextEmbedding::default() }
    }

    async fn ask(cache: &EmbeddingCache, key: Key, made: &Cell<u32>) -> TextEmbedding {
        let encode = async {
            made.set(made.get() + 1);
            tokio::task::yield_now().await;
            Ok::<_, ()>(embedding(made.get() as f32))
        };
        cache.get(key, encode).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_text_is_encoded_once_and_any_difference_counts() {
        let (cache, made) = (cache(1 << 20), Cell::new(0));
        let first = ask(&cache, key("a", 0, "r"), &made).await;
        assert_eq!(ask(&cache, key("a", 0, "r"), &made).await, first);
        assert_eq!(made.get(), 1);
        for other in [key("b", 0, "r"), key("a", 1, "r"), key("a", 0, "s"), key("", 0, "r")] {
            ask(&cache, other, &made).await;
        }
        assert_eq!(made.get(), 5);
    }

    #[tokio::test]
    async fn nothing_is_kept_in_no_bytes() {
        let (cache, made) = (cache(0), Cell::new(0));
        ask(&cache, key("a", 0, "r"), &made).await;
        ask(&cache, key("a", 0, "r"), &made).await;
        assert_eq!(made.get(), 2);
    }

    #[tokio::test]
    async fn equal_texts_at_once_share_a_call_and_take_over_from_one_that_is_dropped() {
        let (cache, made) = (cache(1 << 20), Cell::new(0));
        {
            let endless = cache.get(key("a", 0, "r"), std::future::pending::<Result<_, ()>>());
            let others =
                async { tokio::join!(ask(&cache, key("a", 0, "r"), &made), ask(&cache, key("a", 0, "r"), &made)) };
            tokio::pin!(endless, others);
            tokio::select! {
                biased;
                _ = &mut endless => panic!("it never ends"),
                _ = &mut others => panic!("they wait for it"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(made.get(), 0);
        }
        let (one, other) = tokio::join!(ask(&cache, key("a", 0, "r"), &made), ask(&cache, key("a", 0, "r"), &made));
        assert_eq!((one == other, made.get()), (true, 1));
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (cache, made) = (cache(1 << 20), Cell::new(0));
        let failed = cache.get(key("a", 0, "r"), async { Err::<TextEmbedding, _>("down") }).await;
        assert_eq!(failed, Err("down"));
        ask(&cache, key("a", 0, "r"), &made).await;
        assert_eq!(made.get(), 1);
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_answers_are_right(texts in prop::collection::vec(0u32..40, 1..200), bytes in 1u64..20_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let cache = cache(bytes);
            for text in texts {
                let found = runtime.block_on(cache.get(key(&text.to_string(), 0, "r"), async { Ok::<_, ()>(embedding(text as f32)) }));
                prop_assert_eq!(found.unwrap(), embedding(text as f32));
                prop_assert!(cache.cache.as_ref().unwrap().weight() <= bytes);
            }
        }
    }
}
