use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::avx512::Avx512;
use super::dot::{Dot, IntDot, MOST, Rescaled};
use super::vector::Simd;

/// Fours of u8 and i8 in AVX-512 VNNI.
#[derive(Clone, Copy)]
pub struct Avx512Vnni(Avx512);

/// Fours of u8 and i8 in AVX-VNNI, in registers of 256 bits.
#[derive(Clone, Copy)]
pub struct AvxVnni(Avx2);

// SAFETY: only `detect`, after its check, and `assume` make a value; loads and stores touch sixteen lanes, one
// group or sixteen activations.
unsafe impl Dot for Avx512Vnni {
    type S = Avx512;
    type A = u8;
    type G = __m512i;
    type V = __m512i;
    type F = Rescaled<Self::S>;

    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
        Avx512::detect().filter(|_| has).map(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the instructions.
        Self(unsafe { Avx512::assume() })
    }

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: `self` proves the features.
        unsafe { inner(f) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen lanes.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    fn sums(self, bits: __m512i) -> __m512i {
        bits
    }

    #[inline(always)]
    fn bits(self, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    unsafe fn splat_group(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the caller guarantees a group.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn dot(self, x: __m512i, w: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }

    #[inline(always)]
    fn to_f32(self, sums: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    unsafe fn load_activations(self, p: *const u8) -> __m512 {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen activations.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn store_activations(self, p: *mut u8, v: __m512) {
        // SAFETY: `self` proves AVX-512F; the caller guarantees room for sixteen activations.
        unsafe {
            let v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(MOST));
            let rounded = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(p.cast(), rounded);
        }
    }
}

// SAFETY: as above.
unsafe impl IntDot for Avx512Vnni {
    type W = i8;
}

// SAFETY: only `detect`, after its check, and `assume` make a value; loads and stores touch eight lanes, one
// group or eight activations.
unsafe impl Dot for AvxVnni {
    type S = Avx2;
    type A = u8;
    type G = __m256i;
    type V = __m256i;
    type F = Rescaled<Self::S>;

    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avxvnni");
        Avx2::detect().filter(|_| has).map(Self)
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
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: `self` proves the features.
        unsafe { inner(f) }
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
    unsafe fn splat_group(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller guarantees a group.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn dot(self, x: __m256i, w: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }

    #[inline(always)]
    fn to_f32(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    unsafe fn load_activations(self, p: *const u8) -> __m256 {
        // SAFETY: `self` proves AVX2; the caller guarantees eight activations.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn store_activations(self, p: *mut u8, v: __m256) {
        // SAFETY: `self` proves AVX2; the caller guarantees room for eight activations.
        unsafe {
            let v = _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(MOST));
            let rounded = _mm256_cvtps_epi32(v);
            let (low, high) = (
                _mm256_castsi256_si128(rounded),
                _mm256_extracti128_si256::<1>(rounded),
            );
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(words, words));
        }
    }
}

// SAFETY: as above.
unsafe impl IntDot for AvxVnni {
    type W = i8;
}
