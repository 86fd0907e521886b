//! The network that is measured.

use resnet_rs::network::architecture::Architecture;
use resnet_rs::network::fuse::fuse;
use resnet_rs::network::layer::Layer;
use resnet_rs::network::operations::Operation;

/// Channels of an image.
pub const IN_CHANNELS: usize = 3;

/// Its operations, each by itself.
pub fn operations(classes: usize) -> Vec<Operation> {
    let architecture = Architecture::named("resnet50").expect("the family has it");
    architecture.operations(classes, 1)
}

/// Its layers, as a forward runs them.
pub fn layers(classes: usize) -> Vec<Layer> {
    fuse(&operations(classes), true)
}
