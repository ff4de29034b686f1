//! Models of other families, and configurations that no v1 model has: each is refused by name.

use std::fs;

use darkroom_models::LoadError;
use darkroom_models::compute::ComputeOptions;
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::stage::load_unet;
use serde_json::{Value, json};

use super::builder::{self, Pickle, Tensor, tower};
use super::{pocket_copy, refusal, resolve, set};

/// Why the pocket model is refused once a field of one of its files is changed.
fn refusal_of(file: &str, field: &str, value: Value) -> String {
    let folder = pocket_copy();
    set(&folder.path().join(file), field, value);
    let source = resolve(folder.path());
    let outcome = source.and_then(|source| source.defaults().and(source.latent_rgb()).map(drop));
    outcome.err().unwrap_or_else(|| panic!("{file} with another {field} is refused")).to_string()
}

#[test]
fn single_files_of_other_families() {
    for (name, message) in [
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "a Stable Diffusion XL model"),
        ("model.diffusion_model.label_emb.0.0.bias", "a model with class embeddings, such as Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.bias", "a Stable Diffusion 2 model"),
        ("model.diffusion_model.joint_blocks.0.x", "a Stable Diffusion 3 model"),
        ("double_blocks.0.x", "a Flux model"),
        ("control_model.input_hint_block.0.bias", "a ControlNet"),
        ("lora_unet_down_blocks_0.lora_up.weight", "a LoRA, which changes a model and is none itself"),
        ("v_pred", "a model that predicts v"),
    ] {
        let mut tensors = tower();
        tensors.push((name, Tensor::rows("0", 3)));
        let found = refusal("other.ckpt", &builder::archive(&Pickle::new().checkpoint(&tensors)));
        assert!(found.contains("other.ckpt is not supported: ") && found.contains(message), "{found}");
    }
}

#[test]
fn folders_of_other_families() {
    for (file, field, value, message) in [
        (
            "model_index.json",
            "_class_name",
            json!("StableDiffusionXLPipeline"),
            "is not supported: a StableDiffusionXLPipeline",
        ),
        (
            "model_index.json",
            "text_encoder_2",
            json!(["transformers", "CLIPTextModelWithProjection"]),
            "Stable Diffusion XL",
        ),
        (
            "unet/config.json",
            "use_linear_projection",
            json!(true),
            "a UNet of Stable Diffusion 2 (use_linear_projection is true)",
        ),
        ("unet/config.json", "addition_embed_type", json!("text_time"), "a UNet of Stable Diffusion XL"),
        ("unet/config.json", "class_embed_type", json!("timestep"), "a UNet with class embeddings"),
        ("unet/config.json", "transformer_layers_per_block", json!([1, 2, 10]), "several transformer layers a block"),
        ("unet/config.json", "act_fn", json!("mish"), "another activation (act_fn is \"mish\")"),
        ("unet/config.json", "only_cross_attention", json!([false, true, false]), "a UNet without self-attention"),
        ("unet/config.json", "_class_name", json!("UNet2DModel"), "another network than UNet2DConditionModel"),
        ("unet/config.json", "time_embedding_dim", json!(256), "another time embedding"),
        ("vae/config.json", "_class_name", json!("AutoencoderTiny"), "another network than AutoencoderKL"),
        ("vae/config.json", "use_quant_conv", json!(false), "an autoencoder without quant_conv"),
        ("vae/config.json", "shift_factor", json!(0.1), "an autoencoder with shifted latents"),
        ("text_encoder/config.json", "hidden_act", json!("gelu"), "such as that of Stable Diffusion 2"),
        ("text_encoder/config.json", "model_type", json!("t5"), "another text encoder than CLIP"),
        (
            "scheduler/scheduler_config.json",
            "prediction_type",
            json!("v_prediction"),
            "a model that predicts v, such as Stable Diffusion 2",
        ),
        ("scheduler/scheduler_config.json", "trained_betas", json!([0.1]), "a noise schedule of its own"),
    ] {
        let found = refusal_of(file, field, value);
        assert!(found.contains(file) && found.contains("is not supported") && found.contains(message), "{found}");
    }
}

#[test]
fn implausible_values_name_file_field_value_and_range() {
    for (file, field, value, message) in [
        ("unet/config.json", "layers_per_block", json!(0), "layers_per_block is 0; expected a whole number, 1 to 16"),
        (
            "unet/config.json",
            "layers_per_block",
            json!([1, 2, 1]),
            "layers_per_block is [1,2,1]; expected the same number for every block",
        ),
        (
            "unet/config.json",
            "block_out_channels",
            json!([64, 96, 1e12 as u64]),
            "block_out_channels is 1000000000000; expected a whole number, 1 to 8192",
        ),
        ("unet/config.json", "block_out_channels", json!([]), "expected a list of 1 to 16 whole numbers"),
        (
            "unet/config.json",
            "block_out_channels",
            json!([64, 96, 100]),
            "block_out_channels is 100; expected multiples of the 8 groups",
        ),
        (
            "unet/config.json",
            "attention_head_dim",
            json!(3),
            "block_out_channels is 64; expected multiples of the 3 attention heads",
        ),
        (
            "unet/config.json",
            "attention_head_dim",
            json!([2, 2]),
            "attention_head_dim is [2,2]; expected one number or a list of 3",
        ),
        (
            "unet/config.json",
            "down_block_types",
            json!(["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"]),
            "expected a list of 3 names, each one of CrossAttnDownBlock2D, DownBlock2D",
        ),
        (
            "unet/config.json",
            "out_channels",
            json!(8),
            "in_channels is 4; expected 8, as out_channels, or 17 for inpainting",
        ),
        ("unet/config.json", "norm_eps", json!("tiny"), "norm_eps is \"tiny\"; expected a number"),
        ("unet/config.json", "sample_size", json!(-1), "sample_size is -1; expected a whole number, 1 to 256"),
        (
            "unet/config.json",
            "cross_attention_dim",
            json!(64),
            "cross_attention_dim is 64; expected 96, the hidden_size of its text encoder",
        ),
        (
            "vae/config.json",
            "norm_num_groups",
            json!(5),
            "block_out_channels is 16; expected multiples of the 5 groups",
        ),
        ("vae/config.json", "scaling_factor", json!(0), "scaling_factor is 0; expected a number, 0.000001 to 1000000"),
        (
            "vae/config.json",
            "latent_channels",
            json!(16),
            "out_channels is 4; expected 16, the latent_channels of its autoencoder",
        ),
        (
            "text_encoder/config.json",
            "num_attention_heads",
            json!(7),
            "hidden_size is 96; expected a multiple of the 7 attention heads",
        ),
        (
            "text_encoder/config.json",
            "num_hidden_layers",
            json!(1000),
            "num_hidden_layers is 1000; expected a whole number, 1 to 64",
        ),
        ("scheduler/scheduler_config.json", "beta_schedule", json!("cosine"), "beta_schedule is \"cosine\"; expected"),
        ("defaults.json", "width", json!(100), "width is 100; expected a multiple of 8"),
        ("defaults.json", "sampler", json!("dpm_fast"), "sampler is \"dpm_fast\"; expected"),
        ("defaults.json", "guidance", json!(2), "guidance is 2; expected one of the fields guidance_scale"),
        ("latent_rgb.json", "weights", json!([[1, 2, 3]]), "weights is [[1,2,3]]; expected 4 lists of three numbers"),
    ] {
        let found = refusal_of(file, field, value);
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn a_configuration_that_contradicts_its_weights() {
    for (field, value, message) in [
        ("layers_per_block", json!(2), "tensor down_blocks.0.resnets.1.norm1.weight is missing from"),
        ("block_out_channels", json!([64, 96, 96]), "its configuration expects [96"),
    ] {
        let folder = pocket_copy();
        set(&folder.path().join("unet/config.json"), field, value);
        let error = load_unet(&resolve(folder.path()).unwrap(), &ComputeOptions::default()).err().unwrap();
        assert!(matches!(error, LoadError::MissingTensor { .. } | LoadError::WrongShape { .. }), "{error}");
        assert!(error.to_string().contains(message) && error.to_string().contains("unet/"), "{error}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let nowhere = ModelSource::resolve(Some("/nowhere/at/all"), SourceOptions::default()).err().unwrap();
    assert_eq!(
        nowhere.to_string(),
        "no model at /nowhere/at/all: give a diffusers folder, a .safetensors or .ckpt file, or \"pocket\""
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(resolve(empty.path()).err().unwrap().to_string().ends_with(" has no model_index.json"));
    let folder = pocket_copy();
    fs::remove_file(folder.path().join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    let message = resolve(folder.path()).unwrap().vae().err().unwrap().to_string();
    assert!(message.contains("holds no weights in vae: expected diffusion_pytorch_model.safetensors"), "{message}");
    fs::write(folder.path().join("unet/config.json"), "{ nonsense").unwrap();
    let message = resolve(folder.path()).err().unwrap().to_string();
    assert!(message.contains("unet/config.json is malformed: not JSON"), "{message}");
}
