//! Python's signal handlers, run while the core computes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error::Error;
use crate::threads::{Call, Watch};

/// The exception that a signal handler has raised, if any.
#[derive(Default)]
struct Signals {
    raised: Mutex<Option<PyErr>>,
    /// Only the main thread runs handlers; the others need not ask again.
    is_another_thread: AtomicBool,
}

impl Signals {
    /// Runs the handlers of signals that have arrived; returns false if one of them raises.
    fn goes_on(&self) -> bool {
        if self.is_another_thread.load(Ordering::Relaxed) {
            return true;
        }
        let checked = Python::attach(|py| {
            let is_main = is_main_thread(py)?;
            self.is_another_thread.store(!is_main, Ordering::Relaxed);
            py.check_signals()
        });
        let goes_on = checked.is_ok();
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = checked.err();
        goes_on
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    main.eq(threading.call_method0("get_ident")?)
}

/// Runs `compute` without the interpreter's lock. Signal handlers run meanwhile: Ctrl-C ends the
/// computation with `KeyboardInterrupt`.
pub fn interruptible<R: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    compute: impl Send + FnOnce(Call) -> Result<R, Error>,
) -> PyResult<R> {
    let signals = Signals::default();
    let result = py.detach(|| {
        let goes_on = || signals.goes_on();
        let watch = Watch::new(&goes_on);
        compute(Call {
            threads,
            watch: Some(&watch),
        })
    });
    result.map_err(|error| {
        let raised = signals.raised.into_inner();
        let raised = raised.unwrap_or_else(PoisonError::into_inner);
        raised.unwrap_or_else(|| error.into())
    })
}
