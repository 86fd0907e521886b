//! The network that is measured.

use resnet_rs::graph::family;
use resnet_rs::graph::fuse::{Fusion, fuse};
use resnet_rs::graph::layer::Layer;
use resnet_rs::graph::operations::Operation;

/// Channels of an image.
pub const IN_CHANNELS: usize = 3;

/// Its operations, not fused.
pub fn operations(classes: usize) -> Vec<Operation> {
    let architecture = family::named("resnet50").expect("the family has it");
    architecture.operations(classes, 1)
}

/// Its layers, as a forward runs them.
pub fn layers(classes: usize) -> Vec<Layer> {
    fuse(&operations(classes), Fusion::ForF32)
}
