//! A diffusers folder: a file a network, and their configurations.

use std::fs;
use std::path::Path;

use safetensors::serialize_to_file;

use super::{Precision, Saving};
use crate::seeded::Part;

const MODEL_INDEX: &str = r#"{
  "_class_name": "StableDiffusionPipeline",
  "scheduler": ["diffusers", "PNDMScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderKL"]
}
"#;

pub(super) fn write(saving: &Saving<'_>, to: &Path) -> anyhow::Result<()> {
    let json = &saving.configs.json;
    for (part, stem, config) in [
        (Part::TextEncoder, "model", json.text_encoder),
        (Part::Unet, "diffusion_pytorch_model", json.unet),
        (Part::Vae, "diffusion_pytorch_model", json.vae),
    ] {
        let folder = to.join(part.folder());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("config.json"), config)?;
        let variant = if saving.precision == Precision::F16 { ".fp16" } else { "" };
        let tensors = saving.tensors.iter().filter(|tensor| tensor.part == part);
        let named = tensors.map(|tensor| (tensor.name.clone(), saving.saved(tensor)));
        serialize_to_file(named, None, &folder.join(format!("{stem}{variant}.safetensors")))?;
    }
    fs::create_dir_all(to.join("scheduler"))?;
    fs::write(to.join("scheduler/scheduler_config.json"), json.scheduler)?;
    fs::create_dir_all(to.join("tokenizer"))?;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/libs/models/assets/clip-tokenizer");
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(assets.join(file), to.join("tokenizer").join(file))?;
    }
    Ok(fs::write(to.join("model_index.json"), MODEL_INDEX)?)
}
