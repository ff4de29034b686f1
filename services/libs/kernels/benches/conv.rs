//! Convolutions of the UNet (batch 2) and of the autoencoder (batch 1).
#![allow(missing_docs)]
mod measure;

use darkroom_kernels::{Epilogue, Image, PackedWeights, Window, conv2d};
use measure::{Activations, Table, best_seconds, everywhere, noise};

/// Name, window, batch, side, channels, outputs.
const LAYERS: [(&str, Window, usize, usize, usize, usize); 11] = [
    ("3×3", Window::SAME, 2, 64, 320, 320),
    ("3×3", Window::SAME, 2, 64, 960, 320),
    ("3×3", Window::SAME, 2, 32, 640, 640),
    ("3×3", Window::SAME, 2, 32, 1920, 640),
    ("3×3", Window::SAME, 2, 16, 1280, 1280),
    ("3×3", Window::SAME, 2, 8, 2560, 1280),
    ("3×3 stride 2", Window::HALF, 2, 64, 320, 320),
    ("1×1", Window::POINT, 2, 64, 640, 320),
    ("3×3 of 2× nearest", Window { upsample: Some([64, 64]), ..Window::SAME }, 2, 32, 640, 640),
    ("3×3", Window::SAME, 1, 256, 256, 256),
    ("3×3", Window::SAME, 1, 256, 128, 3),
];

fn main() {
    everywhere(|isa, precision| {
        let table = Table::new(isa, precision);
        for (name, window, batch, side, channels, n) in LAYERS {
            let [rows, cols] = window.output([side, side]);
            let m = batch * rows * cols;
            let taps = window.kernel * window.kernel;
            let input = Activations::noise(batch * side * side * channels, precision);
            let mut out = Activations::noise(m * n, precision);
            let weights =
                PackedWeights::conv(isa, precision, &noise(n * channels * taps), n, &[channels], window.kernel);
            let bias = noise(n);
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            let image = Image::new(input.values(), [batch, side, side, channels]);
            let seconds = best_seconds(|| conv2d(&[image], &weights, window, &epilogue, &mut out.matrix_mut(m, n)));
            let name = format!("{name} of {batch}×{side}×{side}×{channels} → {n}");
            table.row(&name, 2.0 * (m * channels * taps * n) as f64, seconds);
        }
    });
}
