//! A team: threads that walk through the same steps together.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::process_local::ProcessLocal;
use super::turn::{Door, Inside, holds_turn};
use super::watch::Watch;
use crate::memory::room;

/// The stack of a worker, as large as the standard library's default, which it would look up in an
/// environment variable.
const STACK_BYTES: usize = 2 << 20;

/// The address space of a worker: its stack, and what the system and the allocator add.
const THREAD_BYTES: usize = STACK_BYTES + (1 << 18);

/// Threads that run one job together, all at once. One for each number of threads in a process,
/// created on first use; the last few are kept.
///
/// A forward is one job: its workers walk through all layers, and wait for the end of each, instead of
/// starting and ending a parallel loop for each of them.
pub struct Team {
    /// The number that was asked for.
    wanted: usize,
    threads: usize,
    /// None for one thread, and if the system refuses to start any thread.
    pool: Option<ThreadPool>,
    /// One job at a time: the workers of two jobs would wait for each other.
    door: Door,
}

/// One thread's part in a job.
#[derive(Clone, Copy)]
pub struct Worker {
    /// This worker, from 0.
    pub index: usize,
    /// The number of workers.
    pub count: usize,
}

impl Worker {
    /// The only worker of a job.
    pub const ALONE: Self = Self { index: 0, count: 1 };
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
        // The caller is a worker too. A system that is short of threads (`ulimit -u`) or of memory
        // gives fewer, in the worst case only the caller's.
        let pool = std::iter::successors(Some(threads - 1), |n| Some(n / 2))
            .take_while(|&n| n > 0)
            .filter(|&n| room::check(n * THREAD_BYTES + room::SMALL, "threads").is_ok())
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
        pool.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, context| {
                job(&Worker {
                    index: context.index() + 1,
                    count,
                });
            });
            job(&Worker { index: 0, count });
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn every_worker_runs_the_job_once() {
        for threads in [1, 2, 5] {
            let (seen, together) = (Mutex::new(Vec::new()), Barrier::new(threads));
            Team::get(threads).run(|worker| {
                assert_eq!(worker.count, threads);
                together.wait();
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
                        let together = Barrier::new(3);
                        Team::get(3).run(|_| {
                            together.wait();
                            total.fetch_add(1, Ordering::Relaxed);
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
        let together = Barrier::new(6);
        first.run(|_| {
            together.wait();
        });
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
            team.run(|worker| assert_ne!(worker.index, 1, "planted"));
        }));
        assert!(caught.is_err());
        let together = Barrier::new(2);
        team.run(|_| {
            together.wait();
        });
    }
}
