//! The whole model: loading, and forwards at 224 x 224, on each tier.
//!
//! ```text
//! cargo bench --bench model                            all of it, some two minutes
//! cargo bench --bench model -- forward/avx512          what matches a regular expression
//! cargo bench --bench model -- threads1-batch1 --quick
//! ```
//!
//! The weights are random, for time does not depend on them; their file is in the page cache.

use std::cell::LazyCell;
use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use resnet_rs::plan::shapes;
use resnet_rs::threads::default_threads;
use resnet_rs::{Head, Images, Isa, Network, Options, Shape};

use common::random::random;
use common::random_weights;
use common::report::{Table, median};
use common::resnet50;
use common::size::Size;

/// Parts of this benchmark; other benchmarks share some of them.
mod common {
    pub mod random;
    pub mod random_weights;
    pub mod report;
    pub mod resnet50;
    pub mod size;
}

const FORWARD: &str = "forward";

const LOAD: &str = "load";

const CLASSES: usize = 1000;

const SIDE: usize = 224;

const BATCHES: [usize; 2] = [1, 8];

fn main() {
    let start = SystemTime::now();
    // As few samples as criterion allows: eight images take seconds on the slowest tier.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10)
        .nresamples(10_000)
        .without_plots()
        .configure_from_args();

    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for weights");
    let weights = dir.path().join("model.safetensors");
    random_weights::write(&weights, CLASSES);
    let cases = cases();

    let mut group = criterion.benchmark_group(FORWARD);
    group.sampling_mode(SamplingMode::Flat);
    for case in &cases {
        bench_forward(&mut group, case, &weights);
    }
    group.finish();

    let mut group = criterion.benchmark_group(LOAD);
    group.sampling_mode(SamplingMode::Flat);
    for case in &cases {
        let id = BenchmarkId::new(case.isa.name(), case.load_parameter());
        group.bench_function(id, |bencher| bencher.iter(|| case.load(&weights)));
    }
    group.finish();

    criterion.final_summary();
    report(&cases, start);
}

/// The options that a network is loaded with.
struct Case {
    isa: Isa,
    threads: usize,
}

/// Each tier with one thread, and with the default number of threads.
fn cases() -> Vec<Case> {
    let mut threads = vec![
        1,
        default_threads().expect("a number in RESNET_RS_NUM_THREADS"),
    ];
    threads.dedup();
    Isa::available()
        .flat_map(|isa| threads.iter().map(move |&threads| Case { isa, threads }))
        .collect()
}

impl Case {
    fn load(&self, weights: &Path) -> Network {
        let options = Options {
            isa: Some(self.isa),
            threads: Some(self.threads),
            ..Options::default()
        };
        Network::load(weights, &options).expect("weights that load")
    }

    fn forward_parameter(&self, batch: usize) -> String {
        format!("threads{}-batch{batch}", self.threads)
    }

    fn load_parameter(&self) -> String {
        format!("threads{}", self.threads)
    }
}

fn shape(batch: usize) -> Shape {
    Shape {
        batch,
        height: SIDE,
        width: SIDE,
    }
}

fn bench_forward(group: &mut BenchmarkGroup<WallTime>, case: &Case, weights: &Path) {
    // Not loaded where a filter leaves out what needs it.
    let network = LazyCell::new(|| case.load(weights));
    for batch in BATCHES {
        let mut next = random(batch as u64);
        let images: Vec<f32> = (0..batch * SIDE * SIDE * 3).map(|_| next()).collect();
        let images = Images::F32(&images);
        let mut logits = vec![0.0; batch * CLASSES];
        let id = BenchmarkId::new(case.isa.name(), case.forward_parameter(batch));
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(id, |bencher| {
            let network = LazyCell::force(&network);
            bencher.iter(|| network.forward_into(images, shape(batch), Head::Logits, &mut logits));
        });
    }
}

/// A table of the forwards and one of the loads that were measured since `start`.
fn report(cases: &[Case], start: SystemTime) {
    let layers = resnet50::layers(CLASSES);
    let tensors = shapes(&layers, shape(1), resnet50::IN_CHANNELS);
    let outputs = &tensors[1..];
    let sizes = layers
        .iter()
        .zip(outputs)
        .filter_map(|(l, out)| Size::of(l, out));
    let flops: f64 = sizes.map(|size| size.flops()).sum();

    let mut forwards = Table::new(&[
        "tier", "threads", "batch", "ms", "ms/image", "images/s", "GFLOP/s",
    ]);
    let mut loads = Table::new(&["tier", "threads", "load ms"]);
    for case in cases {
        let (isa, threads) = (case.isa.name(), case.threads.to_string());
        for batch in BATCHES {
            let parameter = case.forward_parameter(batch);
            if let Some(seconds) = median(FORWARD, isa, &parameter, start) {
                let each = seconds / batch as f64;
                forwards.push(vec![
                    isa.into(),
                    threads.clone(),
                    batch.to_string(),
                    format!("{:.2}", seconds * 1e3),
                    format!("{:.2}", each * 1e3),
                    format!("{:.2}", 1.0 / each),
                    format!("{:.1}", flops / each / 1e9),
                ]);
            }
        }
        if let Some(seconds) = median(LOAD, isa, &case.load_parameter(), start) {
            loads.push(vec![isa.into(), threads, format!("{:.1}", seconds * 1e3)]);
        }
    }
    forwards.finish(FORWARD);
    loads.finish(LOAD);
}
