//! Items of work, divided among the workers of a team.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::team::Worker;

/// For each step of a plan, the position of each worker in its share of the step's items.
///
/// A worker does its own share first, a run of neighbouring items that it does in every forward,
/// so that a layer finds in its cache what the worker wrote in the layer before; then it helps
/// the others with the rest of their shares.
#[derive(Default)]
pub struct Shares {
    next: Vec<AtomicUsize>,
    workers: usize,
}

impl Shares {
    /// Resets the positions for `steps` steps and `workers` workers; allocates only if there are more
    /// than before.
    pub fn reset(&mut self, steps: usize, workers: usize) {
        self.workers = workers;
        self.next
            .resize_with(self.next.len().max(steps * workers), AtomicUsize::default);
        self.next.iter_mut().for_each(|next| *next.get_mut() = 0);
    }

    /// Calls `work` for the items of `step` that fall to this worker. Over all workers, each of the
    /// `items` is done once.
    pub fn for_each(
        &self,
        step: usize,
        items: usize,
        worker: &Worker,
        mut work: impl FnMut(usize),
    ) {
        let counters = &self.next[step * self.workers..][..worker.count];
        for i in 0..worker.count {
            let owner = (worker.index + i) % worker.count;
            let start = items * owner / worker.count;
            let end = items * (owner + 1) / worker.count;
            loop {
                let item = start + counters[owner].fetch_add(1, Ordering::Relaxed);
                if item >= end {
                    break;
                }
                work(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Team;

    #[test]
    fn each_item_is_done_once() {
        for (threads, items) in [(1, 5), (3, 0), (3, 2), (3, 100)] {
            let mut shares = Shares::default();
            shares.reset(2, threads);
            let done: Vec<_> = (0..2 * items).map(|_| AtomicUsize::new(0)).collect();
            Team::get(threads).run(|worker| {
                for step in 0..2 {
                    shares.for_each(step, items, worker, |item| {
                        done[step * items + item].fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}
