//! Flushing of denormal numbers to zero while kernels run.
//!
//! Arithmetic on denormals takes up to a hundred times longer, and their values are far below the
//! rounding error of any result. On x86-64, two bits of the control register MXCSR make the processor
//! treat them as zero.
//!
//! # Why changing MXCSR is accepted
//!
//! The standard library documents that Rust code must not run with another floating-point mode than
//! the default: the compiler may assume the default mode. Only arithmetic inside one block of inline
//! assembly would be free of doubt, and the kernels are not written in assembly. In practice, the
//! assumption lets the compiler do two things that could go wrong:
//!
//! - *Evaluate an expression at compile time.* Such a result may be a denormal where the processor
//!   would have computed zero. Kernels compute with values that are known only at run time, and
//!   either result is within the accuracy that they promise.
//! - *Move an operation across the change of mode.* An operation of the caller could then run with
//!   denormals flushed, or one of a kernel without. [`flush_denormals`] rules this out: it is never
//!   inlined, so no operation of the caller can move into it, and it calls the closure through a
//!   function pointer that the compiler cannot see through, so no operation of the closure can move out.
//!
//! No other bit is changed: rounding and exceptions stay as they are. The mode belongs to one thread,
//! and the old one is back when [`flush_denormals`] returns or unwinds.
//!
//! The closures that run in this mode are a worker's walk over a plan and two kernels that prepare
//! weights. They do no arithmetic on floats besides that of the kernels: they compute indices, take
//! items of work and wait for each other.
//!
//! The caller of a forward is one of its workers, so its thread changes mode too, for the walk only.
//! A thread of the library's own in its place would have to be woken for each forward, which takes
//! longer than the first layers of a small network, and it would not make the mode any more defined.

use std::hint::black_box;

#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::mxcsr::Flushed;

/// Runs `f` on this thread with denormal operands and results flushed to zero.
///
/// Only kernels, and code without arithmetic on floats, should run in `f`: see the module's
/// documentation. On other processors than x86-64 `f` runs in the mode that it finds.
#[inline(never)]
pub fn flush_denormals<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    let _flushed = Flushed::begin();
    call_opaque(f)
}

/// Calls `f` through a pointer that the compiler knows nothing about, so that it can neither inline
/// the call nor move it.
fn call_opaque<F: FnOnce() -> R, R>(f: F) -> R {
    fn call<F: FnOnce() -> R, R>(f: F) -> R {
        f()
    }
    let pointer: fn(F) -> R = call;
    black_box(pointer)(f)
}

#[cfg(not(miri))]
#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::simd::mxcsr;

    /// Half of the smallest normal number: a denormal, or zero if denormals are flushed.
    fn half_of_smallest() -> f32 {
        black_box(f32::MIN_POSITIVE) / black_box(2.0)
    }

    /// A denormal operand, multiplied to a normal number; zero if denormals are flushed.
    fn multiple_of_denormal() -> f32 {
        black_box(f32::from_bits(1)) * black_box(1e30)
    }

    #[test]
    fn denormals_vanish_inside_and_the_old_mode_is_back_outside() {
        let before = mxcsr::read();
        assert!(half_of_smallest() > 0.0 && multiple_of_denormal() > 0.0);
        let inside = flush_denormals(|| (half_of_smallest(), multiple_of_denormal()));
        assert_eq!(inside, (0.0, 0.0));
        assert!(half_of_smallest() > 0.0 && multiple_of_denormal() > 0.0);
        // The flags of exceptions, the lowest six bits, stay set once they are.
        assert_eq!(mxcsr::read() & !0x3f, before & !0x3f);
    }

    #[test]
    fn the_old_mode_is_back_after_a_panic() {
        let caught = catch_unwind(|| {
            flush_denormals(|| assert!(half_of_smallest() > 0.0, "planted"));
        });
        assert!(caught.is_err());
        assert!(half_of_smallest() > 0.0);
    }

    #[test]
    fn nested_calls_flush_until_the_outer_one_ends() {
        flush_denormals(|| {
            flush_denormals(|| assert_eq!(half_of_smallest(), 0.0));
            assert_eq!(half_of_smallest(), 0.0);
        });
        assert!(half_of_smallest() > 0.0);
    }

    #[test]
    fn other_threads_keep_their_mode() {
        let (ask, asked) = channel();
        // It starts before, because a new thread inherits the mode of the thread that makes it.
        let other = thread::spawn(move || {
            asked.recv().unwrap();
            half_of_smallest()
        });
        flush_denormals(|| {
            ask.send(()).unwrap();
            let half = other.join().unwrap();
            assert_ne!(half.to_bits(), 0);
        });
    }
}
