//! A forward reads no environment variable: another thread may change the environment meanwhile.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use resnet_rs::{Head, Images, Network, Options, Shape};

static READS: AtomicUsize = AtomicUsize::new(0);

/// Stands in for the C library's function in this program: counts, and finds no variable.
#[unsafe(no_mangle)]
pub extern "C" fn getenv(_name: *const c_char) -> *mut c_void {
    READS.fetch_add(1, Ordering::Relaxed);
    ptr::null_mut()
}

/// The number of variables that are read while `f` runs.
fn reads(f: impl FnOnce()) -> usize {
    let before = READS.load(Ordering::Relaxed);
    f();
    READS.load(Ordering::Relaxed) - before
}

/// One test, so that nothing else runs in this process meanwhile.
#[test]
fn forwards_and_loading_with_resolved_options_read_no_variable() {
    assert!(reads(|| drop(std::env::var_os("HOME"))) > 0, "not in place");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sign-digits");
    for threads in [1, 3] {
        let options = Options {
            threads: Some(threads),
            ..Options::default()
        };
        let options = options.resolve().unwrap();
        let mut network = None;
        assert_eq!(
            reads(|| network = Some(Network::load(&path, &options).unwrap())),
            0
        );
        let network = network.unwrap();
        let shape = Shape {
            batch: 1,
            height: 40,
            width: 40,
        };
        let pixels = vec![7; 40 * 40 * 3];
        let images = || Images::U8(&pixels);
        // The second number of threads is one whose team no load has made.
        for threads in [threads, threads + 1] {
            let forward = || {
                network
                    .forward_on(threads, images(), shape, Head::Logits)
                    .unwrap();
                network.features(threads, images(), shape, &[0, 3]).unwrap();
            };
            assert_eq!(reads(forward), 0, "{threads} threads");
        }
        assert_eq!(
            reads(|| drop(network.profile(images(), shape).unwrap())),
            0,
            "profile"
        );
    }
}
