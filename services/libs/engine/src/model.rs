//! What the engine asks of a denoising model and of a source of noise. It knows no tensors: slices go in, vectors come out.

use crate::error::ModelError;
use crate::request::Adapter;
use crate::slots::LatentSize;

/// A UNet, seen from the engine. It lives on one thread, where it was made.
pub trait DenoiseModel {
    /// What the model prepares once for a prompt and uses at every evaluation, such as text keys and values.
    type Context;

    /// Prepares `tokens` prompt embeddings, row-major, of a request with these adapters: rows that have the context have them too.
    ///
    /// # Errors
    /// What the model says; the request ends with it.
    fn prepare(
        &mut self,
        prompt_embeds: &[f32],
        tokens: usize,
        adapters: &[Adapter],
    ) -> Result<Self::Context, ModelError>;

    /// Memory that a prepared prompt of so many tokens takes, or a little more: what a request is charged before it is let in.
    fn context_bytes(&self, tokens: usize) -> usize;

    /// Memory that adapters take while a request uses them, or a little more.
    fn adapter_bytes(&self, adapters: &[Adapter]) -> usize;

    /// Predicts the noise in each row: `outputs` of each row, in the order of the rows.
    ///
    /// # Errors
    /// What the model says; every request of this batch ends with it.
    fn predict(&mut self, rows: &[Row<'_, Self::Context>], size: LatentSize) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// One row of a batch. Rows are independent of each other: each has its own timestep and prompt.
#[derive(Debug)]
pub struct Row<'a, C> {
    /// The model's input `[channels, height, width]`: the latents, scaled as the sampler wants them, and any further channels.
    pub latents: &'a [f32],
    /// Values that the model answers with: those of the latents alone.
    pub outputs: usize,
    /// The timestep, 0 to 999, possibly fractional.
    pub timestep: f32,
    /// The prepared prompt.
    pub context: &'a C,
    /// The guidance scale, for a model that looks at it.
    pub guidance_scale: Option<f32>,
}

/// A request's own sequence of unit normal draws.
pub trait NoiseSource: Send {
    /// Fills `out` with the next draw of `out.len()` values.
    fn fill(&mut self, out: &mut [f32]);

    /// Passes over a draw of `len` values, as [`NoiseSource::fill`] with as many would.
    fn skip(&mut self, len: usize);
}

/// A closure that gives the next draw of so many values.
impl<F: FnMut(usize) -> Vec<f32> + Send> NoiseSource for F {
    fn fill(&mut self, out: &mut [f32]) {
        out.copy_from_slice(&self(out.len()));
    }

    fn skip(&mut self, len: usize) {
        drop(self(len));
    }
}
