//! A forward's allocations: after the first at a shape there are none, except those that rayon
//! takes to wake its threads; and over many shapes no more than the largest one needs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use resnet_rs::threads::Team;
use resnet_rs::{Head, Images, Network, Options, Shape};

/// The system's allocator, with a count of the bytes that each thread allocates and frees.
///
/// Each thread has its own count, so that the work of the test harness does not count.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has ever allocated.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    /// Bytes that it has ever freed.
    static RETURNED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all calls go to `System`; counting touches only this thread's cells, which need no memory
// of their own and have no destructor. The default `realloc` and `alloc_zeroed` come here too.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        RETURNED.set(RETURNED.get() + layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`; `pointer` came from `alloc`, and so from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Held by each test, because one of them measures the memory of the whole process.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The demo model.
fn network(threads: usize) -> Network {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sign-digits");
    let options = Options {
        threads: Some(threads),
        ..Options::default()
    };
    Network::load(&path, &options).unwrap()
}

fn shape(batch: usize, height: usize, width: usize) -> Shape {
    Shape {
        batch,
        height,
        width,
    }
}

/// A forward's inputs and outputs, made beforehand.
struct Call {
    shape: Shape,
    pixels: Vec<u8>,
    values: Vec<f32>,
    logits: Vec<f32>,
    embeddings: Vec<f32>,
}

impl Call {
    fn new(network: &Network, shape: Shape) -> Self {
        let len = shape.batch * shape.height * shape.width * 3;
        Self {
            shape,
            pixels: (0..len).map(|i| i as u8).collect(),
            values: (0..len).map(|i| (i % 7) as f32 - 3.0).collect(),
            logits: vec![0.0; shape.batch * network.width(Head::Logits)],
            embeddings: vec![0.0; shape.batch * network.width(Head::Embedding)],
        }
    }

    /// Both heads and both kinds of images.
    const FORWARDS: usize = 2;

    fn run(&mut self, network: &Network) {
        let (pixels, values) = (Images::U8(&self.pixels), Images::F32(&self.values));
        network
            .forward_into(pixels, self.shape, Head::Logits, &mut self.logits)
            .unwrap();
        network
            .forward_into(values, self.shape, Head::Embedding, &mut self.embeddings)
            .unwrap();
    }
}

/// The bytes that `f` allocates on this thread.
fn taken(f: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    f();
    TAKEN.get() - before
}

/// The bytes that the workers of a team of `threads` have ever allocated, without this thread's.
fn taken_by_workers(threads: usize) -> usize {
    let sum = AtomicUsize::new(0);
    Team::get(threads).run(|worker| {
        if worker.index > 0 {
            sum.fetch_add(TAKEN.get(), Ordering::Relaxed);
        }
    });
    sum.into_inner()
}

#[test]
fn one_thread_allocates_nothing_after_the_first_call_at_a_shape() {
    let _turn = one_at_a_time();
    let network = network(1);
    // One image, several, a rectangle, and a batch that runs in parts of unequal size.
    let shapes = [(1, 64, 64), (3, 64, 64), (1, 33, 97), (3, 260, 260)];
    for (batch, height, width) in shapes {
        let mut call = Call::new(&network, shape(batch, height, width));
        assert!(taken(|| call.run(&network)) > 0, "the plan must count");
        assert_eq!(taken(|| call.run(&network)), 0, "{:?}", call.shape);
    }
}

#[test]
fn a_shape_that_is_still_remembered_allocates_nothing() {
    let _turn = one_at_a_time();
    let network = network(1);
    let sides = [32, 48, 64];
    let mut calls = sides.map(|side| Call::new(&network, shape(1, side, side)));
    calls.iter_mut().for_each(|call| call.run(&network));
    for call in &mut calls {
        assert_eq!(taken(|| call.run(&network)), 0, "{:?}", call.shape);
    }
}

/// `Scope::spawn_broadcast` puts one job for all workers on the heap and a reference to it for each
/// of them, some tens of bytes, on the thread that calls. The queues themselves have grown by then.
const BYTES_PER_JOB: usize = 128;

#[test]
fn a_team_takes_only_what_rayon_needs_to_wake_it() {
    const THREADS: usize = 3;
    const ROUNDS: usize = 5;
    let _turn = one_at_a_time();
    let network = network(THREADS);
    let mut call = Call::new(&network, shape(2, 64, 64));
    call.run(&network);

    let workers_before = taken_by_workers(THREADS);
    let by_caller = taken(|| (0..ROUNDS).for_each(|_| call.run(&network)));
    let by_workers = taken_by_workers(THREADS) - workers_before;

    assert_eq!(by_workers, 0);
    let bound = ROUNDS * Call::FORWARDS * THREADS * BYTES_PER_JOB;
    assert!(
        by_caller <= bound,
        "{by_caller} bytes, expected at most {bound}"
    );
}

/// Memory that heap counts do not show: the library maps activations itself.
#[cfg(target_os = "linux")]
mod resident_memory {
    use std::fs;

    use super::*;

    /// Two huge pages, which the system may add on its own.
    const SLACK: usize = 4 << 20;

    /// The largest side of a shape; its activations are several times the slack, so that one
    /// workspace more than there should be is noticed.
    const SIDE: usize = 160;

    /// More than a network remembers plans of.
    const SHAPES: usize = 18;

    /// Shapes of up to 3 x `SIDE` x `SIDE`, the same in every run.
    fn random_shapes() -> impl Iterator<Item = Shape> {
        let mut state = 7_u32;
        let mut up_to = move |n: usize| {
            // The multiplier and increment of Numerical Recipes' generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1 + (state >> 8) as usize % n
        };
        std::iter::repeat_with(move || shape(up_to(3), up_to(SIDE), up_to(SIDE)))
    }

    /// The bytes that this thread has allocated and not freed.
    fn live() -> isize {
        TAKEN.get().cast_signed() - RETURNED.get().cast_signed()
    }

    /// Bytes of the process's memory that belong to no file: heap, stacks, arenas.
    fn resident() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let value = status.split("RssAnon:").nth(1).unwrap();
        let kib: usize = value.split_whitespace().next().unwrap().parse().unwrap();
        kib << 10
    }

    #[test]
    fn memory_stays_flat_over_many_shapes() {
        let _turn = one_at_a_time();
        let network = network(1);
        let run = |shape: Shape| {
            let pixels = vec![0; shape.batch * shape.height * shape.width * 3];
            let images = Images::U8(&pixels);
            network.forward(images, shape, Head::Logits).unwrap();
        };
        let largest = shape(3, SIDE, SIDE);
        let mut shapes = random_shapes();
        let some: Vec<_> = shapes.by_ref().take(SHAPES).collect();

        // The workspace has its full size then, and as many plans are remembered as ever will be.
        run(largest);
        some.iter().copied().for_each(run);
        let (live_before, resident_before) = (live(), resident());

        // In the end the same plans are remembered again, so their size is the same.
        shapes.take(2 * SHAPES).for_each(run);
        run(largest);
        some.iter().copied().for_each(run);
        let (live_after, resident_after) = (live(), resident());

        assert_eq!(live_after, live_before, "plans of forgotten shapes must go");
        let grown = resident_after.saturating_sub(resident_before);
        assert!(grown <= SLACK, "grown by {grown} bytes, more than {SLACK}");
        let arena = network.plan(largest).unwrap().arena_bytes;
        assert!(arena > 2 * SLACK, "the largest shape is too small to tell");
    }
}
