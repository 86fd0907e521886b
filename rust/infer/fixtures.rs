//! A small network of odd widths with random weights, for the tests.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{Head, Images, Network, Options};
use crate::graph::architecture::{Architecture, Block, Stem};
use crate::graph::config::Config;
use crate::graph::family;
use crate::graph::operations::Operation;
use crate::shape::Shape;
use crate::simd::Isa;
use crate::weights::{Tensors, WeightsFile};

/// Widths that fill no panel, with every kind of bottleneck.
pub(super) fn tiny() -> Architecture {
    Architecture {
        blocks: vec![2, 2, 1, 2],
        widths: vec![5, 9, 17, 33],
        expansion: 3,
        stem_widths: vec![10],
        ..family::named("resnet50").unwrap()
    }
}

/// Networks of every kind, with channels that fill no group and no panel.
pub(super) fn architectures() -> Vec<(&'static str, Architecture)> {
    vec![
        ("bottleneck", tiny()),
        (
            "basic",
            Architecture {
                block: Block::Basic,
                expansion: 1,
                widths: vec![10, 9, 17, 33],
                ..tiny()
            },
        ),
        (
            "grouped",
            Architecture {
                widths: vec![16, 32, 48, 64],
                groups: 3,
                width_per_group: 20,
                ..tiny()
            },
        ),
        (
            "deep stem, pooled shortcut",
            Architecture {
                widths: vec![5, 9, 17, 33],
                blocks: vec![1, 2, 1, 1],
                stem: Stem::Deep,
                stem_widths: vec![7, 6, 10],
                ..family::named("resnet50d").unwrap()
            },
        ),
        (
            "padded shortcut",
            Architecture {
                blocks: vec![1, 1, 1],
                ..family::named("cifar_resnet20").unwrap()
            },
        ),
    ]
}

pub(super) const CLASSES: usize = 7;

pub(super) type Weights = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Values between -1 and 1, the same for the same seed.
pub(super) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn random_weights() -> Weights {
    random_weights_of(&tiny().operations(CLASSES, 1))
}

pub(super) fn random_weights_of(operations: &[Operation]) -> Weights {
    let tensors = operations.iter().flat_map(|operation| {
        Operation::named_parameters(operation)
            .into_iter()
            .map(|(name, shape)| {
                let window: usize = shape.iter().skip(1).product();
                ((name, shape), (3.0 / window.max(1) as f32).sqrt())
            })
    });
    tensors
        .enumerate()
        .map(|(i, ((name, shape), gain))| {
            let mut values = random(i as u64 + 1, shape.iter().product());
            for v in &mut values {
                *v = match name.rsplit('.').next() {
                    Some("running_var") => 1.0 + 0.5 * *v,
                    Some("weight") if shape.len() == 1 => 1.0 + 0.3 * *v,
                    Some("weight") => *v * gain,
                    _ => *v * 0.2,
                };
            }
            (name, (shape, values))
        })
        .collect()
}

pub(super) fn write(weights: &Weights, path: &Path) {
    let bytes: HashMap<_, _> = weights
        .iter()
        .map(|(name, (shape, values))| {
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, (shape, data))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, data))| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap();
        (name.as_str(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The weights as a file, which stays open when its name is gone.
pub(super) fn weights_file(weights: &Weights) -> WeightsFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(weights, &path);
    WeightsFile::open(&path).unwrap()
}

pub(super) fn network(weights: &Weights, isa: Isa, threads: usize) -> Network {
    network_with(weights, isa, threads, true)
}

pub(super) fn network_with(weights: &Weights, isa: Isa, threads: usize, winograd: bool) -> Network {
    let options = Options {
        isa: Some(isa),
        threads: Some(threads),
        winograd,
        ..Options::default()
    };
    let file = weights_file(weights);
    let tensors = Tensors::of_file(&file).unwrap();
    Network::of(tiny(), Config::default(), &tensors, &options).unwrap()
}

pub(super) fn image(shape: Shape, seed: u64) -> Vec<f32> {
    random(seed, shape.batch * shape.height * shape.width * 3)
}

pub(super) fn logits(network: &Network, images: &[f32], shape: Shape) -> Vec<f32> {
    network
        .forward(Images::F32(images), shape, Head::Logits)
        .unwrap()
}

pub(super) fn shape(batch: usize, height: usize, width: usize) -> Shape {
    Shape {
        batch,
        height,
        width,
    }
}
