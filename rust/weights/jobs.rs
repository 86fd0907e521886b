//! Work that the threads of a team take one job at a time.

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::threads::Team;

/// Runs `job` on every one of `jobs`, with a state of each thread's own.
///
/// # Errors
/// The last failure. A thread ends with its own; the others go on.
pub(super) fn for_each_job<J: Send, S>(
    team: &Team,
    jobs: Vec<J>,
    state: impl Fn() -> Result<S, Error> + Sync,
    job: impl Fn(J, &mut S) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let jobs = Mutex::new(jobs);
    let failure = Mutex::new(None);
    team.run(|_| {
        let work = || {
            let mut state = state()?;
            loop {
                let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(next) = next else { return Ok(()) };
                job(next, &mut state)?;
            }
        };
        if let Err(e) = work() {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}
