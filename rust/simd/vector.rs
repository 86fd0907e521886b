//! The vector interface.

/// One tier's vector of `LANES` f32 values and the arithmetic that the kernels need.
///
/// The methods are only fast inside [`Simd::vectorize`]: there the compiler may use the tier's
/// instructions, and each method becomes one of them.
///
/// # Safety
/// The kernels' unsafe code relies on every implementation to keep these promises:
///
/// - A value of the type is a proof that this machine has the tier's instructions. Safe code gets
///   one only from [`Simd::detect`], which checks: the type has no public constructor or field and
///   no `Default`. (The portable tier needs no instructions, so its type may be constructed freely.)
/// - The memory that loads and stores touch is exactly the `LANES` or `n` values that they name, and
///   `V` holds `LANES` values.
pub unsafe trait Simd: Copy + Send + Sync + 'static {
    /// A register of `LANES` f32 values.
    type V: Copy;

    /// The number of f32 values in a register.
    const LANES: usize;

    /// The most rows of output that a convolution tile of two registers' width can hold in this
    /// tier's registers: 2·MR accumulators, two registers of weights and at least one broadcast.
    const MR: usize;

    /// Returns the proof that this machine has the tier, or `None` if it does not.
    fn detect() -> Option<Self>;

    /// Returns the proof without a check.
    ///
    /// # Safety
    /// This machine has the tier.
    unsafe fn assume() -> Self;

    /// Runs `f`, compiled with this tier's instructions.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Returns `x` in every lane.
    fn splat(self, x: f32) -> Self::V;

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a · b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;

    /// `√a`, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;

    /// `a · b + c`; one rounding on tiers with fused multiply-add, two on the portable tier.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `if a > b { a } else { b }` in each lane: `b` if either is NaN, like `maxps`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;

    /// The larger of the two in each lane, NaN if either is NaN, like torch's max pool.
    fn max_or_nan(self, a: Self::V, b: Self::V) -> Self::V;

    /// `if a > b || a.is_nan() { x } else { y }` in each lane.
    fn if_above_or_nan(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;

    /// `if a == b { x } else { y }` in each lane.
    fn if_equal(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;

    /// Loads `LANES` values from `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` values.
    unsafe fn load(self, p: *const f32) -> Self::V;

    /// Stores `v` to `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` values.
    unsafe fn store(self, p: *mut f32, v: Self::V);

    /// Loads the first `n` lanes from `p`; the others are zero.
    ///
    /// # Safety
    /// `n <= LANES`, and `p` is valid for reading `n` values.
    unsafe fn load_first(self, n: usize, p: *const f32) -> Self::V;

    /// Stores the first `n` lanes of `v` to `p`.
    ///
    /// # Safety
    /// `n <= LANES`, and `p` is valid for writing `n` values.
    unsafe fn store_first(self, n: usize, p: *mut f32, v: Self::V);

    /// Loads the first `n` lanes from `p`: with [`load`](Simd::load) if these are all, else with
    /// [`load_first`](Simd::load_first). A caller that knows `n` at compile time pays for no choice.
    ///
    /// # Safety
    /// As for `load_first`.
    #[inline(always)]
    unsafe fn load_up_to(self, n: usize, p: *const f32) -> Self::V {
        // SAFETY: the caller guarantees `n` values.
        unsafe {
            if n == Self::LANES {
                self.load(p)
            } else {
                self.load_first(n, p)
            }
        }
    }

    /// Stores the first `n` lanes of `v` to `p`, as [`load_up_to`](Simd::load_up_to) loads them.
    ///
    /// # Safety
    /// As for `store_first`.
    #[inline(always)]
    unsafe fn store_up_to(self, n: usize, p: *mut f32, v: Self::V) {
        // SAFETY: the caller guarantees `n` values.
        unsafe {
            if n == Self::LANES {
                self.store(p, v);
            } else {
                self.store_first(n, p, v);
            }
        }
    }

    /// Transposes a block of `LANES` rows of `LANES` values: `to[j, i] = from[i, j]`, rows `from_stride` and
    /// `to_stride` values apart.
    ///
    /// # Safety
    /// The rows are valid for reads at `from` and for writes at `to`, and do not overlap.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// Prefetches the cache line at `p` into the second-level cache; `p` may be any address.
    fn prefetch(self, p: *const f32);
}
