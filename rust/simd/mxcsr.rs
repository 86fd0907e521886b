//! The two bits of x86-64's control register that flush denormals. See `denormals.rs` for the reasons.

use std::arch::asm;

/// Flush-to-zero for results and denormals-are-zero for operands.
const FTZ_DAZ: u32 = 1 << 15 | 1 << 6;

/// The flushing mode of this thread; dropping it restores the mode before, also while a panic unwinds.
pub(super) struct Flushed {
    saved: u32,
}

impl Flushed {
    /// Starts flushing.
    pub(super) fn begin() -> Self {
        let saved = read();
        write(saved | FTZ_DAZ);
        Self { saved }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        write(self.saved);
    }
}

/// Reads the control register.
pub(super) fn read() -> u32 {
    let mut value = 0_u32;
    // SAFETY: stores the control register, which SSE (part of x86-64) has, into `value`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

/// Writes the control register. The block has no `nomem`, so the compiler moves no access to memory
/// across it.
fn write(value: u32) {
    // SAFETY: `value` was read from the register, possibly with the two flush bits added, which every
    // x86-64 processor has; `denormals.rs` says why Rust code may run in that mode.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
}
