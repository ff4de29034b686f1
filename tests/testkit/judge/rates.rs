//! How often pictures are right, by attribute.

use std::fmt;

use super::Verdict;

/// Percentages of right pictures (of right objects, for colour, shape and fill).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "as the fields of a verdict")]
pub struct Rates {
    pub background: f64,
    pub colour: f64,
    pub layout: f64,
    pub size: f64,
    pub shape: f64,
    pub fill: f64,
    pub all_right: f64,
}

/// What the pocket model reached: 500 prompts of its whole grammar, half of them of kinds that it was never trained on, drawn by Darkroom in f32
/// with the model's defaults (`judge_pictures --count 500 --seed 500 --precision f32`).
pub const POCKET_MODEL: Rates =
    Rates { background: 100.0, colour: 98.5, layout: 99.0, size: 99.4, shape: 98.8, fill: 97.9, all_right: 96.4 };

impl Rates {
    /// The rates of these verdicts; 100 for an attribute that none of them has.
    pub fn of(verdicts: &[Verdict]) -> Self {
        let rate = |part: &dyn Fn(&Verdict) -> Option<f64>| {
            let parts: Vec<f64> = verdicts.iter().filter_map(part).collect();
            if parts.is_empty() { 100.0 } else { 100.0 * parts.iter().sum::<f64>() / parts.len() as f64 }
        };
        let whole = |right: bool| Some(if right { 1.0 } else { 0.0 });
        Self {
            background: rate(&|verdict| whole(verdict.background)),
            colour: rate(&|verdict| Some(verdict.colour)),
            layout: rate(&|verdict| whole(verdict.layout)),
            size: rate(&|verdict| verdict.size.and_then(whole)),
            shape: rate(&|verdict| Some(verdict.shape)),
            fill: rate(&|verdict| Some(verdict.fill)),
            all_right: rate(&|verdict| whole(verdict.all_right())),
        }
    }

    /// Each attribute's name and rate.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("background", self.background),
            ("colour", self.colour),
            ("layout", self.layout),
            ("size", self.size),
            ("shape", self.shape),
            ("fill", self.fill),
            ("everything right", self.all_right),
        ]
    }
}

/// A table of one row.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [names, rates] = [0, 1].map(|row| {
            let cells = self.named().map(|(name, rate)| {
                if row == 0 { name.to_owned() } else { format!("{rate:>width$.1}", width = name.len()) }
            });
            format!("| {} |", cells.join(" | "))
        });
        write!(f, "{names}\n{rates}")
    }
}
