//! What a fresh UNet is made to do before it is ready: a few evaluations, from which follows how much may run at once.

use std::time::{Duration, Instant};

use darkroom_engine::{BatchSearch, Budget, LatentSize, StepTime};
use darkroom_models::noise::{Generator, Rng};
use darkroom_models::stage::{Context, ModelError, UnetModel, UnetRow};

/// Time for measuring larger and larger batches. One evaluation of one row is made however long it takes.
const TIME: Duration = Duration::from_millis(500);
/// Rows beyond which a batch is not even tried: 32 guided pictures.
const MOST_ROWS: usize = 64;
/// Where evaluations are as quick as this, this many rows run side by side even if a row gets no cheaper by it: a short
/// request need not wait for the whole of a long one, and nobody waits long for a step.
const QUICK: Duration = Duration::from_millis(250);
const SIDE_BY_SIDE: usize = 16;
/// Tokens of a common prompt: one chunk of CLIP's.
const TOKENS: usize = 77;
/// Side of the latents that `warm` evaluates.
const SMALL_SIDE: usize = 8;
/// Rows of a guided picture.
const GUIDED: usize = 2;

/// What was found out.
pub(crate) struct WarmedUp {
    /// Rows of the default size that are worth evaluating together.
    rows: usize,
    /// Every evaluation that was made.
    pub(crate) measured: Vec<StepTime>,
    /// Memory of a prepared text, for each of its tokens.
    pub(crate) token_bytes: usize,
}

/// What the operator says about how much may run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Pictures, instead of what is measured.
    pub(crate) pictures: Option<usize>,
    /// Bytes that running requests hold.
    pub(crate) bytes: usize,
}

/// Evaluates `unet` on latents of the default `size` with more and more rows, if larger batches are asked for at all.
///
/// # Errors
/// What the model says of one row. Where more of them fail, such as for want of a GPU's memory, fewer it is.
pub(crate) fn warm_up(unet: &mut dyn UnetModel, size: LatentSize, larger: bool) -> Result<WarmedUp, ModelError> {
    let mut search = BatchSearch::new(if larger { TIME } else { Duration::ZERO }, MOST_ROWS);
    // Twice: the first pass pays for what is set up on first use.
    unet.warm()?;
    let start = Instant::now();
    unet.warm()?;
    let part = (SMALL_SIDE * SMALL_SIDE) as f64 / size.pixels().max(1) as f64;
    if part < 0.5 {
        search.small(part, start.elapsed());
    }
    let mut noise = Generator::new(Rng::Cpu, 0);
    let latents = noise.randn(unet.in_channels() * size.pixels());
    let prompt_embeds = noise.randn(TOKENS * unet.cross_attention_dim());
    let context = unet.context(&prompt_embeds, TOKENS)?;
    let token_bytes = unet.text_memory().bytes().div_ceil(TOKENS);
    let mut measured = Vec::new();
    while let Some(rows) = search.next_rows() {
        let mut evaluate = || evaluate(unet, &latents, &context, size, rows);
        let mut took = match evaluate() {
            Ok(took) => took,
            Err(error) if rows == 1 => return Err(error),
            Err(error) => {
                tracing::info!(%error, rows, "the model does not take so large a batch");
                break;
            }
        };
        search.measured(rows, took);
        if search.is_repeatable(took) {
            let again = evaluate()?;
            search.measured(rows, again);
            took = took.min(again);
        }
        measured.push(StepTime { size, rows, took });
    }
    let rows = search.worthwhile_rows().max(search.rows_within(QUICK, SIDE_BY_SIDE));
    Ok(WarmedUp { rows, measured, token_bytes })
}

fn evaluate(
    unet: &mut dyn UnetModel,
    latents: &[f32],
    context: &Context,
    size: LatentSize,
    rows: usize,
) -> Result<Duration, ModelError> {
    let guidance_scale = unet.embeds_guidance().then_some(1.0);
    let rows = vec![UnetRow { latents, timestep: 500.0, context, guidance_scale }; rows];
    let start = Instant::now();
    unet.predict(&rows, size.height, size.width)?;
    Ok(start.elapsed())
}

impl WarmedUp {
    /// What may run at once. A guided picture of the default `size` always may.
    pub(crate) fn budget(&self, size: LatentSize, limits: Limits) -> Budget {
        let rows = limits.pictures.map_or(self.rows.max(GUIDED), |pictures| pictures.saturating_mul(GUIDED));
        Budget {
            pixels: rows.saturating_mul(size.pixels()),
            bytes: limits.bytes,
            pictures: limits.pictures.unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: LatentSize = LatentSize { height: 16, width: 16 };

    fn budget(rows: usize, pictures: Option<usize>) -> Budget {
        let warmed_up = WarmedUp { rows, measured: Vec::new(), token_bytes: 1 };
        warmed_up.budget(SIZE, Limits { pictures, bytes: 9 })
    }

    #[test]
    fn what_is_worthwhile_bounds_the_batch_unless_the_operator_says_otherwise() {
        assert_eq!(budget(8, None), Budget { pixels: 8 * 256, bytes: 9, pictures: usize::MAX });
        assert_eq!(budget(1, None).pixels, 2 * 256, "a guided picture always fits");
        assert_eq!(budget(8, Some(3)), Budget { pixels: 6 * 256, bytes: 9, pictures: 3 });
    }
}
