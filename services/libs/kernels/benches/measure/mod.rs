//! Timing for the benches: the best of several runs, as GFLOP/s beside the measured peak.
#![allow(dead_code, unreachable_pub)] // each bench uses some of it

use darkroom_kernels::{Isa, Matrix, MatrixMut, Precision, Values, peak_flops};
use half::bf16;
use std::time::{Duration, Instant};

/// How long one row of a table may take.
const BUDGET: Duration = Duration::from_millis(400);

/// Seconds of the fastest of at least three runs.
pub fn best_seconds(mut run: impl FnMut()) -> f64 {
    run();
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    for round in 0.. {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        if round >= 2 && begin.elapsed() > BUDGET {
            break;
        }
    }
    best
}

/// Prints a table of rates against the peak of one precision on the current pool.
pub struct Table {
    peak: f64,
}

impl Table {
    pub fn new(isa: Isa, precision: Precision) -> Table {
        let peak = peak_flops(isa, precision, Duration::from_millis(100));
        let threads = rayon::current_num_threads();
        println!("{precision:?} on {isa}, {threads} threads: peak {:.0} GFLOP/s", peak / 1e9);
        Table { peak }
    }

    pub fn row(&self, name: &str, flops: f64, seconds: f64) {
        let rate = flops / seconds;
        println!("  {name:<44} {:9.3} ms {:8.1} GFLOP/s {:5.1} %", seconds * 1e3, rate / 1e9, rate / self.peak * 100.0);
    }
}

/// Runs `bench` on one thread and on all, in both precisions.
pub fn everywhere(bench: impl Fn(Isa, Precision) + Sync) {
    let isa = match Isa::from_env() {
        Ok(isa) => isa,
        Err(error) => return eprintln!("{error}"),
    };
    for threads in [1, rayon::current_num_threads()] {
        if let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
            pool.install(|| [Precision::F32, Precision::Bf16].into_iter().for_each(|precision| bench(isa, precision)));
        }
    }
}

/// Activations as a model of `precision` keeps them.
pub struct Activations {
    long: Vec<f32>,
    short: Vec<bf16>,
    precision: Precision,
}

impl Activations {
    pub fn noise(len: usize, precision: Precision) -> Activations {
        let long = noise(len);
        let short = long.iter().map(|&value| bf16::from_f32(value)).collect();
        Activations { long, short, precision }
    }

    pub fn values(&self) -> Values<'_> {
        match self.precision {
            Precision::F32 => (&self.long).into(),
            Precision::Bf16 => (&self.short).into(),
        }
    }

    pub fn matrix(&self, rows: usize, cols: usize) -> Matrix<'_> {
        Matrix::new(self.values(), rows, cols)
    }

    pub fn matrix_mut(&mut self, rows: usize, cols: usize) -> MatrixMut<'_> {
        match self.precision {
            Precision::F32 => MatrixMut::new(&mut self.long, rows, cols),
            Precision::Bf16 => MatrixMut::new(&mut self.short, rows, cols),
        }
    }
}

/// Values in -1..1, the same each time.
pub fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2.0_f32.powi(31)
    };
    (0..len).map(|_| next()).collect()
}
