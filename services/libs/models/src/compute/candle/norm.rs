//! The weights of normalisations: always f32, in main memory too.

use candle_core::{Device, Result, Tensor};

/// Scale and shift of each channel, over groups of channels; Wu 2018, arXiv:1803.08494.
#[derive(Debug)]
pub struct GroupNorm {
    pub(super) weight: Vector,
    pub(super) bias: Vector,
    pub(super) groups: usize,
    pub(super) eps: f64,
}

/// Scale and shift of each feature of a token; Ba 2016, arXiv:1607.06450.
#[derive(Debug)]
pub struct LayerNorm {
    pub(super) weight: Vector,
    pub(super) bias: Vector,
    pub(super) eps: f64,
}

/// One number a channel, on the device and in main memory.
#[derive(Debug)]
pub(super) struct Vector {
    pub(super) tensor: Tensor,
    pub(super) values: Vec<f32>,
}

impl Vector {
    pub(super) fn new(values: Vec<f32>, device: &Device) -> Result<Self> {
        Ok(Self { tensor: Tensor::from_slice(&values, values.len(), device)?, values })
    }

    /// With the device's copy in another precision.
    pub(super) fn in_dtype(mut self, dtype: candle_core::DType) -> Result<Self> {
        self.tensor = self.tensor.to_dtype(dtype)?;
        Ok(self)
    }
}
