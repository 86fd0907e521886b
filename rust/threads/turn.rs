//! Turns: the right to be the only caller of a team.

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::watch::Watch;

/// The time after which a caller that waits is no longer overtaken by one that comes back at once. Without
/// any such time a team would idle between short forwards until the next caller is awake; with a
/// long one, a few callers would take all turns.
const PATIENCE: Duration = Duration::from_millis(1);

/// A door that one caller at a time passes, in the order in which they came. The fair mutex of `parking_lot` does
/// not survive a fork: its queues lie in a table of the process, which may be locked at that moment.
#[derive(Default)]
pub(super) struct Door {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_taken: bool,
    /// Callers that wait, the one that came first at the front.
    queue: VecDeque<Waiting>,
    /// The number of callers that have ever waited.
    tickets: u64,
}

struct Waiting {
    ticket: u64,
    since: Instant,
    thread: Thread,
}

impl State {
    fn enqueue(&mut self) -> u64 {
        self.tickets += 1;
        self.queue.push_back(Waiting {
            ticket: self.tickets,
            since: Instant::now(),
            thread: thread::current(),
        });
        self.tickets
    }
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
        if !state.is_taken {
            state.is_taken = true;
            return Some(Inside::new(self));
        }
        let ticket = state.enqueue();
        loop {
            // The caller is asked without the lock: it may do anything then.
            drop(state);
            match watch {
                None => thread::park(),
                Some(watch) => thread::park_timeout(watch.pause()),
            }
            let gives_up = watch.is_some_and(Watch::poll);
            state = self.lock();
            let at = state.queue.iter().position(|w| w.ticket == ticket);
            match at {
                Some(at) if !state.is_taken => {
                    state.queue.remove(at);
                    state.is_taken = true;
                }
                Some(at) if gives_up => {
                    state.queue.remove(at);
                    return None;
                }
                Some(_) => continue,
                // The last caller has handed its turn on.
                None => {}
            }
            drop(state);
            let inside = Inside::new(self);
            return (!gives_up).then_some(inside);
        }
    }

    fn open(&self) {
        let mut state = self.lock();
        let front = state.queue.front();
        let next = front.map(|waiting| waiting.thread.clone());
        if front.is_some_and(|waiting| waiting.since.elapsed() >= PATIENCE) {
            state.queue.pop_front();
        } else {
            state.is_taken = false;
        }
        drop(state);
        if let Some(thread) = next {
            thread.unpark();
        }
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

impl<'a> Inside<'a> {
    fn new(door: &'a Door) -> Self {
        HOLDS_TURN.set(true);
        Self {
            door,
            stays_on_its_thread: PhantomData,
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        HOLDS_TURN.set(false);
        self.door.open();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn a_caller_that_waits_is_not_overtaken() {
        let door = Door::default();
        let (waits, order) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let turn = door.pass(None).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                waits.store(1, Ordering::Relaxed);
                let _turn = door.pass(None).unwrap();
                order.lock().unwrap().push("the one that waited");
            });
            while waits.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(50));
            drop(turn);
            let _turn = door.pass(None).unwrap();
            order.lock().unwrap().push("the one that came back");
        });
        let expected = ["the one that waited", "the one that came back"];
        assert_eq!(*order.lock().unwrap(), expected);
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
