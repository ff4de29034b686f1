//! A model folder's JSON files of any bytes: settings within their bounds, or a refusal that names file and field.
#![no_main]

use std::fmt::Debug;

use darkroom_models::config::{ClipConfig, PreprocessorConfig, UNetConfig, VaeConfig, VisionConfig};
use darkroom_models::{LoadError, fuzzing as open};
use darkroom_samplers::NoiseSchedule;
use libfuzzer_sys::fuzz_target;

const FACTOR: usize = 8;
const CHANNELS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((way, json)) = fuzzing::way_in(input, 10) else { return };
    match way {
        0 => check(|| ClipConfig::from_json(open::FILE, json), clip),
        1 => check(|| UNetConfig::from_json(open::FILE, json), unet),
        2 => check(|| VaeConfig::from_json(open::FILE, json), vae),
        3 => check(|| open::defaults(json, 512, FACTOR), defaults),
        4 => check(|| open::schedule(json), |schedule| assert!(NoiseSchedule::new(schedule).is_ok())),
        5 => check(|| open::pipeline(json), |()| {}),
        6 => check(|| open::latent_rgb(json, CHANNELS), latent_rgb),
        7 => tokenizer(json),
        8 => check(|| VisionConfig::from_json(open::FILE, json), vision),
        _ => check(|| PreprocessorConfig::from_json(open::FILE, json), preprocessor),
    }
});

/// Reads twice: what is read must not depend on anything but the bytes.
fn check<T: Debug>(read: impl Fn() -> Result<T, LoadError>, sound: impl Fn(&T)) {
    let found = read();
    assert_eq!(format!("{found:?}"), format!("{:?}", read()));
    match found {
        Ok(found) => sound(&found),
        Err(error) => fuzzing::check_message(open::FILE, &error.to_string()),
    }
}

fn clip(config: &ClipConfig) {
    assert!(config.hidden_size.is_multiple_of(config.num_attention_heads));
    assert!((3..=1_000_000).contains(&config.vocab_size) && (1..=8192).contains(&config.hidden_size));
    assert!((1..=64).contains(&config.num_hidden_layers) && (3..=1024).contains(&config.max_position_embeddings));
    assert!(config.layer_norm_eps > 0.0 && config.layer_norm_eps <= 1.0);
}

fn unet(config: &UNetConfig) {
    let blocks = config.block_out_channels.len();
    assert!((1..=16).contains(&blocks));
    assert_eq!([config.down_block_attention.len(), config.up_block_attention.len()], [blocks; 2]);
    assert_eq!(config.num_attention_heads.len(), blocks);
    for (channels, heads) in config.block_out_channels.iter().zip(&config.num_attention_heads) {
        assert!((1..=8192).contains(channels) && channels.is_multiple_of(config.norm_num_groups));
        assert!(channels.is_multiple_of(*heads));
    }
    assert!(config.in_channels == config.out_channels || config.inpainting());
    assert!((1..=256).contains(&config.sample_size) && (1..=16).contains(&config.layers_per_block));
}

fn vae(config: &VaeConfig) {
    assert!(config.block_out_channels.iter().all(|channels| channels.is_multiple_of(config.norm_num_groups)));
    assert!(config.factor() <= 32 && (1..=64).contains(&config.latent_channels));
    assert!(config.scaling_factor > 0.0 && config.scaling_factor.is_finite());
}

fn vision(config: &VisionConfig) {
    assert!(config.hidden_size.is_multiple_of(config.num_attention_heads));
    assert!((1..=8192).contains(&config.hidden_size) && (1..=8192).contains(&config.projection_dim));
    assert!((1..=64).contains(&config.num_hidden_layers) && (2..=65_537).contains(&config.tokens()));
}

fn preprocessor(config: &PreprocessorConfig) {
    assert!(config.crop_size <= config.shortest_edge && (8..=1024).contains(&config.crop_size));
    assert!(config.mean.iter().chain(&config.std).all(|colour| (0.0..=1.0).contains(colour)));
    assert!(config.std.iter().all(|colour| *colour > 0.0) && config.rescale_factor > 0.0);
}

fn defaults(found: &darkroom_models::config::Defaults) {
    for side in [found.width, found.height] {
        assert!((64..=2048).contains(&side) && side.is_multiple_of(FACTOR));
    }
    assert!((1..=1000).contains(&found.num_inference_steps));
    assert!(found.guidance_scale.is_finite());
}

fn latent_rgb(found: &darkroom_models::source::LatentRgb) {
    assert_eq!(found.weights.len(), CHANNELS);
    assert!(found.weights.iter().chain([&found.bias]).flatten().all(|share| share.abs() <= 100.0));
}

/// A vocabulary of its own: whatever it is, prompts become as many ids as there are positions, each with a row.
fn tokenizer(json: &[u8]) {
    const LENGTH: usize = 8;
    const ROWS: usize = 100;
    match open::tokenizer(json, LENGTH, ROWS) {
        Ok(tokenizer) => {
            for text in ["", "a red circle", "it's 12 <|endoftext|> é\u{301}!", &"lo".repeat(50)] {
                let found = tokenizer.encode(text);
                assert_eq!(found.ids.len(), LENGTH);
                assert!(found.ids.iter().all(|id| (*id as usize) < ROWS), "{found:?}");
                assert!(text.ends_with(&found.dropped_text));
            }
        }
        Err(error) => fuzzing::check_message(open::FILE, &error.to_string()),
    }
}
