//! The prompts' embeddings, from the cache or from a text encoder.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::{Tensor, TextEmbedding};
use tonic::Status;

use crate::embedding_cache::{Asked, EmbeddingCache};
use crate::events::Warning;
use crate::job::Job;
use crate::model::Model;
use crate::stages::calls::Calls;

/// Encodes prompts.
pub(crate) struct Prompts {
    pub(crate) calls: Arc<Calls>,
    pub(crate) cache: EmbeddingCache,
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
        let embed = |text| self.embed(text, job.clip_skip, model, deadline);
        // Both at once: each is found, shared with another request, or on its way by itself.
        let (prompt, negative) = tokio::try_join!(embed(job.prompt.as_str()), async {
            match job.guided() {
                true => embed(job.negative_prompt.as_str()).await.map(Some),
                false => Ok(None),
            }
        })?;
        let mut warnings: Vec<Warning> = dropped("prompt", &prompt, model).into_iter().collect();
        warnings.extend(negative.as_ref().and_then(|negative| dropped("negative_prompt", negative, model)));
        Ok(Embeddings {
            prompt: prompt.prompt_embeds.unwrap_or_default(),
            negative: negative.map(|negative| negative.prompt_embeds.unwrap_or_default()),
            warnings,
        })
    }

    async fn embed(
        &self,
        text: &str,
        clip_skip: u32,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<TextEmbedding, Status> {
        let asked = Asked { encoder: &model.pins.text_encoder, clip_skip, text };
        let encode = async {
            // A call's state is large, and part of every request's task if it is not boxed: of those that wait, and where the text is kept.
            let encoded = Box::pin(self.calls.encode_text(vec![text.to_owned()], clip_skip, model, deadline)).await?;
            encoded.into_iter().next().ok_or_else(|| Status::internal("a prompt has no embedding"))
        };
        self.cache.get(asked, encode).await
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
