//! State that a forked child creates again.
//!
//! After `fork` a child has a copy of the parent's memory but none of its threads: a pool has no
//! workers there, and a mutex that another thread held stays locked for ever. So everything
//! with threads or locks lives in a [`ProcessLocal`], which notices that it is in another process, and
//! starts again. The parent's value is left alone, neither used nor dropped.
//!
//! It takes no lock itself: a fork may come while another thread makes the value.

use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::fork::generation;

/// A value for each process, created on first use.
pub struct ProcessLocal<T> {
    /// The entry of the process that asked last: this one's, or that of an ancestor, whose place this
    /// one's takes. An ancestor's stays in memory.
    latest: AtomicPtr<Entry<T>>,
    /// It may cross threads as a `OnceLock` of the value may.
    threads: PhantomData<OnceLock<T>>,
}

struct Entry<T> {
    generation: usize,
    value: T,
}

impl<T: Default> ProcessLocal<T> {
    /// Creates a cell that holds no value yet.
    pub const fn new() -> Self {
        Self {
            latest: AtomicPtr::new(ptr::null_mut()),
            threads: PhantomData,
        }
    }

    /// Returns this process's value, created if there is none. If several threads create it at once, one
    /// value stays and the others are dropped.
    pub fn get(&self) -> &T {
        self.get_in(generation())
    }

    fn get_in(&self, generation: usize) -> &T {
        loop {
            let latest = self.latest.load(Ordering::Acquire);
            // SAFETY: an entry is whole once it is here, and no process frees its own before `self` is
            // dropped.
            if let Some(entry) = unsafe { latest.as_ref() }
                && entry.generation == generation
            {
                return &entry.value;
            }
            let entry = Box::into_raw(Box::new(Entry {
                generation,
                value: T::default(),
            }));
            let placed =
                self.latest
                    .compare_exchange(latest, entry, Ordering::AcqRel, Ordering::Acquire);
            if placed.is_err() {
                // SAFETY: the entry came from a box a moment ago, and no other thread has seen it.
                drop(unsafe { Box::from_raw(entry) });
            }
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
        let latest = *self.latest.get_mut();
        // SAFETY: an entry is whole once it is here, and nobody else has a reference to `self`.
        let is_ours = unsafe { latest.as_ref() }.is_some_and(|e| e.generation == generation());
        // A parent's value cannot be dropped here: its threads do not run in this process.
        if is_ours {
            // SAFETY: the entry came from a box.
            drop(unsafe { Box::from_raw(latest) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
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
        let here = generation();
        // As a child finds it: an entry of an older generation, then one of its own.
        local
            .get_in(here.wrapping_sub(1))
            .store(5, Ordering::Relaxed);
        let parents = local.latest.load(Ordering::Relaxed);
        assert_eq!(local.get().load(Ordering::Relaxed), 0);
        local.get().store(3, Ordering::Relaxed);
        assert_eq!(local.get().load(Ordering::Relaxed), 3);
        free(parents);
    }

    #[test]
    fn the_value_of_this_process_is_dropped_and_a_parents_is_not() {
        #[derive(Default)]
        struct Counted(OnceLock<Arc<()>>);
        let count = Arc::new(());
        let here = generation();
        for (generation, left) in [(here, 1), (here.wrapping_sub(1), 2)] {
            let local: ProcessLocal<Counted> = ProcessLocal::new();
            assert!(local.get_in(generation).0.set(count.clone()).is_ok());
            let entry = local.latest.load(Ordering::Relaxed);
            drop(local);
            assert_eq!(Arc::strong_count(&count), left);
            if generation != here {
                free(entry);
            }
        }
    }

    /// Frees what stays in memory on purpose outside a test, so that the sanitizer finds no leak.
    fn free<T>(parents: *mut Entry<T>) {
        // SAFETY: the entry came from a box, and a `ProcessLocal` frees none of another generation.
        drop(unsafe { Box::from_raw(parents) });
    }
}
