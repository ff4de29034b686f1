//! Latents that say what they were made of: the request, and every evaluation in its order.

use std::time::Duration;

use darkroom_proto::v1::{Dtype, Tensor};

/// Values of 16 bits that hold the digest, at the front of a tensor: each is exact as an f32.
const PARTS: usize = 4;

/// Everything that was done so far, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

/// What a worker's clock says that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Seconds in the worker's queue.
    pub queued: f32,
    /// Seconds in its batch.
    pub computed: f32,
}

impl Digest {
    /// Of a text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        text.bytes().fold(Self(0), |digest, byte| digest.and(u64::from(byte)))
    }

    /// With one more number.
    #[must_use]
    pub fn and(self, number: u64) -> Self {
        // SplitMix64's finalizer: each bit of the input changes half of the output's.
        let mut mixed = (self.0 ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ (mixed >> 31))
    }

    /// After the evaluations `from..to` of a request.
    #[must_use]
    pub fn evaluated(self, from: u32, to: u32) -> Self {
        (from..to).fold(self, |digest, evaluation| digest.and(u64::from(evaluation) + 1))
    }

    /// An f32 tensor that holds it, with values about zero behind. `spent` takes the place of the first two of those.
    #[must_use]
    pub fn tensor(self, shape: &[usize], spent: Option<Spent>) -> Tensor {
        let mut values = Vec::with_capacity(shape.iter().product());
        values.extend((0..PARTS).map(|part| f32::from((self.0 >> (16 * part)) as u16)));
        values.extend(spent.iter().flat_map(|spent| [spent.queued, spent.computed]));
        let mut noise = self.0 | 1;
        while values.len() < values.capacity() {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            values.push((noise >> 40) as f32 / (1 << 23) as f32 - 1.0);
        }
        values.truncate(shape.iter().product());
        Tensor::from_f32(shape, &values)
    }

    /// What [`Digest::tensor`] put there; `None` where the tensor is too short or holds something else.
    #[must_use]
    pub fn read(tensor: &Tensor) -> Option<Self> {
        let mut digest = 0;
        for part in 0..PARTS {
            let value = value(tensor, part)?;
            let whole = value as u16;
            if f32::from(whole) != value {
                return None;
            }
            digest |= u64::from(whole) << (16 * part);
        }
        Some(Self(digest))
    }
}

impl Spent {
    /// From the clock's own durations.
    #[must_use]
    pub fn new(queued: Duration, computed: Duration) -> Self {
        Self { queued: queued.as_secs_f32(), computed: computed.as_secs_f32() }
    }

    /// What [`Digest::tensor`] put there.
    #[must_use]
    pub fn read(tensor: &Tensor) -> Option<Self> {
        Some(Self { queued: value(tensor, PARTS)?, computed: value(tensor, PARTS + 1)? })
    }
}

fn value(tensor: &Tensor, index: usize) -> Option<f32> {
    let bytes = tensor.data.as_chunks::<4>().0.get(index)?;
    (tensor.dtype == Dtype::F32 as i32).then(|| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_and_the_time_go_through_a_tensor() {
        let digest = Digest::of_text("a red circle").and(42).evaluated(0, 50);
        let spent = Spent { queued: 0.25, computed: 1.5 };
        let tensor = digest.tensor(&[4, 16, 16], Some(spent));
        assert_eq!((tensor.data.len(), Digest::read(&tensor), Spent::read(&tensor)), (4096, Some(digest), Some(spent)));
        assert_eq!(Digest::read(&Tensor::from_f32(&[4], &[0.5; 4])), None);
        assert_eq!(Digest::read(&Tensor::from_f32(&[1], &[1.0])), None);
    }

    #[test]
    fn every_evaluation_and_its_place_counts() {
        let start = Digest(7);
        assert_eq!(start.evaluated(0, 3).evaluated(3, 9), start.evaluated(0, 9));
        assert_ne!(start.evaluated(0, 9), start.evaluated(0, 8));
        assert_ne!(start.evaluated(1, 3).evaluated(0, 1), start.evaluated(0, 3));
    }
}
