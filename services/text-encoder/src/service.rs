//! The gRPC edge: messages in, messages out, nothing of them beyond.

use std::sync::Arc;

use darkroom_proto::v1::{self, PromptSyntax, text_encoder_server};
use darkroom_service_kit::deadline;
use darkroom_service_kit::status::invalid_argument;
use darkroom_stage_kit::facts::Facts;
use darkroom_stage_kit::loras;
use darkroom_stage_kit::refusal::{self, within};
use tonic::{Request, Response, Status};

use crate::STAGE;
use crate::metrics::TextEncoderMetrics;
use crate::stage::{Embedding, TextEncoderFacts, TextWorker, Unreadable};

const MAX_PROMPTS: usize = 16;
const MAX_CHARACTERS: usize = 8192;

pub(crate) struct TextEncoderService {
    worker: TextWorker,
    facts: Facts<TextEncoderFacts>,
    metrics: Arc<TextEncoderMetrics>,
}

impl TextEncoderService {
    pub(crate) fn new(worker: TextWorker, facts: Facts<TextEncoderFacts>, metrics: Arc<TextEncoderMetrics>) -> Self {
        Self { worker, facts, metrics }
    }

    fn message(&self, facts: &TextEncoderFacts, embedding: Embedding) -> v1::TextEmbedding {
        let shape = [embedding.windows * facts.max_tokens, facts.hidden_size];
        let prompt_embeds = v1::Tensor::from_f32(&shape, &embedding.prompt_embeds);
        v1::TextEmbedding {
            prompt_embeds: Some(self.metrics.calls.stage.sent(prompt_embeds)),
            token_count: count(embedding.token_count),
            dropped_text: embedding.dropped_text,
            dropped_tokens: count(embedding.dropped_tokens),
        }
    }
}

#[tonic::async_trait]
impl text_encoder_server::TextEncoder for TextEncoderService {
    async fn encode_text(
        &self,
        call: Request<v1::EncodeTextRequest>,
    ) -> Result<Response<v1::EncodeTextResponse>, Status> {
        let deadline = deadline::of(&call);
        let v1::EncodeTextRequest { prompts, clip_skip, syntax, loras } = call.into_inner();
        let facts = self.facts.get()?;
        check_prompts(&prompts)?;
        let clip_skip = within("clip_skip", clip_skip as usize, 0..=facts.num_layers.saturating_sub(1))?;
        let unknown = |_| invalid_argument("syntax", format!("{syntax} is not known, use PLAIN or WEIGHTED"));
        let syntax = PromptSyntax::try_from(syntax).map_err(unknown)?;
        let loras = loras::checked(&loras, &facts.loras)?;
        let encode = self.worker.call(deadline, move |tower| tower.encode(&prompts, clip_skip, syntax, &loras));
        let embeddings = encode.await.map_err(|error| refusal::call(STAGE, &error))?;
        let embeddings = embeddings
            .map_err(|Unreadable { index, why }| invalid_argument(&format!("prompts[{index}]"), why.to_string()))?;
        self.metrics.encoded(&embeddings);
        let embeddings = embeddings.into_iter().map(|embedding| self.message(facts, embedding)).collect();
        Ok(Response::new(v1::EncodeTextResponse { embeddings }))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::TextEncoderInfo>, Status> {
        let facts = self.facts.get()?;
        Ok(Response::new(v1::TextEncoderInfo {
            stage: Some(facts.info.clone()),
            hidden_size: count(facts.hidden_size),
            max_tokens: count(facts.max_tokens),
            num_layers: count(facts.num_layers),
            textual_inversions: facts.textual_inversions.clone(),
            loras: facts.loras.clone(),
            max_windows: count(facts.max_windows),
        }))
    }
}

fn check_prompts(prompts: &[String]) -> Result<(), Status> {
    if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
        return Err(invalid_argument("prompts", format!("{} texts are not in 1 to {MAX_PROMPTS}", prompts.len())));
    }
    for (index, prompt) in prompts.iter().enumerate() {
        let characters = prompt.chars().count();
        if characters > MAX_CHARACTERS {
            let message = format!("{characters} characters are more than {MAX_CHARACTERS}");
            return Err(invalid_argument(&format!("prompts[{index}]"), message));
        }
    }
    Ok(())
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
