//! Instruction-set tiers: the tiers of this machine, and the choice of one.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::portable::Portable;
use super::vector::Simd;
use crate::error::Error;
use crate::knobs;

/// A tier of kernels. Later ones are faster; `Portable` runs everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Rust without intrinsics.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl Isa {
    /// Every tier, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The tiers that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// True if the processor and the operating system have the tier's instructions.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => Portable::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The tier to use: `wanted`, else `RESNET_RS_ISA`, else the fastest of this machine.
    ///
    /// # Errors
    /// The variable holds an unknown name, or this machine lacks the tier.
    pub fn resolve(wanted: Option<Self>) -> Result<Self, Error> {
        let isa = match wanted {
            Some(isa) => isa,
            None => match knobs::ISA.read() {
                Some(name) => name
                    .parse()
                    .map_err(|e: Error| e.context(knobs::ISA.name))?,
                None => return Ok(Self::available().last().unwrap_or(Self::Portable)),
            },
        };
        if isa.is_available() {
            Ok(isa)
        } else {
            let have: Vec<_> = Self::available().map(Self::name).collect();
            Err(Error::UnsupportedIsa(format!(
                "this machine has no {isa} instructions; it has: {}",
                have.join(", ")
            )))
        }
    }

    /// The name as `isa=` and `RESNET_RS_ISA` take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| {
                Error::Argument(format!(
                    "unknown instruction set {name:?}: expected portable, avx2 or avx512"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
        }
    }

    #[test]
    fn unknown_name_says_which_are_known() {
        let message = "sse9".parse::<Isa>().unwrap_err().to_string();
        assert!(message.contains("sse9") && message.contains("portable, avx2 or avx512"));
    }

    #[test]
    fn portable_is_always_there_and_resolves() {
        assert_eq!(Isa::available().next(), Some(Isa::Portable));
        assert_eq!(Isa::resolve(Some(Isa::Portable)).unwrap(), Isa::Portable);
    }

    /// Prints the tiers that this run tests. With `RESNET_RS_REQUIRE_ISA=avx2,avx512` it fails if one
    /// of them is missing.
    #[test]
    fn required_tiers_are_there() {
        let have: Vec<_> = Isa::available().map(Isa::name).collect();
        println!("tiers on this machine: {}", have.join(", "));
        if let Ok(required) = std::env::var("RESNET_RS_REQUIRE_ISA") {
            for name in required.split(',').filter(|n| !n.is_empty()) {
                let isa: Isa = name.parse().unwrap();
                assert!(isa.is_available(), "{isa} is required and not there");
            }
        }
    }
}
