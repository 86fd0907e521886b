//! A signal for work that takes microseconds.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[cfg(not(target_family = "wasm"))]
use atomic_wait::{wait, wake_all};

/// The time to spin before a thread sleeps: about the difference between the shares of a layer. Putting a
/// thread to sleep and waking it takes as long.
const SPIN: Duration = Duration::from_micros(50);

/// Looks between two looks at the clock.
const LOOKS: usize = 32;

const WAITED_FOR: u32 = 0;
/// Waited for, by a thread that sleeps.
const SLEPT_FOR: u32 = 1;
const GIVEN: u32 = 2;

/// A signal that is given once, and that threads wait for. They spin for a moment, then they sleep, and
/// leave the core to others.
#[derive(Default)]
pub(super) struct Signal(AtomicU32);

impl Signal {
    /// True if it has been given; then all that was written before is visible.
    pub(super) fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire) == GIVEN
    }

    /// Gives the signal.
    pub(super) fn give(&self) {
        if self.0.swap(GIVEN, Ordering::Release) == SLEPT_FOR {
            wake_all(&self.0);
        }
    }

    /// Waits until it is given; what was written before is visible afterwards.
    pub(super) fn wait(&self) {
        if self.is_given_soon() {
            return;
        }
        while !self.is_given() {
            // Fails if it is given now, or if others sleep already.
            let _ = self.0.compare_exchange(
                WAITED_FOR,
                SLEPT_FOR,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            wait(&self.0, SLEPT_FOR);
        }
    }

    fn is_given_soon(&self) -> bool {
        let mut begin = None;
        loop {
            for _ in 0..LOOKS {
                if self.is_given() {
                    return true;
                }
                spin_loop();
            }
            if begin.get_or_insert_with(Instant::now).elapsed() >= SPIN {
                return false;
            }
        }
    }
}

/// A stand-in: there are no threads.
#[cfg(target_family = "wasm")]
fn wait(_: &AtomicU32, _: u32) {
    std::thread::yield_now();
}

#[cfg(target_family = "wasm")]
fn wake_all(_: &AtomicU32) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_spin_and_threads_that_sleep_see_it() {
        for pause in [Duration::ZERO, 4 * SPIN, 400 * SPIN] {
            let (signal, written) = (Signal::default(), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        signal.wait();
                        assert!(signal.is_given());
                        assert_eq!(written.load(Ordering::Relaxed), 7);
                    });
                }
                thread::sleep(pause);
                assert!(!signal.is_given());
                written.store(7, Ordering::Relaxed);
                signal.give();
            });
            signal.wait();
        }
    }
}
