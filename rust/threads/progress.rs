//! The progress of a team through a plan: items of work, divided among the workers, and the end of each step.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::signal::Signal;

/// For each step of a plan, the position of each worker in its share of the step's items, and a signal
/// when all of them are done.
///
/// A worker does its own share first, a run of neighbouring items that it does in every forward,
/// so that a layer finds in its cache what the worker wrote in the layer before; then it helps
/// the others with the rest of their shares. A step ends with its last item, not with the arrival of the
/// last worker: one that the system has taken from its core keeps the others waiting only for
/// the item in its hands.
#[derive(Default)]
pub struct Progress {
    steps: Vec<StepProgress>,
    next: Vec<Line<AtomicUsize>>,
    poisoned: AtomicBool,
}

/// A cache line of its own, so that no worker waits for a line that another one writes.
#[derive(Default)]
#[repr(align(64))]
struct Line<T>(T);

#[derive(Default)]
#[repr(align(64))]
struct StepProgress {
    first_share: usize,
    shares: usize,
    done: AtomicUsize,
    ended: Signal,
}

impl Progress {
    /// Starts again with a step for each of `shares`, the number of workers that share its items; allocates
    /// only if there are more than before.
    pub fn reset(&mut self, shares: impl Iterator<Item = usize>) {
        self.poisoned = AtomicBool::new(false);
        let (mut steps, mut first_share) = (0, 0);
        for shares in shares {
            let step = StepProgress {
                first_share,
                shares,
                ..StepProgress::default()
            };
            match self.steps.get_mut(steps) {
                Some(old) => *old = step,
                None => self.steps.push(step),
            }
            steps += 1;
            first_share += shares;
        }
        self.steps.truncate(steps);
        self.next
            .resize_with(self.next.len().max(first_share), Line::default);
        self.next[..first_share].fill_with(Line::default);
    }

    /// True if `step` has ended; what the work on its items wrote is visible then.
    pub fn has_ended(&self, step: usize) -> bool {
        self.steps[step].ended.is_given()
    }

    /// Calls `work` for the items of `step` that fall to this worker, the owner of share `share`, and returns
    /// when the step has ended. Over all workers, each of the `items` is done once, and what the work on any of
    /// them wrote is visible afterwards.
    ///
    /// The worker that does the last item calls `last` before any worker goes on.
    ///
    /// # Panics
    /// If `work` or `last` has panicked in another worker, and so the step cannot end.
    pub fn for_each(
        &self,
        step: usize,
        items: usize,
        share: usize,
        work: impl FnMut(usize),
        last: impl FnOnce(),
    ) {
        let StepProgress { done, ended, .. } = &self.steps[step];
        // A worker that comes late looks no further.
        if items == 0 || ended.is_given() {
            return;
        }
        let poison = PoisonOnPanic(self);
        let taken = self.take(step, items, share, work);
        if taken > 0 && done.fetch_add(taken, Ordering::AcqRel) + taken == items {
            last();
            ended.give();
        }
        drop(poison);
        ended.wait();
        assert!(
            !self.poisoned.load(Ordering::Relaxed),
            "another worker panicked"
        );
    }

    /// Does the items of share `share`, then those that are left of the others; returns their number.
    fn take(&self, step: usize, items: usize, share: usize, mut work: impl FnMut(usize)) -> usize {
        let StepProgress {
            first_share,
            shares,
            ..
        } = self.steps[step];
        let positions = &self.next[first_share..][..shares];
        let mut taken = 0;
        for owner in (share..shares).chain(0..share) {
            let start = items * owner / shares;
            let end = items * (owner + 1) / shares;
            loop {
                let item = start + positions[owner].0.fetch_add(1, Ordering::Relaxed);
                if item >= end {
                    break;
                }
                work(item);
                taken += 1;
            }
        }
        taken
    }

    /// Lets nobody wait for items that will never be done.
    fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
        self.steps.iter().for_each(|step| step.ended.give());
    }
}

/// Poisons the progress if the work panics.
struct PoisonOnPanic<'a>(&'a Progress);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.poison();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::threads::Team;

    #[test]
    fn each_item_is_done_once() {
        let mut progress = Progress::default();
        for (threads, items) in [(3, 100), (1, 5), (3, 0), (3, 2)] {
            progress.reset([threads; 2].into_iter());
            let done: Vec<_> = (0..2 * items).map(|_| AtomicUsize::new(0)).collect();
            Team::get(threads).run(|worker| {
                for step in 0..2 {
                    let work = |item: usize| {
                        done[step * items + item].fetch_add(1, Ordering::Relaxed);
                    };
                    progress.for_each(step, items, worker.index, work, || ());
                }
            });
            assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_step_ends_once_and_before_the_next_begins() {
        const STEPS: usize = if cfg!(miri) { 5 } else { 200 };
        const ITEMS: usize = 7;
        let mut progress = Progress::default();
        progress.reset([4; STEPS].into_iter());
        let (done, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Team::get(4).run(|worker| {
            for step in 0..STEPS {
                let work = |_: usize| {
                    assert_eq!(ended.load(Ordering::Relaxed), step);
                    done.fetch_add(1, Ordering::Relaxed);
                };
                progress.for_each(step, ITEMS, worker.index, work, || {
                    assert_eq!(done.load(Ordering::Relaxed), (step + 1) * ITEMS);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(ended.into_inner(), STEPS);
    }

    #[test]
    fn nobody_waits_for_a_worker_without_an_item() {
        let mut progress = Progress::default();
        progress.reset([2; 3].into_iter());
        let done = AtomicUsize::new(0);
        let work = |_: usize| {
            done.fetch_add(1, Ordering::Relaxed);
        };
        // The other worker has not come; later it finds nothing to do.
        (0..3).for_each(|step| progress.for_each(step, 5, 0, work, || ()));
        assert_eq!(done.load(Ordering::Relaxed), 15);
        (0..3).for_each(|step| progress.for_each(step, 5, 1, work, || panic!("it ended")));
        assert_eq!(done.load(Ordering::Relaxed), 15);
    }

    #[test]
    fn nobody_waits_for_items_of_a_worker_that_panicked() {
        let mut progress = Progress::default();
        progress.reset([2].into_iter());
        let has_item = AtomicBool::new(false);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            Team::get(2).run(|worker| {
                let work = |_: usize| {
                    if worker.index == 1 {
                        has_item.store(true, Ordering::Relaxed);
                        panic!("planted");
                    }
                    // So that this worker does not take both items.
                    while !has_item.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                };
                progress.for_each(0, 2, worker.index, work, || ());
            });
        }));
        assert!(caught.is_err());
        // It can be used again.
        progress.reset([2].into_iter());
        Team::get(2).run(|worker| progress.for_each(0, 2, worker.index, |_| (), || ()));
    }
}
