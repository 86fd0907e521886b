use half::bf16;

use super::bf16::{Bf16, Vector};
use super::dot::{Added, Dot};

/// Pairs of bf16 values, with sums in f32.
#[derive(Clone, Copy)]
pub struct Bf16Pairs<B>(B);

// SAFETY: a value holds the proof of `B`; loads and stores touch `LANES` pairs or values, or one pair.
unsafe impl<B: Bf16> Dot for Bf16Pairs<B> {
    type S = B::S;
    type A = bf16;
    type G = B::P;
    type V = Vector<B>;
    type F = Added;

    fn detect() -> Option<Self> {
        B::detect().map(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the instructions.
        Self(unsafe { B::assume() })
    }

    #[inline(always)]
    fn simd(self) -> B::S {
        self.0.simd()
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> B::P {
        // SAFETY: the caller guarantees `LANES` pairs.
        unsafe { self.0.load_pairs(p.cast()) }
    }

    #[inline(always)]
    fn sums(self, bits: B::P) -> Vector<B> {
        self.0.values(bits)
    }

    #[inline(always)]
    fn bits(self, sums: Vector<B>) -> B::P {
        self.0.pairs(sums)
    }

    #[inline(always)]
    unsafe fn splat_group(self, p: *const bf16) -> B::P {
        // SAFETY: the caller guarantees a pair.
        self.0
            .splat_pair(unsafe { p.cast::<u32>().read_unaligned() })
    }

    #[inline(always)]
    fn dot(self, x: B::P, w: B::P, sums: Vector<B>) -> Vector<B> {
        self.0.dot(x, w, sums)
    }

    #[inline(always)]
    fn to_f32(self, sums: Vector<B>) -> Vector<B> {
        sums
    }

    #[inline(always)]
    unsafe fn load_activations(self, p: *const bf16) -> Vector<B> {
        // SAFETY: the caller guarantees the values.
        unsafe { self.0.load_values(p) }
    }

    #[inline(always)]
    unsafe fn store_activations(self, p: *mut bf16, v: Vector<B>) {
        // SAFETY: the caller guarantees room for the values.
        unsafe { self.0.store_values(p, v) };
    }
}
