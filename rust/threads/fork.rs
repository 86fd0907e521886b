//! The number of forks between a process and the one that started the program.
//!
//! Process ids do not tell a child from its parent: in another pid namespace a child may have the id of
//! an ancestor.

#[cfg(all(unix, not(miri)))]
pub use unix::generation;

/// The number of forks that led to this process, 0 on systems without fork.
#[cfg(not(all(unix, not(miri))))]
pub fn generation() -> usize {
    0
}

#[cfg(all(unix, not(miri)))]
mod unix {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    static GENERATION: AtomicUsize = AtomicUsize::new(0);
    static COUNTS: AtomicBool = AtomicBool::new(false);

    extern "C" fn count_in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of forks that led to this process, counted from the first call on. Every fork changes
    /// it; two processes in one line of descent never have the same number.
    pub fn generation() -> usize {
        if !COUNTS.load(Ordering::Acquire) {
            // Two threads may both come here; then a fork counts twice, which does no harm. A lock would:
            // a child forked in the middle would find it locked for ever.
            //
            // SAFETY: the handler only adds to an atomic number, which a child may do at once.
            let error = unsafe { libc::pthread_atfork(None, None, Some(count_in_child)) };
            COUNTS.store(error == 0, Ordering::Release);
        }
        GENERATION.load(Ordering::Relaxed)
    }
}
