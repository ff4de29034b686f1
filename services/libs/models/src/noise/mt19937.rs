//! The Mersenne Twister MT19937, PyTorch's random engine on the CPU.
//!
//! Matsumoto and Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator"
//! (1998); seeded from one word as in their `init_genrand` of 2002.

/// Words of state, all replaced at once.
const N: usize = 624;
/// Distance to the word that is mixed in.
const M: usize = 397;

/// A stream of uniform 32-bit words.
#[derive(Clone)]
pub(super) struct Mt19937 {
    state: [u32; N],
    /// Words of `state` that were given out.
    used: usize,
}

impl Mt19937 {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        let mut previous = seed;
        for (i, word) in (0..).zip(&mut state) {
            if i > 0 {
                *word = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i);
            }
            previous = *word;
        }
        Self { state, used: N }
    }

    /// The next word.
    pub(super) fn next_u32(&mut self) -> u32 {
        if self.used == N {
            self.twist();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Passes over `words` of them, which costs a fraction of drawing them.
    pub(super) fn skip(&mut self, mut words: usize) {
        while words > N - self.used {
            words -= N - self.used;
            self.twist();
        }
        self.used += words;
    }

    fn twist(&mut self) {
        for i in 0..N {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (joined >> 1) ^ odd;
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_thousandth_word_is_the_published_one() {
        // ISO C++, [rand.predef]: of a default-seeded std::mt19937.
        let mut engine = Mt19937::new(5489);
        let last = (0..10_000).map(|_| engine.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn skipping_is_drawing_without_looking() {
        for words in [0, 1, 623, 624, 625, 1248, 5000] {
            let (mut drawn, mut skipped) = (Mt19937::new(7), Mt19937::new(7));
            drawn.next_u32();
            skipped.next_u32();
            for _ in 0..words {
                drawn.next_u32();
            }
            skipped.skip(words);
            assert_eq!(drawn.next_u32(), skipped.next_u32(), "{words}");
        }
    }
}
