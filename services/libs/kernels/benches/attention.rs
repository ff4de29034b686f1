//! Attention of the UNet (batch 2), the autoencoder and the text encoder; packing keys and values included where they change.
#![allow(missing_docs)]
mod measure;

use darkroom_kernels::{KeyValues, Mask, attention};
use measure::{Activations, Table, best_seconds, everywhere};

/// Name, batch, queries, keys, heads, head size, mask.
const LAYERS: [(&str, usize, usize, usize, usize, usize, Mask); 8] = [
    ("self", 2, 4096, 4096, 8, 40, Mask::Full),
    ("self", 2, 1024, 1024, 8, 80, Mask::Full),
    ("self", 2, 256, 256, 8, 160, Mask::Full),
    ("cross", 2, 4096, 77, 8, 40, Mask::Full),
    ("cross", 2, 1024, 77, 8, 80, Mask::Full),
    ("cross", 2, 256, 77, 8, 160, Mask::Full),
    ("autoencoder", 1, 4096, 4096, 1, 512, Mask::Full),
    ("text", 2, 77, 77, 12, 64, Mask::Causal),
];

fn main() {
    everywhere(|isa, precision| {
        let table = Table::new(isa, precision);
        for (name, batch, queries, keys, heads, size, mask) in LAYERS {
            let width = heads * size;
            let q = Activations::noise(batch * queries * width, precision);
            let k = Activations::noise(keys * width, precision);
            let mut out = Activations::noise(batch * queries * width, precision);
            let pack = || KeyValues::new(isa, precision, k.matrix(keys, width), k.matrix(keys, width), heads);
            let kept: Vec<KeyValues> = (0..batch).map(|_| pack()).collect();
            let mut attend = |contexts: &[KeyValues]| {
                let contexts: Vec<&KeyValues> = contexts.iter().collect();
                let scale = 1.0 / (size as f32).sqrt();
                attention(
                    q.matrix(batch * queries, width),
                    &contexts,
                    scale,
                    mask,
                    &mut out.matrix_mut(batch * queries, width),
                );
            };
            let seconds = match name {
                "cross" => best_seconds(|| attend(&kept)),
                _ => best_seconds(|| attend(&(0..batch).map(|_| pack()).collect::<Vec<_>>())),
            };
            let name = format!("{name}: {batch}×{queries} queries, {keys} keys, {heads}×{size}");
            table.row(&name, 4.0 * (batch * queries * keys * width) as f64, seconds);
        }
    });
}
