//! A place in a checkpoint's tree of names, where layers are found and packed.

use std::fmt::Display;

use super::sites::Sites;
use super::{Backend, ConvGeometry, Outline, Place, Site};
use crate::LoadError;
use crate::weights::{WeightTensor, Weights};

/// The weights under one prefix (`down_blocks.0.resnets.1`), and the backend that packs them.
///
/// Every method looks the layer's tensors up by name and checks their shapes, so a network's `load` is its list of layers.
pub struct Scope<'a, B> {
    backend: &'a B,
    tensors: Tensors<'a>,
    sites: Sites,
    prefix: String,
}

/// Where tensors are looked up.
#[derive(Clone, Copy)]
enum Tensors<'a> {
    Weights(&'a Weights),
    /// Nowhere: it is only noted that they were asked for.
    Outline(&'a Outline),
}

impl<'a> Tensors<'a> {
    fn tensor(self, name: String, shape: &[usize]) -> Result<WeightTensor<'a>, LoadError> {
        match self {
            Self::Weights(weights) => weights.tensor(&name, shape),
            Self::Outline(outline) => Ok(outline.tensor(name, shape)),
        }
    }
}

impl<'a, B: Backend> Scope<'a, B> {
    /// The whole of `weights`.
    pub fn root(backend: &'a B, weights: &'a Weights) -> Self {
        Self { backend, tensors: Tensors::Weights(weights), sites: Sites::default(), prefix: String::new() }
    }

    /// No weights: what a network asks for is noted.
    pub(crate) fn outline(backend: &'a B, outline: &'a Outline) -> Self {
        Self { backend, tensors: Tensors::Outline(outline), sites: Sites::default(), prefix: String::new() }
    }

    /// The weights below `name`, which may have dots and numbers.
    #[must_use]
    pub fn enter(&self, name: impl Display) -> Self {
        let Self { backend, tensors, sites, prefix } = self;
        Self { backend, tensors: *tensors, sites: sites.clone(), prefix: format!("{prefix}{name}.") }
    }

    /// A place for adapters of the linear layer `name`.
    pub(crate) fn linear_site(&self, name: &str, (inputs, outputs): (usize, usize)) -> Site {
        self.site(name, vec![outputs, inputs], None)
    }

    /// A place for adapters of the convolution `name`.
    pub(crate) fn conv_site(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Site {
        self.site(name, vec![outputs, inputs, kernel, kernel], Some(geometry))
    }

    fn site(&self, name: &str, shape: Vec<usize>, geometry: Option<ConvGeometry>) -> Site {
        self.sites.push(Place { name: format!("{}{name}", self.prefix), shape, geometry })
    }

    /// All places so far.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.sites.all()
    }

    /// A square convolution of side `kernel`.
    pub fn conv(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Result<B::Conv, LoadError> {
        let weight = self.tensor(name, "weight", &[outputs, inputs, kernel, kernel])?;
        let bias = self.tensor(name, "bias", &[outputs])?;
        Ok(self.backend.pack_conv(&weight, &bias, geometry)?)
    }

    /// A linear layer with a bias.
    pub fn linear(&self, name: &str, (inputs, outputs): (usize, usize)) -> Result<B::Linear, LoadError> {
        let weight = self.tensor(name, "weight", &[outputs, inputs])?;
        let bias = self.tensor(name, "bias", &[outputs])?;
        Ok(self.backend.pack_linear(&weight, Some(&bias))?)
    }

    /// A linear layer without a bias.
    pub fn linear_without_bias(&self, name: &str, (inputs, outputs): (usize, usize)) -> Result<B::Linear, LoadError> {
        let weight = self.tensor(name, "weight", &[outputs, inputs])?;
        Ok(self.backend.pack_linear(&weight, None)?)
    }

    /// A linear layer over the channels of every pixel, stored as a 1×1 convolution.
    pub fn pixel_linear(&self, name: &str, (inputs, outputs): (usize, usize)) -> Result<B::Linear, LoadError> {
        let weight = self.tensor(name, "weight", &[outputs, inputs, 1, 1])?;
        let bias = self.tensor(name, "bias", &[outputs])?;
        Ok(self.backend.pack_linear(&weight, Some(&bias))?)
    }

    /// A convolution without a bias whose square kernels touch without overlapping, as the linear layer over a patch's values that it is:
    /// inputs are `[channels, kernel, kernel]`, row-major.
    pub fn patch_linear(
        &self,
        name: &str,
        (channels, outputs): (usize, usize),
        kernel: usize,
    ) -> Result<B::Linear, LoadError> {
        let mut weight = self.tensor(name, "weight", &[outputs, channels, kernel, kernel])?;
        weight.shape = vec![outputs, channels * kernel * kernel];
        Ok(self.backend.pack_linear(&weight, None)?)
    }

    /// The values of a tensor that is no layer, as they are.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        Ok(self.tensors.tensor(format!("{}{name}", self.prefix), shape)?.to_f32())
    }

    /// A gated linear layer to `outputs` values and as many gates.
    pub fn geglu(&self, name: &str, (inputs, outputs): (usize, usize)) -> Result<B::Geglu, LoadError> {
        let weight = self.tensor(name, "weight", &[2 * outputs, inputs])?;
        let bias = self.tensor(name, "bias", &[2 * outputs])?;
        Ok(self.backend.pack_geglu(&weight, &bias)?)
    }

    /// The projections `names` of self-attention to queries, keys and values of `width` features in `heads` heads, with biases or without.
    pub fn self_attention(
        &self,
        names: [&str; 3],
        width: usize,
        heads: usize,
        has_biases: bool,
    ) -> Result<B::SelfAttention, LoadError> {
        let [q, k, v] = names.map(|name| self.tensor(name, "weight", &[width, width]));
        let weights = [q?, k?, v?];
        let biases = if has_biases {
            let [q, k, v] = names.map(|name| self.tensor(name, "bias", &[width]));
            Some([q?, k?, v?])
        } else {
            None
        };
        Ok(self.backend.pack_self_attention(&weights, biases.as_ref(), heads)?)
    }

    /// A group normalisation.
    pub fn group_norm(&self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<B::GroupNorm, LoadError> {
        let weight = self.tensor(name, "weight", &[channels])?;
        let bias = self.tensor(name, "bias", &[channels])?;
        Ok(self.backend.pack_group_norm(&weight, &bias, groups, eps)?)
    }

    /// A layer normalisation.
    pub fn layer_norm(&self, name: &str, width: usize, eps: f64) -> Result<B::LayerNorm, LoadError> {
        let weight = self.tensor(name, "weight", &[width])?;
        let bias = self.tensor(name, "bias", &[width])?;
        Ok(self.backend.pack_layer_norm(&weight, &bias, eps)?)
    }

    /// A table of vectors.
    pub fn embedding(&self, name: &str, entries: usize, width: usize) -> Result<B::Embedding, LoadError> {
        self.embedding_with(name, entries, width, &[])
    }

    /// A table of vectors, and `more` of them behind it: `[any, width]`.
    pub fn embedding_with(
        &self,
        name: &str,
        entries: usize,
        width: usize,
        more: &[f32],
    ) -> Result<B::Embedding, LoadError> {
        let table = self.tensor(name, "weight", &[entries, width])?;
        if more.is_empty() {
            return Ok(self.backend.pack_embedding(&table)?);
        }
        let mut values = table.to_f32();
        values.extend(more);
        let table = WeightTensor::from_f32(&values, &[values.len() / width, width]);
        Ok(self.backend.pack_embedding(&table)?)
    }

    fn tensor(&self, layer: &str, part: &str, shape: &[usize]) -> Result<WeightTensor<'a>, LoadError> {
        self.tensors.tensor(format!("{}{layer}.{part}", self.prefix), shape)
    }
}
