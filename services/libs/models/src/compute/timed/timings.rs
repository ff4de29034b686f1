//! Seconds by layer group, added up from any thread.

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Operations that one would make faster together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerGroup {
    /// Convolutions of side three, whatever their stride.
    Conv3x3,
    /// Convolutions of a single pixel: the shortcuts of residual blocks.
    Conv1x1,
    /// Enlargements with the convolution that follows.
    UpsampleConv,
    /// Linear layers, over tokens or over pixels.
    Linear,
    /// The gated linear layers of feed-forwards.
    Geglu,
    /// Attention of tokens among themselves, with its projections to queries, keys and values.
    SelfAttention,
    /// Attention to the text.
    CrossAttention,
    /// The projections of texts to keys and values.
    KeysValues,
    /// Group and layer normalisation, with the activation that follows.
    Norm,
    /// Copies, concatenations, changes of shape, embeddings.
    Other,
}

impl LayerGroup {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Conv3x3,
        Self::Conv1x1,
        Self::UpsampleConv,
        Self::Linear,
        Self::Geglu,
        Self::SelfAttention,
        Self::CrossAttention,
        Self::KeysValues,
        Self::Norm,
        Self::Other,
    ];
}

impl fmt::Display for LayerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Conv3x3 => "3x3 convolution",
            Self::Conv1x1 => "1x1 convolution",
            Self::UpsampleConv => "upsampling convolution",
            Self::Linear => "linear",
            Self::Geglu => "geglu",
            Self::SelfAttention => "self-attention",
            Self::CrossAttention => "cross-attention",
            Self::KeysValues => "keys and values",
            Self::Norm => "normalisation",
            Self::Other => "other",
        })
    }
}

/// Where the time went, by layer group. A model adds to it; whoever shares it reads and empties it.
#[derive(Debug)]
pub struct Timings {
    nanoseconds: [AtomicU64; LayerGroup::ALL.len()],
}

impl Default for Timings {
    fn default() -> Self {
        Self { nanoseconds: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Timings {
    /// The time of each group since the last call; groups that took none are left out.
    pub fn take(&self) -> Vec<(LayerGroup, Duration)> {
        let taken = LayerGroup::ALL.iter().zip(&self.nanoseconds);
        let taken = taken.map(|(group, spent)| (*group, Duration::from_nanos(spent.swap(0, Ordering::Relaxed))));
        taken.filter(|(_, spent)| !spent.is_zero()).collect()
    }

    pub(super) fn add(&self, group: LayerGroup, spent: Duration) {
        let nanoseconds = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds[group as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_the_order_of_their_numbers() {
        for (position, group) in LayerGroup::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, position);
        }
    }

    #[test]
    fn what_was_taken_is_gone() {
        let timings = Timings::default();
        timings.add(LayerGroup::Linear, Duration::from_millis(2));
        timings.add(LayerGroup::Linear, Duration::from_millis(3));
        assert_eq!(timings.take(), [(LayerGroup::Linear, Duration::from_millis(5))]);
        assert_eq!(timings.take(), []);
    }
}
