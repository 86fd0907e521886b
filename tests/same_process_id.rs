//! A forked child that has the process id of its parent, as in nested pid namespaces, still makes its
//! own threads and locks.
#![cfg(unix)]

use std::path::Path;

use resnet_rs::{Head, Images, Network, Options, Shape};

/// Stands in for the C library's function in this program: every process has the same id.
#[unsafe(no_mangle)]
pub extern "C" fn getpid() -> i32 {
    1
}

/// One test, so that no other thread of this process holds a lock at the fork.
#[test]
fn a_child_with_the_id_of_its_parent_computes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sign-digits");
    let options = Options {
        threads: Some(2),
        ..Options::default()
    };
    let network = Network::load(&path, &options).unwrap();
    let shape = Shape {
        batch: 1,
        height: 40,
        width: 40,
    };
    let pixels = vec![7; 40 * 40 * 3];
    let forward = || network.forward(Images::U8(&pixels), shape, Head::Logits);
    let expected = forward().unwrap();

    // SAFETY: the child uses only what works after a fork, and ends without running anything else.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: a child that hangs is ended by the alarm.
        unsafe { libc::alarm(60) };
        let same = forward().is_ok_and(|logits| logits == expected);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if same { 0 } else { 3 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child hung or computed something else");
    assert_eq!(forward().unwrap(), expected);
}
