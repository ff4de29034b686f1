//! Configurations as diffusers and transformers write them: the other way round of what the neighbouring files read.

use darkroom_samplers::{BetaSchedule, PredictionType, ScheduleConfig, TimestepSpacing};
use serde_json::{Map, Value, json};

use super::{ClipConfig, UNetConfig, VaeConfig};

impl UNetConfig {
    /// `unet/config.json`.
    pub(crate) fn to_json(&self) -> Value {
        let kinds = |attends: &[bool], names: [&str; 2]| -> Vec<String> {
            attends.iter().map(|attends| names[usize::from(!attends)].to_owned()).collect()
        };
        json!({
            "_class_name": "UNet2DConditionModel",
            "act_fn": "silu",
            // diffusers' configurations of v1 call the number of heads so.
            "attention_head_dim": one_or_all(&self.num_attention_heads),
            "block_out_channels": self.block_out_channels,
            "center_input_sample": false,
            "cross_attention_dim": self.cross_attention_dim,
            "down_block_types": kinds(&self.down_block_attention, super::unet::DOWN),
            "downsample_padding": 1,
            "flip_sin_to_cos": self.flip_sin_to_cos,
            "freq_shift": number(self.freq_shift),
            "in_channels": self.in_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_scale_factor": 1,
            "norm_eps": self.norm_eps,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": self.out_channels,
            "sample_size": self.sample_size,
            "time_cond_proj_dim": self.time_cond_proj_dim,
            "up_block_types": kinds(&self.up_block_attention, super::unet::UP),
        })
    }
}

impl VaeConfig {
    /// `vae/config.json`.
    pub(crate) fn to_json(&self) -> Value {
        let blocks = self.block_out_channels.len();
        json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": self.block_out_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; blocks],
            "in_channels": self.in_channels,
            "latent_channels": self.latent_channels,
            "layers_per_block": self.layers_per_block,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": self.out_channels,
            "sample_size": self.sample_size,
            "scaling_factor": self.scaling_factor,
            "up_block_types": vec!["UpDecoderBlock2D"; blocks],
        })
    }
}

impl ClipConfig {
    /// `text_encoder/config.json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "architectures": ["CLIPTextModel"],
            "attention_dropout": 0.0,
            // As in the configurations of v1, whose 2 stands for the highest id; nothing here depends on any of them.
            "bos_token_id": 0,
            "dropout": 0.0,
            "eos_token_id": 2,
            "hidden_act": "quick_gelu",
            "hidden_size": self.hidden_size,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "clip_text_model",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "pad_token_id": 1,
            "projection_dim": self.hidden_size,
            "vocab_size": self.vocab_size,
        })
    }
}

/// `scheduler/scheduler_config.json`, for the sampler of Stable Diffusion's pipelines.
pub(crate) fn schedule_json(schedule: &ScheduleConfig) -> Value {
    let mut json = json!({
        "_class_name": "PNDMScheduler",
        "beta_end": schedule.beta_end,
        "beta_schedule": match schedule.beta_schedule {
            BetaSchedule::Linear => "linear",
            BetaSchedule::ScaledLinear => "scaled_linear",
        },
        "beta_start": schedule.beta_start,
        "num_train_timesteps": schedule.num_train_timesteps,
        "prediction_type": match schedule.prediction_type {
            PredictionType::Epsilon => "epsilon",
        },
        "set_alpha_to_one": schedule.set_alpha_to_one.unwrap_or(false),
        "skip_prk_steps": true,
        "steps_offset": schedule.steps_offset.unwrap_or(1),
        "trained_betas": null,
    });
    // What it does not say each sampler decides by itself.
    if let Some(spacing) = schedule.timestep_spacing {
        let spacing = match spacing {
            TimestepSpacing::Leading => "leading",
            TimestepSpacing::Trailing => "trailing",
            TimestepSpacing::Linspace => "linspace",
        };
        json["timestep_spacing"] = spacing.into();
    }
    json
}

/// `model_index.json`: the parts of a folder and the classes that read them.
pub(crate) fn pipeline_json(inpainting: bool) -> Value {
    let parts = [
        ("scheduler", "diffusers", "PNDMScheduler"),
        ("text_encoder", "transformers", "CLIPTextModel"),
        ("tokenizer", "transformers", "CLIPTokenizer"),
        ("unet", "diffusers", "UNet2DConditionModel"),
        ("vae", "diffusers", "AutoencoderKL"),
    ];
    let class = if inpainting { "StableDiffusionInpaintPipeline" } else { "StableDiffusionPipeline" };
    let mut index = Map::new();
    index.insert("_class_name".into(), class.into());
    for absent in ["feature_extractor", "safety_checker"] {
        index.insert(absent.into(), json!([null, null]));
    }
    index.insert("requires_safety_checker".into(), false.into());
    index.extend(parts.map(|(part, library, class)| (part.to_owned(), json!([library, class]))));
    Value::Object(index)
}

/// One number where all are equal.
fn one_or_all(counts: &[usize]) -> Value {
    match counts {
        [first, rest @ ..] if rest.iter().all(|count| count == first) => (*first).into(),
        _ => counts.into(),
    }
}

/// A whole number without a point, as diffusers' own files have it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { (value as i64).into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::super::{check_pipeline, read_schedule, reference_schedule};
    use super::*;

    fn bytes(json: &Value) -> Vec<u8> {
        json.to_string().into_bytes()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let unet = UNetConfig {
            sample_size: 96,
            in_channels: 9,
            out_channels: 4,
            block_out_channels: vec![32, 64, 64],
            layers_per_block: 3,
            down_block_attention: vec![true, false, true],
            up_block_attention: vec![false, true, true],
            cross_attention_dim: 96,
            num_attention_heads: vec![8, 4, 2],
            norm_num_groups: 16,
            norm_eps: 1e-6,
            flip_sin_to_cos: false,
            freq_shift: 0.5,
            time_cond_proj_dim: Some(256),
        };
        let json = unet.to_json();
        assert_eq!(UNetConfig::from_json("u", &bytes(&json)).unwrap(), unet);
        let v1 = UNetConfig { num_attention_heads: vec![8; 3], freq_shift: 0.0, ..unet };
        assert_eq!((&v1.to_json()["attention_head_dim"], &v1.to_json()["freq_shift"]), (&8.into(), &0.into()));
        assert_eq!(UNetConfig::from_json("u", &bytes(&v1.to_json())).unwrap(), v1);

        let vae = VaeConfig {
            sample_size: 256,
            in_channels: 3,
            out_channels: 3,
            latent_channels: 8,
            block_out_channels: vec![32, 64],
            layers_per_block: 2,
            norm_num_groups: 8,
            scaling_factor: 0.5,
        };
        assert_eq!(VaeConfig::from_json("v", &bytes(&vae.to_json())).unwrap(), vae);

        let clip = ClipConfig {
            vocab_size: 1000,
            hidden_size: 96,
            intermediate_size: 100,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            max_position_embeddings: 50,
            layer_norm_eps: 1e-4,
        };
        assert_eq!(ClipConfig::from_json("c", &bytes(&clip.to_json())).unwrap(), clip);
    }

    #[test]
    fn a_schedule_is_read_as_it_was() {
        let reference = read_schedule("s", &bytes(&schedule_json(&reference_schedule()))).unwrap();
        let said = ScheduleConfig { steps_offset: Some(1), set_alpha_to_one: Some(false), ..reference_schedule() };
        assert_eq!(reference, said);
        let other = ScheduleConfig {
            num_train_timesteps: 500,
            beta_start: 0.001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            timestep_spacing: Some(TimestepSpacing::Trailing),
            steps_offset: Some(0),
            set_alpha_to_one: Some(true),
            prediction_type: PredictionType::Epsilon,
        };
        assert_eq!(read_schedule("s", &bytes(&schedule_json(&other))).unwrap(), other);
    }

    #[test]
    fn both_pipelines_are_taken() {
        for inpainting in [false, true] {
            check_pipeline("p", &bytes(&pipeline_json(inpainting))).unwrap();
        }
    }
}
