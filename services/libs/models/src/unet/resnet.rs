//! The residual block: two 3×3 convolutions, each after a group normalisation and SiLU, with the time embedding added in
//! between; He 2016, arXiv:1603.05027. The autoencoder's blocks are the same without a time.

use super::Conditions;
use crate::LoadError;
use crate::compute::{Activation, Backend, ConvGeometry, Epilogue, ModelError, Scope};
use crate::lora::{Adapted, Updates};

pub(crate) struct ResnetBlock<B: Backend> {
    pub(crate) norm1: B::GroupNorm,
    pub(crate) conv1: Adapted<B::Conv>,
    time_emb_proj: Option<Adapted<B::Linear>>,
    pub(crate) norm2: B::GroupNorm,
    pub(crate) conv2: Adapted<B::Conv>,
    pub(crate) conv_shortcut: Option<Adapted<B::Conv>>,
}

/// The sizes of a residual block.
pub(crate) struct ResnetShape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Width of the time embedding, where there is one.
    pub(crate) time: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    /// See [`ConvGeometry::coarse`].
    pub(crate) coarse: bool,
}

impl<B: Backend> ResnetBlock<B> {
    pub(crate) fn load(scope: &Scope<'_, B>, shape: &ResnetShape) -> Result<Self, LoadError> {
        let ResnetShape { inputs, outputs, time, groups, eps, coarse } = *shape;
        let same = |kernel| ConvGeometry { coarse, ..ConvGeometry::same(kernel) };
        let shortcut = || Adapted::conv(scope, "conv_shortcut", (inputs, outputs), 1, same(1));
        Ok(Self {
            norm1: scope.group_norm("norm1", inputs, groups, eps)?,
            conv1: Adapted::conv(scope, "conv1", (inputs, outputs), 3, same(3))?,
            time_emb_proj: time.map(|width| Adapted::linear(scope, "time_emb_proj", (width, outputs))).transpose()?,
            norm2: scope.group_norm("norm2", outputs, groups, eps)?,
            conv2: Adapted::conv(scope, "conv2", (outputs, outputs), 3, same(3))?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// `x [b, inputs, h, w]` → `[b, outputs, h, w]`; without `conditions` there is no time, and nothing but the weights.
    pub(crate) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        conditions: Option<&Conditions<'_, B>>,
    ) -> Result<B::Tensor, ModelError> {
        let none = Updates::none();
        let updates = conditions.map_or(&none, |conditions| &conditions.updates);
        let shift = match (&self.time_emb_proj, conditions) {
            (Some(projection), Some(Conditions { time, .. })) => {
                Some(updates.linear(backend, projection, time, Epilogue::none())?)
            }
            _ => None,
        };
        let h = backend.group_norm(&self.norm1, x, Activation::Silu)?;
        let h = updates.conv2d(backend, &self.conv1, &h, Epilogue::channel_bias(shift.as_ref()))?;
        let h = backend.group_norm(&self.norm2, &h, Activation::Silu)?;
        match &self.conv_shortcut {
            Some(shortcut) => {
                let x = updates.conv2d(backend, shortcut, x, Epilogue::none())?;
                updates.conv2d(backend, &self.conv2, &h, Epilogue::add(&x))
            }
            None => updates.conv2d(backend, &self.conv2, &h, Epilogue::add(x)),
        }
    }
}
