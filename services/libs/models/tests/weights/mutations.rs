//! Random damage: whatever bytes change, reading ends in tensors or in an error, never in a panic.

use proptest::prelude::*;

use super::builder::{self, Pickle};
use super::{safetensors_files, text_encoder};

/// Opens a damaged file and reads all that it still offers.
fn read_everything(name: &str, bytes: &[u8]) {
    let Ok(weights) = text_encoder(name, bytes) else { return };
    for (name, shape) in weights.shapes() {
        if let Ok(tensor) = weights.tensor(name, shape) {
            assert_eq!(tensor.to_f32().len(), shape.iter().product::<usize>());
        }
    }
    assert_eq!(weights.revision().len(), 64);
    weights.finish();
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_an_archive(damage in damage()) {
        read_everything("mutant.ckpt", &damaged(builder::checkpoint(), &damage));
    }

    #[test]
    fn of_a_pickle(damage in damage()) {
        let pickle = Pickle(damaged(Pickle::new().checkpoint(&builder::tower()).0, &damage));
        read_everything("mutant.ckpt", &builder::archive(&pickle));
    }

    #[test]
    fn of_a_safetensors_header(damage in damage()) {
        let whole = safetensors_files::tower();
        let header = whole.len() - safetensors_files::DATA;
        let mutant = [damaged(whole[..header].to_vec(), &damage), whole[header..].to_vec()].concat();
        read_everything("mutant.safetensors", &mutant);
    }

    #[test]
    fn of_pure_noise_as_a_pickle(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everything("noise.ckpt", &builder::archive(&Pickle(noise)));
    }
}
