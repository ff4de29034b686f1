//! A torch checkpoint of any bytes: the zip archive, the pickle in it, and the tensors that it names.
#![no_main]

use arbitrary::Unstructured;
use darkroom_models::LoadError;
use darkroom_models::fuzzing::{FILE, NamedTensor, single_file, tensors};
use fuzzing::{pickle, rewrite, torch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 3) {
        // A whole file.
        Some((0, file)) => check(file),
        // A pickle, in an archive that is sound.
        Some((1, pickle)) => check(&torch::archive(pickle).expect("an archive in memory")),
        // A pickle that nearly makes sense.
        Some((_, rest)) => {
            if let Ok(pickle) = pickle::pickle(&mut Unstructured::new(rest)) {
                check(&torch::archive(&pickle).expect("an archive in memory"));
            }
        }
        None => {}
    }
});

fn check(file: &[u8]) {
    match tensors(file) {
        Ok(tensors) => check_tensors(file, tensors),
        Err(error) => fuzzing::check_message(FILE, &error.to_string()),
    }
    match single_file(file) {
        Ok(model) => {
            let parts = [
                model.text_encoder().map(|(_, weights)| weights),
                model.unet().map(|(_, weights)| weights),
                model.vae().map(|(_, weights)| weights),
            ];
            for weights in parts {
                match weights {
                    Ok(weights) => {
                        weights.shapes().for_each(|(name, shape)| check_tensor(&weights, name, shape));
                        assert_eq!(weights.revision().len(), 64);
                    }
                    Err(error) => fuzzing::check_message(FILE, &error.to_string()),
                }
            }
        }
        Err(error) => fuzzing::check_message(FILE, &error.to_string()),
    }
}

fn check_tensor(weights: &darkroom_models::weights::Weights, name: &str, shape: &[usize]) {
    match weights.tensor(name, shape) {
        Ok(tensor) => {
            let elements = shape.iter().product::<usize>();
            assert_eq!((tensor.to_f32().len(), tensor.bytes.len()), (elements, elements * tensor.dtype.size()));
        }
        Err(LoadError::Unsupported { .. }) => {}
        Err(error) => panic!("a tensor of its own shape: {error}"),
    }
}

/// They take no more than the file could hold, and are the same from a file of another format.
fn check_tensors(file: &[u8], mut tensors: Vec<NamedTensor>) {
    let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    assert!(total <= 4 * file.len() + (16 << 20), "{total} bytes of a file of {}", file.len());
    for tensor in &tensors {
        let bytes = tensor.shape.iter().product::<usize>() * tensor.dtype.size();
        assert_eq!(tensor.bytes.len(), bytes, "{} {:?}", tensor.dtype, tensor.shape);
    }
    let Some(rewritten) = rewrite::as_safetensors(&tensors) else { return };
    // The last of equal names holds, as in a dictionary.
    tensors.reverse();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors.dedup_by(|later, first| later.name == first.name);
    let mut again = read_again(&rewritten);
    again.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(again, tensors);
}

fn read_again(file: &[u8]) -> Vec<NamedTensor> {
    tensors(file).unwrap_or_else(|error| panic!("a file that was written from what was read: {error}"))
}
