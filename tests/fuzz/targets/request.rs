//! A `GenerateRequest` of any bytes: a job whose every field is in its range, or a refusal by name.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use darkroom_orchestrator::fuzzing::{Door, Taken};
use darkroom_proto::v1::{
    DenoiserInfo, GenerateRequest, GenerationDefaults, Hires, Lora, LoraFile, TextEncoderInfo, VaeInfo,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const SAMPLERS: [&str; 3] = ["plms", "ddim", "euler"];
const FIELDS: [&str; 28] = [
    "model",
    "width",
    "height",
    "num_images",
    "sampler",
    "num_inference_steps",
    "guidance_scale",
    "eta",
    "clip_skip",
    "output_format",
    "priority",
    "prompt",
    "negative_prompt",
    "request_id",
    "init_image",
    "mask_image",
    "strength",
    "strength_way",
    "sigma_spacing",
    "hires",
    "hires.width",
    "hires.height",
    "hires.strength",
    "rng",
    "variation_strength",
    "variation_seed",
    "loras",
    "prompt_syntax",
];
const LORAS: [&str; 2] = ["flat", "ink v2"];
const MAX_IMAGES: u32 = 4;
const MAX_SIDE: u32 = 1024;
const MAX_CHARACTERS: usize = 8192;

static DOOR: LazyLock<Door> = LazyLock::new(|| {
    let loras = LORAS.map(|name| LoraFile { name: name.into(), digest: name.into() });
    let text = TextEncoderInfo {
        hidden_size: 768,
        max_tokens: 77,
        num_layers: 12,
        loras: loras.to_vec(),
        ..Default::default()
    };
    let denoiser = DenoiserInfo {
        latent_channels: 4,
        cross_attention_dim: 768,
        samplers: SAMPLERS.map(String::from).to_vec(),
        defaults: Some(GenerationDefaults {
            width: 512,
            height: 512,
            guidance_scale: 7.5,
            num_inference_steps: 50,
            sampler: "plms".into(),
        }),
        max_latent_side: 256,
        latent_multiple: 1,
        loras: loras.to_vec(),
        ..Default::default()
    };
    let vae = VaeInfo { latent_channels: 4, factor: 8, scaling_factor: 0.18215, max_side: 2048, ..Default::default() };
    Door::new(text, denoiser, vae, MAX_IMAGES, MAX_SIDE).expect("v1's stages fit")
});

/// Fields that are mostly in their ranges.
#[derive(Debug, Arbitrary)]
struct Built {
    request_id: String,
    model: Option<String>,
    prompt: String,
    /// Repeats the prompt so often, to reach its bound.
    repeat: u16,
    negative_prompt: String,
    size: Option<(u16, u16)>,
    num_images: Option<u8>,
    seed: Option<u64>,
    sampler: Result<u8, String>,
    num_inference_steps: Option<u16>,
    guidance_scale: Option<f64>,
    eta: Option<f64>,
    clip_skip: Option<u8>,
    preview_every: u32,
    output_format: u8,
    priority: u8,
    init: Option<Init>,
    hires: Option<(u8, u8, Option<f64>)>,
    rng: u8,
    prompt_syntax: u8,
    variation: (Option<f64>, Option<u64>),
    loras: Vec<(Result<bool, String>, Option<f64>)>,
}

/// What it begins from.
#[derive(Debug, Arbitrary)]
struct Init {
    /// A picture of so many times eight pixels, or whatever bytes.
    picture: Result<(u8, u8), Vec<u8>>,
    mask: Option<Result<(u8, u8), Vec<u8>>>,
    strength: Option<f64>,
    way: u8,
}

fn file(picture: Result<(u8, u8), Vec<u8>>) -> Vec<u8> {
    let (width, height) = match picture {
        Ok(size) => (u32::from(size.0 % 32) * 8 + 1, u32::from(size.1 % 32) * 8 + 1),
        Err(bytes) => return bytes,
    };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("a head");
    writer.write_image_data(&vec![7; (width * height) as usize]).expect("a picture");
    writer.finish().expect("a file");
    file
}

impl Built {
    fn request(mut self) -> GenerateRequest {
        let repeat = usize::from(self.repeat % 2048).min(40_000 / self.prompt.len().max(1));
        GenerateRequest {
            request_id: self.request_id,
            model: self.model.unwrap_or_default(),
            prompt: self.prompt.repeat(repeat.max(1)),
            negative_prompt: self.negative_prompt,
            width: self.size.map(|(width, _)| u32::from(width % 160) * 8),
            height: self.size.map(|(_, height)| u32::from(height % 160) * 8),
            num_images: self.num_images.map(|count| u32::from(count % 6)),
            seed: self.seed,
            sampler: self.sampler.map_or_else(|name| name, |index| SAMPLERS[usize::from(index) % 3].into()),
            num_inference_steps: self.num_inference_steps.map(|steps| u32::from(steps % 1002)),
            guidance_scale: self.guidance_scale,
            eta: self.eta,
            clip_skip: self.clip_skip.map(|skip| u32::from(skip % 13)),
            preview_every: self.preview_every,
            output_format: i32::from(self.output_format % 6),
            priority: i32::from(self.priority % 5),
            strength: self.init.as_ref().and_then(|init| init.strength),
            sigma_spacing: String::new(),
            hires: self.hires.map(|(width, height, strength)| Hires {
                width: u32::from(width % 160) * 8,
                height: u32::from(height % 160) * 8,
                strength,
            }),
            rng: i32::from(self.rng % 4),
            prompt_syntax: i32::from(self.prompt_syntax % 4),
            variation_strength: self.variation.0,
            variation_seed: self.variation.1,
            loras: self
                .loras
                .into_iter()
                .map(|(name, weight)| Lora {
                    name: name.map_or_else(|name| name, |index| LORAS[usize::from(index)].into()),
                    weight,
                })
                .collect(),
            strength_way: self.init.as_ref().map_or(0, |init| i32::from(init.way % 4)),
            mask_image: self.init.as_mut().and_then(|init| init.mask.take()).map(file).unwrap_or_default().into(),
            init_image: self.init.take().map(|init| file(init.picture)).unwrap_or_default().into(),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 2) {
        Some((0, message)) => drop(GenerateRequest::decode(message).map(check)),
        Some((_, rest)) => drop(Built::arbitrary(&mut Unstructured::new(rest)).map(|built| check(built.request()))),
        None => {}
    }
});

fn check(request: GenerateRequest) {
    let taken = match DOOR.check(request.clone()) {
        Ok(taken) => taken,
        Err((field, message)) => {
            assert!(FIELDS.contains(&field), "{field} is no field");
            return fuzzing::check_message("", &message);
        }
    };
    let full = taken.in_full();
    check_ranges(&full);
    check_kept(&request, &full);
    // What was taken once is taken again, as it was.
    let again = DOOR.check(full.clone()).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(again.in_full(), full);
    check_settings(&taken, &full);
}

fn check_ranges(full: &GenerateRequest) {
    let side = |side: Option<u32>| side.is_some_and(|side| (64..=MAX_SIDE).contains(&side) && side.is_multiple_of(8));
    assert!(side(full.width) && side(full.height), "{full:?}");
    assert!(full.num_images.is_some_and(|count| (1..=MAX_IMAGES).contains(&count)), "{full:?}");
    assert!(full.num_inference_steps.is_some_and(|steps| (1..=1000).contains(&steps)), "{full:?}");
    assert!(full.guidance_scale.is_some_and(|scale| (0.0..=50.0).contains(&scale)), "{full:?}");
    let eta = full.eta.expect("eta is filled in");
    assert!((0.0..=1.0).contains(&eta) && (eta == 0.0 || full.sampler == "ddim"), "{full:?}");
    let from_picture = !full.init_image.is_empty();
    assert_eq!(full.strength.is_some(), from_picture, "{full:?}");
    assert!(full.strength.is_none_or(|strength| strength > 0.0 && strength <= 1.0), "{full:?}");
    assert!(from_picture || full.mask_image.is_empty() && full.strength_way == 0, "{full:?}");
    assert_eq!(full.variation_strength.is_some(), full.variation_seed.is_some(), "{full:?}");
    assert!(full.variation_strength.is_none_or(|strength| strength > 0.0 && strength <= 1.0), "{full:?}");
    if let Some(Hires { width, height, strength }) = full.hires {
        assert!(side(Some(width)) && side(Some(height)) && full.width <= Some(width) && full.height <= Some(height));
        assert!(!from_picture && strength.is_some_and(|strength| strength > 0.0 && strength <= 1.0), "{full:?}");
    }
    assert!(full.loras.len() <= LORAS.len(), "{full:?}");
    for Lora { name, weight } in &full.loras {
        assert!(
            LORAS.contains(&name.as_str()) && weight.is_some_and(|weight| (-10.0..=10.0).contains(&weight)),
            "{full:?}"
        );
    }
    assert!(full.clip_skip.is_some_and(|skip| skip < 12), "{full:?}");
    assert!(SAMPLERS.contains(&full.sampler.as_str()), "{full:?}");
    let characters = full.prompt.chars().count();
    assert!((1..=MAX_CHARACTERS).contains(&characters) && !full.prompt.trim().is_empty(), "{full:?}");
    assert!(full.negative_prompt.chars().count() <= MAX_CHARACTERS, "{full:?}");
    assert!((1..=128).contains(&full.request_id.len()), "{full:?}");
    assert!(full.request_id.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{full:?}");
}

/// Nothing that was said is changed.
fn check_kept(said: &GenerateRequest, full: &GenerateRequest) {
    fn kept<T: PartialEq>(said: Option<T>, full: Option<T>) -> bool {
        said.is_none() || said == full
    }
    assert!(kept(said.width, full.width) && kept(said.height, full.height));
    assert!(kept(said.num_images, full.num_images) && kept(said.seed, full.seed));
    assert!(kept(said.num_inference_steps, full.num_inference_steps) && kept(said.clip_skip, full.clip_skip));
    assert!(kept(said.guidance_scale, full.guidance_scale) && kept(said.eta, full.eta));
    assert_eq!((&said.prompt, &said.negative_prompt), (&full.prompt, &full.negative_prompt));
    assert!(said.request_id.is_empty() || said.request_id == full.request_id);
    assert!(said.loras.len() == full.loras.len());
    assert!(
        said.loras.iter().zip(&full.loras).all(|(said, full)| said.name == full.name && kept(said.weight, full.weight))
    );
    assert!(said.sampler.is_empty() || said.sampler == full.sampler);
    assert_eq!(said.preview_every, full.preview_every);
    assert!(kept(said.strength, full.strength) && said.strength_way == full.strength_way);
    assert!(kept(said.variation_seed, full.variation_seed) && (said.rng == 0 || said.rng == full.rng));
    assert!(kept(said.variation_strength.filter(|strength| *strength > 0.0), full.variation_strength));
    assert_eq!((&said.init_image, &said.mask_image), (&full.init_image, &full.mask_image));
}

/// The picture's file can carry the settings of every request that is taken, and gives them back.
fn check_settings(taken: &Taken, full: &GenerateRequest) {
    let settings = taken.parameters(0);
    assert!(settings.starts_with(&full.prompt));
    let file = taken.png(0).expect("settings that no picture can carry");
    let reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().expect("a PNG");
    let latin = reader.info().uncompressed_latin1_text.iter().map(|chunk| chunk.text.clone());
    let wide = reader.info().utf8_text.iter().map(|chunk| chunk.get_text().expect("UTF-8"));
    assert_eq!(latin.chain(wide).collect::<Vec<_>>(), [settings]);
}
