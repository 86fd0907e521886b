//! Small bf16 networks: the same bits for every thread and batch, near to f32, and refusals. What the bits must be is
//! tested in Python, against the definition in NumPy (`tests/test_bf16_core.py`).

use super::fixtures::{
    CLASSES, architectures, image, logits, random_weights_of, shape, tiny, weights_file,
};
use super::{Head, Images, Network, Options};
use crate::graph::architecture::Architecture;
use crate::graph::config::Config;
use crate::kernels::{Bf16Speed, KernelTable};
use crate::weights::{Precision, Tensors};

fn load(
    table: KernelTable,
    architecture: &Architecture,
    options: Options,
) -> Result<Network, crate::error::Error> {
    let weights = random_weights_of(&architecture.operations(CLASSES, 1));
    let file = weights_file(&weights);
    let tensors = Tensors::of_file(&file).unwrap();
    let config = Config::default();
    Network::on(table, architecture.clone(), config, &tensors, &options)
}

fn bf16(threads: usize) -> Options {
    Options {
        precision: Some(Precision::Bf16),
        strict: true,
        threads: Some(threads),
        ..Options::default()
    }
}

#[test]
fn threads_and_batches_compute_the_same_bits_and_widened_pairs_those_of_plain_rust() {
    let (height, width) = (45, 38);
    let images = image(shape(3, height, width), 5);
    let len = images.len() / 3;
    for (what, architecture) in architectures() {
        let mut portable: Option<Vec<f32>> = None;
        for table in KernelTable::available() {
            let mut expected: Option<Vec<f32>> = None;
            for threads in [1, 2, 4] {
                let network = load(table, &architecture, bf16(threads)).unwrap();
                assert_eq!(network.precision(), Precision::Bf16);
                let run = |head, range: std::ops::Range<usize>| {
                    let images = &images[range.start * len..range.end * len];
                    let shape = shape(range.len(), height, width);
                    network.forward(Images::F32(images), shape, head).unwrap()
                };
                let both = [Head::Logits, Head::Embedding].map(|head| {
                    let all = run(head, 0..3);
                    let alone: Vec<f32> = (0..3).flat_map(|i| run(head, i..i + 1)).collect();
                    assert_eq!(alone, all, "{what} {head:?}");
                    all
                });
                let all = both.concat();
                assert_eq!(&all, expected.get_or_insert_with(|| all.clone()), "{what}");
                if table.bf16_speed == Bf16Speed::Widened {
                    let portable = portable.get_or_insert_with(|| all.clone());
                    assert_eq!(&all, portable, "{what} {}", table.isa);
                }
            }
        }
    }
}

#[test]
fn logits_are_near_those_of_f32_fused_and_unfused() {
    let (height, width) = (33, 40);
    let images = image(shape(2, height, width), 6);
    for (what, architecture) in architectures() {
        for table in KernelTable::available() {
            let run = |options: Options| {
                let network = load(table, &architecture, options).unwrap();
                logits(&network, &images, shape(2, height, width))
            };
            let exact = run(Options::default());
            for fused in [true, false] {
                let found = run(Options { fused, ..bf16(1) });
                let norm = |values: &mut dyn Iterator<Item = f32>| {
                    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
                };
                let error = norm(&mut found.iter().zip(&exact).map(|(f, e)| f - e));
                let relative = error / norm(&mut exact.iter().copied());
                // 8 bits of precision, rounded in some 20 to 60 places.
                assert!(relative < 0.03, "{what} fused {fused}: {relative}");
                assert!(relative > 1e-5, "{what} fused {fused}: it ran in f32");
            }
        }
    }
}

/// Kernels read the place after an odd number of channels too: it must be zero, whatever was there before.
#[test]
fn what_an_image_of_nans_left_behind_does_not_matter() {
    let (height, width) = (33, 40);
    let images = image(shape(1, height, width), 7);
    for (what, architecture) in architectures() {
        for table in KernelTable::available() {
            for fused in [true, false] {
                let network = load(table, &architecture, Options { fused, ..bf16(1) }).unwrap();
                let run = |images: &[f32]| logits(&network, images, shape(1, height, width));
                let expected = run(&images);
                let nans = run(&vec![f32::NAN; images.len()]);
                assert!(nans.iter().all(|logit| logit.is_nan()), "{what}");
                assert_eq!(run(&images), expected, "{what}");
            }
        }
    }
}

#[test]
fn bf16_runs_where_it_is_fast_or_asked_for_strictly() {
    for table in KernelTable::available() {
        let asked = |strict| {
            let options = Options { strict, ..bf16(1) };
            let network = load(table, &tiny(), options).unwrap();
            (network.precision(), network.remark().map(ToOwned::to_owned))
        };
        assert_eq!(asked(true), (Precision::Bf16, None));
        let (precision, remark) = asked(false);
        let is_fast = table.bf16_speed == Bf16Speed::Fast;
        println!("{}: bf16 {:?}", table.isa, table.bf16_speed);
        match is_fast {
            true => assert_eq!((precision, remark), (Precision::Bf16, None)),
            false => {
                assert_eq!(precision, Precision::F32);
                assert!(remark.unwrap().contains("runs in f32"));
            }
        }
    }
}

#[test]
fn weights_are_half_as_large() {
    for table in KernelTable::available() {
        let plain = Options {
            winograd: false,
            ..Options::default()
        };
        let f32 = load(table, &tiny(), plain).unwrap();
        let bf16 = load(table, &tiny(), bf16(1)).unwrap();
        let ratio = bf16.weights.data.len() as f64 / f32.weights.data.len() as f64;
        assert!(ratio < 0.56, "{}: {ratio}", table.isa);
    }
}
