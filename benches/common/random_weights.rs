//! A ResNet-50 of random weights as a file, as tools/export.py --random makes one.

use std::path::Path;

use resnet_rs::graph::operations::Operation;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::random::random;
use super::resnet50::operations;

/// Writes torchvision's tensors for `classes` classes to `path`, f32: convolutions that keep the
/// size of what passes through them, batch norms that change something.
pub fn write(path: &Path, classes: usize) {
    let mut next = random(1);
    let mut tensors = Vec::new();
    for (name, shape) in operations(classes)
        .iter()
        .flat_map(Operation::named_parameters)
    {
        let data: Vec<u8> = (0..shape.iter().product())
            .flat_map(|_| value(&name, &shape, next()).to_le_bytes())
            .collect();
        tensors.push((name, shape, data));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("data of that shape");
        (name.as_str(), view)
    });
    serialize_to_file(views, None, path).expect("the directory can be written to");
}

/// An element of tensor `name`, from a random value between -1 and 1.
fn value(name: &str, shape: &[usize], random: f32) -> f32 {
    let window: usize = shape[1..].iter().product();
    match name.rsplit('.').next() {
        Some("weight") if shape.len() > 1 => random * (3.0 / window as f32).sqrt(),
        Some("weight") => 1.0 + 0.3 * random,
        Some("running_var") => 1.0 + 0.5 * random,
        _ => 0.2 * random,
    }
}
