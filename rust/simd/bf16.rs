//! Products of pairs of bf16 values, with sums in f32.
//!
//! A bf16 value is the upper half of an f32 value. The instruction of AVX512_BF16 (`vdpbf16ps`) multiplies
//! pairs: each 32-bit lane holds two neighbours of K, and the sum of their two products goes to the lane's f32
//! accumulator. The [`Emulated`](super::Emulated) pairs compute the same in plain Rust on every tier, for tests.

use half::bf16;

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

    /// The proof, or None if this machine lacks the instructions.
    fn detect() -> Option<Self>;

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

    /// Takes a register's bits for f32 values.
    fn values(self, bits: Self::P) -> Vector<Self>;

    /// Takes the bits of f32 values for pairs.
    fn pairs(self, values: Vector<Self>) -> Self::P;

    /// Loads `LANES` values from `p`, which may have any alignment, as f32.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` values.
    unsafe fn load_values(self, p: *const bf16) -> Vector<Self>;

    /// Rounds `v` to nearest even and stores it to `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` values.
    unsafe fn store_values(self, p: *mut bf16, v: Vector<Self>);

    /// Rounds the values of `a`, then those of `b`, to nearest even: neighbours become pairs.
    fn round_row(self, a: Vector<Self>, b: Vector<Self>) -> Self::P;

    /// Rounds to nearest even: lane i becomes the pair of `a[i]` and `b[i]`.
    fn round_lanes(self, a: Vector<Self>, b: Vector<Self>) -> Self::P;

    /// `c + a.second · b.second + a.first · b.first` in each lane: two sums, each rounded to nearest even.
    fn dot(self, a: Self::P, b: Self::P, c: Vector<Self>) -> Vector<Self>;
}

/// The f32 register beside the pairs.
pub type Vector<B> = <<B as Bf16>::S as Simd>::V;

#[cfg(test)]
mod tests {
    use super::super::bf16_emulated::Emulated;
    use super::super::portable::Portable;
    #[cfg(target_arch = "x86_64")]
    use super::super::{
        avx2::Avx2, avx512::Avx512, bf16_avx2::WidenedAvx2, bf16_avx512::Avx512Bf16,
    };
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

    /// Calls a generic function with the pairs of every tier that this machine has.
    macro_rules! for_each_tier {
        ($check:ident) => {
            $check(Emulated::new(Portable));
            #[cfg(target_arch = "x86_64")]
            {
                Emulated::<Avx2>::detect().into_iter().for_each($check);
                Emulated::<Avx512>::detect().into_iter().for_each($check);
                WidenedAvx2::detect().into_iter().for_each($check);
                Avx512Bf16::detect().into_iter().for_each($check);
            }
        };
    }

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
            let mut values = [bf16::ZERO; MOST];
            b.store_values(values.as_mut_ptr(), x);
            let mut sums = [0.0_f32; MOST];
            s.store(sums.as_mut_ptr(), b.load_values(values.as_ptr()));
            for i in 0..lanes {
                assert_eq!(sums[i], rounded(VALUES[i]));
            }
            let bits = b.pairs(b.values(b.load_pairs(pairs[1].as_ptr())));
            s.store(sums.as_mut_ptr(), b.values(bits));
            for i in 0..lanes {
                assert_eq!(sums[i].to_bits(), pairs[1][i]);
            }
            let sum = b.dot(three, b.load_pairs(pairs[1].as_ptr()), s.splat(0.25));
            s.store(sums.as_mut_ptr(), sum);
            for i in 0..lanes {
                let expected = [VALUES[2 * i], VALUES[2 * i + 1]].map(rounded);
                assert_eq!(halves(pairs[0][i]), expected);
                let expected = [VALUES[i], VALUES[lanes + i]].map(rounded);
                assert_eq!(halves(pairs[1][i]), expected);
                let second = 0.25 - 5.0 * expected[1];
                assert_eq!(sums[i], second + 3.0 * expected[0], "{i}");
            }
        });
    }

    #[test]
    fn pairs_are_neighbours_or_lanes_and_their_products_are_summed() {
        for_each_tier!(check);
    }

    /// Results are rounded as `half` rounds: to nearest even, to infinity beyond the range, and NaNs stay NaNs.
    #[test]
    fn values_are_rounded_to_nearest_even() {
        fn check_rounding<B: Bf16>(b: B) {
            let s = b.simd();
            let ties = [
                0x3f80_8000,
                0x3f81_8000,
                0x3f80_8001,
                0xbf80_7fff,
                0x7f7f_8000,
                0x7f7f_7fff,
            ];
            let special = [
                0.0_f32.to_bits(),
                (-0.0_f32).to_bits(),
                f32::INFINITY.to_bits(),
                0x7f80_0001,
                0xffff_ffff,
            ];
            let mut values = [1.0_f32; 2 * MOST];
            for (value, bits) in values.iter_mut().zip(ties.into_iter().chain(special)) {
                *value = f32::from_bits(bits);
            }
            for start in [0, 8] {
                let mut found = [bf16::ZERO; MOST];
                // SAFETY: the arrays hold a register.
                b.vectorize(|| unsafe {
                    b.store_values(found.as_mut_ptr(), s.load(values.as_ptr().add(start)));
                });
                for (found, &value) in found.iter().zip(&values[start..]).take(B::S::LANES) {
                    let expected = bf16::from_f32(value);
                    assert!(
                        found.to_bits() == expected.to_bits() || value.is_nan() && found.is_nan(),
                        "{value:e}: {found} and {expected}"
                    );
                }
            }
        }
        for_each_tier!(check_rounding);
    }
}
