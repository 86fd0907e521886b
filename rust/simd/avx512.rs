use std::arch::x86_64::*;

use super::vector::Simd;

/// AVX-512F: 32 registers of sixteen values.
#[derive(Clone, Copy)]
pub struct Avx512(());

// SAFETY: only `detect`, after its check, and `assume` make a value; the field is private. The
// intrinsics of loads and stores touch sixteen values or those that the mask selects.
unsafe impl Simd for Avx512 {
    type V = __m512;

    const LANES: usize = 16;
    // 28 accumulators + 2 weights + 1 broadcast of the 32 registers.
    const MR: usize = 14;

    fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: `self` proves AVX-512F.
        unsafe { inner(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn max_or_nan(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe {
            let a_is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(_mm512_max_ps(a, b), a_is_nan, a)
        }
    }

    #[inline(always)]
    fn if_above_or_nan(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(y, above | is_nan, x)
        }
    }

    #[inline(always)]
    fn if_equal(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), x) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen values at `p`.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen values at `p`.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, n: usize, p: *const f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F; masked lanes are not touched, so `n` values are enough.
        unsafe { _mm512_maskz_loadu_ps(self.first(n), p) }
    }

    #[inline(always)]
    unsafe fn store_first(self, n: usize, p: *mut f32, v: __m512) {
        // SAFETY: `self` proves AVX-512F; masked lanes are not touched, so `n` values are enough.
        unsafe { _mm512_mask_storeu_ps(p, self.first(n), v) }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: `self` proves AVX-512F; the caller guarantees sixteen rows of sixteen values.
        unsafe {
            let r: [__m512; 16] =
                std::array::from_fn(|i| _mm512_loadu_ps(from.add(i * from_stride)));
            // Pairs of rows, then fours, within each quarter of a register; then the quarters.
            let pairs: [__m512; 16] = std::array::from_fn(|i| {
                let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
                if i % 2 == 0 {
                    _mm512_unpacklo_ps(a, b)
                } else {
                    _mm512_unpackhi_ps(a, b)
                }
            });
            let fours: [__m512; 16] = std::array::from_fn(|i| {
                let (a, b) = (
                    pairs[i / 4 * 4 + i % 4 / 2],
                    pairs[i / 4 * 4 + 2 + i % 4 / 2],
                );
                if i % 2 == 0 {
                    _mm512_shuffle_ps::<0x44>(a, b)
                } else {
                    _mm512_shuffle_ps::<0xee>(a, b)
                }
            });
            // Quarter q of `fours[4 g + j]` is column 4 q + j of rows 4 g to 4 g + 3.
            for j in 0..4 {
                let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
                let ab = [
                    _mm512_shuffle_f32x4::<0x44>(a, b),
                    _mm512_shuffle_f32x4::<0xee>(a, b),
                ];
                let cd = [
                    _mm512_shuffle_f32x4::<0x44>(c, d),
                    _mm512_shuffle_f32x4::<0xee>(c, d),
                ];
                for half in 0..2 {
                    let even = _mm512_shuffle_f32x4::<0x88>(ab[half], cd[half]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(ab[half], cd[half]);
                    _mm512_storeu_ps(to.add((8 * half + j) * to_stride), even);
                    _mm512_storeu_ps(to.add((8 * half + 4 + j) * to_stride), odd);
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch accepts any address and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

impl Avx512 {
    /// The mask of the first `n` of sixteen lanes.
    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        debug_assert!(n <= 16);
        ((1_u32 << n) - 1) as __mmask16
    }
}
