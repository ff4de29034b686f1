//! Which instructions this CPU has, found at run time: an [`Isa`] in hand is the proof that its kernels may run.

use std::fmt;
use std::str::FromStr;

/// The environment variable that [`Isa::from_env`] reads.
pub const ISA_VARIABLE: &str = "DARKROOM_ISA";

/// The instruction sets the kernels are written for, from the plainest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust, any CPU.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
    /// 512-bit vectors with bf16 dot products (`vdpbf16ps`).
    Avx512Bf16,
}

impl Level {
    /// Every level, plainest first.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16];

    /// The level's name, as `DARKROOM_ISA` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
        }
    }

    fn supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = || {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            };
            match self {
                Level::Portable => true,
                Level::Avx2 => avx2(),
                Level::Avx512 => avx512(),
                Level::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Level::Portable
        }
    }
}

/// A level this CPU supports. It cannot be made for any other, which is what makes the kernels' safe functions sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Level);

impl Isa {
    /// `level`, if this CPU supports it.
    pub fn new(level: Level) -> Option<Isa> {
        level.supported().then_some(Isa(level))
    }

    /// The fastest level of this CPU.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa(Level::Portable))
    }

    /// Every level of this CPU, plainest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Level::ALL.into_iter().filter_map(Isa::new)
    }

    /// The level named by `DARKROOM_ISA`, or the best one when it is unset or empty.
    ///
    /// # Errors
    /// The variable names no level, or one this CPU lacks.
    pub fn from_env() -> Result<Isa, IsaError> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Isa::best()),
        }
    }

    /// The level itself.
    pub fn level(self) -> Level {
        self.0
    }

    /// Whether bf16 arithmetic has its own instructions here; elsewhere it is correct but slower than f32.
    pub fn has_bf16(self) -> bool {
        self.0 == Level::Avx512Bf16
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        let level = Level::ALL.into_iter().find(|level| level.name() == name);
        level.and_then(Isa::new).ok_or_else(|| IsaError { name: name.to_owned() })
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// A name that is no instruction set of this CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaError {
    name: String,
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Isa::available().map(|isa| isa.level().name()).collect();
        write!(f, "instruction set {:?} is not one of this CPU's: use one of {}", self.name, names.join(", "))
    }
}

impl std::error::Error for IsaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused_with_the_choices() {
        for isa in Isa::available() {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "sse9".parse::<Isa>().unwrap_err();
        assert!(error.to_string().contains("portable"), "{error}");
    }

    #[test]
    fn the_best_is_the_last_available() {
        assert!(Isa::available().all(|isa| isa <= Isa::best()));
        assert!(Isa::available().any(|isa| isa.level() == Level::Portable));
    }
}
