//! A LoRA's file of any bytes: what is taken fits the embedded model's layers and is of finite numbers, what is not is refused by name.
#![no_main]

use std::sync::LazyLock;

use darkroom_models::fuzzing::{AdaptedLayers, FILE};
use libfuzzer_sys::fuzz_target;

static LAYERS: LazyLock<AdaptedLayers> =
    LazyLock::new(|| AdaptedLayers::pocket().expect("the embedded model's layers"));

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 2) {
        // A whole file.
        Some((0, file)) => check(file),
        // A header, and as many bytes behind it as its first two say: numbers that are small in every type.
        Some((_, rest)) => {
            if let Some((data, header)) = rest.split_first_chunk() {
                let data = vec![0x2c; u16::from_le_bytes(*data).into()];
                check(&[&(header.len() as u64).to_le_bytes()[..], header, &data].concat());
            }
        }
        None => {}
    }
});

fn check(file: &[u8]) {
    match LAYERS.read(file) {
        Ok(layers) => {
            let values: usize = layers.iter().map(|layer| layer.down.len() + layer.up.len()).sum();
            // Two bytes a value at least.
            assert!(2 * values <= file.len(), "{values} values of {} bytes", file.len());
            for layer in layers {
                assert!((1..=1024).contains(&layer.rank) && layer.scale.is_finite());
                assert_eq!(layer.down.len(), layer.rank * layer.inputs);
                assert_eq!(layer.up.len(), layer.rank * layer.outputs);
                assert!(layer.down.iter().chain(&layer.up).all(|value| value.is_finite()));
            }
        }
        Err(error) => fuzzing::check_message(FILE, &error.to_string()),
    }
}
