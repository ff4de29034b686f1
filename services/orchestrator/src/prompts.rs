//! The prompts' embeddings, from the cache or from a text encoder.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::{EncodeTextRequest, Tensor, TextEmbedding};
use darkroom_service_kit::status;
use tonic::Status;

use crate::embedding_cache::{Asked, EmbeddingCache};
use crate::events::Warning;
use crate::job::{Job, Lora};
use crate::model::Model;
use crate::stages::calls::Calls;

/// Encodes prompts.
pub(crate) struct Prompts {
    pub(crate) calls: Arc<Calls>,
    /// All models' together: an embedding depends on the text encoder alone.
    pub(crate) cache: Arc<EmbeddingCache>,
}

/// What denoising needs of the text, and what of it did not fit.
pub(crate) struct Embeddings {
    /// f32 [windows * max_tokens, hidden_size].
    pub(crate) prompt: Tensor,
    /// As wide, of as many windows as it needs; absent when the unconditional half is not computed.
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
        let embed = |field, text| self.embed(field, text, job, model, deadline);
        // Both at once: each is found, shared with another request, or on its way by itself.
        let (prompt, negative) = tokio::try_join!(embed("prompt", job.prompt.as_str()), async {
            match job.guided(model) {
                true => embed("negative_prompt", job.negative_prompt.as_str()).await.map(Some),
                false => Ok(None),
            }
        })?;
        let mut warnings: Vec<Warning> = dropped("prompt", &prompt).into_iter().collect();
        warnings.extend(negative.as_ref().and_then(|negative| dropped("negative_prompt", negative)));
        Ok(Embeddings {
            prompt: prompt.prompt_embeds.unwrap_or_default(),
            negative: negative.map(|negative| negative.prompt_embeds.unwrap_or_default()),
            warnings,
        })
    }

    /// `field` of the request is `text`.
    async fn embed(
        &self,
        field: &'static str,
        text: &str,
        job: &Job,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<TextEmbedding, Status> {
        let (clip_skip, syntax) = (job.clip_skip, job.prompt_syntax);
        let loras: String =
            job.loras.iter().map(|Lora { name, weight }| format!("{name:?} {:x}\n", weight.to_bits())).collect();
        let asked = Asked { encoder: &model.pins.text_encoder, clip_skip, syntax, loras: &loras, text };
        let encode = async {
            let (prompts, syntax, loras) = (vec![text.to_owned()], syntax.into(), job.lora_messages());
            let request = EncodeTextRequest { prompts, clip_skip, syntax, loras };
            // A call's state is large, and part of every request's task if it is not boxed: of those that wait, and where the text is kept.
            let encoded = Box::pin(self.calls.encode_text(request, model, deadline)).await;
            let encoded = encoded.map_err(|status| renamed(status, field))?;
            encoded.into_iter().next().ok_or_else(|| Status::internal("a prompt has no embedding"))
        };
        self.cache.get(asked, encode).await
    }
}

/// A refusal of the text encoder, with the name that the text has for the client.
fn renamed(status: Status, field: &str) -> Status {
    match status::violation(&status) {
        Some((inner, message)) if inner == "prompts[0]" => status::invalid_argument(field, message),
        _ => status,
    }
}

/// What the caller should know of a text that was too long.
fn dropped(field: &'static str, embedding: &TextEmbedding) -> Option<Warning> {
    let TextEmbedding { token_count, dropped_tokens, dropped_text, .. } = embedding;
    if dropped_text.is_empty() {
        return None;
    }
    let message = format!("{token_count} tokens, the last {dropped_tokens} were left out: '{dropped_text}'");
    Some(Warning { field, message })
}
