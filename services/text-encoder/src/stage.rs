//! Where the model stops: the tokenizer and the text tower on their thread, and what the edge needs to know of them.

use std::sync::Arc;

use darkroom_engine::{Loaded, ModelError, Observer, Worker, WorkerOptions};
use darkroom_models::stage::{self, TextEncoderModel};
use darkroom_models::tokenizer::Tokenizer;
use darkroom_proto::v1::StageInfo;
use darkroom_stage_kit::model;

use crate::config::Config;

/// What is known of the model once it is loaded.
pub(crate) struct TextEncoderFacts {
    pub(crate) info: StageInfo,
    pub(crate) hidden_size: usize,
    pub(crate) max_tokens: usize,
    pub(crate) num_layers: usize,
}

/// The model's thread as the edge calls it.
pub(crate) type TextWorker = Worker<TextTower>;

/// A tokenizer and the tower that it belongs to.
pub(crate) struct TextTower {
    tokenizer: Tokenizer,
    model: Box<dyn TextEncoderModel>,
}

/// One prompt's result.
pub(crate) struct Embedding {
    /// `[max_tokens, hidden_size]`.
    pub(crate) prompt_embeds: Vec<f32>,
    pub(crate) token_count: usize,
    pub(crate) dropped_text: String,
}

/// Starts the thread that loads, warms and owns the text tower.
pub(crate) fn start(
    config: &Config,
    observer: Arc<dyn Observer>,
) -> std::io::Result<(TextWorker, Loaded<TextEncoderFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let args = config.model.clone();
    Worker::start(WorkerOptions { name: "text-tower".to_owned(), queue_limit, observer }, move || {
        let (source, compute) = model::open(&args)?;
        let tokenizer = source.tokenizer()?;
        let mut model = stage::load_text_encoder(&source, &compute)?;
        model.warm()?;
        let facts = TextEncoderFacts {
            info: model::stage_info(&source, model.as_ref(), queue_limit),
            hidden_size: model.hidden_size(),
            max_tokens: model.max_tokens(),
            num_layers: model.num_layers(),
        };
        Ok((TextTower { tokenizer, model }, facts))
    })
}

impl TextTower {
    /// Tokenises and encodes. One forward pass serves all prompts.
    pub(crate) fn encode(&mut self, prompts: &[String], clip_skip: usize) -> Result<Vec<Embedding>, ModelError> {
        let tokenized: Vec<_> = prompts.iter().map(|prompt| self.tokenizer.encode(prompt)).collect();
        let ids: Vec<Vec<u32>> = tokenized.iter().map(|tokens| tokens.ids.clone()).collect();
        let encoded = self.model.encode(&ids, clip_skip)?;
        let embedding = |(prompt_embeds, tokens): (Vec<f32>, darkroom_models::tokenizer::Tokenized)| Embedding {
            prompt_embeds,
            token_count: tokens.token_count,
            dropped_text: tokens.dropped_text,
        };
        Ok(encoded.into_iter().zip(tokenized).map(embedding).collect())
    }
}
