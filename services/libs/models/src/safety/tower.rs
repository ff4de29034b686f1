//! CLIP's vision tower and the projection behind it: a square picture in, one embedding out.
//!
//! Patches become tokens, with one more in front that stands for the whole picture; what that one is after the last layer is
//! normalised and projected. `CLIPVisionTransformer` of transformers' `models/clip/modeling_clip.py`.

use crate::LoadError;
use crate::clip::layer::{EncoderLayer, LayerSizes};
use crate::compute::{Backend, Epilogue, Mask, ModelError, Scope};
use crate::config::VisionConfig;
use crate::lora::Updates;

/// Red, green, blue.
const COLOURS: usize = 3;

/// The tower with its projection.
pub(crate) struct VisionTower<B: Backend> {
    config: VisionConfig,
    patch_embedding: B::Linear,
    /// What each token starts from, `[tokens, hidden_size]`: its position's embedding, and the first token's own.
    starts: Vec<f32>,
    pre_layer_norm: B::LayerNorm,
    layers: Vec<EncoderLayer<B>>,
    post_layer_norm: B::LayerNorm,
    projection: B::Linear,
}

impl<B: Backend> VisionTower<B> {
    /// Packs the weights that `config` asks for.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape.
    pub(crate) fn load(scope: &Scope<'_, B>, config: &VisionConfig) -> Result<Self, LoadError> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let sizes = LayerSizes {
            width,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            eps,
            mask: Mask::None,
        };
        let embeddings = scope.enter("embeddings");
        let mut starts = embeddings.values("position_embedding.weight", &[config.tokens(), width])?;
        for (start, class) in starts.iter_mut().zip(embeddings.values("class_embedding", &[width])?) {
            *start += class;
        }
        Ok(Self {
            patch_embedding: embeddings.patch_linear("patch_embedding", (COLOURS, width), config.patch_size)?,
            starts,
            // The name's spelling is transformers' own.
            pre_layer_norm: scope.layer_norm("pre_layrnorm", width, eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| EncoderLayer::load(&scope.enter("encoder.layers").enter(index), sizes))
                .collect::<Result<_, _>>()?,
            post_layer_norm: scope.layer_norm("post_layernorm", width, eps)?,
            projection: scope.linear_without_bias("visual_projection", (width, config.projection_dim))?,
            config: config.clone(),
        })
    }

    /// A prepared picture `[3, image_size, image_size]` → its embedding `[projection_dim]`.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub(crate) fn embed(&self, backend: &B, picture: &[f32]) -> Result<Vec<f32>, ModelError> {
        let (tokens, width) = (self.config.tokens(), self.config.hidden_size);
        let patches = self.patches(picture);
        let patches = backend.upload_tokens(&patches, [1, tokens, patches.len() / tokens])?;
        let starts = backend.upload_tokens(&self.starts, [1, tokens, width])?;
        let x = backend.linear(&self.patch_embedding, &patches, Epilogue::add(&starts))?;
        let mut x = backend.layer_norm(&self.pre_layer_norm, &x)?;
        for layer in &self.layers {
            x = layer.forward(backend, &x, &Updates::none())?;
        }
        let first = &backend.download(&x)?[..width];
        let whole = backend.layer_norm(&self.post_layer_norm, &backend.upload_tokens(first, [1, 1, width])?)?;
        backend.download(&backend.linear(&self.projection, &whole, Epilogue::none())?)
    }

    /// The picture's patches row by row, each `[3, patch_size, patch_size]`, behind zeros in the first token's place: that one has no
    /// patch.
    fn patches(&self, picture: &[f32]) -> Vec<f32> {
        let (size, patch, side) = (self.config.image_size, self.config.patch_size, self.config.side());
        let values = COLOURS * patch * patch;
        let mut out = Vec::with_capacity(self.config.tokens() * values);
        out.resize(values, 0.0);
        for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
            for line in (0..COLOURS).flat_map(|colour| (0..patch).map(move |y| colour * size + row * patch + y)) {
                let first = line * size + column * patch;
                out.extend_from_slice(&picture[first..first + patch]);
            }
        }
        out
    }
}
