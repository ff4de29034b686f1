//! One bit a block: which coefficient holds it, how it is written, and what is read from it.

use super::haar::CELLS;

/// The step that coefficients are moved within: `scales[1]` of the package.
const STEP: f64 = 36.0;

/// Coefficients of a block's low band.
type Low = [f64; CELLS * CELLS];

/// The bit that block `number` of a picture holds: the text's bits from the first byte's highest on, again and again.
pub(super) fn of(text: &[u8], number: usize) -> bool {
    let bit = number % (text.len() * 8);
    text[bit / 8] >> (7 - bit % 8) & 1 == 1
}

/// Moves the largest coefficient to a quarter (0) or three quarters (1) of its step, its sign kept.
pub(super) fn write(low: &mut Low, bit: bool) {
    let value = &mut low[largest(low)];
    let moved = ((value.abs() / STEP).floor() + 0.25 + if bit { 0.5 } else { 0.0 }) * STEP;
    *value = if *value >= 0.0 { moved } else { -moved };
}

/// In which half of its step the largest coefficient lies.
pub(super) fn read(low: &Low) -> bool {
    low[largest(low)].abs() % STEP > 0.5 * STEP
}

/// The place of the largest by magnitude, the first of equals; never the very first, which the package leaves out as if it were a mean.
fn largest(low: &Low) -> usize {
    (2..low.len()).fold(1, |best, at| if low[at].abs() > low[best].abs() { at } else { best })
}

/// What all blocks say of each bit.
pub(super) struct Tally {
    /// Ones and blocks.
    said: Vec<[u32; 2]>,
}

impl Tally {
    /// For a text of `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        Self { said: vec![[0; 2]; length * 8] }
    }

    /// Block `number` says `bit`.
    pub(super) fn add(&mut self, number: usize, bit: bool) {
        let bits = self.said.len();
        let [ones, blocks] = &mut self.said[number % bits];
        *ones += u32::from(bit);
        *blocks += 1;
    }

    /// The text: a bit is one where its mean times 255 is above 127, and zero where no block said anything.
    pub(super) fn text(&self) -> Vec<u8> {
        let one = |[ones, blocks]: &[u32; 2]| u64::from(*ones) * 255 > 127 * u64::from(*blocks);
        self.said.chunks(8).map(|byte| byte.iter().fold(0, |byte, said| byte << 1 | u8::from(one(said)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coefficient_keeps_its_sign_and_goes_to_its_quarter() {
        for (value, bit, moved) in [(100.0, false, 81.0), (100.0, true, 99.0), (-35.0, false, -9.0), (0.0, true, 27.0)]
        {
            let mut low = [0.0; 16];
            low[0] = 999.0;
            low[5] = value;
            write(&mut low, bit);
            let at = if value == 0.0 { 1 } else { 5 };
            assert_eq!((low[0], low[at], read(&low)), (999.0, moved, bit));
        }
    }

    #[test]
    fn the_first_of_equals_holds_the_bit() {
        let mut low = [0.0; 16];
        (low[3], low[9]) = (-50.0, 50.0);
        assert_eq!(largest(&low), 3);
    }

    #[test]
    fn bits_come_highest_first_and_repeat() {
        let bits: Vec<bool> = (0..10).map(|number| of(b"\xa1", number)).collect();
        assert_eq!(bits, [true, false, true, false, false, false, false, true, true, false]);
    }

    #[test]
    fn half_of_the_blocks_are_a_majority_as_the_package_counts() {
        let mut tally = Tally::new(1);
        for (number, bit) in [(0, true), (8, false), (1, true), (9, false), (17, false)] {
            tally.add(number, bit);
        }
        // 0.5 · 255 is above 127.
        assert_eq!(tally.text(), [0b1000_0000]);
    }
}
