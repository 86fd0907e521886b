use std::arch::x86_64::*;

use super::vector::Simd;

/// AVX2 with FMA: 16 registers of eight values.
#[derive(Clone, Copy)]
pub struct Avx2(());

// SAFETY: only `detect`, after its check, and `assume` make a value; the field is private. The
// intrinsics of loads and stores touch eight values or those that the mask selects.
unsafe impl Simd for Avx2 {
    type V = __m256;

    const LANES: usize = 8;
    // 12 accumulators + 2 weights + 1 broadcast of the 16 registers.
    const MR: usize = 6;

    fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { inner(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn max_or_nan(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe {
            let a_is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
            _mm256_blendv_ps(_mm256_max_ps(a, b), a, a_is_nan)
        }
    }

    #[inline(always)]
    fn if_above_or_nan(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
            _mm256_blendv_ps(y, x, _mm256_or_ps(above, is_nan))
        }
    }

    #[inline(always)]
    fn if_equal(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: `self` proves AVX2; the caller guarantees eight values at `p`.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: `self` proves AVX2; the caller guarantees eight values at `p`.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, n: usize, p: *const f32) -> __m256 {
        // SAFETY: `self` proves AVX2; masked lanes are not touched, so `n` values are enough.
        unsafe { _mm256_maskload_ps(p, self.first(n)) }
    }

    #[inline(always)]
    unsafe fn store_first(self, n: usize, p: *mut f32, v: __m256) {
        // SAFETY: `self` proves AVX2; masked lanes are not touched, so `n` values are enough.
        unsafe { _mm256_maskstore_ps(p, self.first(n), v) }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: `self` proves AVX2; the caller guarantees eight rows of eight values.
        unsafe {
            let r: [__m256; 8] =
                std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_stride)));
            // Pairs of rows, then fours, within each half of a register; then the halves.
            let pairs: [__m256; 8] = std::array::from_fn(|i| {
                let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
                if i % 2 == 0 {
                    _mm256_unpacklo_ps(a, b)
                } else {
                    _mm256_unpackhi_ps(a, b)
                }
            });
            let fours: [__m256; 8] = std::array::from_fn(|i| {
                let (a, b) = (
                    pairs[i / 4 * 4 + i % 4 / 2],
                    pairs[i / 4 * 4 + 2 + i % 4 / 2],
                );
                if i % 2 == 0 {
                    _mm256_shuffle_ps::<0x44>(a, b)
                } else {
                    _mm256_shuffle_ps::<0xee>(a, b)
                }
            });
            for j in 0..4 {
                let (a, b) = (fours[j], fours[4 + j]);
                _mm256_storeu_ps(to.add(j * to_stride), _mm256_permute2f128_ps::<0x20>(a, b));
                let high = _mm256_permute2f128_ps::<0x31>(a, b);
                _mm256_storeu_ps(to.add((4 + j) * to_stride), high);
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch accepts any address and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

impl Avx2 {
    /// The mask of the first `n` of eight lanes, with all bits of each set.
    #[inline(always)]
    fn first(self, n: usize) -> __m256i {
        const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        let from = &MASKS[8 - n..16 - n];
        // SAFETY: `self` proves AVX2; the slice holds eight values.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
}
