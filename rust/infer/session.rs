//! Plans and workspaces that are kept from one forward to the next.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::memory::Buffer;
use crate::plan::Plan;
use crate::shape::Shape;
use crate::threads::Progress;

/// The number of plans that are remembered, by shape and number of threads. A plan is small and
/// made quickly; a program that alternates between more shapes makes some of them again.
const PLANS: usize = 16;

/// The number of forwards after which the workspaces are counted: those beyond the most that ran at once
/// among them are given back.
const WINDOW: usize = 64;

/// Plans by shape, and workspaces.
#[derive(Default)]
pub struct Session {
    plans: Mutex<Vec<Arc<Plan>>>,
    workspaces: Mutex<Workspaces>,
}

/// The workspaces that no forward is using, and the numbers that bound them.
#[derive(Default)]
struct Workspaces {
    /// The one that was used last is at the end.
    idle: Vec<Workspace>,
    /// Forwards that run now.
    running: usize,
    /// The most that ran at once since the last count.
    most: usize,
    /// Forwards that have ended since the last count.
    ended: usize,
}

impl Workspaces {
    fn take(&mut self) -> Workspace {
        self.running += 1;
        self.most = self.most.max(self.running);
        self.idle.pop().unwrap_or_default()
    }

    /// Takes a workspace back, and returns those that are too many.
    fn put(&mut self, workspace: Workspace) -> Vec<Workspace> {
        self.idle.push(workspace);
        self.running -= 1;
        self.ended += 1;
        if self.ended < WINDOW {
            return Vec::new();
        }
        let surplus = (self.idle.len() + self.running).saturating_sub(self.most);
        (self.most, self.ended) = (self.running, 0);
        self.idle.drain(..surplus.min(self.idle.len())).collect()
    }
}

/// The memory that one forward writes to. Each of several simultaneous forwards has its own. It grows to
/// the largest shape so far, so memory does not grow with the number of shapes.
#[derive(Default)]
pub struct Workspace {
    arena: Option<Buffer>,
    /// How far a team has come.
    pub progress: Progress,
}

impl Workspace {
    /// Returns an arena of at least `bytes` bytes.
    ///
    /// # Errors
    /// The system does not have that much memory.
    pub fn arena(&mut self, bytes: usize) -> Result<&mut Buffer, Error> {
        if self.arena.as_ref().is_none_or(|arena| arena.len() < bytes) {
            // The old one is freed before the larger one is allocated.
            self.arena = None;
            self.arena = Some(Buffer::new(bytes, "activations")?);
        }
        self.arena
            .as_mut()
            .ok_or_else(|| Error::OutOfMemory("activations: no arena".into()))
    }
}

impl Session {
    /// Returns the plan for `shape` and `threads` threads; calls `make` if it is not remembered.
    ///
    /// # Errors
    /// `make` fails.
    pub fn plan(
        &self,
        shape: Shape,
        threads: usize,
        make: impl FnOnce() -> Result<Plan, Error>,
    ) -> Result<Arc<Plan>, Error> {
        let mut plans = lock(&self.plans);
        let is_same = |plan: &Arc<Plan>| plan.shape == shape && plan.threads == threads;
        let plan = match plans.iter().position(is_same) {
            Some(at) => plans.remove(at),
            None => Arc::new(make()?),
        };
        // The most recently used plan is last; the least recently used one is dropped.
        if plans.len() == PLANS {
            plans.remove(0);
        }
        plans.push(plan.clone());
        Ok(plan)
    }

    /// Runs `f` with a workspace that no other forward uses meanwhile.
    pub fn with_workspace<R>(&self, f: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut workspace = Returned {
            workspaces: &self.workspaces,
            workspace: lock(&self.workspaces).take(),
        };
        f(&mut workspace.workspace)
    }

    /// Drops plans and workspaces; running forwards keep theirs.
    pub fn release(&self) {
        lock(&self.plans).clear();
        lock(&self.workspaces).idle.clear();
    }
}

/// A workspace that goes back on drop, also if a forward panics.
struct Returned<'a> {
    workspaces: &'a Mutex<Workspaces>,
    workspace: Workspace,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let surplus = lock(self.workspaces).put(mem::take(&mut self.workspace));
        // Freed without the lock.
        drop(surplus);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave the lists under these locks in an invalid state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::layer::{Layer, Op};
    use crate::kernels::KernelTable;
    use crate::plan::{Algorithm, Arithmetic, Grouping, LayerWeights};

    const SHAPE: Shape = Shape {
        batch: 1,
        height: 2,
        width: 3,
    };

    /// The plan of a network that is one pool.
    fn plan(threads: usize) -> Plan {
        let layers = [Layer {
            name: "avgpool".into(),
            output: 1,
            op: Op::AvgPool(0, None),
        }];
        let table = KernelTable::available().next().unwrap();
        let kernels = table.shapes();
        let weights =
            LayerWeights::lay_out(&layers, &[Arithmetic::f32(Algorithm::Direct)], &kernels);
        Plan::new(
            &layers,
            &weights,
            SHAPE,
            3,
            &kernels,
            threads,
            Grouping::Whole,
        )
    }

    #[test]
    fn a_plan_is_remembered_for_its_shape_and_threads_until_release() {
        let session = Session::default();
        let get = |threads| session.plan(SHAPE, threads, || Ok(plan(threads))).unwrap();
        let (first, other) = (get(1), get(2));
        let again = session.plan(SHAPE, 1, || panic!("it is remembered"));
        let again = again.unwrap();
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        session.release();
        assert!(!Arc::ptr_eq(&first, &get(1)));
    }

    #[test]
    fn the_plan_that_was_used_least_recently_is_forgotten() {
        let session = Session::default();
        for threads in 1..=PLANS {
            session.plan(SHAPE, threads, || Ok(plan(threads))).unwrap();
        }
        session
            .plan(SHAPE, 1, || panic!("it is remembered"))
            .unwrap();
        session
            .plan(SHAPE, PLANS + 1, || Ok(plan(PLANS + 1)))
            .unwrap();
        session
            .plan(SHAPE, 1, || panic!("it was used after the second"))
            .unwrap();
        let mut is_made = false;
        let make = || {
            is_made = true;
            Ok(plan(2))
        };
        session.plan(SHAPE, 2, make).unwrap();
        assert!(is_made);
    }

    #[test]
    fn a_workspace_is_used_again_until_release() {
        let session = Session::default();
        let start = |len| {
            session.with_workspace(|workspace| {
                let arena = workspace.arena(len).unwrap();
                let before = arena[0];
                arena[0] = 7;
                (before, arena.len())
            })
        };
        assert_eq!(start(100), (0, 100));
        assert_eq!(start(50), (7, 100));
        assert_eq!(start(101), (0, 101));
        session.release();
        assert_eq!(start(50), (0, 50));
    }

    #[test]
    fn workspaces_beyond_those_that_ran_at_once_are_given_back() {
        let session = Session::default();
        let idle = || lock(&session.workspaces).idle.len();
        session.with_workspace(|_| {
            session.with_workspace(|_| session.with_workspace(|_| ()));
        });
        assert_eq!(idle(), 3);
        let alone = |times| (0..times).for_each(|_| session.with_workspace(|_| ()));
        // The burst counts in its own window, and no more in the next one.
        alone(WINDOW - 3);
        assert_eq!(idle(), 3);
        alone(WINDOW);
        assert_eq!(idle(), 1);
        // Two at once keep two.
        for _ in 0..WINDOW {
            session.with_workspace(|_| session.with_workspace(|_| ()));
        }
        assert_eq!(idle(), 2);
    }

    #[test]
    fn a_forward_that_panics_gives_its_workspace_back() {
        let session = Session::default();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            session.with_workspace(|_| panic!("planted"));
        }));
        assert!(caught.is_err());
        let workspaces = lock(&session.workspaces);
        assert_eq!((workspaces.idle.len(), workspaces.running), (1, 0));
    }
}
