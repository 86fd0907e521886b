//! Threads: their number, the team that they form, and their state after a fork.

mod call;
mod count;
mod fork;
mod process_local;
mod progress;
mod quota;
mod signal;
mod team;
mod turn;
mod watch;

pub use call::{Call, check, turn};
pub use count::{check_threads, default_threads, resolve_threads};
pub use process_local::ProcessLocal;
pub use progress::Progress;
pub use quota::cgroup_quota;
pub use team::{Team, Turn, Worker};
pub use watch::Watch;
