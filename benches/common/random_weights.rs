//! A ResNet-50 of random weights as a file, as tools/export.py --random makes one.

use std::path::Path;

use resnet_rs::network::architecture::{ConvSpec, Layer, RESNET50};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::random::random;

/// Writes torchvision's tensors for `classes` classes to `path`, f32: convolutions that keep the
/// size of what passes through them, batch norms that change something.
pub fn write(path: &Path, classes: usize) {
    let layers = RESNET50.layers(classes);
    let mut next = random(1);
    let mut tensors = Vec::new();
    for conv in layers.iter().flat_map(Layer::convs) {
        for (name, shape) in conv.tensors() {
            let data: Vec<u8> = (0..shape.iter().product())
                .flat_map(|_| value(conv, &name, next()).to_le_bytes())
                .collect();
            tensors.push((name, shape, data));
        }
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("data of that shape");
        (name.as_str(), view)
    });
    serialize_to_file(views, None, path).expect("the directory can be written to");
}

/// An element of tensor `name` of `conv`, from a random value between -1 and 1.
fn value(conv: &ConvSpec, name: &str, random: f32) -> f32 {
    let is_matrix = name == format!("{}.weight", conv.conv);
    match name.rsplit('.').next() {
        _ if is_matrix => random * (3.0 / conv.k() as f32).sqrt(),
        Some("weight") => 1.0 + 0.3 * random,
        Some("running_var") => 1.0 + 0.5 * random,
        _ => 0.2 * random,
    }
}
