//! Where the model stops: the tokenizer and the text tower on their thread, and what the edge needs to know of them.

use std::sync::Arc;

use darkroom_engine::{Loaded, ModelError, Observer, Worker, WorkerOptions};
use darkroom_models::inversion::Inversions;
use darkroom_models::lora::LoraUse;
use darkroom_models::prompt::{Prompt, PromptError, Window};
use darkroom_models::stage::{self, TextEncoderModel};
use darkroom_models::tokenizer::Tokenizer;
use darkroom_proto::v1::{LoraFile, PromptSyntax, StageInfo};
use darkroom_stage_kit::{loras, model};

use crate::config::Config;

/// Windows that go through the tower in one pass.
const WINDOWS_AT_ONCE: usize = 16;
/// Tokens of the longest prompt, markers included: what a denoiser takes.
const MAX_TOKENS: usize = 1024;

/// What is known of the model once it is loaded.
pub(crate) struct TextEncoderFacts {
    pub(crate) info: StageInfo,
    pub(crate) hidden_size: usize,
    pub(crate) max_tokens: usize,
    /// Of a weighted prompt.
    pub(crate) max_windows: usize,
    pub(crate) num_layers: usize,
    pub(crate) textual_inversions: Vec<String>,
    /// Those that requests can name.
    pub(crate) loras: Vec<LoraFile>,
}

/// The model's thread as the edge calls it.
pub(crate) type TextWorker = Worker<TextTower>;

/// A tokenizer and the tower that it belongs to.
pub(crate) struct TextTower {
    tokenizer: Tokenizer,
    max_windows: usize,
    model: Box<dyn TextEncoderModel>,
}

/// One prompt's result.
pub(crate) struct Embedding {
    /// `[windows * max_tokens, hidden_size]`.
    pub(crate) prompt_embeds: Vec<f32>,
    pub(crate) windows: usize,
    pub(crate) token_count: usize,
    pub(crate) dropped_text: String,
    pub(crate) dropped_tokens: usize,
}

/// A prompt that cannot be read, and why.
pub(crate) struct Unreadable {
    pub(crate) index: usize,
    pub(crate) why: PromptError,
}

/// Starts the thread that loads, warms and owns the text tower.
pub(crate) fn start(
    config: &Config,
    observer: Arc<dyn Observer>,
) -> std::io::Result<(TextWorker, Loaded<TextEncoderFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let (args, folder, of_loras) = (config.model.clone(), config.textual_inversions.clone(), config.loras.clone());
    Worker::start(WorkerOptions { name: "text-tower".to_owned(), queue_limit, observer }, move || {
        let (source, compute) = model::open(&args)?;
        let config = source.text_encoder_config()?;
        let inversions = folder.map(|folder| Inversions::from_folder(&folder, &config)).transpose()?;
        let inversions = inversions.unwrap_or_default();
        let tokenizer = source.tokenizer()?.with_inversions(&inversions, config.vocab_size)?;
        let loras = loras::open(of_loras.as_deref(), &source)?;
        let mut model = stage::load_text_encoder_with(&source, &compute, &inversions, &loras)?;
        model.warm()?;
        let max_windows = (MAX_TOKENS / model.max_tokens()).max(1);
        let facts = TextEncoderFacts {
            info: model::stage_info(&source, model.as_ref(), queue_limit),
            hidden_size: model.hidden_size(),
            max_tokens: model.max_tokens(),
            max_windows,
            num_layers: model.num_layers(),
            loras: loras::files(&loras),
            textual_inversions: inversions.words().map(str::to_owned).collect(),
        };
        Ok((TextTower { tokenizer, max_windows, model }, facts))
    })
}

impl TextTower {
    /// Reads and encodes. Windows of all prompts share forward passes.
    pub(crate) fn encode(
        &mut self,
        prompts: &[String],
        clip_skip: usize,
        syntax: PromptSyntax,
        loras: &[LoraUse],
    ) -> Result<Result<Vec<Embedding>, Unreadable>, ModelError> {
        let read = |(index, text): (usize, &String)| match syntax {
            PromptSyntax::Unspecified | PromptSyntax::Plain => Ok(Prompt::plain(&self.tokenizer, text)),
            PromptSyntax::Weighted => {
                Prompt::weighted(&self.tokenizer, text, self.max_windows).map_err(|why| Unreadable { index, why })
            }
        };
        let read: Vec<Prompt> = match prompts.iter().enumerate().map(read).collect() {
            Ok(read) => read,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        let windows: Vec<&Window> = read.iter().flat_map(|prompt| &prompt.windows).collect();
        let mut encoded = Vec::with_capacity(windows.len());
        for windows in windows.chunks(WINDOWS_AT_ONCE) {
            let ids: Vec<Vec<u32>> = windows.iter().map(|window| window.ids.clone()).collect();
            let mut embeds = self.model.encode_with(&ids, clip_skip, loras)?;
            embeds.iter_mut().zip(windows).for_each(|(embeds, window)| window.weigh(embeds));
            encoded.extend(embeds);
        }
        let mut encoded = encoded.into_iter();
        let embedding = |prompt: Prompt| Embedding {
            prompt_embeds: encoded.by_ref().take(prompt.windows.len()).flatten().collect(),
            windows: prompt.windows.len(),
            token_count: prompt.token_count,
            dropped_text: prompt.dropped_text,
            dropped_tokens: prompt.dropped_tokens,
        };
        Ok(Ok(read.into_iter().map(embedding).collect()))
    }
}
