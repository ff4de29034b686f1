//! The machine's peak for every instruction set, in both precisions, on one thread and on all.
#![allow(missing_docs)]
use darkroom_kernels::{Isa, Precision, peak_flops};
use std::time::Duration;

fn main() {
    for threads in [1, rayon::current_num_threads()] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let Ok(pool) = pool else { return };
        for isa in Isa::available() {
            let peak = |precision| pool.install(|| peak_flops(isa, precision, Duration::from_millis(100))) / 1e9;
            println!(
                "{threads} threads  {:<11} f32 {:7.1}  bf16 {:7.1} GFLOP/s",
                isa.to_string(),
                peak(Precision::F32),
                peak(Precision::Bf16)
            );
        }
    }
}
