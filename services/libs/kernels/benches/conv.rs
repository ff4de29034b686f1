//! Convolutions of the UNet (batch 2) and of the autoencoder (batch 1), 3×3 ones also by Winograd's transforms.
#![allow(missing_docs)]
mod measure;

use darkroom_kernels::{
    Epilogue, Image, Isa, PackedWeights, Precision, Tiles, Window, WinogradWeights, conv2d, winograd,
};
use measure::{Activations, Table, best_seconds, everywhere, noise};

/// Name, window, batch, side, channels, outputs.
const LAYERS: [(&str, Window, usize, usize, usize, usize); 3] = [
    ("3×3 stride 2", Window::HALF, 2, 64, 320, 320),
    ("1×1", Window::POINT, 2, 64, 640, 320),
    ("3×3", Window::SAME, 1, 256, 128, 3),
];

/// 3×3 layers of stride 1: batch, side, channels, outputs.
const SAME: [[usize; 4]; 21] = [
    [2, 64, 320, 320],
    [2, 64, 640, 320],
    [2, 64, 960, 320],
    [2, 32, 320, 640],
    [2, 32, 640, 640],
    [2, 32, 960, 640],
    [2, 32, 1280, 640],
    [2, 32, 1920, 640],
    [2, 16, 640, 1280],
    [2, 16, 1280, 1280],
    [2, 16, 1920, 1280],
    [2, 16, 2560, 1280],
    [2, 8, 1280, 1280],
    [2, 8, 2560, 1280],
    [1, 64, 512, 512],
    [1, 128, 512, 512],
    [1, 256, 512, 256],
    [1, 256, 256, 256],
    [1, 512, 256, 128],
    [1, 512, 128, 128],
    [2, 64, 4, 320],
];

/// The same over the 2× nearest enlargement of the image.
const DOUBLED: [[usize; 4]; 6] = [
    [2, 8, 1280, 1280],
    [2, 16, 1280, 1280],
    [2, 32, 640, 640],
    [1, 64, 512, 512],
    [1, 128, 512, 512],
    [1, 256, 256, 256],
];

fn main() {
    everywhere(|isa, precision| {
        let table = Table::new(isa, precision);
        for (name, window, batch, side, channels, n) in LAYERS {
            direct(&table, isa, precision, name, window, [batch, side, channels, n]);
        }
        for shape in SAME {
            both(&table, isa, precision, "3×3", shape, 1);
        }
        for shape in DOUBLED {
            both(&table, isa, precision, "3×3 of 2× nearest", shape, 2);
        }
    });
}

/// A layer both ways. Winograd's rate counts the direct algorithm's operations, so that rates and times have the same ratio.
fn both(table: &Table, isa: Isa, precision: Precision, name: &str, shape: [usize; 4], each: usize) {
    let [batch, side, channels, n] = shape;
    let upsample = (each > 1).then_some([each * side; 2]);
    let before = direct(table, isa, precision, name, Window { upsample, ..Window::SAME }, shape);
    let m = batch * each * side * each * side;
    let input = Activations::noise(batch * side * side * channels, precision);
    let mut out = Activations::noise(m * n, precision);
    let tiles = match precision {
        _ if each > 1 => Tiles::Doubled,
        Precision::F32 => Tiles::Four,
        Precision::Bf16 => Tiles::Two,
    };
    let weights = WinogradWeights::new(isa, precision, &noise(n * channels * 9), n, &[channels], tiles);
    let bias = noise(n);
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let image = Image::new(input.values(), [batch, side, side, channels]);
    let seconds = best_seconds(|| winograd(&[image], &weights, [each * side; 2], &epilogue, &mut out.matrix_mut(m, n)));
    let name = format!("  by Winograd, {:.2} times as fast", before / seconds);
    table.row(&name, 2.0 * (m * channels * 9 * n) as f64, seconds);
}

/// Seconds of a layer.
fn direct(
    table: &Table,
    isa: Isa,
    precision: Precision,
    name: &str,
    window: Window,
    [batch, side, channels, n]: [usize; 4],
) -> f64 {
    let [rows, cols] = window.output([side, side]);
    let m = batch * rows * cols;
    let taps = window.kernel * window.kernel;
    let input = Activations::noise(batch * side * side * channels, precision);
    let mut out = Activations::noise(m * n, precision);
    let weights = PackedWeights::conv(isa, precision, &noise(n * channels * taps), n, &[channels], window.kernel);
    let bias = noise(n);
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let image = Image::new(input.values(), [batch, side, side, channels]);
    let seconds = best_seconds(|| conv2d(&[image], &weights, window, &epilogue, &mut out.matrix_mut(m, n)));
    let name = format!("{name} of {batch}×{side}×{side}×{channels} → {n}");
    table.row(&name, 2.0 * (m * channels * taps * n) as f64, seconds);
    seconds
}
