//! What a request begins from besides noise: the fields of `init`, held against the model and against each other.

use darkroom_engine::{Given, LatentSize, NoiseSource};
use darkroom_models::noise::{Generator, Rng, vary};
use darkroom_proto::tensor::{TensorError, TensorView};
use darkroom_proto::v1::{self, Dtype, Tensor};
use darkroom_samplers::{Sampler, Start, StrengthWay};
use darkroom_service_kit::status::invalid_argument;
use darkroom_stage_kit::noise;
use darkroom_stage_kit::refusal::{self, within};
use tonic::Status;

use crate::stage::DenoiserFacts;

/// At this strength nothing of the picture is left.
const WHOLE: f64 = 1.0;

/// Where a request begins.
pub(crate) struct Beginning {
    pub(crate) start: Start,
    pub(crate) given: Given,
    pub(crate) noise: SeedNoise,
}

/// Checks a request's `init`.
///
/// # Errors
/// `INVALID_ARGUMENT` for the first field that does not fit.
pub(crate) fn checked(
    facts: &DenoiserFacts,
    message: &v1::DenoiseRequest,
    sampler: Sampler,
    size: LatentSize,
) -> Result<Beginning, Status> {
    let rng = noise::rng("rng", message.rng)?;
    let noise = SeedNoise { variation: variation(message, rng, size)?, ..SeedNoise::new(rng, message.seed) };
    let Some(init) = &message.init else {
        if facts.inpainting {
            return Err(invalid_argument(
                "init",
                "this model's UNet is an inpainting one and needs a mask and a masked picture",
            ));
        }
        return Ok(Beginning { start: Start::Noise, given: Given::default(), noise });
    };
    let strength = within("init.strength", init.strength, 0.0..=WHOLE)?;
    let latents = [facts.latent_channels, size.height, size.width];
    let original = values("init.latents", init.latents.as_ref(), &latents)?;
    let mask = values("init.mask", init.mask.as_ref(), &latents[1..])?;
    if let Some(value) = mask.iter().flatten().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(invalid_argument("init.mask", format!("holds {value}, which is not in 0 to 1")));
    }
    let masked_latents = values("init.masked_latents", init.masked_latents.as_ref(), &latents)?;
    let from_noise = mask.is_some() && strength == WHOLE;
    if original.is_none() && !(facts.inpainting && from_noise) {
        return Err(invalid_argument("init.latents", "no tensor was sent"));
    }
    let start = match from_noise {
        true => Start::Noise,
        false => Start::Strength { strength, way: way(init.way, sampler)? },
    };
    let noise = SeedNoise { before_first: original.is_some(), after_first: mask.is_some(), ..noise };
    let given = match (facts.inpainting, mask, masked_latents) {
        (true, Some(mut mask), Some(mut masked_latents)) => {
            mask.append(&mut masked_latents);
            Given { original, mask: None, further_channels: mask }
        }
        (true, None, _) => {
            return Err(invalid_argument("init.mask", "no tensor was sent; this model's UNet needs one"));
        }
        (true, _, None) => {
            return Err(invalid_argument("init.masked_latents", "no tensor was sent; this model's UNet needs one"));
        }
        (false, _, Some(_)) => {
            let message = "they are for inpainting UNets, this model's is none; leave them out";
            return Err(invalid_argument("init.masked_latents", message));
        }
        (false, mask, None) => Given { original, mask, further_channels: Vec::new() },
    };
    Ok(Beginning { start, given, noise })
}

fn way(way: i32, sampler: Sampler) -> Result<StrengthWay, Status> {
    match v1::StrengthWay::try_from(way) {
        Ok(v1::StrengthWay::Compvis) => Ok(StrengthWay::CompVis),
        Ok(v1::StrengthWay::Diffusers) => Ok(StrengthWay::Diffusers),
        Ok(v1::StrengthWay::Unspecified) if sampler == Sampler::Ddim => Ok(StrengthWay::CompVis),
        Ok(v1::StrengthWay::Unspecified) => Ok(StrengthWay::Diffusers),
        Err(_) => Err(invalid_argument("init.way", format!("{way} is not known, use COMPVIS or DIFFUSERS"))),
    }
}

fn variation(message: &v1::DenoiseRequest, rng: Rng, size: LatentSize) -> Result<Option<Towards>, Status> {
    let Some(v1::Variation { seed, strength }) = message.variation else { return Ok(None) };
    let strength = within("variation.strength", strength, 0.0..=WHOLE)?;
    Ok(Some(Towards { generator: Generator::new(rng, seed), size: [size.height, size.width], strength }))
}

fn values(field: &'static str, tensor: Option<&Tensor>, shape: &[usize]) -> Result<Option<Vec<f32>>, Status> {
    let Some(tensor) = tensor else { return Ok(None) };
    let values = || -> Result<Vec<f32>, TensorError> {
        TensorView::new(tensor, field)?.expect_dtype(Dtype::F32)?.expect_shape(shape)?.to_f32()
    };
    values().map(Some).map_err(|error| refusal::tensor(&error))
}

/// The noise of a seed, from the request's initial draw on. Draws that others made of the same seed are passed over.
pub(crate) struct SeedNoise {
    generator: Generator,
    /// The posterior of the picture that the request begins from came before the initial draw.
    before_first: bool,
    /// The posterior of a masked picture came after it.
    after_first: bool,
    /// What the initial draw is turned towards.
    variation: Option<Towards>,
}

/// Another seed's noise, some of the way.
struct Towards {
    generator: Generator,
    /// Height and width of the latents.
    size: [usize; 2],
    strength: f64,
}

impl SeedNoise {
    fn new(rng: Rng, seed: u64) -> Self {
        Self { generator: Generator::new(rng, seed), before_first: false, after_first: false, variation: None }
    }

    /// Makes the next draw by `draw`, and passes over what stands around the first.
    fn next(&mut self, len: usize, draw: impl FnOnce(&mut Generator)) {
        if std::mem::take(&mut self.before_first) {
            self.generator.skip(len);
        }
        draw(&mut self.generator);
        if std::mem::take(&mut self.after_first) {
            self.generator.skip(len);
        }
    }
}

impl NoiseSource for SeedNoise {
    fn fill(&mut self, out: &mut [f32]) {
        let variation = self.variation.take();
        self.next(out.len(), |generator| generator.fill(out));
        if let Some(Towards { mut generator, size, strength }) = variation {
            vary(out, &generator.randn(out.len()), size, strength);
        }
    }

    fn skip(&mut self, len: usize) {
        self.variation = None;
        self.next(len, |generator| generator.skip(len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_draw_alone_is_turned() {
        let towards = || Towards { generator: Generator::new(Rng::Cuda, 9), size: [5, 4], strength: 0.5 };
        let source = || SeedNoise { before_first: true, variation: Some(towards()), ..SeedNoise::new(Rng::Cuda, 3) };
        let mut all = Generator::new(Rng::Cuda, 3);
        let [_, mut initial, later]: [Vec<f32>; 3] = std::array::from_fn(|_| all.randn(20));
        vary(&mut initial, &Generator::new(Rng::Cuda, 9).randn(20), [5, 4], 0.5);
        let (mut noise, mut resumed) = (source(), source());
        let mut out = vec![0.0; 20];
        noise.fill(&mut out);
        assert_eq!(out, initial);
        noise.fill(&mut out);
        assert_eq!(out, later);
        resumed.skip(20);
        resumed.fill(&mut out);
        assert_eq!(out, later);
    }

    #[test]
    fn draws_that_were_made_elsewhere_are_passed_over() {
        let mut all = Generator::new(Rng::Cpu, 3);
        let draws: [Vec<f32>; 5] = std::array::from_fn(|_| all.randn(20));
        for (before_first, after_first, expected) in
            [(false, false, [0, 1, 2]), (true, false, [1, 2, 3]), (false, true, [0, 2, 3]), (true, true, [1, 3, 4])]
        {
            for skipped in 0..3 {
                let mut noise = SeedNoise { before_first, after_first, ..SeedNoise::new(Rng::Cpu, 3) };
                (0..skipped).for_each(|_| noise.skip(20));
                let mut out = vec![0.0; 20];
                noise.fill(&mut out);
                assert_eq!(out, draws[expected[skipped]]);
            }
        }
    }
}
