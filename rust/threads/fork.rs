//! The number of forks between a process and the one that started the program.
//!
//! Process ids do not tell a child from its parent: in another pid namespace a child may have the id of
//! an ancestor.

use std::sync::atomic::{AtomicUsize, Ordering};

static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The number of forks that led to this process, counted from the first call on; 0 on systems without
/// fork. Every fork changes it: two processes in one line of descent never have the same number.
pub fn generation() -> usize {
    #[cfg(all(unix, not(miri)))]
    count_forks();
    GENERATION.load(Ordering::Relaxed)
}

/// Has every fork counted in the child.
#[cfg(all(unix, not(miri)))]
fn count_forks() {
    use std::sync::atomic::AtomicBool;

    static ARE_COUNTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn count_in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    if !ARE_COUNTED.load(Ordering::Acquire) {
        // Two threads may both come here; then a fork counts twice, which does no harm. A lock would:
        // a child forked in the middle would find it locked for ever.
        //
        // SAFETY: the handler only adds to an atomic number, which a child may do at once.
        let error = unsafe { libc::pthread_atfork(None, None, Some(count_in_child)) };
        ARE_COUNTED.store(error == 0, Ordering::Release);
    }
}
