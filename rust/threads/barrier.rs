//! A barrier for layers that take microseconds.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Spins before the core is yielded: some tens of microseconds, about the difference between the
/// shares of a layer.
const SPINS: usize = 1_000;

/// Holds threads until all have arrived; spins for a moment, then yields the core.
///
/// The standard library's barrier puts threads to sleep at once, which costs more than most
/// layers take.
pub struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
    poisoned: AtomicBool,
}

impl Barrier {
    /// Creates a barrier for `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Waits for the others; their earlier writes are visible afterwards. The last thread to arrive
    /// calls `last` before it releases them.
    ///
    /// # Panics
    /// If another thread has called [`Barrier::poison`], and so will never arrive.
    pub fn wait_then(&self, last: impl FnOnce()) {
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            last();
            self.generation.store(generation + 1, Ordering::Release);
            return;
        }
        let mut looks = 0;
        while self.generation.load(Ordering::Acquire) == generation {
            assert!(
                !self.poisoned.load(Ordering::Relaxed),
                "another worker panicked"
            );
            if looks < SPINS {
                looks += 1;
                spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// Tells the others that this thread will never arrive.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_a_round_ahead() {
        const THREADS: usize = 4;
        const ROUNDS: usize = if cfg!(miri) { 5 } else { 200 };
        let barrier = Barrier::new(THREADS);
        let rounds = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        rounds.fetch_add(1, Ordering::Relaxed);
                        barrier.wait_then(|| ());
                        assert_eq!(rounds.load(Ordering::Relaxed), (round + 1) * THREADS);
                        barrier.wait_then(|| ());
                    }
                });
            }
        });
    }

    #[test]
    fn a_poisoned_barrier_lets_nobody_hang() {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait_then(|| ()));
            barrier.poison();
            assert!(waiter.join().is_err());
        });
    }
}
