//! The decoder over bands: undivided up to the attention, which is at the latents' size, and in bands from there on.

use std::ops::Range;

use super::{Bands, Division, Size, resnet};
use crate::compute::{Backend, Epilogue, ModelError};
use crate::vae::decoder::{Decoder, UpBlock};

impl<B: Backend> Decoder<B> {
    /// Latents after `post_quant_conv`, of one picture. `put` gets the picture's rows, top to bottom: `[1, 3, rows, width]`.
    ///
    /// # Errors
    /// Whatever the backend or `put` reports.
    pub(in crate::vae) fn forward_in_bands(
        &self,
        backend: &B,
        latents: &B::Tensor,
        division: Division,
        mut put: impl FnMut(Range<usize>, B::Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let x = backend.conv2d(&self.conv_in, latents, Epilogue::none())?;
        let mut x = Bands::whole(backend, self.mid_block.forward(backend, &x)?)?;
        for block in &self.up_blocks {
            x = block.forward_in_bands(backend, x, division)?;
        }
        let moments = x.moments(backend, &self.conv_norm_out)?;
        let channels = self.up_blocks.last().map_or(1, |block| block.channels);
        for rows in division.bands(x.size, channels) {
            let (normed, margins) = x.normed(backend, &self.conv_norm_out, &moments, &rows)?;
            x.release(rows.end - 1);
            let picture = backend.conv2d_band(&self.conv_out, &normed, margins, Epilogue::none())?;
            drop(normed);
            put(rows, picture)?;
        }
        Ok(())
    }
}

impl<B: Backend> UpBlock<B> {
    fn forward_in_bands(&self, backend: &B, mut x: Bands<B>, division: Division) -> Result<Bands<B>, ModelError> {
        for block in &self.resnets {
            x = resnet::forward(block, backend, x, self.channels, division)?;
        }
        let Some(conv) = &self.upsampler else { return Ok(x) };
        let size = Size { height: 2 * x.size.height, width: 2 * x.size.width };
        let mut y = Bands::new(size);
        for rows in division.bands(size, self.channels) {
            let from = rows.start / 2..rows.end / 2;
            let (seen, margins) = x.seen(backend, &from, 1, 1)?;
            x.release(from.end - 1);
            let output = backend.conv2d_band(conv, &seen, margins, Epilogue::none())?;
            y.push(rows, output);
        }
        Ok(y)
    }
}
