//! The UNet of latent diffusion: noisy latents, a timestep and a text in, the predicted noise out; Rombach 2022,
//! arXiv:2112.10752, on Ronneberger 2015, arXiv:1505.04597.
//!
//! Every row of a batch has a timestep and a text of its own, so that requests at different steps share a forward pass.

mod attention;
mod down;
mod mid;
pub(crate) mod resnet;
mod text;
mod time;
mod transformer;
mod up;

use crate::LoadError;
use crate::compute::{Activation, Backend, ConvGeometry, Epilogue, ModelError, Place, Scope};
use crate::config::UNetConfig;
use crate::lora::{Adapted, Set, Updates};
use down::DownBlock;
use mid::MidBlock;
use text::TextProjections;
use time::TimeEmbedding;
use up::UpBlock;

pub use text::TextContext;
pub use time::{guidance_scale_embedding, timestep_embedding};

/// The UNet.
pub struct Unet<B: Backend> {
    time_embedding: TimeEmbedding<B>,
    text_projections: TextProjections<B>,
    conv_in: Adapted<B::Conv>,
    down_blocks: Vec<DownBlock<B>>,
    mid_block: MidBlock<B>,
    up_blocks: Vec<UpBlock<B>>,
    conv_norm_out: B::GroupNorm,
    conv_out: Adapted<B::Conv>,
    places: Vec<Place>,
}

impl<B: Backend> Unet<B> {
    /// Packs the weights that `config` asks for.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape.
    pub fn load(scope: &Scope<'_, B>, config: &UNetConfig) -> Result<Self, LoadError> {
        let first = config.block_out_channels[0];
        let mut text = TextProjections::new(config.cross_attention_dim);
        Ok(Self {
            time_embedding: TimeEmbedding::load(scope, config)?,
            conv_in: Adapted::conv(scope, "conv_in", (config.in_channels, first), 3, ConvGeometry::same(3))?,
            down_blocks: (0..config.block_out_channels.len())
                .map(|level| DownBlock::load(scope, config, level, &mut text))
                .collect::<Result<_, _>>()?,
            mid_block: MidBlock::load(&scope.enter("mid_block"), config, &mut text)?,
            up_blocks: (0..config.block_out_channels.len())
                .map(|index| UpBlock::load(scope, config, index, &mut text))
                .collect::<Result<_, _>>()?,
            conv_norm_out: scope.group_norm("conv_norm_out", first, config.norm_num_groups, config.norm_eps)?,
            conv_out: Adapted::conv(scope, "conv_out", (first, config.out_channels), 3, ConvGeometry::same(3))?,
            text_projections: text,
            places: scope.places(),
        })
    }

    /// The layers that adapters may change.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Prompt embeddings `[1, tokens, cross_attention_dim]` → the keys and values that every cross-attention makes of them.
    /// They do not depend on the step, so a request computes them once.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub(crate) fn context(
        &self,
        backend: &B,
        prompt_embeds: &B::Tensor,
        adapters: Option<&Set<B>>,
    ) -> Result<TextContext<B>, ModelError> {
        self.text_projections.project(backend, prompt_embeds, &Updates::same(adapters, 1))
    }

    /// Whether [`Self::forward`] looks at guidance scales.
    pub(crate) fn embeds_guidance(&self) -> bool {
        self.time_embedding.embeds_guidance()
    }

    /// Latents `[rows, in_channels, h, w]` → predicted noise `[rows, out_channels, h, w]`, for any `h` and `w`. Each row has the text and
    /// the adapters of its own request, which its text was prepared with too.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub(crate) fn forward(
        &self,
        backend: &B,
        latents: &B::Tensor,
        (timesteps, guidance_scales): (&[f32], &[f32]),
        contexts: &[&TextContext<B>],
        adapters: &[Option<&Set<B>>],
    ) -> Result<B::Tensor, ModelError> {
        let updates = Updates::of(adapters);
        let time = self.time_embedding.forward(backend, timesteps, guidance_scales, &updates)?;
        let conditions = Conditions { time, texts: contexts, updates };

        let mut skips = vec![conditions.updates.conv2d(backend, &self.conv_in, latents, Epilogue::none())?];
        for block in &self.down_blocks {
            block.forward(backend, &mut skips, &conditions)?;
        }
        let coarsest = skips.last().ok_or_else(no_skip)?;
        let mut x = self.mid_block.forward(backend, coarsest, &conditions)?;
        for block in &self.up_blocks {
            x = block.forward(backend, x, &mut skips, &conditions)?;
        }
        let x = backend.group_norm(&self.conv_norm_out, &x, Activation::Silu)?;
        conditions.updates.conv2d(backend, &self.conv_out, &x, Epilogue::none())
    }
}

/// What a forward pass is conditioned on, a row a picture.
pub(crate) struct Conditions<'a, B: Backend> {
    /// SiLU of the time embedding: tokens `[rows, 1, 4 · first channels]`. Every residual block reads it so.
    time: B::Tensor,
    /// The text of each row.
    texts: &'a [&'a TextContext<B>],
    /// What its adapters add to the layers' products.
    updates: Updates<'a, B>,
}

/// The down blocks push as many skip connections as the up blocks pop.
fn no_skip() -> ModelError {
    ModelError::Compute("the up blocks ask for more skip connections than the down blocks made".into())
}
