//! Pictures from a formula in whole numbers, the same in `tests/golden/make_watermark.py`: a golden file needs to hold only what became
//! of them.

/// The kinds of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// Slow gradients, another in each colour.
    Waves,
    /// The same with a little noise.
    Grainy,
    /// Noise in every value.
    Noise,
    /// Small blocks of the colour cube's corners.
    Blocks,
    /// One colour.
    Flat,
}

impl Drawing {
    /// The kind that the scripts call so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "waves" => Self::Waves,
            "grainy" => Self::Grainy,
            "noise" => Self::Noise,
            "blocks" => Self::Blocks,
            "flat" => Self::Flat,
            _ => return None,
        })
    }

    /// RGB, row-major `[height, width, 3]`.
    #[must_use]
    pub fn picture(self, width: u32, height: u32) -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [0, 1, 2].map(|c| self.value(y, x, c) as u8))).collect()
    }

    fn value(self, y: u32, x: u32, c: u32) -> u32 {
        let wave = |t: u32| (t % 510).abs_diff(255);
        let slow = [wave(2 * x + y), wave(x + 3 * y + 90), wave(x / 2 + y + 200)][c as usize];
        match self {
            Self::Waves => slow,
            Self::Grainy => (slow + (noise(y, x, c) >> 28)).saturating_sub(8).min(255),
            Self::Noise => noise(y, x, c) >> 24,
            Self::Blocks => (((x / 13 + 3 * (y / 7)) % 8) >> c & 1) * 255,
            Self::Flat => [200, 90, 40][c as usize],
        }
    }
}

/// 32 well mixed bits for each channel of each pixel.
fn noise(y: u32, x: u32, c: u32) -> u32 {
    let factors = [(y, 73_856_093u32), (x, 19_349_663), (c, 83_492_791)];
    let z = factors.into_iter().fold(0u32, |sum, (at, factor)| sum.wrapping_add(at.wrapping_mul(factor)));
    let z = (z ^ (z >> 16)).wrapping_mul(0x045d_9f3b);
    let z = (z ^ (z >> 15)).wrapping_mul(0x2c1b_3c6d);
    z ^ (z >> 16)
}
