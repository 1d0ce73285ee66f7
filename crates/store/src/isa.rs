//! Which instruction sets this CPU has, and which one the searches use.

use std::sync::OnceLock;

/// An instruction set that this CPU was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Isa(Level);

/// The levels, lowest first; each has what those below it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with VNNI: sums of four products of bytes in one instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// AMX tiles of bytes.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// By the names that the engine has for them.
const ALL: &[(Level, &str)] = &[
    (Level::Portable, "portable"),
    #[cfg(target_arch = "x86_64")]
    (Level::Avx2, "avx2"),
    #[cfg(target_arch = "x86_64")]
    (Level::Avx512, "avx512"),
    #[cfg(target_arch = "x86_64")]
    (Level::Vnni, "vnni"),
    #[cfg(target_arch = "x86_64")]
    (Level::Amx, "amx"),
];

impl Isa {
    /// The best on this CPU, or what `WENYI_ISA` lowers it to. A name that is none of this CPU's
    /// changes nothing: the engine, which reads the same variable, refuses it.
    #[inline]
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::lowered_to(std::env::var("WENYI_ISA").ok().as_deref()))
    }

    fn lowered_to(name: Option<&str>) -> Self {
        let mut available = Self::available();
        let named = available.find(|isa| Some(isa.name()) == name);
        let best = || Self::available().next_back();
        named.or_else(best).unwrap_or(Self(Level::Portable))
    }

    /// All on this CPU, the lowest first.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let levels = ALL.iter().map(|(level, _)| *level);
        levels.filter(|level| detected(*level)).map(Self)
    }

    fn name(self) -> &'static str {
        let own = ALL.iter().find(|(level, _)| *level == self.0);
        own.map_or("", |(_, name)| name)
    }

    #[inline]
    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// True if bytes are multiplied fast enough for reading the rows twice to pay.
    pub(crate) fn has_byte_products(self) -> bool {
        self.0 > Level::Portable
    }

    /// True if sums of products of bytes are taken in 32 bits at once, so that codes may have all of
    /// their range.
    pub(crate) fn has_wide_sums(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 >= Level::Vnni;
        #[cfg(not(target_arch = "x86_64"))]
        true
    }
}

#[cfg(target_arch = "x86_64")]
fn detected(level: Level) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match level {
        Level::Portable => true,
        Level::Avx2 => has!("avx2") && has!("fma") && has!("popcnt"),
        Level::Avx512 => detected(Level::Avx2) && has!("avx512f"),
        Level::Vnni => detected(Level::Avx512) && has!("avx512vnni"),
        Level::Amx => detected(Level::Vnni) && crate::codes::tiles::usable(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected(level: Level) -> bool {
    level == Level::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lowers_the_level_and_a_wrong_one_does_not() {
        let best = Isa::available().next_back().unwrap();
        assert_eq!(Isa::lowered_to(None), best);
        assert_eq!(Isa::lowered_to(Some("no such level")), best);
        for isa in Isa::available() {
            assert_eq!(Isa::lowered_to(Some(isa.name())), isa);
        }
        assert_eq!(Isa::available().next(), Some(Isa(Level::Portable)));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_level_of_this_machine_is_tested() {
        use std::arch::is_x86_feature_detected as has;
        let levels: Vec<Level> = Isa::available().map(Isa::level).collect();
        assert!(levels.is_sorted());
        assert_eq!(levels.contains(&Level::Avx2), has!("avx2") && has!("fma"));
        assert_eq!(levels.contains(&Level::Avx512), has!("avx512f"));
        assert_eq!(levels.contains(&Level::Vnni), has!("avx512vnni"));
    }
}
