//! Compiles the contract with protox, so that a build needs no system `protoc`.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 10] = [
    "darkroom/v1/tensor.proto",
    "darkroom/v1/stage.proto",
    "darkroom/v1/safety.proto",
    "darkroom/v1/noise.proto",
    "darkroom/v1/prompt.proto",
    "darkroom/v1/lora.proto",
    "darkroom/v1/text_encoder.proto",
    "darkroom/v1/denoiser.proto",
    "darkroom/v1/vae.proto",
    "darkroom/v1/image_generation.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=darkroom");
    let descriptors = protox::compile(FILES, ["."])?;

    // Server reflection serves this file, comments included.
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("darkroom.v1.bin");
    std::fs::write(out, prost::Message::encode_to_vec(&descriptors))?;

    tonic_prost_build::configure()
        // Tensors and pictures are passed on without copying.
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
