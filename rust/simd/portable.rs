use super::vector::Simd;

/// Plain arrays of four values, for every processor. The compiler vectorizes the arithmetic as far as
/// the target allows (SSE2 on x86-64, NEON on AArch64).
#[derive(Clone, Copy)]
pub struct Portable;

// SAFETY: every machine runs it; loads and stores touch an array of four values, or `n` of them.
unsafe impl Simd for Portable {
    type V = [f32; 4];

    const LANES: usize = 4;
    const MR: usize = 4;

    fn detect() -> Option<Self> {
        Some(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn sqrt(self, a: [f32; 4]) -> [f32; 4] {
        a.map(f32::sqrt)
    }

    // Two roundings: without the instruction, `f32::mul_add` is a slow call into the C library.
    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max_or_nan(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| {
            if a[i] > b[i] || a[i].is_nan() {
                a[i]
            } else {
                b[i]
            }
        })
    }

    #[inline(always)]
    fn if_above_or_nan(self, a: [f32; 4], b: [f32; 4], x: [f32; 4], y: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| {
            if a[i] > b[i] || a[i].is_nan() {
                x[i]
            } else {
                y[i]
            }
        })
    }

    #[inline(always)]
    fn if_equal(self, a: [f32; 4], b: [f32; 4], x: [f32; 4], y: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] == b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 4] {
        // SAFETY: the caller guarantees four values; an array of f32 is aligned like one f32.
        unsafe { p.cast::<[f32; 4]>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; 4]) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<[f32; 4]>().write(v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, n: usize, p: *const f32) -> [f32; 4] {
        let mut v = [0.0; 4];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller guarantees `n` values.
            *lane = unsafe { *p.add(i) };
        }
        v
    }

    #[inline(always)]
    unsafe fn store_first(self, n: usize, p: *mut f32, v: [f32; 4]) {
        for (i, lane) in v.iter().enumerate().take(n) {
            // SAFETY: i < n, and the caller guarantees `n` values.
            unsafe { *p.add(i) = *lane };
        }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: the caller guarantees four rows of four values.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}
