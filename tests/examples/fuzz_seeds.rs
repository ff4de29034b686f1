//! Writes the fuzz targets' first inputs: messages and files, small and mostly sound. The first byte is the way in that a target gives it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use darkroom_proto::v1::{Checkpoint, DenoiseRequest, GenerateRequest, OutputFormat, Priority, StateTensor, Tensor};
use darkroom_samplers::Plan;
use prost::Message;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use testkit::formats::{CheckpointExtras, Precision, Saving};
use testkit::seeded::{Configs, Part, SeededTensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Writes seeds.
#[derive(Parser)]
struct Arguments {
    /// The folder of the corpora.
    #[arg(default_value = "tests/fuzz/corpus")]
    to: PathBuf,
}

struct Corpora(PathBuf);

impl Corpora {
    /// An input of `target`: which way in it takes, and the bytes.
    fn seed(&self, target: &str, name: &str, way: u8, bytes: &[u8]) -> Result<()> {
        self.plain(target, name, &[&[way], bytes].concat())
    }

    fn plain(&self, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), bytes)?)
    }
}

fn main() -> Result<()> {
    let corpora = Corpora(Arguments::parse().to);
    messages(&corpora)?;
    denoise_requests(&corpora)?;
    prompts(&corpora)?;
    pictures(&corpora)?;
    models(&corpora)?;
    loras(&corpora)?;
    settings(&corpora)
}

fn messages(corpora: &Corpora) -> Result<()> {
    for (name, dtype, shape, bytes) in [
        ("f32", 1, vec![1, 2, 2], 16),
        ("f16", 2, vec![3], 6),
        ("bf16", 3, vec![2, 1], 4),
        ("u8", 4, vec![2, 2, 3], 12),
        ("short", 1, vec![2, 2], 15),
        ("empty", 1, vec![0, 2], 0),
        ("many", 4, vec![1; 9], 1),
        ("unknown", 9, vec![1], 1),
    ] {
        let tensor = Tensor { dtype, shape, data: vec![0x3c; bytes].into() };
        corpora.seed("tensor", name, 0, &tensor.encode_to_vec())?;
    }
    let all = GenerateRequest {
        request_id: "mine-1".into(),
        prompt: "a red circle, 猫".into(),
        negative_prompt: "blur".into(),
        width: Some(512),
        height: Some(64),
        num_images: Some(4),
        seed: Some(u64::MAX),
        sampler: "ddim".into(),
        num_inference_steps: Some(50),
        guidance_scale: Some(1.0),
        eta: Some(0.5),
        clip_skip: Some(1),
        preview_every: 5,
        output_format: OutputFormat::Latents.into(),
        priority: Priority::High.into(),
        ..Default::default()
    };
    let least = GenerateRequest { prompt: "x".into(), ..Default::default() };
    for (name, request) in [("all", &all), ("least", &least)] {
        corpora.seed("request", name, 0, &request.encode_to_vec())?;
    }
    for header in ["1S", "250m", "99999999H", "1n", "123456789S"] {
        corpora.seed("metadata", &format!("timeout-{header}"), 0, header.as_bytes())?;
    }
    let clients = "[[client]]\nname = \"a\"\nkey = \"k\"\nweight = 2.5\nmax_priority = \"low\"\n";
    for (name, way, headers) in [("key", 1, "k\n-\n"), ("bearer", 1, "-\nBearer k\n"), ("file", 2, "k\n-\n")] {
        corpora.seed("metadata", name, way, format!("{headers}{clients}").as_bytes())?;
    }
    Ok(())
}

fn denoise_requests(corpora: &Corpora) -> Result<()> {
    let embeds = || Some(Tensor::from_f32(&[2, 4], &[0.5; 8]));
    let start = DenoiseRequest {
        latent_height: 2,
        latent_width: 1,
        prompt_embeds: embeds(),
        negative_prompt_embeds: embeds(),
        sampler: "euler_a".into(),
        num_inference_steps: 3,
        guidance_scale: 7.5,
        seed: 7,
        ..Default::default()
    };
    let state = |name: &str| StateTensor { name: name.into(), tensor: Some(Tensor::from_f32(&[4, 2, 1], &[0.25; 8])) };
    let checkpoint = |evaluation, states: &[&str], noise_draws| {
        let states = states.iter().map(|name| state(name)).collect();
        Some(Checkpoint { plan_version: Plan::VERSION, evaluation, states, noise_draws })
    };
    let unguided = DenoiseRequest { negative_prompt_embeds: None, guidance_scale: 1.0, ..start.clone() };
    let resumed = DenoiseRequest { resume_from: checkpoint(1, &["latents"], 1), ..start.clone() };
    let eta = DenoiseRequest { sampler: "ddim".into(), eta: 1.0, ..resumed.clone() };
    let history = DenoiseRequest {
        sampler: "dpmpp_2m".into(),
        resume_from: checkpoint(2, &["latents", "state_1"], 0),
        ..start.clone()
    };
    for (name, request) in
        [("start", start), ("unguided", unguided), ("resumed", resumed), ("eta", eta), ("history", history)]
    {
        corpora.seed("denoise_request", name, 0, &request.encode_to_vec())?;
    }
    corpora.plain("checkpoint", "zeros", &[0; 24])
}

/// One small file of each format.
fn pictures(corpora: &Corpora) -> Result<()> {
    let picture = image::RgbaImage::from_fn(24, 16, |x, y| image::Rgba([x as u8 * 9, y as u8 * 9, 128, 200]));
    let picture = image::DynamicImage::from(picture);
    for (way, format) in [(0, image::ImageFormat::Png), (1, image::ImageFormat::Jpeg), (2, image::ImageFormat::WebP)] {
        let mut file = std::io::Cursor::new(Vec::new());
        let opaque = format == image::ImageFormat::Jpeg;
        let picture = if opaque { picture.to_rgb8().into() } else { picture.clone() };
        picture.write_to(&mut file, format)?;
        corpora.seed("picture", &format!("{format:?}").to_lowercase(), way, &file.into_inner())?;
    }
    let mut deep = std::io::Cursor::new(Vec::new());
    picture.to_luma16().write_to(&mut deep, image::ImageFormat::Png)?;
    corpora.seed("picture", "png-16", 0, &deep.into_inner())
}

fn prompts(corpora: &Corpora) -> Result<()> {
    for (name, text) in [
        ("plain", "a red circle on a white background"),
        ("signs", "it's 3,000 <|endoftext|> (masterpiece:1.2) \u{1f600}"),
        ("marks", "e\u{301}\u{327} \u{130}stanbul \u{3a3}\u{fb03} \u{feff}\u{a0}\r\n\u{2028}"),
        ("long", &"naïve 猫 ".repeat(30)),
    ] {
        corpora.plain("prompt", name, text.as_bytes())?;
    }
    Ok(())
}

/// Few tensors, from whose names and shapes the sizes of three networks follow.
fn small_model() -> Vec<SeededTensor> {
    let tensor = |(part, name, shape): (Part, &str, &[usize])| SeededTensor {
        part,
        name: name.into(),
        shape: shape.into(),
        data: vec![0.5; shape.iter().product()],
    };
    let tensors: [(Part, &str, &[usize]); 13] = [
        (Part::TextEncoder, "embeddings.token_embedding.weight", &[3, 64]),
        (Part::TextEncoder, "embeddings.position_embedding.weight", &[3, 1]),
        (Part::TextEncoder, "encoder.layers.0.mlp.fc1.weight", &[2, 1]),
        (Part::Unet, "conv_in.weight", &[1, 4]),
        (Part::Unet, "conv_out.weight", &[4, 1]),
        (Part::Unet, "down_blocks.0.resnets.0.conv1.weight", &[32]),
        (Part::Unet, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[1, 64]),
        (Part::Unet, "up_blocks.0.attentions.0.norm.weight", &[1]),
        (Part::Vae, "encoder.down_blocks.0.resnets.0.conv1.weight", &[32]),
        (Part::Vae, "encoder.conv_in.weight", &[1, 3]),
        (Part::Vae, "encoder.mid_block.attentions.0.to_q.weight", &[2, 2]),
        (Part::Vae, "decoder.conv_in.weight", &[1, 4]),
        (Part::Vae, "decoder.conv_out.weight", &[3, 1]),
    ];
    tensors.into_iter().map(tensor).collect()
}

fn models(corpora: &Corpora) -> Result<()> {
    let (configs, tensors) = (Configs::tiny()?, small_model());
    let to = tempfile::tempdir()?;
    let path = to.path().join("model");
    for precision in [Precision::F32, Precision::F16] {
        let saving = Saving { configs: &configs, tensors: &tensors, precision };
        saving.single_safetensors(&path)?;
        let file = fs::read(&path)?;
        let (header, data) = header_and_data(&file)?;
        corpora.seed("safetensors", &format!("whole-{precision:?}"), 0, &file)?;
        corpora.seed("safetensors", &format!("header-{precision:?}"), 1, &[&data.to_le_bytes(), header].concat())?;

        let lightning = precision == Precision::F16;
        saving.checkpoint(&path, &CheckpointExtras { ema: lightning.then_some(&tensors), lightning })?;
        corpora.seed("ckpt", &format!("pickle-{precision:?}"), 1, &entry(&path, "archive/data.pkl")?)?;
        if !lightning {
            corpora.seed("ckpt", "deflated", 0, &deflated(&path)?)?;
        }
    }
    let first = &tensors[..3];
    Saving { configs: &configs, tensors: first, precision: Precision::F16 }.checkpoint(&path, &Default::default())?;
    corpora.seed("ckpt", "stored", 0, &fs::read(&path)?)
}

/// A LoRA of two layers in each layout, and one of a convolution.
fn loras(corpora: &Corpora) -> Result<()> {
    const UNET: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
    const TEXT: &str = "text_encoder.text_model.encoder.layers.0.self_attn";
    let joined = |name: &str| name.replace('.', "_");
    let factors = |down: String, up: String, width| [(down, vec![1, width]), (up, vec![width, 1])];
    let kohya = |layer: String, width| {
        let alpha = (format!("{layer}.alpha"), vec![]);
        let both = factors(format!("{layer}.lora_down.weight"), format!("{layer}.lora_up.weight"), width);
        both.into_iter().chain([alpha]).collect::<Vec<_>>()
    };
    let text = joined(TEXT).replace("text_encoder_", "lora_te_");
    let files = [
        (
            "kohya",
            [kohya(format!("lora_unet_{}_to_q", joined(UNET)), 64), kohya(format!("{text}_q_proj"), 96)].concat(),
        ),
        (
            "peft",
            [
                factors(format!("unet.{UNET}.to_k.lora_A.weight"), format!("unet.{UNET}.to_k.lora_B.weight"), 64),
                factors(format!("{TEXT}.k_proj.lora_A.weight"), format!("{TEXT}.k_proj.lora_B.weight"), 96),
            ]
            .concat(),
        ),
        (
            "before",
            [
                factors(
                    format!("unet.{UNET}.processor.to_out_lora.down.weight"),
                    format!("unet.{UNET}.processor.to_out_lora.up.weight"),
                    64,
                ),
                factors(format!("{TEXT}.to_out_lora.down.weight"), format!("{TEXT}.to_out_lora.up.weight"), 96),
            ]
            .concat(),
        ),
        (
            "convolution",
            vec![
                ("lora_unet_conv_in.lora_down.weight".to_owned(), vec![2, 4, 3, 3]),
                ("lora_unet_conv_in.lora_up.weight".to_owned(), vec![64, 2, 1, 1]),
            ],
        ),
    ];
    for (name, tensors) in files {
        let data: Vec<Vec<u8>> =
            tensors.iter().map(|(_, shape)| vec![0x2c; 2 * shape.iter().product::<usize>()]).collect();
        let views = tensors
            .iter()
            .zip(&data)
            .map(|((name, shape), data)| Ok((name.as_str(), TensorView::new(Dtype::F16, shape.clone(), data)?)));
        let views = views.collect::<Result<Vec<_>>>()?;
        let config = r#"{"unet.r": 1, "unet.lora_alpha": 0.5, "text_encoder.alpha_pattern": {"k_proj": 2}}"#;
        let config = (name == "peft").then(|| HashMap::from([("lora_adapter_metadata".to_owned(), config.to_owned())]));
        let file = safetensors::serialize(views, config)?;
        let (header, data) = header_and_data(&file)?;
        corpora.seed("lora", &format!("whole-{name}"), 0, &file)?;
        corpora.seed("lora", &format!("header-{name}"), 1, &[&data.to_le_bytes(), header].concat())?;
    }
    Ok(())
}

/// A safetensors file's header, and how many bytes follow it.
fn header_and_data(file: &[u8]) -> Result<(&[u8], u16)> {
    let (length, rest) = file.split_first_chunk().context("a file without a header")?;
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length))?);
    Ok((header, data.len().try_into()?))
}

fn entry(archive: &Path, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZipArchive::new(File::open(archive)?)?.by_name(name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same archive, compressed: its zeros take little.
fn deflated(archive: &Path) -> Result<Vec<u8>> {
    let mut archive = ZipArchive::new(File::open(archive)?)?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let (name, mut bytes) = (entry.name()?.into_owned(), Vec::new());
        entry.read_to_end(&mut bytes)?;
        zip.start_file(name, options)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

fn settings(corpora: &Corpora) -> Result<()> {
    let pocket = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/models/pocket");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/models/v1");
    for (way, file) in [
        (0, pocket.join("text_encoder/config.json")),
        (1, pocket.join("unet/config.json")),
        (2, pocket.join("vae/config.json")),
        (3, pocket.join("defaults.json")),
        (4, pocket.join("scheduler/scheduler_config.json")),
        (5, pocket.join("model_index.json")),
        (6, pocket.join("latent_rgb.json")),
        (0, golden.join("text_encoder.json")),
        (1, golden.join("unet.json")),
        (2, golden.join("vae.json")),
        (4, golden.join("scheduler.json")),
        (8, golden.join("../../safety/tiny.json")),
    ] {
        let model = file.strip_prefix(&pocket).map_or("v1", |_| "pocket");
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        corpora.seed("settings", &format!("{way}-{model}-{name}"), way, &fs::read(&file)?)?;
    }
    let tokenizer = r#"{"model":{"vocab":{"<|startoftext|>":0,"<|endoftext|>":1,"l":2,"o":3,"o</w>":4,"lo":5,"lo</w>":6,
        "a</w>":7,"r":8,"e":9,"d</w>":10,"re":11},"merges":["l o","l o</w>",["r","e"]]}}"#;
    corpora.seed("settings", "7-tokenizer", 7, tokenizer.as_bytes())?;
    let preprocessor = r#"{"crop_size":{"height":224,"width":224},"do_resize":true,"image_mean":[0.5,0.25,0],"image_std":[1,0.5,0.25],
        "resample":3,"rescale_factor":0.004,"size":{"shortest_edge":224}}"#;
    corpora.seed("settings", "9-preprocessor", 9, preprocessor.as_bytes())
}
