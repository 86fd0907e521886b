//! Products of pairs of bf16 values, with sums in f32.
//!
//! A bf16 value is the upper half of an f32 value. The instruction of AVX512_BF16 (`vdpbf16ps`) multiplies
//! pairs: each 32-bit lane holds two neighbours of K, and the sum of their two products goes to the lane's f32
//! accumulator. The [`Emulated`](super::Emulated) pairs compute the same in plain Rust on every tier, for tests.

use super::vector::Simd;

/// One tier's pairs of bf16 values.
///
/// # Safety
/// As for [`Simd`]: a value is a proof that this machine has the instructions, and loads and stores touch exactly
/// `LANES` pairs.
pub unsafe trait Bf16: Copy + Send + Sync + 'static {
    /// The tier of the sums in f32.
    type S: Simd;

    /// A register of `S::LANES` pairs.
    type P: Copy;

    /// Returns the proof without a check.
    ///
    /// # Safety
    /// This machine has the instructions.
    unsafe fn assume() -> Self;

    /// The proof of the tier.
    fn simd(self) -> Self::S;

    /// Runs `f`, compiled with these instructions.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Returns `pair` in every lane.
    fn splat_pair(self, pair: u32) -> Self::P;

    /// Loads `LANES` pairs from `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` pairs.
    unsafe fn load_pairs(self, p: *const u32) -> Self::P;

    /// Stores `LANES` pairs to `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` pairs.
    unsafe fn store_pairs(self, p: *mut u32, v: Self::P);

    /// Stores the first `n` pairs of `v` to `p`.
    ///
    /// # Safety
    /// `n <= LANES`, and `p` is valid for writing `n` pairs.
    unsafe fn store_first_pairs(self, n: usize, p: *mut u32, v: Self::P);

    /// Rounds the values of `a`, then those of `b`, to nearest even: neighbours become pairs.
    fn round_row(self, a: Vector<Self>, b: Vector<Self>) -> Self::P;

    /// Rounds to nearest even: lane i becomes the pair of `a[i]` and `b[i]`.
    fn round_lanes(self, a: Vector<Self>, b: Vector<Self>) -> Self::P;

    /// `c + a.first · b.first + a.second · b.second` in each lane, in an order of the tier's own.
    fn dot(self, a: Self::P, b: Self::P, c: Vector<Self>) -> Vector<Self>;
}

/// The f32 register beside the pairs.
pub type Vector<B> = <<B as Bf16>::S as Simd>::V;

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::bf16_emulated::Emulated;
    use super::super::portable::Portable;
    #[cfg(target_arch = "x86_64")]
    use super::super::{avx2::Avx2, avx512::Avx512, bf16_avx512::Avx512Bf16};
    use super::*;

    const MOST: usize = 16;

    const VALUES: [f32; 32] = {
        let mut values = [0.0; 32];
        let mut i = 0;
        while i < 32 {
            values[i] = (i as f32 - 7.3) * 1.001;
            i += 1;
        }
        values
    };

    fn check<B: Bf16>(b: B) {
        let s = b.simd();
        let lanes = B::S::LANES;
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        let halves = |pair: u32| [pair << 16, pair & 0xffff_0000].map(f32::from_bits);
        // SAFETY: the constant holds two registers of each tier, the arrays below one of pairs or values.
        b.vectorize(|| unsafe {
            let (x, y) = (s.load(VALUES.as_ptr()), s.load(VALUES.as_ptr().add(lanes)));
            let (row, both) = (b.round_row(x, y), b.round_lanes(x, y));
            let mut pairs = [[0_u32; MOST]; 2];
            b.store_pairs(pairs[0].as_mut_ptr(), row);
            b.store_pairs(pairs[1].as_mut_ptr(), both);
            // 3 and -5.
            let three = b.splat_pair(0xc0a0_4040);
            let mut sums = [0.0_f32; MOST];
            let sum = b.dot(three, b.load_pairs(pairs[1].as_ptr()), s.splat(0.25));
            s.store(sums.as_mut_ptr(), sum);
            for i in 0..lanes {
                let expected = [VALUES[2 * i], VALUES[2 * i + 1]].map(rounded);
                assert_eq!(halves(pairs[0][i]), expected);
                let expected = [VALUES[i], VALUES[lanes + i]].map(rounded);
                assert_eq!(halves(pairs[1][i]), expected);
                let expected = 0.25 + 3.0 * f64::from(expected[0]) - 5.0 * f64::from(expected[1]);
                assert!((f64::from(sums[i]) - expected).abs() < 1e-5, "{i}");
            }
        });
    }

    #[test]
    fn pairs_are_neighbours_or_lanes_and_their_products_are_summed() {
        check(Emulated::new(Portable));
        #[cfg(target_arch = "x86_64")]
        {
            Avx2::detect()
                .map(Emulated::new)
                .into_iter()
                .for_each(check);
            Avx512::detect()
                .map(Emulated::new)
                .into_iter()
                .for_each(check);
            Avx512Bf16::detect().into_iter().for_each(check);
        }
    }
}
