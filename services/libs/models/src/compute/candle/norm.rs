//! The weights of normalisations: always f32.

use candle_core::Tensor;

/// Scale and shift of each channel, over groups of channels; Wu 2018, arXiv:1803.08494.
#[derive(Debug)]
pub struct GroupNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) groups: usize,
    pub(super) eps: f64,
}

/// Mean and 1 / √(variance + eps) of each group of one picture: `[1, groups, 1]`.
#[derive(Debug)]
pub struct GroupMoments {
    pub(super) mean: Tensor,
    pub(super) inverse: Tensor,
}

/// Scale and shift of each feature of a token; Ba 2016, arXiv:1607.06450.
#[derive(Debug)]
pub struct LayerNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) eps: f64,
}
