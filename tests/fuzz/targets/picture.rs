//! Any bytes as the picture that a request begins from: they are refused with the field and why, or become a picture of the size that was
//! asked for, and a mask of it.
#![no_main]

use darkroom_orchestrator::fuzzing::picture;
use libfuzzer_sys::fuzz_target;

const SIZES: [[u32; 2]; 3] = [[64, 64], [72, 128], [256, 64]];

fuzz_target!(|input: &[u8]| {
    let [way, file @ ..] = input else { return };
    let [width, height] = SIZES[usize::from(*way) % SIZES.len()];
    match picture(file.to_vec(), [width, height]) {
        Ok(found) => {
            let pixels = (width * height) as usize;
            assert_eq!((found.rgb, found.mask), (3 * pixels, pixels));
            assert!(found.size.iter().all(|side| (1..=8192).contains(side)), "{:?}", found.size);
        }
        Err((field, message)) => {
            assert_eq!(field, "init_image");
            fuzzing::check_message("", &message);
        }
    }
});
