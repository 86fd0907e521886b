//! Rows of values in memory, which kernels compute with in f32.

use half::bf16;

use super::bf16::Bf16;
use super::dot::Dot;
use super::dot_bf16::Bf16Pairs;
use super::vector::Simd;
use crate::dtype::Element;

/// Values of one type in memory, and their tier's registers of f32.
///
/// # Safety
/// As for [`Simd`]: a value is a proof that this machine has the instructions, and reads and writes touch exactly the
/// `n` values that they name.
pub unsafe trait Stored: Copy + Send + Sync + 'static {
    /// The tier of the arithmetic.
    type S: Simd;

    /// The type in memory.
    type T: Element;

    /// Returns the proof without a check.
    ///
    /// # Safety
    /// This machine has the instructions.
    unsafe fn assume() -> Self;

    /// The proof of the tier.
    fn simd(self) -> Self::S;

    /// Runs `f`, compiled with these instructions.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Reads `n` values; other lanes are zero.
    ///
    /// # Safety
    /// `n <= LANES`, and `p` is valid for reading `n` values.
    unsafe fn read(self, n: usize, p: *const Self::T) -> <Self::S as Simd>::V;

    /// Writes the first `n` lanes of `v`, rounded to nearest even.
    ///
    /// # Safety
    /// `n <= LANES`, and `p` is valid for writing `n` values.
    unsafe fn write(self, n: usize, p: *mut Self::T, v: <Self::S as Simd>::V);
}

// SAFETY: the tier is its own proof.
unsafe impl<S: Simd> Stored for S {
    type S = S;
    type T = f32;

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the tier.
        unsafe { S::assume() }
    }

    #[inline(always)]
    fn simd(self) -> S {
        self
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        Simd::vectorize(self, f)
    }

    #[inline(always)]
    unsafe fn read(self, n: usize, p: *const f32) -> S::V {
        // SAFETY: the caller guarantees `n` values.
        unsafe { self.load_up_to(n, p) }
    }

    #[inline(always)]
    unsafe fn write(self, n: usize, p: *mut f32, v: S::V) {
        // SAFETY: the caller guarantees `n` values.
        unsafe { self.store_up_to(n, p, v) };
    }
}

/// The most lanes of a tier.
const MOST: usize = 16;

// SAFETY: the pairs are a proof; reads and writes of fewer than `LANES` values go by way of a copy.
unsafe impl<B: Bf16> Stored for Bf16Pairs<B> {
    type S = B::S;
    type T = bf16;

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the instructions.
        unsafe { <Self as Dot>::assume() }
    }

    #[inline(always)]
    fn simd(self) -> B::S {
        Dot::simd(self)
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        Dot::vectorize(self, f)
    }

    #[inline(always)]
    unsafe fn read(self, n: usize, p: *const bf16) -> <B::S as Simd>::V {
        const { assert!(B::S::LANES <= MOST) };
        // SAFETY: the caller guarantees `n` values, and the copy holds a register.
        unsafe {
            if n == B::S::LANES {
                return self.load_activations(p);
            }
            let mut values = [bf16::ZERO; MOST];
            std::ptr::copy_nonoverlapping(p, values.as_mut_ptr(), n);
            self.load_activations(values.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn write(self, n: usize, p: *mut bf16, v: <B::S as Simd>::V) {
        // SAFETY: the caller guarantees `n` values, and the copy holds a register.
        unsafe {
            if n == B::S::LANES {
                return self.store_activations(p, v);
            }
            let mut values = [bf16::ZERO; MOST];
            self.store_activations(values.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(values.as_ptr(), p, n);
        }
    }
}
