use std::arch::x86_64::*;

use half::bf16;

use super::avx2::Avx2;
use super::bf16::Bf16;
use super::vector::Simd;

/// Pairs of bf16 values in AVX2, which has no products of them: both halves are widened to f32. Their products are
/// exact there, so the sums are those of the instruction.
#[derive(Clone, Copy)]
pub struct WidenedAvx2(Avx2);

/// The second values of pairs, as f32.
const SECOND: u32 = 0xffff_0000;

impl WidenedAvx2 {
    /// The bits of bf16 values, in the upper half of each lane.
    #[inline(always)]
    fn round(self, v: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_add_epi32(bits, up);
            // A NaN whose lower half alone says so would become an infinity.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let rounded = _mm256_blendv_epi8(rounded, quiet, is_nan);
            _mm256_and_si256(rounded, _mm256_set1_epi32(SECOND.cast_signed()))
        }
    }
}

// SAFETY: only `detect`, after its check, and `assume` make a value; loads and stores touch eight pairs or values.
unsafe impl Bf16 for WidenedAvx2 {
    type S = Avx2;
    type P = __m256i;

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
    fn splat_pair(self, pair: u32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi32(pair.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, p: *const u32) -> __m256i {
        // SAFETY: `self` proves AVX2; the caller guarantees eight pairs at `p`.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, p: *mut u32, v: __m256i) {
        // SAFETY: `self` proves AVX2; the caller guarantees eight pairs at `p`.
        unsafe { _mm256_storeu_si256(p.cast(), v) }
    }

    #[inline(always)]
    unsafe fn store_first_pairs(self, n: usize, p: *mut u32, v: __m256i) {
        let mut pairs = [0_u32; 8];
        // SAFETY: the array holds eight pairs, and the caller guarantees `n` at `p`.
        unsafe {
            self.store_pairs(pairs.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(pairs.as_ptr(), p, n);
        }
    }

    #[inline(always)]
    fn values(self, bits: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_castsi256_ps(bits) }
    }

    #[inline(always)]
    fn pairs(self, values: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_castps_si256(values) }
    }

    #[inline(always)]
    unsafe fn load_values(self, p: *const bf16) -> __m256 {
        // SAFETY: `self` proves AVX2; the caller guarantees eight values.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store_values(self, p: *mut bf16, v: __m256) {
        // SAFETY: `self` proves AVX2; the caller guarantees room for eight values.
        unsafe {
            let words = _mm256_srli_epi32::<16>(self.round(v));
            let (low, high) = (
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(p.cast(), _mm_packus_epi32(low, high));
        }
    }

    #[inline(always)]
    fn round_row(self, a: __m256, b: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let low = _mm256_srli_epi32::<16>(self.round(a));
            let high = _mm256_srli_epi32::<16>(self.round(b));
            // It packs each half of the registers by itself.
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high))
        }
    }

    #[inline(always)]
    fn round_lanes(self, a: __m256, b: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_or_si256(_mm256_srli_epi32::<16>(self.round(a)), self.round(b)) }
    }

    #[inline(always)]
    fn dot(self, a: __m256i, b: __m256i, c: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe {
            let mask = _mm256_set1_epi32(SECOND.cast_signed());
            let second = |pair| _mm256_castsi256_ps(_mm256_and_si256(pair, mask));
            let first = |pair| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
            let sum = _mm256_fmadd_ps(second(a), second(b), c);
            _mm256_fmadd_ps(first(a), first(b), sum)
        }
    }
}
