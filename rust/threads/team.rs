//! A team: threads that walk through the same steps together.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::barrier::Barrier;
use super::process_local::ProcessLocal;
use super::turn::{Door, Inside, holds_turn};
use super::watch::Watch;

/// The stack of a worker, as large as the standard library's default, which it would look up in an
/// environment variable.
const STACK_BYTES: usize = 2 << 20;

/// Threads that run one job together, all at once. One for each number of threads in a process,
/// created on first use; the last few are kept.
///
/// A forward is one job: its workers walk through all layers, with a barrier between a layer and
/// the next, instead of starting and ending a parallel loop for each of them.
pub struct Team {
    /// The number that was asked for.
    wanted: usize,
    threads: usize,
    /// None for one thread, and if the system refuses to start any thread.
    pool: Option<ThreadPool>,
    /// One job at a time: the workers of two jobs would wait for each other at their barriers.
    door: Door,
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

/// The number of teams that are kept. Each has threads; a program that alternates between more numbers of
/// threads makes some teams again.
const TEAMS_KEPT: usize = 4;

/// The team that was used last is at the end.
static TEAMS: ProcessLocal<Mutex<Vec<Arc<Team>>>> = ProcessLocal::new();

impl Team {
    /// This process's team of `threads` threads.
    pub fn get(threads: usize) -> Arc<Self> {
        let mut teams = TEAMS.get().lock().unwrap_or_else(PoisonError::into_inner);
        let team = match teams.iter().position(|team| team.wanted == threads) {
            Some(at) => teams.remove(at),
            None => Arc::new(Self::new(threads)),
        };
        // Threads of a team that is dropped end when its last job has.
        if teams.len() == TEAMS_KEPT {
            teams.remove(0);
        }
        teams.push(team.clone());
        team
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
            wanted: threads,
            threads: 1 + pool.as_ref().map_or(0, ThreadPool::current_num_threads),
            pool,
            door: Door::default(),
        }
    }

    /// The number of threads, the caller's included; fewer than asked for if the system has no more.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Waits until no other caller uses the team.
    ///
    /// A caller that is already a worker of a rayon pool, or has a turn, does not wait and works
    /// alone: there is parallelism outside, and the job could wait for itself.
    ///
    /// Returns None if the caller that `watch` asks does not want to wait on.
    pub fn turn(&self, watch: Option<&Watch>) -> Option<Turn<'_>> {
        let works_alone = holds_turn() || rayon::current_thread_index().is_some();
        let pool = match &self.pool {
            Some(pool) if !works_alone => Some((pool, self.door.pass(watch)?)),
            _ => None,
        };
        let threads = if pool.is_some() { self.threads } else { 1 };
        Some(Turn { threads, pool })
    }

    /// Takes a turn for one job.
    pub fn run(&self, job: impl Fn(&Worker) + Sync) {
        // Without a watch there is always a turn.
        if let Some(turn) = self.turn(None) {
            turn.run(job);
        }
    }
}

/// The right to be the only caller of a team, until it is dropped.
pub struct Turn<'a> {
    threads: usize,
    /// None if the caller works alone.
    pool: Option<(&'a ThreadPool, Inside<'a>)>,
}

impl Turn<'_> {
    /// The number of workers, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job` on every worker at once and waits for all of them. The caller is worker 0.
    pub fn run(&self, job: impl Fn(&Worker) + Sync) {
        let Some((pool, _)) = &self.pool else {
            return job(&Worker::ALONE);
        };
        let count = self.threads;
        let barrier = Barrier::new(count);
        let work = |index: usize| {
            let _poison = PoisonOnPanic(&barrier);
            job(&Worker {
                index,
                count,
                barrier: Some(&barrier),
            });
        };
        pool.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, context| work(context.index() + 1));
            work(0);
        });
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
    fn a_caller_that_has_a_turn_runs_other_jobs_alone() {
        let team = Team::get(3);
        let turn = team.turn(None).unwrap();
        team.run(|worker| assert_eq!(worker.count, 1));
        Team::get(2).run(|worker| assert_eq!(worker.count, 1));
        turn.run(|worker| assert_eq!(worker.count, 3));
        drop(turn);
        team.run(|worker| assert_eq!(worker.count, 3));
    }

    #[test]
    fn the_teams_that_were_used_last_are_kept() {
        let first = Team::get(6);
        for threads in 7..7 + TEAMS_KEPT {
            drop(Team::get(threads));
        }
        assert!(!Arc::ptr_eq(&first, &Team::get(6)));
        assert!(TEAMS.get().lock().unwrap().len() <= TEAMS_KEPT);
        // A team that is no longer kept still does its job.
        first.run(|worker| worker.wait());
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
