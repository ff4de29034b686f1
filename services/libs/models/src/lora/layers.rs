//! Layers that adapters may change, and forward passes that may change them.

use std::ops::Range;

use super::set::{LowRank, Set};
use crate::LoadError;
use crate::compute::{Backend, ConvGeometry, Epilogue, Mask, ModelError, Piece, Scope, Site};

/// A packed layer and its place in the network.
pub(crate) struct Adapted<L> {
    pub(crate) layer: L,
    site: Site,
}

impl<L> Adapted<L> {
    /// A linear layer `name` with a bias.
    pub(crate) fn linear<B: Backend<Linear = L>>(
        scope: &Scope<'_, B>,
        name: &str,
        size: (usize, usize),
    ) -> Result<Self, LoadError> {
        Ok(Self { layer: scope.linear(name, size)?, site: scope.linear_site(name, size) })
    }

    /// A linear layer without a bias.
    pub(crate) fn linear_without_bias<B: Backend<Linear = L>>(
        scope: &Scope<'_, B>,
        name: &str,
        size: (usize, usize),
    ) -> Result<Self, LoadError> {
        Ok(Self { layer: scope.linear_without_bias(name, size)?, site: scope.linear_site(name, size) })
    }

    /// A linear layer that is stored as a 1×1 convolution.
    pub(crate) fn pixel_linear<B: Backend<Linear = L>>(
        scope: &Scope<'_, B>,
        name: &str,
        size: (usize, usize),
    ) -> Result<Self, LoadError> {
        Ok(Self { layer: scope.pixel_linear(name, size)?, site: scope.linear_site(name, size) })
    }

    /// A gated linear layer to `outputs` values and as many gates.
    pub(crate) fn geglu<B: Backend<Geglu = L>>(
        scope: &Scope<'_, B>,
        name: &str,
        (inputs, outputs): (usize, usize),
    ) -> Result<Self, LoadError> {
        let layer = scope.geglu(name, (inputs, outputs))?;
        Ok(Self { layer, site: scope.linear_site(name, (inputs, 2 * outputs)) })
    }

    /// A square convolution of side `kernel`.
    pub(crate) fn conv<B: Backend<Conv = L>>(
        scope: &Scope<'_, B>,
        name: &str,
        size: (usize, usize),
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Result<Self, LoadError> {
        let layer = scope.conv(name, size, kernel, geometry)?;
        Ok(Self { layer, site: scope.conv_site(name, size, kernel, geometry) })
    }
}

/// The projections of self-attention and the three places that they have.
pub(crate) struct AdaptedAttention<L> {
    layer: L,
    sites: [Site; 3],
}

impl<L> AdaptedAttention<L> {
    /// As [`Scope::self_attention`].
    pub(crate) fn load<B: Backend<SelfAttention = L>>(
        scope: &Scope<'_, B>,
        names: [&str; 3],
        width: usize,
        heads: usize,
        has_biases: bool,
    ) -> Result<Self, LoadError> {
        let layer = scope.self_attention(names, width, heads, has_biases)?;
        Ok(Self { layer, sites: names.map(|name| scope.linear_site(name, (width, width))) })
    }
}

/// What adapters add in one forward pass: `y = W x + B (A x)` for the pictures that have some, and nothing for the others, whose bits stay
/// what they are.
pub(crate) struct Updates<'a, B: Backend> {
    batch: usize,
    runs: Vec<Run<'a, B>>,
}

/// Neighbours in the batch with the same adapters.
struct Run<'a, B: Backend> {
    pictures: Range<usize>,
    set: &'a Set<B>,
}

impl<'a, B: Backend> Updates<'a, B> {
    /// No picture has any.
    pub(crate) fn none() -> Self {
        Self { batch: 0, runs: Vec::new() }
    }

    /// What each picture of a batch has.
    pub(crate) fn of(pictures: &[Option<&'a Set<B>>]) -> Self {
        let mut runs: Vec<Run<'a, B>> = Vec::new();
        for (index, set) in pictures.iter().enumerate() {
            let Some(set) = *set else { continue };
            match runs.last_mut() {
                Some(run) if run.pictures.end == index && std::ptr::eq(run.set, set) => run.pictures.end += 1,
                _ => runs.push(Run { pictures: index..index + 1, set }),
            }
        }
        Self { batch: pictures.len(), runs }
    }

    /// The same for all `batch` pictures.
    pub(crate) fn same(set: Option<&'a Set<B>>, batch: usize) -> Self {
        let runs = set.map(|set| Run { pictures: 0..batch, set });
        Self { batch, runs: runs.into_iter().collect() }
    }

    /// As [`Backend::linear`].
    pub(crate) fn linear(
        &self,
        backend: &B,
        linear: &Adapted<B::Linear>,
        x: &B::Tensor,
        epilogue: Epilogue<'_, B::Tensor>,
    ) -> Result<B::Tensor, ModelError> {
        let added = self.to_tokens(backend, &[linear.site], x)?;
        backend.linear(&linear.layer, x, Epilogue { added: added.as_ref(), ..epilogue })
    }

    /// As [`Backend::geglu`].
    pub(crate) fn geglu(&self, backend: &B, geglu: &Adapted<B::Geglu>, x: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let added = self.to_tokens(backend, &[geglu.site], x)?;
        backend.geglu(&geglu.layer, x, added.as_ref())
    }

    /// As [`Backend::self_attention`].
    pub(crate) fn self_attention(
        &self,
        backend: &B,
        attention: &AdaptedAttention<B::SelfAttention>,
        x: &B::Tensor,
        mask: Mask,
    ) -> Result<B::Tensor, ModelError> {
        let added = self.to_tokens(backend, &attention.sites, x)?;
        backend.self_attention(&attention.layer, x, mask, added.as_ref())
    }

    /// As [`Backend::keys_values`].
    pub(crate) fn keys_values(
        &self,
        backend: &B,
        [to_k, to_v]: [&Adapted<B::Linear>; 2],
        x: &B::Tensor,
        heads: usize,
    ) -> Result<B::KeysValues, ModelError> {
        let [keys, values] = [self.to_tokens(backend, &[to_k.site], x)?, self.to_tokens(backend, &[to_v.site], x)?];
        backend.keys_values([&to_k.layer, &to_v.layer], x, heads, [keys.as_ref(), values.as_ref()])
    }

    /// As [`Backend::conv2d`].
    pub(crate) fn conv2d(
        &self,
        backend: &B,
        conv: &Adapted<B::Conv>,
        x: &B::Tensor,
        epilogue: Epilogue<'_, B::Tensor>,
    ) -> Result<B::Tensor, ModelError> {
        let added = self.to_image(backend, conv.site, x, |down, x| backend.conv2d(down, x, Epilogue::rounded()))?;
        backend.conv2d(&conv.layer, x, Epilogue { added: added.as_ref(), ..epilogue })
    }

    /// As [`Backend::upsample_conv2d`].
    pub(crate) fn upsample_conv2d(
        &self,
        backend: &B,
        conv: &Adapted<B::Conv>,
        x: &B::Tensor,
        size: (usize, usize),
    ) -> Result<B::Tensor, ModelError> {
        let down = |down: &B::Conv, x: &B::Tensor| backend.upsample_conv2d(down, x, size, Epilogue::rounded());
        let added = self.to_image(backend, conv.site, x, down)?;
        backend.upsample_conv2d(&conv.layer, x, size, Epilogue { added: added.as_ref(), ..Epilogue::none() })
    }

    /// What is added to the products of linear layers over the same tokens, side by side.
    fn to_tokens(&self, backend: &B, sites: &[Site], x: &B::Tensor) -> Result<Option<B::Tensor>, ModelError> {
        let mut made = Vec::new();
        for Run { pictures, set } in &self.runs {
            for (column, site) in sites.iter().enumerate() {
                let Some(LowRank { down, up, outputs }) = set.linear(*site) else { continue };
                let hidden = self.over(backend, x, pictures, |x| backend.linear(down, x, Epilogue::rounded()))?;
                let tokens = backend.linear(up, &hidden, Epilogue::none())?;
                made.push(Made { pictures: pictures.clone(), column, outputs: *outputs, tokens });
            }
        }
        self.whole(backend, made, sites.len())
    }

    /// What is added to a convolution's outputs, where the factor `down` takes what the convolution takes.
    fn to_image(
        &self,
        backend: &B,
        site: Site,
        x: &B::Tensor,
        apply: impl Fn(&B::Conv, &B::Tensor) -> Result<B::Tensor, ModelError>,
    ) -> Result<Option<B::Tensor>, ModelError> {
        let (mut made, mut size) = (Vec::new(), (0, 0));
        for Run { pictures, set } in &self.runs {
            let Some(LowRank { down, up, outputs }) = set.conv(site) else { continue };
            let hidden = self.over(backend, x, pictures, |x| apply(down, x))?;
            size = backend.image_size(&hidden)?;
            let tokens = backend.linear(up, &backend.image_to_tokens(&hidden)?, Epilogue::none())?;
            made.push(Made { pictures: pictures.clone(), column: 0, outputs: *outputs, tokens });
        }
        let whole = self.whole(backend, made, 1)?;
        whole.map(|tokens| backend.tokens_to_image(&tokens, size)).transpose()
    }

    /// `apply` to some of the pictures.
    fn over(
        &self,
        backend: &B,
        x: &B::Tensor,
        pictures: &Range<usize>,
        apply: impl FnOnce(&B::Tensor) -> Result<B::Tensor, ModelError>,
    ) -> Result<B::Tensor, ModelError> {
        if pictures.len() == self.batch { apply(x) } else { apply(&backend.pictures(x, pictures.clone())?) }
    }

    /// What was made, in its places; `None` where nothing was.
    fn whole(
        &self,
        backend: &B,
        mut made: Vec<Made<B::Tensor>>,
        columns: usize,
    ) -> Result<Option<B::Tensor>, ModelError> {
        let Some(first) = made.first() else { return Ok(None) };
        if columns == 1 && first.pictures.len() == self.batch {
            return Ok(made.pop().map(|made| made.tokens));
        }
        let width = columns * first.outputs;
        let piece = |made: &'_ Made<B::Tensor>| (made.pictures.start, made.column * made.outputs);
        let pieces: Vec<Piece<'_, B::Tensor>> = made
            .iter()
            .map(|made| {
                let (picture, column) = piece(made);
                Piece { picture, column, tokens: &made.tokens }
            })
            .collect();
        backend.assemble(&pieces, self.batch, width).map(Some)
    }
}

/// A low-rank product of some pictures.
struct Made<T> {
    pictures: Range<usize>,
    /// Among layers side by side.
    column: usize,
    outputs: usize,
    tokens: T,
}
