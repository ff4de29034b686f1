//! A safetensors file of any bytes: its header is believed in nothing, and what it opens as has the shapes that it says.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use darkroom_models::fuzzing::{FILE, NamedTensor, single_file, tensors};
use fuzzing::{pickle, rewrite};
use libfuzzer_sys::fuzz_target;

const FORMATS: [(&str, usize); 8] =
    [("F32", 4), ("F16", 2), ("BF16", 2), ("F64", 8), ("I64", 8), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1)];
/// Of a file that is built here.
const MOST_BYTES: usize = 1 << 16;

/// A file whose ranges are sound but for what `off` changes.
#[derive(Debug, Arbitrary)]
struct Built {
    tensors: Vec<(u8, u8, Vec<u16>)>,
    names: Vec<String>,
    off: Option<(u8, u64)>,
}

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 3) {
        // A whole file.
        Some((0, file)) => check(file),
        // A header, and as many bytes behind it as its first two say.
        Some((1, rest)) => {
            if let Some((data, header)) = rest.split_first_chunk() {
                check(&file(header, u16::from_le_bytes(*data).into()));
            }
        }
        Some((_, rest)) => drop(Built::arbitrary(&mut Unstructured::new(rest)).map(|built| check(&built.file()))),
        None => {}
    }
});

fn file(header: &[u8], data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![1; data]].concat()
}

impl Built {
    fn file(self) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut end = 0;
        for (index, (name, format, shape)) in self.tensors.iter().take(24).enumerate() {
            let name = match pickle::NAMES.get(usize::from(*name)) {
                Some(known) => (*known).to_owned(),
                None => self.names.get(index).cloned().unwrap_or_else(|| format!("tensor {index}")),
            };
            let (format, size) = FORMATS[usize::from(*format) % FORMATS.len()];
            let mut shape: Vec<u64> = shape.iter().take(9).map(|size| u64::from(*size)).collect();
            let bytes = shape.iter().fold(size as u64, |bytes, size| bytes.saturating_mul(*size));
            let mut range = [end as u64, (end as u64).saturating_add(bytes)];
            if range[1] > MOST_BYTES as u64 {
                break;
            }
            end = range[1] as usize;
            if let Some((at, wrong)) = self.off.filter(|(at, _)| usize::from(at / 8) == index) {
                let mut numbers = range.iter_mut().chain(&mut shape);
                if let Some(number) = numbers.nth(usize::from(at % 8)) {
                    *number = wrong;
                }
            }
            let name = serde_json::Value::String(name);
            entries.push(format!("{name}:{{\"dtype\":\"{format}\",\"shape\":{shape:?},\"data_offsets\":{range:?}}}"));
        }
        file(format!("{{{}}}", entries.join(",")).as_bytes(), end)
    }
}

fn check(file: &[u8]) {
    match tensors(file) {
        Ok(tensors) => check_tensors(file, tensors),
        Err(error) => fuzzing::check_message(FILE, &error.to_string()),
    }
    // The sizes that the shapes imply: of a model, or of none.
    match single_file(file) {
        Ok(model) => {
            let clip = model.text_encoder_config().map(|config| {
                assert_eq!((config.hidden_size % 64, config.num_attention_heads * 64), (0, config.hidden_size));
                assert!((3..=1024).contains(&config.max_position_embeddings));
            });
            let unet = model.unet_config().map(|config| {
                assert!((1..=16).contains(&config.block_out_channels.len()));
                assert!(config.block_out_channels.iter().all(|channels| (1..=8192).contains(channels)));
                assert!(config.in_channels == config.out_channels || config.inpainting());
            });
            let vae = model.vae_config().map(|config| assert!(config.factor() <= 32));
            for error in [clip.err(), unet.err(), vae.err()].into_iter().flatten() {
                fuzzing::check_message(FILE, &error.to_string());
            }
            if let Ok(defaults) = model.defaults() {
                assert!((64..=2048).contains(&defaults.width) && defaults.width == defaults.height);
            }
        }
        Err(error) => fuzzing::check_message(FILE, &error.to_string()),
    }
}

/// They tile the file behind its header, and are the same after another writing.
fn check_tensors(file: &[u8], mut tensors: Vec<NamedTensor>) {
    let header = u64::from_le_bytes(*file.first_chunk().expect("a length")) as usize;
    let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    assert_eq!(8 + header + total, file.len());
    let Some(rewritten) = rewrite::as_safetensors(&tensors) else { return };
    let mut again = read_again(&rewritten);
    for list in [&mut tensors, &mut again] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    assert_eq!(again, tensors);
}

fn read_again(file: &[u8]) -> Vec<NamedTensor> {
    tensors(file).unwrap_or_else(|error| panic!("a file that was written from what was read: {error}"))
}
