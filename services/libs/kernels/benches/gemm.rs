//! Linear layers of the UNet (two pictures of 64×64 latents), of the text encoder and of the time embedding.
#![allow(missing_docs)]
mod measure;

use darkroom_kernels::{Epilogue, Isa, PackedWeights, Precision, gemm};
use measure::{Activations, Table, best_seconds, everywhere, noise};

const SHAPES: [[usize; 3]; 12] = [
    [4096, 320, 320],
    [8192, 320, 320],
    [8192, 1280, 320],
    [8192, 320, 2560],
    [4096, 2560, 1280],
    [2048, 640, 640],
    [2048, 640, 5120],
    [512, 1280, 1280],
    [512, 5120, 1280],
    [154, 768, 3072],
    [128, 1280, 1280],
    [2, 1280, 1280],
];

fn main() {
    everywhere(|isa, precision| {
        let table = Table::new(isa, precision);
        for shape in SHAPES {
            row(&table, isa, precision, precision, shape);
        }
        if precision == Precision::Bf16 {
            row(&table, isa, precision, Precision::F32, [8192, 320, 320]);
        }
    });
}

fn row(table: &Table, isa: Isa, precision: Precision, kept: Precision, [m, k, n]: [usize; 3]) {
    let input = Activations::noise(m * k, kept);
    let mut out = Activations::noise(m * n, kept);
    let weights = PackedWeights::linear(isa, precision, &noise(n * k), n, k);
    let bias = noise(n);
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let seconds = best_seconds(|| gemm(input.matrix(m, k), &weights, &epilogue, &mut out.matrix_mut(m, n)));
    let name = format!("{m} × {k} → {n}{}", if kept == precision { "" } else { ", activations in f32" });
    table.row(&name, 2.0 * (m * k * n) as f64, seconds);
}
