//! A network so small that Miri can load and run it, from tensors in memory.

use std::collections::HashMap;
use std::path::Path;

use super::{Head, Images, Network, Options, reference};
use crate::graph::architecture::{Architecture, Stem};
use crate::graph::config::Config;
use crate::graph::family;
use crate::graph::operations::Operation;
use crate::graph::preprocessing::Size;
use crate::kernels::reference::Tensor;
use crate::shape::Shape;
use crate::simd::Isa;
use crate::weights::{Dtype, Entry, Tensors};

const CLASSES: usize = 2;

/// Twelve tiles of 2 x 2, as many as Winograd's algorithm asks for.
const HEIGHT: usize = 6;
const WIDTH: usize = 8;

/// One bottleneck with a shortcut convolution, and one that adds its input as it is.
fn architecture() -> Architecture {
    Architecture {
        blocks: vec![2],
        widths: vec![2],
        expansion: 2,
        stem: Stem::Conv3x3,
        stem_widths: vec![2],
        in_channels: 1,
        ..family::named("resnet50").unwrap()
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.preprocessing.crop = Some(Size::Sides([HEIGHT as u32, WIDTH as u32]));
    config.preprocessing.mean = vec![0.5];
    config.preprocessing.std = vec![0.25];
    config
}

/// Little-endian values of each tensor, between 0.25 and 1.25, so that they are variances too.
fn weights(operations: &[Operation]) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let tensors = operations.iter().flat_map(Operation::named_parameters);
    let data = |(name, shape): (String, Vec<usize>)| {
        let window: usize = shape.iter().skip(1).product();
        let value = |i: usize| (0.25 + (i * 37 % 101) as f32 / 101.0) / window as f32;
        let len = shape.iter().product();
        let bytes = (0..len).flat_map(|i| value(i).to_le_bytes()).collect();
        (name, shape, bytes)
    };
    tensors.map(data).collect()
}

#[test]
fn one_thread_matches_the_reference() {
    assert_matches_reference(1);
}

#[test]
fn two_threads_match_the_reference() {
    assert_matches_reference(2);
}

/// Loads the network and runs it, both on `threads` threads, on every tier.
fn assert_matches_reference(threads: usize) {
    let operations = architecture().operations(CLASSES, 1);
    let weights = weights(&operations);
    let entries: HashMap<_, _> = weights
        .iter()
        .map(|(name, shape, data)| {
            let (dtype, shape) = (Dtype::F32, shape.clone());
            let data = data.as_slice();
            (name.clone(), Entry { dtype, shape, data })
        })
        .collect();
    let tensors = Tensors::new(Path::new("memory"), entries);

    let shape = Shape {
        batch: 1,
        height: HEIGHT,
        width: WIDTH,
    };
    let pixels: Vec<u8> = (0..HEIGHT * WIDTH).map(|i| (i * 29) as u8).collect();
    for isa in Isa::available() {
        let options = Options {
            isa: Some(isa),
            threads: Some(threads),
            ..Options::default()
        };
        let network = Network::of(architecture(), config(), &tensors, &options).unwrap();
        assert!(network.winograd());
        let found = network.forward(Images::U8(&pixels), shape, Head::Logits);
        let found = found.unwrap();

        let mut image = vec![0.0; pixels.len()];
        network.normalize(&pixels, &mut image).unwrap();
        let image = Tensor {
            shape: [1, HEIGHT, WIDTH, 1],
            data: image.into_iter().map(f64::from).collect(),
        };
        let expected = reference::activations(&operations, &tensors, image).unwrap();
        let (_, expected) = &expected[expected.len() - 1];
        for (found, expected) in found.iter().zip(&expected.data) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 1e-5 * expected.abs(), "{isa}: {found} {expected}");
        }
    }
}
