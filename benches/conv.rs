//! Every distinct convolution of ResNet-50 at 224 x 224, batch 1, on one thread, with each
//! algorithm that can do it, on each tier.
//!
//! ```text
//! cargo bench --bench conv                       all of them, some two minutes
//! cargo bench --bench conv -- layer4             those whose name matches a regular expression
//! cargo bench --bench conv -- avx512-direct
//! cargo bench --bench conv -- fc --quick         less exactly
//! ```
//!
//! The benchmark runs the plan of a forward, with ReLU and fused additions. Each convolution runs
//! again and again on the same memory, so its weights and activations stay in the caches if they
//! fit. In a forward, the weights come from the last-level cache or from memory.
//!
//! In the table, `count` is the number of a kind in a forward with that algorithm, 0 if the forward
//! uses another; `window` is kernel / stride; the last row of a tier is the time of all
//! convolutions of a forward together.

use std::time::{Duration, SystemTime};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use resnet_rs::graph::layer::Layer;
use resnet_rs::kernels::KernelTable;
use resnet_rs::plan::Algorithm;
use resnet_rs::simd::flush_denormals;
use resnet_rs::{Isa, Shape};

use common::cases::{ALGORITHMS, Case, cases};
use common::report::{Table, median};
use common::resnet50;
use common::workload::Workload;

/// Parts of this benchmark; other benchmarks share some of them.
mod common {
    pub mod cases;
    pub mod random;
    pub mod report;
    pub mod resnet50;
    pub mod size;
    pub mod workload;
}

const GROUP: &str = "conv";

const CLASSES: usize = 1000;

const SHAPE: Shape = Shape {
    batch: 1,
    height: 224,
    width: 224,
};

fn main() {
    let start = SystemTime::now();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
        .nresamples(5_000)
        .without_plots()
        .configure_from_args();

    let layers = resnet50::layers(CLASSES);
    let cases = cases(&layers, SHAPE);
    let mut group = criterion.benchmark_group(GROUP);
    // As many calls in each sample: samples that grow would take seconds for the slowest.
    group.sampling_mode(SamplingMode::Flat);
    for table in KernelTable::available() {
        for algorithm in ALGORITHMS {
            bench(&mut group, &layers, &cases, &table, algorithm);
        }
    }
    group.finish();
    criterion.final_summary();
    report(&cases, start);
}

/// The last part of a benchmark's name.
fn parameter(isa: Isa, case: &Case) -> String {
    format!("{isa}-{}", case.algorithm_name())
}

/// Measures the cases of one algorithm on one tier.
fn bench(
    group: &mut BenchmarkGroup<WallTime>,
    layers: &[Layer],
    cases: &[Case],
    table: &KernelTable,
    algorithm: Algorithm,
) {
    let cases: Vec<_> = cases.iter().filter(|c| c.algorithm == algorithm).collect();
    let mut algorithms = vec![Algorithm::Direct; layers.len()];
    for case in &cases {
        algorithms[case.layer] = algorithm;
    }
    let mut workload = Workload::new(layers, &algorithms, SHAPE, table);
    for case in cases {
        let mut run = workload.layer(&layers[case.layer].name);
        let id = BenchmarkId::new(&case.name, parameter(table.isa, case));
        group.throughput(Throughput::Elements(case.size.flops() as u64));
        group.bench_function(id, |bencher| bencher.iter(|| flush_denormals(&mut run)));
    }
}

/// One table of what was measured since `start`.
fn report(cases: &[Case], start: SystemTime) {
    let mut table = Table::new(&[
        "layer",
        "count",
        "window",
        "M",
        "K",
        "N",
        "tier",
        "algorithm",
        "us",
        "GFLOP/s",
        "% of peak",
    ]);
    for kernels in KernelTable::available() {
        let isa = kernels.isa;
        let measured: Vec<_> = cases
            .iter()
            .filter_map(|case| {
                let seconds = median(GROUP, &case.name, &parameter(isa, case), start)?;
                Some((case, seconds))
            })
            .collect();
        if measured.is_empty() {
            continue;
        }
        let peak = 2.0 * kernels.f32.peak.measure() / 1e9;
        println!("peak of one core, {isa}: {peak:.1} GFLOP/s");
        let speed = |flops: f64, seconds: f64| {
            let gflops = flops / seconds / 1e9;
            [
                format!("{:.1}", seconds * 1e6),
                format!("{gflops:.1}"),
                format!("{:.1}", 100.0 * gflops / peak),
            ]
        };
        for (case, seconds) in &measured {
            let mut row = vec![
                case.name.clone(),
                case.count.to_string(),
                case.window.clone(),
            ];
            row.extend([case.size.m, case.size.k, case.size.n].map(|n| n.to_string()));
            row.extend([isa.to_string(), case.algorithm_name().into()]);
            row.extend(speed(case.size.flops(), *seconds));
            table.push(row);
        }
        if measured.len() == cases.len() {
            let count: usize = cases.iter().map(|case| case.count).sum();
            let all = |of: fn(&Case, f64) -> f64| -> f64 {
                let times = |&(case, seconds): &(&Case, f64)| case.count as f64 * of(case, seconds);
                measured.iter().map(times).sum()
            };
            let mut row = vec!["all".into(), count.to_string()];
            row.resize(6, String::new());
            row.extend([isa.to_string(), String::new()]);
            row.extend(speed(all(|case, _| case.size.flops()), all(|_, s| s)));
            table.push(row);
        }
    }
    table.finish(GROUP);
}
