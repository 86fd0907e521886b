use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::avx512::Avx512;
use super::bf16::Bf16;
use super::vector::Simd;

/// AVX512_BF16. The instruction rounds to nearest even and flushes denormals, whatever the control register says.
#[derive(Clone, Copy)]
pub struct Avx512Bf16(Avx512);

/// The words of two rows of sixteen, in turn.
const IN_TURN: [u16; 32] = {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    words
};

// SAFETY: only `detect`, after its check, and `assume` make a value; loads and stores touch sixteen pairs.
unsafe impl Bf16 for Avx512Bf16 {
    type S = Avx512;
    type P = __m512i;

    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw");
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
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: `self` proves the features.
        unsafe { inner(f) }
    }

    #[inline(always)]
    fn splat_pair(self, pair: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_epi32(pair.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, p: *const u32) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen pairs at `p`.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, p: *mut u32, v: __m512i) {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen pairs at `p`.
        unsafe { _mm512_storeu_si512(p.cast(), v) }
    }

    #[inline(always)]
    unsafe fn store_first_pairs(self, n: usize, p: *mut u32, v: __m512i) {
        debug_assert!(n <= 16);
        let mask = ((1_u32 << n) - 1) as __mmask16;
        // SAFETY: `self` proves AVX-512F; masked lanes are not touched, so `n` pairs are enough.
        unsafe { _mm512_mask_storeu_epi32(p.cast(), mask, v) }
    }

    #[inline(always)]
    fn values(self, bits: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castsi512_ps(bits) }
    }

    #[inline(always)]
    fn pairs(self, values: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castps_si512(values) }
    }

    #[inline(always)]
    unsafe fn load_values(self, p: *const bf16) -> __m512 {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen values.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store_values(self, p: *mut bf16, v: __m512) {
        // SAFETY: `self` proves AVX512_BF16; the caller guarantees room for sixteen values.
        unsafe {
            let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(p.cast(), rounded);
        }
    }

    #[inline(always)]
    fn round_row(self, a: __m512, b: __m512) -> __m512i {
        // SAFETY: `self` proves AVX512_BF16; both are 64 bytes without a meaning of their own.
        unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) }
    }

    #[inline(always)]
    fn round_lanes(self, a: __m512, b: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512BW; the constant holds 32 words.
        unsafe {
            let order = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            _mm512_permutexvar_epi16(order, self.round_row(a, b))
        }
    }

    #[inline(always)]
    fn dot(self, a: __m512i, b: __m512i, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX512_BF16; both are 64 bytes without a meaning of their own.
        unsafe {
            let a = transmute::<__m512i, __m512bh>(a);
            let b = transmute::<__m512i, __m512bh>(b);
            _mm512_dpbf16_ps(c, a, b)
        }
    }
}
