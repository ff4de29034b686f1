//! The seam itself: two dozen operations on a tensor type of the backend's own.
//!
//! Two kinds of tensor cross the seam. An *image* is `[batch, channels, height, width]`; *tokens* are `[batch, count, width]`.
//! Those are shapes, not layouts: a backend that keeps images channels-last turns an image into tokens for free, and one
//! with an arena gives a buffer back when its tensor drops. Whatever can be fused into the write-back of a matrix product
//! or convolution arrives with it, as an [`Epilogue`]; a backend without fusion does it afterwards.
//!
//! An image may also lie in horizontal *bands*, so that it is never there as a whole: then each is an image of a batch of one, and a
//! convolution is told which of its rows are [`Margins`].
//!
//! Weights are packed once, at load, and everything that decides how (stride, an upsampled input, gated outputs) is known then.
//! A reduction may be blocked by the layer and the picture's size, never by the batch: rows are computed independently.

use std::ops::Range;

use super::ModelError;
use crate::weights::WeightTensor;

/// A machine that runs the networks.
pub trait Backend: Send + Sync + 'static {
    /// An activation: an image or tokens.
    type Tensor: Send + Sync;
    /// A packed convolution, with its geometry.
    type Conv: Send + Sync;
    /// A packed linear layer.
    type Linear: Send + Sync;
    /// A packed linear layer whose outputs gate each other, see [`Backend::geglu`].
    type Geglu: Send + Sync;
    /// Scale and shift of a group normalisation.
    type GroupNorm: Send + Sync;
    /// What a group normalisation makes of one picture: mean and deviation of each group, ready to be applied.
    type GroupMoments: Send + Sync;
    /// Scale and shift of a layer normalisation.
    type LayerNorm: Send + Sync;
    /// A table of vectors.
    type Embedding: Send + Sync;
    /// The packed projections of attention among tokens.
    type SelfAttention: Send + Sync;
    /// Keys and values of attention, ready to be attended to. They outlive a forward pass where they come from the text.
    type KeysValues: Send + Sync;

    /// Runs a forward pass, which is many operations, where they start fastest.
    fn pass<T: Send>(&self, pass: impl FnOnce() -> T + Send) -> T {
        pass()
    }

    /// Packs `weight [out, in, k, k]` and `bias [out]`.
    fn pack_conv(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        geometry: ConvGeometry,
    ) -> Result<Self::Conv, ModelError>;

    /// Packs `weight [out, in]` and `bias [out]`. A 1×1 convolution's `[out, in, 1, 1]` is the same thing, and accepted.
    fn pack_linear(
        &self,
        weight: &WeightTensor<'_>,
        bias: Option<&WeightTensor<'_>>,
    ) -> Result<Self::Linear, ModelError>;

    /// Packs `weight [2 · out, in]` and `bias [2 · out]`, whose first half of rows is the value and second half the gate.
    fn pack_geglu(&self, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Result<Self::Geglu, ModelError>;

    /// Packs the projections of self-attention in `heads` heads to queries, keys and values: `[width, in]`, and `[width]` where there are
    /// biases.
    fn pack_self_attention(
        &self,
        weights: &[WeightTensor<'_>; 3],
        biases: Option<&[WeightTensor<'_>; 3]>,
        heads: usize,
    ) -> Result<Self::SelfAttention, ModelError>;

    /// Packs the scale and shift (`[channels]` each) of a normalisation over `groups` groups of channels.
    fn pack_group_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        groups: usize,
        eps: f64,
    ) -> Result<Self::GroupNorm, ModelError>;

    /// Packs the scale and shift (`[width]` each) of a normalisation over the width of each token.
    fn pack_layer_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        eps: f64,
    ) -> Result<Self::LayerNorm, ModelError>;

    /// Packs a table `[entries, width]`.
    fn pack_embedding(&self, table: &WeightTensor<'_>) -> Result<Self::Embedding, ModelError>;

    /// An image from row-major `data`, `shape` = `[batch, channels, height, width]`; lengths agree.
    fn upload_image(&self, data: &[f32], shape: [usize; 4]) -> Result<Self::Tensor, ModelError>;

    /// Tokens from row-major `data`, `shape` = `[batch, count, width]`; lengths agree.
    fn upload_tokens(&self, data: &[f32], shape: [usize; 3]) -> Result<Self::Tensor, ModelError>;

    /// An image's or tokens' values, row-major in the order of its shape.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>, ModelError>;

    /// Height and width of an image.
    fn image_size(&self, image: &Self::Tensor) -> Result<(usize, usize), ModelError>;

    /// Images `[b, in, h, w]` → `[b, out, h', w']` with the packed geometry, which is not an upsampling one.
    fn conv2d(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// Nearest-neighbour enlargement of images `[b, in, h, w]` to `size` = `(height, width)`, then a convolution packed with
    /// [`ConvGeometry::upsampled`]: `[b, out, height, width]`. Height and width are twice the image's, or one less where halving had
    /// rounded up. Source pixel = `floor(target · h / height)`, as PyTorch has it, which is half the target either way.
    fn upsample_conv2d(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        size: (usize, usize),
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// A band of an image: `x [1, in, margins.above + h + margins.below, w]` → what [`Backend::conv2d`], or [`Backend::upsample_conv2d`] to
    /// twice the size, makes of the `h` rows between the margins where they stand in the image.
    ///
    /// A margin has no more rows than the packed padding on its side; rows that are missing are zeros, as at the image's edge. Where
    /// the band begins at a multiple of four of the image's rows, a backend may promise the same bits as for the undivided image.
    fn conv2d_band(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        margins: Margins,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// Tokens `[b, n, in]` → `[b, n, out]`.
    fn linear(
        &self,
        linear: &Self::Linear,
        x: &Self::Tensor,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// Tokens `[b, n, in]` → `[b, n, out]`: `value · gelu(gate)` with the exact (erf) GELU; Shazeer 2020, arXiv:2002.05202.
    ///
    /// `added [b, n, 2 · out]` is added before that, values first.
    fn geglu(
        &self,
        geglu: &Self::Geglu,
        x: &Self::Tensor,
        added: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// Normalises an image over each group of channels and all pixels, then applies `activation`.
    fn group_norm(
        &self,
        norm: &Self::GroupNorm,
        x: &Self::Tensor,
        activation: Activation,
    ) -> Result<Self::Tensor, ModelError>;

    /// The statistics by which [`Backend::group_norm`] normalises the image that `bands`, at least one of `[1, c, h, w]` each, are top to
    /// bottom.
    fn group_moments(&self, norm: &Self::GroupNorm, bands: &[&Self::Tensor]) -> Result<Self::GroupMoments, ModelError>;

    /// Rows of an image by the statistics of all of it: `pieces`, `[1, c, h, w]` each, one under the other, normalised and then through
    /// `activation`.
    fn group_norm_rows(
        &self,
        norm: &Self::GroupNorm,
        moments: &Self::GroupMoments,
        pieces: &[&Self::Tensor],
        activation: Activation,
    ) -> Result<Self::Tensor, ModelError>;

    /// Normalises each token.
    fn layer_norm(&self, norm: &Self::LayerNorm, x: &Self::Tensor) -> Result<Self::Tensor, ModelError>;

    /// Attention of tokens `[b, n, in]` among those of their own row: `[b, n, width]`, as [`Backend::attention`] of what the layer
    /// projects them to.
    ///
    /// `added [b, n, 3 · width]` is added to queries, keys and values.
    fn self_attention(
        &self,
        layer: &Self::SelfAttention,
        x: &Self::Tensor,
        mask: Mask,
        added: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError>;

    /// Projects tokens `[b, m, in]` to the keys and values of `heads` heads. To each `added [b, m, width]` is added.
    fn keys_values(
        &self,
        projections: [&Self::Linear; 2],
        x: &Self::Tensor,
        heads: usize,
        added: [Option<&Self::Tensor>; 2],
    ) -> Result<Self::KeysValues, ModelError>;

    /// Memory that keys and values take.
    fn bytes(&self, keys_values: &Self::KeysValues) -> usize;

    /// `softmax(q · kᵀ / √d) · v` for each head of `q [b, n, heads · d]`; Vaswani 2017, arXiv:1706.03762.
    ///
    /// The rows of all `keys_values`, in order, belong to the rows of `q`: `b` entries with a row each where rows bring their own
    /// text, whose lengths may differ.
    fn attention(
        &self,
        q: &Self::Tensor,
        keys_values: &[&Self::KeysValues],
        heads: usize,
    ) -> Result<Self::Tensor, ModelError>;

    /// Images `[b, c1, h, w]` and `[b, c2, h, w]` → `[b, c1 + c2, h, w]`.
    fn concat_channels(&self, first: &Self::Tensor, second: &Self::Tensor) -> Result<Self::Tensor, ModelError>;

    /// Some rows of an image `[1, c, h, w]`, if possible without a copy.
    fn rows(&self, image: &Self::Tensor, rows: Range<usize>) -> Result<Self::Tensor, ModelError>;

    /// Some pictures of a batch, images or tokens, if possible without a copy.
    fn pictures(&self, x: &Self::Tensor, pictures: Range<usize>) -> Result<Self::Tensor, ModelError>;

    /// Tokens `[batch, count, width]` of `pieces`, at least one, that do not overlap. Where none is there is nothing: a zero, and to add it
    /// changes no bit.
    fn assemble(
        &self,
        pieces: &[Piece<'_, Self::Tensor>],
        batch: usize,
        width: usize,
    ) -> Result<Self::Tensor, ModelError>;

    /// Images `[1, c, h, w]`, at least one, one under the other.
    fn stack_rows(&self, pieces: &[&Self::Tensor]) -> Result<Self::Tensor, ModelError>;

    /// An image `[b, c, h, w]` as tokens `[b, h · w, c]`, row by row of pixels.
    fn image_to_tokens(&self, image: &Self::Tensor) -> Result<Self::Tensor, ModelError>;

    /// Tokens `[b, h · w, c]` as an image `[b, c, h, w]`.
    fn tokens_to_image(&self, tokens: &Self::Tensor, size: (usize, usize)) -> Result<Self::Tensor, ModelError>;

    /// Entry `ids[row][i]` of `table` plus entry `i` of `positions`: `[rows, count, width]`. Rows are equally long, and
    /// every id is an entry of `table`.
    fn embed(
        &self,
        table: &Self::Embedding,
        positions: &Self::Embedding,
        ids: &[Vec<u32>],
    ) -> Result<Self::Tensor, ModelError>;
}

/// What happens to each output of a matrix product or convolution before it is stored, in this order.
#[derive(Debug)]
pub struct Epilogue<'a, T> {
    /// Tokens `[b, 1, out]` added to every pixel of row `b`: the time embedding. Images only.
    pub channel_bias: Option<&'a T>,
    /// Shaped as the output and added before the activation. Not all three of this, a channel bias and a residual.
    pub added: Option<&'a T>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Added last; shaped as the output.
    pub residual: Option<&'a T>,
    /// A backend may keep the result in the precision of factors: it is normalised or multiplied next, or at most a few times added to.
    pub rounded: bool,
}

impl<T> Epilogue<'_, T> {
    /// Nothing more happens.
    #[must_use]
    pub fn none() -> Self {
        Self { channel_bias: None, added: None, activation: Activation::None, residual: None, rounded: false }
    }

    /// Nothing more happens, and nothing is ever added to the result.
    #[must_use]
    pub fn rounded() -> Self {
        Self { rounded: true, ..Self::none() }
    }

    /// The activation is applied, and nothing is ever added to the result.
    #[must_use]
    pub fn activation(activation: Activation) -> Self {
        Self { activation, ..Self::rounded() }
    }
}

impl<'a, T> Epilogue<'a, T> {
    /// `residual` is added.
    #[must_use]
    pub fn add(residual: &'a T) -> Self {
        Self { residual: Some(residual), ..Self::none() }
    }

    /// `residual` is added, and the result may be kept in the precision of factors although more will be added to it: the stream of a
    /// few layers, whose end is added to a network's own.
    #[must_use]
    pub fn add_in_branch(residual: &'a T) -> Self {
        Self { rounded: true, ..Self::add(residual) }
    }

    /// `bias` is added to each channel, where there is one, and nothing else ever.
    #[must_use]
    pub fn channel_bias(bias: Option<&'a T>) -> Self {
        Self { channel_bias: bias, ..Self::rounded() }
    }
}

/// A part of tokens: some pictures' at some columns.
#[derive(Debug)]
pub struct Piece<'a, T> {
    /// The first of its pictures.
    pub picture: usize,
    /// The first of its columns.
    pub column: usize,
    /// Tokens `[pictures, count, columns]`.
    pub tokens: &'a T,
}

/// Rows of a band that belong to its neighbours: a convolution sees them and has no outputs there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// Before the band's own rows.
    pub above: usize,
    /// After them.
    pub below: usize,
}

/// A pointwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Identity.
    None,
    /// `x · σ(x)`; Elfwing 2017, arXiv:1702.03118.
    Silu,
    /// `x · σ(1.702 x)`, the approximation of GELU that OpenAI's CLIP was trained with.
    QuickGelu,
}

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Those at its own position and before.
    Causal,
}

/// How a convolution walks its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Step between outputs, in input pixels, both ways.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// The input is enlarged first, by [`Backend::upsample_conv2d`].
    pub upsampled: bool,
    /// The image is at the network's coarsest resolution: it has few pixels for many weights.
    pub coarse: bool,
}

/// Rows and columns of zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// Above and to the left.
    pub before: usize,
    /// Below and to the right.
    pub after: usize,
}

impl ConvGeometry {
    /// As many pixels out as in, for an odd kernel of side `kernel`.
    #[must_use]
    pub fn same(kernel: usize) -> Self {
        let margin = kernel / 2;
        Self { stride: 1, padding: Padding { before: margin, after: margin }, upsampled: false, coarse: false }
    }

    /// The UNet's downsampling: 3×3, every second pixel, padding of one on all sides.
    #[must_use]
    pub fn halving() -> Self {
        Self { stride: 2, ..Self::same(3) }
    }

    /// The autoencoder's downsampling: 3×3, every second pixel, padding of one below and to the right only.
    #[must_use]
    pub fn halving_asymmetric() -> Self {
        Self { padding: Padding { before: 0, after: 1 }, ..Self::halving() }
    }

    /// A 3×3 convolution over an enlarged image.
    #[must_use]
    pub fn upsampled() -> Self {
        Self { upsampled: true, ..Self::same(3) }
    }
}
