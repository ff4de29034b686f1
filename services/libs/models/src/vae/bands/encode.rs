//! The encoder over bands: in bands down to the latents' size, undivided from there on.

use std::ops::Range;

use super::{Bands, Division, Size, around, resnet};
use crate::compute::{Activation, Backend, Epilogue, ModelError};
use crate::vae::encoder::{DownBlock, Encoder};

impl<B: Backend> Encoder<B> {
    /// A picture of `height` × `width` pixels, whose rows `image` gives: `[1, 3, rows, width]`.
    ///
    /// # Errors
    /// Whatever the backend or `image` reports.
    pub(in crate::vae) fn forward_in_bands(
        &self,
        backend: &B,
        (height, width): (usize, usize),
        division: Division,
        mut image: impl FnMut(Range<usize>) -> Result<B::Tensor, ModelError>,
    ) -> Result<B::Tensor, ModelError> {
        let mut x = Bands::new(Size { height, width });
        let channels = self.down_blocks.first().map_or(1, |block| block.channels);
        for rows in division.bands(x.size, channels) {
            let (seen, margins) = around(&rows, height, 1, 1);
            x.push(rows, backend.conv2d_band(&self.conv_in, &image(seen)?, margins, Epilogue::none())?);
        }
        for block in &self.down_blocks {
            x = block.forward_in_bands(backend, x, division)?;
        }
        let x = x.rows(backend, &(0..x.size.height))?;
        let x = self.mid_block.forward(backend, &x)?;
        let x = backend.group_norm(&self.conv_norm_out, &x, Activation::Silu)?;
        backend.conv2d(&self.conv_out, &x, Epilogue::none())
    }
}

impl<B: Backend> DownBlock<B> {
    fn forward_in_bands(&self, backend: &B, mut x: Bands<B>, division: Division) -> Result<Bands<B>, ModelError> {
        for block in &self.resnets {
            x = resnet::forward(block, backend, x, self.channels, division)?;
        }
        let Some(conv) = &self.downsampler else { return Ok(x) };
        let size = Size { height: x.size.height / 2, width: x.size.width / 2 };
        let mut y = Bands::new(size);
        for rows in division.bands(size, self.channels) {
            let from = 2 * rows.start..2 * rows.end;
            let (seen, margins) = x.seen(backend, &from, 0, 1)?;
            x.release(from.end);
            let output = backend.conv2d_band(conv, &seen, margins, Epilogue::none())?;
            y.push(rows, output);
        }
        Ok(y)
    }
}
