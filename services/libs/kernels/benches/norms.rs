//! Normalisations: bound by memory, so in GB/s of activations read once and written once.
#![allow(missing_docs)]
mod measure;

use darkroom_kernels::{GroupNorm, Image, LayerNorm, Precision, group_norm, layer_norm};
use measure::{Activations, best_seconds, everywhere, noise};

fn main() {
    everywhere(|isa, precision| {
        println!("{precision:?} on {isa}, {} threads", rayon::current_num_threads());
        let bytes = if precision == Precision::F32 { 8.0 } else { 4.0 };
        let report = |name: String, values: usize, seconds: f64| {
            println!("  {name:<44} {:9.3} ms {:8.1} GB/s", seconds * 1e3, values as f64 * bytes / seconds / 1e9);
        };
        for (batch, side, channels) in [(2, 64, 320), (2, 32, 1280), (2, 8, 2560), (1, 512, 128)] {
            let rows = batch * side * side;
            let (weight, bias) = (noise(channels), noise(channels));
            let input = Activations::noise(rows * channels, precision);
            let mut out = Activations::noise(rows * channels, precision);
            let image = Image::new(input.values(), [batch, side, side, channels]);
            let norm = GroupNorm { groups: 32, eps: 1e-5, weight: &weight, bias: &bias, silu: true };
            let seconds = best_seconds(|| group_norm(isa, &[image], &norm, &mut out.matrix_mut(rows, channels)));
            report(format!("group norm, SiLU of {batch}×{side}×{side}×{channels}"), rows * channels, seconds);
        }
        for (rows, cols) in [(8192, 320), (512, 1280), (154, 768)] {
            let (weight, bias) = (noise(cols), noise(cols));
            let input = Activations::noise(rows * cols, precision);
            let mut out = Activations::noise(rows * cols, precision);
            let norm = LayerNorm { eps: 1e-5, weight: &weight, bias: &bias };
            let seconds =
                best_seconds(|| layer_norm(isa, input.matrix(rows, cols), &norm, &mut out.matrix_mut(rows, cols)));
            report(format!("layer norm of {rows}×{cols}"), rows * cols, seconds);
        }
    });
}
