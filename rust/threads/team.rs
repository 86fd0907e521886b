//! A team: threads that walk through the same steps together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::barrier::Barrier;
use super::process_local::ProcessLocal;

/// The stack of a worker, as large as the standard library's default, which it would look up in an
/// environment variable.
const STACK_BYTES: usize = 2 << 20;

/// Threads that run one job together, all at once. One for each number of threads in a process,
/// created on first use and kept.
///
/// A forward is one job: its workers walk through all layers, with a barrier between a layer and
/// the next, instead of starting and ending a parallel loop for each of them.
pub struct Team {
    threads: usize,
    /// None for one thread, and if the system refuses to start any thread.
    pool: Option<ThreadPool>,
    /// One job at a time: the workers of two jobs would wait for each other at their barriers.
    turn: Mutex<()>,
}

/// One thread's part in a job.
pub struct Worker<'a> {
    /// This worker, from 0.
    pub index: usize,
    /// The number of workers.
    pub count: usize,
    barrier: Option<&'a Barrier>,
}

impl Worker<'_> {
    /// The only worker of a job.
    pub const ALONE: Worker<'static> = Worker {
        index: 0,
        count: 1,
        barrier: None,
    };

    /// Waits until all workers have arrived here.
    pub fn wait(&self) {
        self.wait_then(|| ());
    }

    /// Waits until all workers have arrived here; the last one calls `last` before any goes on.
    pub fn wait_then(&self, last: impl FnOnce()) {
        match self.barrier {
            Some(barrier) => barrier.wait_then(last),
            None => last(),
        }
    }
}

static TEAMS: ProcessLocal<Mutex<HashMap<usize, Arc<Team>>>> = ProcessLocal::new();

impl Team {
    /// This process's team of `threads` threads.
    pub fn get(threads: usize) -> Arc<Self> {
        let mut teams = TEAMS.get().lock().unwrap_or_else(PoisonError::into_inner);
        teams
            .entry(threads)
            .or_insert_with(|| Arc::new(Self::new(threads)))
            .clone()
    }

    fn new(threads: usize) -> Self {
        // The caller is a worker too. A system that is short of threads (`ulimit -u`) gives
        // fewer, in the worst case only the caller's.
        let pool = std::iter::successors(Some(threads - 1), |n| Some(n / 2))
            .take_while(|&n| n > 0)
            .find_map(|n| {
                ThreadPoolBuilder::new()
                    .num_threads(n)
                    .stack_size(STACK_BYTES)
                    .thread_name(|i| format!("resnet_rs-{}", i + 1))
                    .build()
                    .ok()
            });
        Self {
            threads: 1 + pool.as_ref().map_or(0, ThreadPool::current_num_threads),
            pool,
            turn: Mutex::new(()),
        }
    }

    /// The number of threads, the caller's included; fewer than asked for if the system has no more.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job` on every worker at once and waits for all of them.
    ///
    /// If the caller is already a worker of a rayon pool, it runs the job alone: there is parallelism
    /// outside, and the job could wait for itself.
    pub fn run(&self, job: impl Fn(&Worker) + Sync) {
        match &self.pool {
            Some(pool) if rayon::current_thread_index().is_none() => {
                let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                let barrier = Barrier::new(self.threads);
                let work = |index: usize| {
                    let _poison = PoisonOnPanic(&barrier);
                    job(&Worker {
                        index,
                        count: self.threads,
                        barrier: Some(&barrier),
                    });
                };
                pool.in_place_scope(|scope| {
                    scope.spawn_broadcast(|_, context| work(context.index() + 1));
                    work(0);
                });
            }
            _ => job(&Worker::ALONE),
        }
    }
}

/// Tells the other workers if one panics, so that they do not wait for it.
struct PoisonOnPanic<'a>(&'a Barrier);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.poison();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_worker_runs_the_job_once() {
        for threads in [1, 2, 5] {
            let seen = Mutex::new(Vec::new());
            Team::get(threads).run(|worker| {
                assert_eq!(worker.count, threads);
                worker.wait();
                seen.lock().unwrap().push(worker.index);
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..threads).collect::<Vec<_>>());
        }
    }

    #[test]
    fn callers_from_many_threads_take_turns() {
        const JOBS: usize = if cfg!(miri) { 2 } else { 50 };
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..JOBS {
                        Team::get(3).run(|worker| {
                            worker.wait();
                            total.fetch_add(1, Ordering::Relaxed);
                            worker.wait();
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 6 * JOBS * 3);
    }

    #[test]
    fn a_rayon_worker_runs_the_job_alone() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| Team::get(4).run(|worker| assert_eq!(worker.count, 1)));
    }

    #[test]
    fn a_panic_in_one_worker_reaches_the_caller_and_the_team_lives_on() {
        let team = Team::get(2);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run(|worker| {
                assert_ne!(worker.index, 1, "planted");
                worker.wait();
            });
        }));
        assert!(caught.is_err());
        team.run(|worker| worker.wait());
    }
}
