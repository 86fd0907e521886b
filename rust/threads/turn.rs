//! Turns: the right to be the only caller of a team.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::watch::Watch;

/// A door that one caller at a time passes.
#[derive(Default)]
pub(super) struct Door {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    is_taken: bool,
    waiting: usize,
}

thread_local! {
    /// True while this thread holds a turn of any team.
    static HOLDS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// True if this thread holds a turn of a team. It cannot wait for another one: two threads could wait
/// for each other, and a thread for itself.
pub(super) fn holds_turn() -> bool {
    HOLDS_TURN.get()
}

impl Door {
    /// Waits for the door; returns None if the caller that `watch` asks does not want to wait on.
    pub(super) fn pass(&self, watch: Option<&Watch>) -> Option<Inside<'_>> {
        let mut state = self.lock();
        state.waiting += 1;
        while state.is_taken {
            let Some(watch) = watch else {
                state = self
                    .opened
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.opened.wait_timeout(state, watch.pause());
            // The caller is asked without the lock: it may do anything then.
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            let gives_up = watch.poll();
            state = self.lock();
            if gives_up {
                state.waiting -= 1;
                // It may have been woken in place of another one.
                self.opened.notify_one();
                return None;
            }
        }
        state.waiting -= 1;
        state.is_taken = true;
        HOLDS_TURN.set(true);
        Some(Inside {
            door: self,
            stays_on_its_thread: PhantomData,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has passed a door; opens it for the next on drop.
pub(super) struct Inside<'a> {
    door: &'a Door,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        HOLDS_TURN.set(false);
        let mut state = self.door.lock();
        state.is_taken = false;
        if state.waiting > 0 {
            self.door.opened.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_caller_at_a_time_is_inside() {
        const CALLS: usize = if cfg!(miri) { 3 } else { 200 };
        let door = Door::default();
        let (inside, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..CALLS {
                        let _turn = door.pass(None).unwrap();
                        assert!(holds_turn());
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        total.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * CALLS);
        assert!(!holds_turn());
    }

    #[test]
    fn a_caller_that_gives_up_waits_no_longer() {
        let door = Door::default();
        let turn = door.pass(None).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| door.pass(Some(&Watch::new(&|| false))).is_none());
            assert!(waiter.join().unwrap());
        });
        drop(turn);
        assert!(door.pass(None).is_some());
    }
}
