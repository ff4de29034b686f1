//! The residual block over bands.

use super::{Bands, Division};
use crate::compute::{Backend, Epilogue, ModelError};
use crate::unet::resnet::ResnetBlock;

/// What [`ResnetBlock::forward`] does without a time. `outputs` are the block's channels.
pub(super) fn forward<B: Backend>(
    block: &ResnetBlock<B>,
    backend: &B,
    mut x: Bands<B>,
    outputs: usize,
    division: Division,
) -> Result<Bands<B>, ModelError> {
    let size = x.size;
    let moments = x.moments(backend, &block.norm1)?;
    let mut hidden = Bands::new(size);
    let mut shortcut = block.conv_shortcut.as_ref().map(|conv| (conv, Bands::new(size)));
    for rows in division.bands(size, outputs) {
        let (normed, margins) = x.normed(backend, &block.norm1, &moments, &rows)?;
        hidden.push(rows.clone(), backend.conv2d_band(&block.conv1.layer, &normed, margins, Epilogue::rounded())?);
        drop(normed);
        if let Some((conv, shortcut)) = &mut shortcut {
            let input = x.rows(backend, &rows)?;
            let output = backend.conv2d(&conv.layer, &input, Epilogue::none())?;
            // The next band's window begins a row higher.
            x.release(rows.end - 1);
            shortcut.push(rows, output);
        }
    }
    // From here on nobody needs the input, unless it is the shortcut itself.
    let mut shortcut = match shortcut {
        Some((_, shortcut)) => shortcut,
        None => x,
    };
    let moments = hidden.moments(backend, &block.norm2)?;
    let mut y = Bands::new(size);
    for rows in division.bands(size, outputs) {
        let (normed, margins) = hidden.normed(backend, &block.norm2, &moments, &rows)?;
        hidden.release(rows.end - 1);
        let residual = shortcut.rows(backend, &rows)?;
        let output = backend.conv2d_band(&block.conv2.layer, &normed, margins, Epilogue::add(&residual))?;
        drop(residual);
        shortcut.release(rows.end);
        y.push(rows, output);
    }
    Ok(y)
}
