//! The peak speed of this machine's multiply-adds, which kernels are measured against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::simd::{Dot, Simd};

/// Independent sums: enough to keep two units of a latency of four or five cycles busy, and few
/// enough for sixteen registers.
const SUMS: usize = 12;

/// Multiplies and adds `rounds` times in registers alone.
///
/// # Safety
/// The machine has the tier.
type Burn = unsafe fn(rounds: usize) -> f32;

/// The loop whose speed is a tier's peak. Only a proof that this machine has the tier makes it.
#[derive(Clone, Copy)]
pub struct Peak {
    burn: Burn,
    /// Multiply-accumulates of an instruction.
    macs: usize,
}

/// The loop of tier `S`.
///
/// # Safety
/// See [`Burn`].
unsafe fn burn<S: Simd>(rounds: usize) -> f32 {
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            let a = s.splat(black_box(0.5));
            let b = s.splat(black_box(1e-3));
            let mut sums = [b; SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = s.mul_add(*sum, a, b);
                }
            }
            let mut total = sums[0];
            for &sum in &sums[1..] {
                total = s.add(total, sum);
            }
            let mut first = 0.0;
            // SAFETY: `first` is valid for writing one value.
            unsafe { s.store_first(1, &raw mut first, total) };
            first
        },
    )
}

/// The loop of groups of `D`. Each sum is a factor of its own next product, and the other one is zero: so nothing can be
/// computed before the loop, and sums stay what they are.
///
/// # Safety
/// See [`Burn`].
unsafe fn burn_groups<D: Dot>(rounds: usize) -> f32 {
    // SAFETY: the caller guarantees the instructions.
    let d = unsafe { D::assume() };
    d.vectorize(
        #[inline(always)]
        || {
            let start = black_box([0x3f80_3f80_i32; 16]);
            let zeros = black_box([0_i32; 16]);
            let s = d.simd();
            // SAFETY: the arrays hold a register of each tier, and `first` a value.
            unsafe {
                let w = d.load(zeros.as_ptr());
                let mut sums = [d.sums(d.load(start.as_ptr())); SUMS];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = d.dot(d.bits(*sum), w, *sum);
                    }
                }
                let mut total = d.to_f32(sums[0]);
                for &sum in &sums[1..] {
                    total = s.add(total, d.to_f32(sum));
                }
                let mut first = 0.0;
                s.store_first(1, &raw mut first, total);
                first
            }
        },
    )
}

impl Peak {
    /// The peak of `D`.
    pub(super) fn of_groups<D: Dot>(_proof: D) -> Self {
        Self {
            burn: burn_groups::<D>,
            macs: D::S::LANES * D::DEPTH,
        }
    }

    /// The peak of tier `S`.
    pub(super) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            burn: burn::<S>,
            macs: S::LANES,
        }
    }

    /// Measures the multiply-accumulates per second of one thread in registers, the best of a tenth of a
    /// second.
    pub fn measure(&self) -> f64 {
        const ROUNDS: usize = 20_000;
        let macs = (ROUNDS * SUMS * self.macs) as f64;
        let start = Instant::now();
        let mut best = f64::INFINITY;
        while start.elapsed() < Duration::from_millis(100) {
            let begin = Instant::now();
            // SAFETY: having `self` proves the tier.
            black_box(unsafe { (self.burn)(ROUNDS) });
            best = best.min(begin.elapsed().as_secs_f64());
        }
        macs / best
    }
}

#[cfg(test)]
mod tests {
    use crate::kernels::KernelTable;

    #[test]
    #[cfg_attr(miri, ignore = "measures speed")]
    fn every_tier_has_a_peak() {
        for table in KernelTable::available() {
            let peaks = [
                ("f32", table.f32.peak),
                (table.bf16.conv.instructions, table.bf16.peak),
                (table.i16.conv.instructions, table.i16.peak),
                (table.u8.conv.instructions, table.u8.peak),
            ];
            for (what, peak) in peaks {
                let peak = peak.measure();
                println!("{} {what}: {:.1} GMAC/s a thread", table.isa, peak / 1e9);
                assert!(peak > 0.0 && peak.is_finite());
            }
        }
    }
}
