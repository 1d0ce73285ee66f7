//! Which instruction sets this CPU has, and which one the kernels use.

use std::fmt;
use std::sync::OnceLock;

use crate::{Error, ErrorKind};

/// An instruction-set level. A value is the proof that this CPU has it: only [`Isa::available`]
/// and what builds on it make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Level);

/// The levels, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Plain Rust, 8 lanes; what the compiler makes of it (NEON on ARM).
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with VNNI: 8- and 16-bit integer dot products.
    Vnni,
    /// AMX tiles for bf16 and int8 and AVX512-BF16, the rest as `Vnni`.
    Amx,
}

const ALL: [(Level, &str); 5] = [
    (Level::Portable, "portable"),
    (Level::Avx2, "avx2"),
    (Level::Avx512, "avx512"),
    (Level::Vnni, "vnni"),
    (Level::Amx, "amx"),
];

impl Isa {
    /// Every level of this CPU, lowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        ALL.iter()
            .filter(|(level, _)| detected(*level))
            .map(|(level, _)| Self(*level))
            .collect()
    }

    /// The level in use: the best of the CPU, or what `WENYI_ISA` lowers it to.
    ///
    /// # Errors
    ///
    /// If `WENYI_ISA` names no level or one that this CPU lacks.
    pub fn current() -> Result<Self, Error> {
        static CURRENT: OnceLock<Result<Isa, (String, String)>> = OnceLock::new();
        CURRENT
            .get_or_init(Self::from_env)
            .clone()
            .map_err(|(value, expected)| {
                ErrorKind::Option {
                    option: "WENYI_ISA",
                    value,
                    expected,
                }
                .into()
            })
    }

    fn from_env() -> Result<Self, (String, String)> {
        let available = Self::available();
        let best = *available.last().unwrap_or(&Self(Level::Portable));
        let Ok(name) = std::env::var("WENYI_ISA") else {
            return Ok(best);
        };
        available
            .iter()
            .copied()
            .find(|isa| isa.to_string() == name)
            .ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|isa| format!("`{isa}`")).collect();
                (name, format!("one of {}", names.join(", ")))
            })
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// A level whose instructions the test answers for, by emulation.
    #[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn assumed(level: Level) -> Self {
        Self(level)
    }

    /// True if 8-bit and bf16 products run on AMX tiles.
    pub(crate) fn has_tiles(self) -> bool {
        self.0 >= Level::Amx
    }

    /// True if byte products want their activations shifted into unsigned bytes.
    pub(crate) fn unsigned_activations(self) -> bool {
        self.0 >= Level::Vnni
    }

    /// True if 16-bit products are faster than f32 here: as integers, which every x86 level multiplies two at
    /// a time, or as bf16 on tiles.
    #[must_use]
    pub fn has_fast_16_bit(self) -> bool {
        self.0 >= Level::Avx2
    }

    /// True if 8-bit products are faster than 16-bit ones here.
    #[must_use]
    pub fn has_fast_8_bit(self) -> bool {
        self.0 >= Level::Vnni
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL
            .iter()
            .find(|(level, _)| *level == self.0)
            .map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

#[cfg(target_arch = "x86_64")]
fn detected(level: Level) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match level {
        Level::Portable => true,
        Level::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
        Level::Avx512 => {
            detected(Level::Avx2)
                && has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
        }
        Level::Vnni => detected(Level::Avx512) && has!("avx512vnni"),
        Level::Amx => detected(Level::Vnni) && has!("avx512bf16") && super::amx::usable(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected(level: Level) -> bool {
    level == Level::Portable
}
