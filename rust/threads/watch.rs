//! A caller's means to end its call early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time between two questions. Asking may mean to wait for a lock, such as Python's.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the caller of a long computation from time to time if it should go on.
///
/// Only the caller's own thread asks; the other workers see the answer.
pub struct Watch<'a> {
    goes_on: &'a (dyn Fn() -> bool + Sync),
    begin: Instant,
    /// The time of the next question, in nanoseconds from the beginning.
    next: AtomicU64,
    stopped: AtomicBool,
}

impl<'a> Watch<'a> {
    /// Starts the clock; `goes_on` is asked the first time after a pause.
    pub fn new(goes_on: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            goes_on,
            begin: Instant::now(),
            next: AtomicU64::new(PAUSE.as_nanos() as u64),
            stopped: AtomicBool::new(false),
        }
    }

    /// Asks if it is time to, and returns true if the computation should stop.
    pub fn poll(&self) -> bool {
        let nanoseconds = || self.begin.elapsed().as_nanos() as u64;
        if !self.is_stopped() && nanoseconds() >= self.next.load(Ordering::Relaxed) {
            if !(self.goes_on)() {
                self.stopped.store(true, Ordering::Relaxed);
            }
            let next = nanoseconds() + PAUSE.as_nanos() as u64;
            self.next.store(next, Ordering::Relaxed);
        }
        self.is_stopped()
    }

    /// True if the caller has said that the computation should stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The longest time to sleep between two calls of [`Watch::poll`].
    pub(super) fn pause(&self) -> Duration {
        PAUSE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn the_caller_is_asked_after_each_pause_until_it_says_no() {
        let asked = AtomicUsize::new(0);
        let goes_on = || asked.fetch_add(1, Ordering::Relaxed) == 0;
        let watch = Watch::new(&goes_on);
        assert!(!watch.poll() && asked.load(Ordering::Relaxed) == 0);
        // A thread that waits sleeps until it is time to ask.
        thread::sleep(watch.pause());
        assert!(!watch.poll() && !watch.poll());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        thread::sleep(PAUSE);
        assert!(watch.poll() && watch.is_stopped());
        thread::sleep(PAUSE);
        assert!(watch.poll());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
