//! Features of the processor: the instructions beyond a tier's that its kernels may use.
//!
//! Tiers are a ladder: each has all instructions of the ones below. Extensions such as VNNI or bf16
//! are not: a processor may have AVX-VNNI without AVX-512, or AVX-512 without VNNI. So a tier's set
//! of kernels is chosen by the tier and by the features
//! ([`KernelTable::new`](crate::kernels::KernelTable::new)).

/// Defines [`Feature`] and the detection of each, architecture by architecture. Their order is the
/// order in which they are shown.
macro_rules! features {
    ($($arch:literal $detect:ident { $($name:ident = $text:tt,)* })*) => {
        /// An extension of the instruction set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Feature {
            $($($name,)*)*
        }

        impl Feature {
            /// Every feature, of all architectures.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The name, as Linux and the compiler know it.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)*)*
                }
            }

            /// True if the processor has the feature and the operating system saves its registers.
            fn is_detected(self) -> bool {
                match self {
                    $($(
                        #[cfg(target_arch = $arch)]
                        Self::$name => std::arch::$detect!($text),
                    )*)*
                    #[allow(unreachable_patterns)]
                    _ => false,
                }
            }
        }
    };
}

features! {
    "x86_64" is_x86_feature_detected {
        Sse2 = "sse2",
        Avx = "avx",
        Avx2 = "avx2",
        Fma = "fma",
        F16c = "f16c",
        AvxVnni = "avxvnni",
        Avx512f = "avx512f",
        Avx512bw = "avx512bw",
        Avx512vl = "avx512vl",
        Avx512vnni = "avx512vnni",
        Avx512bf16 = "avx512bf16",
    }
    "aarch64" is_aarch64_feature_detected {
        Neon = "neon",
        Dotprod = "dotprod",
        I8mm = "i8mm",
        Bf16 = "bf16",
    }
}

/// The features that this machine has. Only detection makes a value, so code for a feature may rely
/// on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// The features of this machine. The standard library remembers them: asking again costs
    /// nothing, and takes no lock, which a fork could leave locked.
    pub fn detect() -> Self {
        let detected = Feature::ALL.iter().filter(|feature| feature.is_detected());
        Self(detected.fold(0, |bits, &feature| bits | Self::bit(feature)))
    }

    /// True if AMD made the processor: the same instruction may be fast with one maker and slow with another.
    pub fn is_amd(self) -> bool {
        // Miri runs no such instruction.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            let vendor = std::arch::x86_64::__cpuid(0);
            let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
            name.concat() == b"AuthenticAMD"
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        false
    }

    /// True if this machine has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & Self::bit(feature) != 0
    }

    /// The names of the features that this machine has.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Feature::ALL.iter();
        all.filter(move |&&feature| self.has(feature))
            .map(|feature| feature.name())
    }

    fn bit(feature: Feature) -> u32 {
        1 << feature as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_bit_and_a_name_of_its_own() {
        let bits = Feature::ALL.iter().map(|&feature| Features::bit(feature));
        assert_eq!(
            bits.fold(0, |all, bit| all | bit).count_ones() as usize,
            Feature::ALL.len()
        );
        let mut names: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Feature::ALL.len());
    }

    #[test]
    fn names_are_those_of_the_features_that_are_there() {
        let features = Features::detect();
        println!(
            "features: {}",
            features.names().collect::<Vec<_>>().join(", ")
        );
        for &feature in Feature::ALL {
            let is_named = features.names().any(|name| name == feature.name());
            assert_eq!(features.has(feature), is_named);
        }
        #[cfg(target_arch = "x86_64")]
        assert!(features.has(Feature::Sse2) && !features.has(Feature::Neon));
        #[cfg(target_arch = "aarch64")]
        assert!(features.has(Feature::Neon) && !features.has(Feature::Sse2));
    }
}
