use std::marker::PhantomData;

use super::dot::{Activation, Dot, IntDot, MOST, Rescaled};
use super::portable::Portable;
use super::vector::Simd;

/// The lanes of the portable tier.
const LANES: usize = Portable::LANES;

/// Groups in plain Rust: pairs for the portable tier, and fours, which stand in for VNNI in tests.
#[derive(Clone, Copy)]
pub struct Plain<W>(Portable, PhantomData<W>);

/// Splits the groups of activations and weights in plain Rust.
macro_rules! plain {
    ($activation:ty, $weight:ty, $depth:literal) => {
        // SAFETY: plain Rust needs no instructions; loads and stores touch what they name.
        unsafe impl Dot for Plain<$weight> {
            type S = Portable;
            type A = $activation;
            type G = [i32; LANES];
            type V = [i32; LANES];
            type F = Rescaled<Portable>;

            fn detect() -> Option<Self> {
                Portable::detect().map(|portable| Self(portable, PhantomData))
            }

            #[inline(always)]
            unsafe fn assume() -> Self {
                // SAFETY: the caller guarantees the tier.
                Self(unsafe { Portable::assume() }, PhantomData)
            }

            #[inline(always)]
            fn simd(self) -> Portable {
                self.0
            }

            #[inline(always)]
            fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
                self.0.vectorize(f)
            }

            #[inline(always)]
            unsafe fn load(self, p: *const i32) -> [i32; LANES] {
                // SAFETY: the caller guarantees the lanes.
                unsafe { p.cast::<[i32; LANES]>().read_unaligned() }
            }

            #[inline(always)]
            fn sums(self, bits: [i32; LANES]) -> [i32; LANES] {
                bits
            }

            #[inline(always)]
            fn bits(self, sums: [i32; LANES]) -> [i32; LANES] {
                sums
            }

            #[inline(always)]
            unsafe fn splat_group(self, p: *const $activation) -> [i32; LANES] {
                // SAFETY: the caller guarantees a group.
                [unsafe { p.cast::<i32>().read_unaligned() }; LANES]
            }

            #[inline(always)]
            fn dot(self, x: [i32; LANES], w: [i32; LANES], sums: [i32; LANES]) -> [i32; LANES] {
                // Shifts of whole lanes: the compiler makes vectors of them, and none of casts to arrays.
                let mut sums = sums;
                for place in 0..$depth {
                    let bits = 32 / $depth;
                    let left = 32 - bits * (place + 1);
                    let part = |group: i32| group << left;
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let w = part(w[i]) >> (32 - bits);
                        // Activations of 8 bits have no sign.
                        let x = match $depth {
                            4 => (part(x[i]).cast_unsigned() >> (32 - bits)).cast_signed(),
                            _ => part(x[i]) >> (32 - bits),
                        };
                        *sum = sum.wrapping_add(x.wrapping_mul(w));
                    }
                }
                sums
            }

            #[inline(always)]
            fn to_f32(self, sums: [i32; LANES]) -> [f32; LANES] {
                sums.map(|sum| sum as f32)
            }

            #[inline(always)]
            unsafe fn load_activations(self, p: *const $activation) -> [f32; LANES] {
                // SAFETY: the caller guarantees the activations.
                let values = unsafe { p.cast::<[$activation; LANES]>().read_unaligned() };
                values.map(f32::from)
            }

            #[inline(always)]
            unsafe fn store_activations(self, p: *mut $activation, v: [f32; LANES]) {
                let rounded = v.map(|x| <$activation>::of(x.clamp(0.0, MOST).round_ties_even()));
                // SAFETY: the caller guarantees room for the activations.
                unsafe { p.cast::<[$activation; LANES]>().write_unaligned(rounded) };
            }
        }

        // SAFETY: as above.
        unsafe impl IntDot for Plain<$weight> {
            type W = $weight;
        }
    };
}

plain!(i16, i16, 2);
plain!(u8, i8, 4);
