//! A `DenoiseRequest` of any bytes: an engine's request whose parts fit each other, or a refusal by name.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use darkroom_denoiser::fuzzing::{Facts, message};
use darkroom_proto::v1::{Checkpoint, DenoiseInit, DenoiseRequest, Lora, StateTensor, Tensor, Variation};
use darkroom_samplers::{Plan, Sampler};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tonic::Code;

const WIDTH: usize = 4;
const CHANNELS: usize = 4;
const MAX_SIDE: u32 = 4;

static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts::new(WIDTH).expect("the reference's schedule"));

/// A request whose tensors have the right shapes but for what `off` changes.
#[derive(Debug, Arbitrary)]
struct Built {
    size: (u8, u8),
    tokens: u8,
    guided: bool,
    sampler: Result<u8, String>,
    steps: u8,
    guidance_scale: Result<u8, f64>,
    eta: f64,
    seed: u64,
    preview_every: u32,
    resume: Option<Resume>,
    off: Option<(u8, u32)>,
    values: Vec<f32>,
    init: Option<Init>,
    spacing: u8,
    lora: Option<(Option<String>, Option<f64>)>,
    rng: u8,
    variation: Option<(u64, f64)>,
}

/// What it begins from.
#[derive(Debug, Arbitrary)]
struct Init {
    latents: bool,
    strength: f64,
    way: u8,
    mask: Option<u8>,
    masked_latents: bool,
}

#[derive(Debug, Arbitrary)]
struct Resume {
    plan_version: Option<u32>,
    evaluation: u8,
    states: u8,
    noise_draws: u8,
    name: Option<String>,
}

impl Built {
    fn request(self) -> DenoiseRequest {
        let mut values = self.values.iter().copied().cycle();
        let mut tensor = |shape: &[usize]| {
            let count = shape.iter().product();
            let mut data: Vec<f32> = values.by_ref().take(count).collect();
            data.resize(count, 0.5);
            Tensor::from_f32(shape, &data)
        };
        let (height, width) = (u32::from(self.size.0 % 6), u32::from(self.size.1 % 6));
        let embeds = [usize::from(self.tokens % 4), WIDTH];
        let shape = [CHANNELS, height as usize, width as usize];
        let resume_from = self.resume.map(|resume| {
            let state = |index: u8| StateTensor {
                name: match (&resume.name, index) {
                    (Some(name), _) => name.clone(),
                    (None, 0) => "latents".into(),
                    (None, index) => format!("state_{index}"),
                },
                tensor: Some(tensor(&shape)),
            };
            Checkpoint {
                plan_version: resume.plan_version.unwrap_or(Plan::VERSION),
                evaluation: u32::from(resume.evaluation % 9),
                states: (0..resume.states % 8).map(state).collect(),
                noise_draws: u32::from(resume.noise_draws % 9),
            }
        });
        let mut request = DenoiseRequest {
            request_id: String::new(),
            latent_height: height,
            latent_width: width,
            prompt_embeds: Some(tensor(&embeds)),
            negative_prompt_embeds: self.guided.then(|| tensor(&embeds)),
            sampler: self
                .sampler
                .map_or_else(|name| name, |index| Sampler::ALL[usize::from(index) % Sampler::ALL.len()].name().into()),
            num_inference_steps: u32::from(self.steps % 8),
            guidance_scale: self.guidance_scale.map_or_else(|scale| scale, f64::from),
            eta: self.eta,
            seed: self.seed,
            preview_every: self.preview_every,
            resume_from,
            attempt: 0,
            rng: i32::from(self.rng % 4),
            variation: self.variation.map(|(seed, strength)| Variation { seed, strength }),
            loras: self
                .lora
                .map(|(name, weight)| Lora { name: name.unwrap_or_else(|| "flat".into()), weight })
                .into_iter()
                .collect(),
            sigma_spacing: ["", "karras", "exponential", "x"][usize::from(self.spacing % 4)].into(),
            init: self.init.map(|init| DenoiseInit {
                latents: init.latents.then(|| tensor(&shape)),
                strength: init.strength,
                way: i32::from(init.way % 4),
                mask: init
                    .mask
                    .map(|part| Tensor::from_f32(&shape[1..], &vec![f32::from(part) / 200.0; shape[1] * shape[2]])),
                masked_latents: init.masked_latents.then(|| tensor(&shape)),
            }),
        };
        if let Some((at, value)) = self.off {
            let states = request.resume_from.iter_mut().flat_map(|resume| &mut resume.states);
            let tensors = states.filter_map(|state| state.tensor.as_mut());
            let tensors = tensors.chain(&mut request.prompt_embeds).chain(&mut request.negative_prompt_embeds);
            for tensor in tensors.skip(usize::from(at / 4)).take(1) {
                match at % 4 {
                    0 => tensor.dtype = value as i32,
                    1 => tensor.shape.push(value),
                    2 => tensor.data = tensor.data.slice(..tensor.data.len().min(value as usize)),
                    _ => tensor.shape = vec![value],
                }
            }
        }
        request
    }
}

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 2) {
        Some((0, message)) => drop(DenoiseRequest::decode(message).map(|request| check(&request))),
        Some((_, rest)) => drop(Built::arbitrary(&mut Unstructured::new(rest)).map(|built| check(&built.request()))),
        None => {}
    }
});

fn check(request: &DenoiseRequest) {
    let found = match FACTS.checked(MAX_SIDE, request) {
        Ok(found) => found,
        Err(status) => {
            assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{status:?}");
            return fuzzing::check_message(": ", status.message());
        }
    };
    let side = 1..=MAX_SIDE as usize;
    assert!(side.contains(&found.size.height) && side.contains(&found.size.width));
    let elements = CHANNELS * found.size.height * found.size.width;
    assert_eq!((found.channels, found.prompt_embeds.len()), (CHANNELS, found.tokens * WIDTH));
    assert_eq!(found.plan.num_inference_steps, request.num_inference_steps as usize);
    assert_eq!(found.guidance.is_some(), request.guidance_scale != 1.0);
    if let Some(guidance) = &found.guidance {
        assert_eq!(guidance.negative_prompt_embeds.len(), found.prompt_embeds.len());
        assert!((0.0..=50.0).contains(&guidance.scale));
    }
    assert_eq!(found.adapters.len(), request.loras.len());
    assert!(found.adapters.iter().all(|lora| lora.name == "flat" && (-10.0..=10.0).contains(&lora.weight)));
    assert!((1..=found.plan.num_evaluations()).contains(&found.evaluations()));
    assert_eq!(found.resume_from.is_some(), request.resume_from.is_some());
    let Some(checkpoint) = found.resume_from else { return };
    assert_eq!(checkpoint.states.len(), found.plan.num_states);
    assert!(checkpoint.states.iter().all(|state| state.len() == elements));
    assert!(checkpoint.states.iter().flatten().all(|value| value.is_finite()));
    assert_eq!(checkpoint.bytes(), 4 * elements * found.plan.num_states);
    // What was taken once is taken again, as it was.
    let shape = [CHANNELS, found.size.height, found.size.width];
    assert_eq!(Some(message(&checkpoint, shape)), request.resume_from);
}
