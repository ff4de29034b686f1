//! The residual block: two 3×3 convolutions, each after a group normalisation and SiLU, with the time embedding added in
//! between; He 2016, arXiv:1603.05027. The autoencoder's blocks are the same without a time.

use crate::LoadError;
use crate::compute::{Activation, Backend, ConvGeometry, Epilogue, ModelError, Scope};

pub(crate) struct ResnetBlock<B: Backend> {
    pub(crate) norm1: B::GroupNorm,
    pub(crate) conv1: B::Conv,
    time_emb_proj: Option<B::Linear>,
    pub(crate) norm2: B::GroupNorm,
    pub(crate) conv2: B::Conv,
    pub(crate) conv_shortcut: Option<B::Conv>,
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
        let shortcut = || scope.conv("conv_shortcut", (inputs, outputs), 1, same(1));
        Ok(Self {
            norm1: scope.group_norm("norm1", inputs, groups, eps)?,
            conv1: scope.conv("conv1", (inputs, outputs), 3, same(3))?,
            time_emb_proj: time.map(|width| scope.linear("time_emb_proj", (width, outputs))).transpose()?,
            norm2: scope.group_norm("norm2", outputs, groups, eps)?,
            conv2: scope.conv("conv2", (outputs, outputs), 3, same(3))?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// `x [b, inputs, h, w]` → `[b, outputs, h, w]`; `time [b, 1, width]` has been through its SiLU.
    pub(crate) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        time: Option<&B::Tensor>,
    ) -> Result<B::Tensor, ModelError> {
        let shift = match (&self.time_emb_proj, time) {
            (Some(projection), Some(time)) => Some(backend.linear(projection, time, Epilogue::none())?),
            _ => None,
        };
        let h = backend.group_norm(&self.norm1, x, Activation::Silu)?;
        let h = backend.conv2d(&self.conv1, &h, Epilogue::channel_bias(shift.as_ref()))?;
        let h = backend.group_norm(&self.norm2, &h, Activation::Silu)?;
        match &self.conv_shortcut {
            Some(shortcut) => {
                let x = backend.conv2d(shortcut, x, Epilogue::none())?;
                backend.conv2d(&self.conv2, &h, Epilogue::add(&x))
            }
            None => backend.conv2d(&self.conv2, &h, Epilogue::add(x)),
        }
    }
}
