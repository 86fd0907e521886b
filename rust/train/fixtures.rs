//! Small networks for the tests of training, and their loss by the reference loops.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;

use super::{TrainOptions, Trainer};
use crate::graph::config::Config;
use crate::graph::operations::{Convolution, Kind, Operation};
use crate::graph::variant::Variant;
use crate::kernels::reference::{
    Tensor, add, add_bias, avg_pool, batch_norm, conv2d, cross_entropy, global_avg_pool,
    global_max_pool, max_pool, pad_channels, relu,
};
use crate::kernels::reference_gradients::moments;
use crate::kernels::testing::random;
use crate::shape::Shape;
use crate::weights::{Entry, Tensors};

pub(super) const CLASSES: usize = 5;

/// Tensors by name: shape and values.
pub(super) type Weights = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// A network, its weights, and a batch for it.
pub(super) struct Fixture {
    pub(super) config: Config,
    pub(super) operations: Vec<Operation>,
    pub(super) weights: Weights,
    pub(super) shape: Shape,
    pub(super) images: Vec<f32>,
    pub(super) targets: Vec<f32>,
}

fn values(len: usize, seed: usize) -> Vec<f32> {
    let random = random([1, 1, 1, len], seed);
    random.data.into_iter().map(|x| x as f32).collect()
}

impl Fixture {
    pub(super) fn new(architecture: &str, variant: Variant, shape: [usize; 3]) -> Self {
        let config = Config {
            architecture: architecture.into(),
            variant: Some(variant),
            ..Config::default()
        };
        let operations = config.architecture().unwrap().operations(CLASSES, 1);
        let named = operations.iter().flat_map(Operation::named_parameters);
        let weights = named.enumerate().map(|(i, (name, shape))| {
            let window: usize = shape.iter().skip(1).product();
            let gain = (3.0 / window as f32).sqrt();
            let mut values = values(shape.iter().product(), i + 1);
            for v in &mut values {
                *v = match name.rsplit('.').next() {
                    Some("running_var") => 1.0 + 0.5 * *v,
                    Some("weight") if shape.len() == 1 => 1.0 + 0.3 * *v,
                    Some("weight") => *v * gain,
                    _ => *v * 0.2,
                };
            }
            (name, (shape, values))
        });
        let weights = weights.collect();
        let [batch, height, width] = shape;
        let mut fixture = Self {
            config,
            operations,
            weights,
            shape: Shape {
                batch,
                height,
                width,
            },
            images: Vec::new(),
            targets: Vec::new(),
        };
        fixture.set_batch(batch);
        fixture
    }

    /// Makes a batch of so many images.
    pub(super) fn set_batch(&mut self, batch: usize) {
        self.shape.batch = batch;
        self.images = values(batch * self.shape.height * self.shape.width * 3, 100);
        // Soft targets whose sum is not 1.
        let targets = values(batch * CLASSES, 101);
        self.targets = targets.into_iter().map(f32::abs).collect();
    }

    pub(super) fn trainer(&self, options: &TrainOptions) -> Trainer {
        let entries = self.weights.iter().map(|(name, (shape, values))| {
            let entry = Entry {
                dtype: Dtype::F32,
                shape: shape.clone(),
                data: bytemuck::cast_slice(values),
            };
            (name.clone(), entry)
        });
        let tensors = Tensors::new(Path::new("memory"), entries.collect());
        Trainer::new(self.config.clone(), &tensors, options).unwrap()
    }

    /// A backward pass on `threads` threads.
    pub(super) fn backward(&self, trainer: &mut Trainer, threads: usize) -> Vec<f64> {
        let (images, targets) = (&self.images, &self.targets);
        let outcome = trainer.backward(threads.into(), images, targets, self.shape, false);
        outcome.unwrap().losses
    }

    /// The loss of the batch with `parameters`, in torchvision's layout, by the reference loops.
    pub(super) fn loss(&self, parameters: &HashMap<String, Vec<f64>>) -> f64 {
        let Shape {
            batch,
            height,
            width,
        } = self.shape;
        let images = Tensor {
            shape: [batch, height, width, 3],
            data: self.images.iter().map(|&x| f64::from(x)).collect(),
        };
        let mut tensors = vec![images];
        for operation in &self.operations {
            let x = &tensors[operation.inputs[0]];
            let of = |part: &str| &parameters[&format!("{}.{part}", operation.name)];
            let out = match operation.kind {
                Kind::Conv(_) | Kind::Linear { .. } => {
                    let conv = operation.convolution().unwrap();
                    let y = convolve(&conv, of("weight"), x);
                    match conv.bias {
                        true => add_bias(&y, of("bias")),
                        false => y,
                    }
                }
                Kind::BatchNorm { epsilon, .. } => {
                    let (mean, variance) = moments(x);
                    batch_norm(x, &mean, &variance, of("weight"), of("bias"), epsilon)
                }
                Kind::Relu => relu(x),
                Kind::Add => add(x, &tensors[operation.inputs[1]]),
                Kind::MaxPool(Some(window)) => max_pool(x, window),
                Kind::MaxPool(None) => global_max_pool(x),
                Kind::AvgPool(Some(window)) => avg_pool(x, window),
                Kind::AvgPool(None) => global_avg_pool(x),
                Kind::Pad(pad) => pad_channels(&avg_pool(x, pad.window), pad.before, pad.after),
            };
            tensors.push(out);
        }
        let logits = tensors.pop().unwrap().data;
        let targets: Vec<f64> = self.targets.iter().map(|&t| f64::from(t)).collect();
        let images = logits.chunks(CLASSES).zip(targets.chunks(CLASSES));
        images
            .map(|(logits, targets)| cross_entropy(logits, targets).0)
            .sum()
    }
}

fn convolve(conv: &Convolution, oihw: &[f64], x: &Tensor) -> Tensor {
    let (k, group_in) = (conv.kernel, conv.in_channels / conv.groups);
    let shape = [conv.out_channels, k, k, group_in];
    let weights = Tensor::from_fn(shape, |o, y, x, i| {
        oihw[((o * group_in + i) * k + y) * k + x]
    });
    conv2d(x, &weights, conv.window(), conv.groups)
}

/// A network of basic blocks whose images are large enough for Winograd's algorithm, without weights in its
/// shortcuts.
pub(super) fn basic() -> Fixture {
    let variant = Variant {
        blocks: Some(vec![1, 1, 1]),
        widths: Some(vec![5, 9, 17]),
        stem_widths: Some(vec![5]),
        ..Variant::default()
    };
    Fixture::new("cifar_resnet20", variant, [3, 13, 12])
}

/// A network of bottlenecks, with a max pool.
pub(super) fn bottleneck() -> Fixture {
    let variant = Variant {
        blocks: Some(vec![1, 2, 1, 1]),
        widths: Some(vec![4, 5, 6, 7]),
        stem_widths: Some(vec![6]),
        expansion: Some(3),
        ..Variant::default()
    };
    Fixture::new("resnet50", variant, [3, 37, 40])
}

/// Grouped convolutions.
pub(super) fn grouped() -> Fixture {
    let variant = Variant {
        blocks: Some(vec![1, 1, 1, 1]),
        widths: Some(vec![64, 64, 64, 64]),
        groups: Some(3),
        width_per_group: Some(2),
        stem_widths: Some(vec![4]),
        expansion: Some(2),
        ..Variant::default()
    };
    Fixture::new("resnext50_32x4d", variant, [3, 33, 36])
}

/// Biases instead of batch norm.
pub(super) fn without_norm() -> Fixture {
    let variant = Variant {
        batch_norm: Some(false),
        conv_bias: Some(true),
        ..basic().config.variant.unwrap_or_default()
    };
    Fixture::new("cifar_resnet20", variant, [2, 12, 11])
}
