//! Plans and workspaces that are kept from one forward to the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::memory::Buffer;
use crate::plan::Plan;
use crate::shape::Shape;
use crate::threads::Shares;

/// The number of plans that are remembered, by shape and number of threads. A plan is small and
/// made quickly; a program that alternates between more shapes makes some of them again.
const PLANS: usize = 16;

/// Plans by shape, and workspaces that no forward is using.
#[derive(Default)]
pub struct Session {
    plans: Mutex<Vec<Arc<Plan>>>,
    workspaces: Mutex<Vec<Workspace>>,
}

/// The memory that one forward writes to. Each of several simultaneous forwards has its own. It grows to
/// the largest shape so far, so memory does not grow with the number of shapes.
#[derive(Default)]
pub struct Workspace {
    arena: Option<Buffer>,
    /// The position of each worker in each step.
    pub shares: Shares,
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
    pub fn plan(&self, shape: Shape, threads: usize, make: impl FnOnce() -> Plan) -> Arc<Plan> {
        let mut plans = lock(&self.plans);
        let is_same = |plan: &Arc<Plan>| plan.shape == shape && plan.threads == threads;
        let plan = match plans.iter().position(is_same) {
            Some(at) => plans.remove(at),
            None => Arc::new(make()),
        };
        // The most recently used plan is last; the least recently used one is dropped.
        if plans.len() == PLANS {
            plans.remove(0);
        }
        plans.push(plan.clone());
        plan
    }

    /// Runs `f` with a workspace that no other forward uses meanwhile.
    pub fn with_workspace<R>(&self, f: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
        let result = f(&mut workspace);
        lock(&self.workspaces).push(workspace);
        result
    }

    /// Drops plans and workspaces; running forwards keep theirs.
    pub fn release(&self) {
        lock(&self.plans).clear();
        lock(&self.workspaces).clear();
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
    use crate::plan::{Algorithm, Grouping, LayerWeights};

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
        let weights = LayerWeights::lay_out(&layers, &[Algorithm::Direct], &kernels);
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
        let first = session.plan(SHAPE, 1, || plan(1));
        let other = session.plan(SHAPE, 2, || plan(2));
        let again = session.plan(SHAPE, 1, || panic!("it is remembered"));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        session.release();
        assert!(!Arc::ptr_eq(&first, &session.plan(SHAPE, 1, || plan(1))));
    }

    #[test]
    fn the_plan_that_was_used_least_recently_is_forgotten() {
        let session = Session::default();
        for threads in 1..=PLANS {
            session.plan(SHAPE, threads, || plan(threads));
        }
        session.plan(SHAPE, 1, || panic!("it is remembered"));
        session.plan(SHAPE, PLANS + 1, || plan(PLANS + 1));
        session.plan(SHAPE, 1, || panic!("it was used after the second"));
        let mut is_made = false;
        session.plan(SHAPE, 2, || {
            is_made = true;
            plan(2)
        });
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
}
