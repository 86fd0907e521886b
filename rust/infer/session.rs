//! Plans and workspaces that forwards leave for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::memory::Buffer;
use crate::plan::Plan;
use crate::shape::Shape;
use crate::threads::Shares;

/// The number of plans that are remembered, by shape and number of threads. A plan is small and
/// quickly made; a program that uses more shapes than this in turn makes them again.
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
    /// At least `len` elements.
    ///
    /// # Errors
    /// The system does not have that much memory.
    pub fn arena(&mut self, len: usize) -> Result<&mut Buffer, Error> {
        if self.arena.as_ref().is_none_or(|arena| arena.len() < len) {
            // Given back before the larger one is taken.
            self.arena = None;
            self.arena = Some(Buffer::new(len, "activations")?);
        }
        self.arena
            .as_mut()
            .ok_or_else(|| Error::OutOfMemory("activations: no arena".into()))
    }
}

impl Session {
    /// The plan for `shape` and so many threads, made by `make` if it is not remembered.
    pub fn plan(&self, shape: Shape, threads: usize, make: impl FnOnce() -> Plan) -> Arc<Plan> {
        let mut plans = lock(&self.plans);
        let is_same = |plan: &Arc<Plan>| plan.shape == shape && plan.threads == threads;
        let plan = match plans.iter().position(is_same) {
            Some(at) => plans.remove(at),
            None => Arc::new(make()),
        };
        // The latest is last; the least recently used one goes.
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

    /// Forgets plans and workspaces; forwards that are under way keep theirs.
    pub fn release(&self) {
        lock(&self.plans).clear();
        lock(&self.workspaces).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
