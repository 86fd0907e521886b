//! The options of one call.

use super::count::check_threads;
use super::team::{Team, Turn};
use super::watch::Watch;
use crate::error::Error;

/// The options of one call: its number of threads, and the caller's means to end it early.
#[derive(Clone, Copy, Default)]
pub struct Call<'a> {
    /// The number of threads; None takes the network's own.
    pub threads: Option<usize>,
    /// Asked between items of work if the call should go on; None never ends it.
    pub watch: Option<&'a Watch<'a>>,
}

impl From<usize> for Call<'_> {
    fn from(threads: usize) -> Self {
        Self {
            threads: Some(threads),
            watch: None,
        }
    }
}

impl<'a> Call<'a> {
    /// The number of threads, by default `threads`, and the watch.
    ///
    /// # Errors
    /// The number of threads is 0 or more than 1024.
    pub fn checked(self, threads: usize) -> Result<(usize, Option<&'a Watch<'a>>), Error> {
        Ok((check_threads(self.threads.unwrap_or(threads))?, self.watch))
    }
}

/// Waits for the team's turn.
///
/// # Errors
/// The caller has ended the call.
pub fn turn<'a>(team: &'a Team, watch: Option<&Watch>) -> Result<Turn<'a>, Error> {
    team.turn(watch).ok_or(Error::Interrupted)
}

/// Asks the caller, if it is time to.
///
/// # Errors
/// The caller has ended the call.
pub fn check(watch: Option<&Watch>) -> Result<(), Error> {
    match watch {
        Some(watch) if watch.poll() => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
