use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::dot::{Dot, IntDot, MOST, Rescaled};
use super::vector::Simd;

/// Pairs of i16 in AVX2: `vpmaddwd` and an addition.
#[derive(Clone, Copy)]
pub struct Avx2Pairs(Avx2);

// SAFETY: only `detect`, after its check, and `assume` make a value; loads and stores touch eight lanes, one
// pair or eight activations.
unsafe impl Dot for Avx2Pairs {
    type S = Avx2;
    type A = i16;
    type G = __m256i;
    type V = __m256i;
    type F = Rescaled<Self::S>;

    fn detect() -> Option<Self> {
        Avx2::detect().map(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the instructions.
        Self(unsafe { Avx2::assume() })
    }

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller guarantees eight lanes.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    fn sums(self, bits: __m256i) -> __m256i {
        bits
    }

    #[inline(always)]
    fn bits(self, sums: __m256i) -> __m256i {
        sums
    }

    #[inline(always)]
    unsafe fn splat_group(self, p: *const i16) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller guarantees a pair.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn dot(self, x: __m256i, w: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { add_in_order(sums, _mm256_madd_epi16(x, w)) }
    }

    #[inline(always)]
    fn to_f32(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    unsafe fn load_activations(self, p: *const i16) -> __m256 {
        // SAFETY: `self` proves AVX2; the caller guarantees eight activations.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn store_activations(self, p: *mut i16, v: __m256) {
        // SAFETY: `self` proves AVX2; the caller guarantees room for eight activations.
        unsafe {
            let v = _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(MOST));
            let rounded = _mm256_cvtps_epi32(v);
            let (low, high) = (
                _mm256_castsi256_si128(rounded),
                _mm256_extracti128_si256::<1>(rounded),
            );
            _mm_storeu_si128(p.cast(), _mm_packs_epi32(low, high));
        }
    }
}

// SAFETY: as above.
unsafe impl IntDot for Avx2Pairs {
    type W = i16;
}

/// `sums + products`, in assembly: the compiler would add the products of several steps first, and the sums last. Then
/// not all of a tile's sums fit in registers.
#[inline]
#[target_feature(enable = "avx2")]
fn add_in_order(mut sums: __m256i, products: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2; the instruction touches no memory.
    unsafe {
        asm!(
            "vpaddd {sums}, {sums}, {products}",
            sums = inout(ymm_reg) sums,
            products = in(ymm_reg) products,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}
