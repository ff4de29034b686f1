//! The prompts' embeddings. The empty prompt, which most requests use as their negative one, is encoded once and kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use darkroom_proto::v1::{Tensor, TextEmbedding};
use tokio::sync::OnceCell;
use tonic::Status;

use crate::events::Warning;
use crate::job::Job;
use crate::model::Model;
use crate::stages::calls::Calls;

/// Text revisions times clip_skip values that are kept: many more than a fleet has, few enough to forget about.
const KEPT: usize = 64;

/// Which embedding of the empty prompt: the text encoder's weights and arithmetic, and clip_skip.
type Key = (String, u32);

/// Encodes prompts.
pub(crate) struct Prompts {
    calls: Arc<Calls>,
    empty: Mutex<HashMap<Key, Arc<OnceCell<TextEmbedding>>>>,
}

/// What denoising needs of the text, and what of it did not fit.
pub(crate) struct Embeddings {
    /// f32 [max_tokens, hidden_size].
    pub(crate) prompt: Tensor,
    /// The same shape; absent when the unconditional half is not computed.
    pub(crate) negative: Option<Tensor>,
    pub(crate) warnings: Vec<Warning>,
}

impl Prompts {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        Self { calls, empty: Mutex::default() }
    }

    /// Embeds the prompt and, if guidance needs it, the negative prompt.
    ///
    /// # Errors
    /// The text encoder's status.
    pub(crate) async fn encode(
        &self,
        job: &Job,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Embeddings, Status> {
        let mut texts = vec![job.prompt.clone()];
        if job.guided() && !job.negative_prompt.is_empty() {
            texts.push(job.negative_prompt.clone());
        }
        let both = texts.len() == 2;
        let encoding = self.calls.encode_text(texts, job.clip_skip, model, deadline);
        let mut embeddings = if job.guided() && !both {
            // The prompt is on its way while the empty one is looked up, or encoded for the first time.
            let (mut encoded, empty) = tokio::try_join!(encoding, self.encode_empty(job.clip_skip, model, deadline))?;
            encoded.push(empty);
            encoded
        } else {
            encoding.await?
        }
        .into_iter();

        let mut warnings = Vec::new();
        let mut take = |field| {
            let embedding = embeddings.next().unwrap_or_default();
            warnings.extend(dropped(field, &embedding, model));
            embedding.prompt_embeds.unwrap_or_default()
        };
        let prompt = take("prompt");
        let negative = job.guided().then(|| take("negative_prompt"));
        Ok(Embeddings { prompt, negative, warnings })
    }

    async fn encode_empty(
        &self,
        clip_skip: u32,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<TextEmbedding, Status> {
        let cell = self.cell((model.pins.text_encoder.to_string(), clip_skip));
        if let Some(kept) = cell.get() {
            self.calls.metrics.prompt_cache_hits_total.increment(1);
            return Ok(kept.clone());
        }
        // Requests that come meanwhile wait for this one call; if its request is cancelled, one of them takes over.
        let encode = || async {
            let encoded = self.calls.encode_text(vec![String::new()], clip_skip, model, deadline).await?;
            encoded.into_iter().next().ok_or_else(|| Status::internal("the empty prompt has no embedding"))
        };
        cell.get_or_try_init(encode).await.cloned()
    }

    fn cell(&self, key: Key) -> Arc<OnceCell<TextEmbedding>> {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= KEPT && !empty.contains_key(&key) {
            empty.clear();
        }
        Arc::clone(empty.entry(key).or_default())
    }
}

/// What the caller should know of a text that was too long.
fn dropped(field: &'static str, embedding: &TextEmbedding, model: &Model) -> Option<Warning> {
    if embedding.dropped_text.is_empty() {
        return None;
    }
    // The begin and end markers take two positions.
    let used = (model.max_tokens as u32).saturating_sub(2);
    let message = format!(
        "{} tokens, the last {} were left out: '{}'",
        embedding.token_count,
        embedding.token_count.saturating_sub(used),
        embedding.dropped_text
    );
    Some(Warning { field, message })
}
