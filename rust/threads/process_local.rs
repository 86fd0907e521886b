//! State that a forked child creates again.
//!
//! After `fork` a child has a copy of the parent's memory but none of its threads: a pool has no
//! workers there, and a mutex that another thread held stays locked for ever. So everything
//! with threads or locks lives in a [`ProcessLocal`], which notices that it is in another process, and
//! starts again. The parent's value is left alone, neither used nor dropped.

use std::mem;
use std::sync::OnceLock;

/// A value for each process, created on first use: a list with one entry for each generation of
/// forks, and so rarely more than one.
pub struct ProcessLocal<T> {
    first: OnceLock<Box<Generation<T>>>,
}

struct Generation<T> {
    process: u32,
    value: T,
    next: OnceLock<Box<Generation<T>>>,
}

impl<T: Default> ProcessLocal<T> {
    /// Creates a cell that holds no value yet.
    pub const fn new() -> Self {
        Self {
            first: OnceLock::new(),
        }
    }

    /// Returns this process's value, created if there is none.
    pub fn get(&self) -> &T {
        let process = std::process::id();
        let mut slot = &self.first;
        loop {
            let generation = slot.get_or_init(|| {
                Box::new(Generation {
                    process,
                    value: T::default(),
                    next: OnceLock::new(),
                })
            });
            if generation.process == process {
                return &generation.value;
            }
            slot = &generation.next;
        }
    }
}

impl<T: Default> Default for ProcessLocal<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for ProcessLocal<T> {
    fn drop(&mut self) {
        let mut slot = self.first.take();
        while let Some(mut generation) = slot {
            slot = generation.next.take();
            // A parent's value cannot be dropped here: its threads do not run in this process.
            if generation.process != std::process::id() {
                mem::forget(generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn many_threads_see_one_value() {
        let local: ProcessLocal<AtomicUsize> = ProcessLocal::new();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| local.get().fetch_add(1, Ordering::Relaxed));
            }
        });
        assert_eq!(local.get().load(Ordering::Relaxed), 8);
    }

    #[test]
    fn another_process_gets_its_own_value() {
        let local: ProcessLocal<AtomicUsize> = ProcessLocal::new();
        // As a child finds it: a first entry that belongs to another process.
        let parent = Generation {
            process: std::process::id() + 1,
            value: AtomicUsize::new(5),
            next: OnceLock::new(),
        };
        assert!(local.first.set(Box::new(parent)).is_ok());
        assert_eq!(local.get().load(Ordering::Relaxed), 0);
        local.get().store(3, Ordering::Relaxed);
        assert_eq!(local.get().load(Ordering::Relaxed), 3);
    }
}
