//! Flushing of denormal numbers to zero while kernels run.
//!
//! Arithmetic on denormals takes up to a hundred times longer, and their values are far below the
//! rounding error of any result.

/// Flushes denormals on this thread until it is dropped, which restores the thread's mode.
pub struct FlushDenormals {
    #[cfg(target_arch = "x86_64")]
    saved: u32,
    /// The mode belongs to a thread, so this must not move to another.
    _not_send: std::marker::PhantomData<*const ()>,
}

/// Flush-to-zero for results and denormals-are-zero for operands, in MXCSR.
#[cfg(target_arch = "x86_64")]
const FTZ_DAZ: u32 = 1 << 15 | 1 << 6;

impl FlushDenormals {
    /// Starts flushing.
    pub fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            saved: {
                let saved = read_mxcsr();
                write_mxcsr(saved | FTZ_DAZ);
                saved
            },
            _not_send: std::marker::PhantomData,
        }
    }
}

impl Default for FlushDenormals {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for FlushDenormals {
    fn drop(&mut self) {
        write_mxcsr(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
fn read_mxcsr() -> u32 {
    let mut value = 0_u32;
    // SAFETY: stores the control register, which SSE (part of x86-64) has, into `value`.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

#[cfg(target_arch = "x86_64")]
fn write_mxcsr(value: u32) {
    // SAFETY: only ever sets a value read from the register, with the two flush bits added; every
    // x86-64 processor has both.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn denormals_vanish_inside_and_are_back_outside() {
        let halve = || black_box(f32::MIN_POSITIVE) / black_box(2.0);
        assert!(halve() > 0.0);
        {
            let _flush = FlushDenormals::new();
            assert_eq!(halve(), 0.0);
        }
        assert!(halve() > 0.0);
    }
}
