//! The choice of a convolution's algorithm.

use super::outputs::shapes;
use crate::graph::layer::{Layer, Op};
use crate::kernels::conv::winograd::TileSize;
use crate::shape::Shape;

/// The way in which a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Tap by tap; also for layers that are not convolutions.
    Direct,
    /// 3x3 with stride 1 through transformed tiles.
    Winograd(TileSize),
}

/// The tile sizes, beginning with the one that saves most multiplications, and the fewest tiles an image must
/// have for each. A point's weights are read once and used for every tile; with fewer tiles, reading
/// the larger weights takes longer than the multiplications that they save. The numbers come from
/// `cargo bench --bench conv -- conv2` and whole forwards, whose weights come from memory.
const FEWEST_TILES: [(TileSize, usize); 2] = [(TileSize::Four, 32), (TileSize::Two, 12)];

/// The algorithm of `op` for an output of `height` x `width`.
///
/// It is chosen once, at load, for the image size that the config names. So an image's result is the
/// same to the bit for every batch and number of threads.
pub fn choose(op: &Op, height: usize, width: usize) -> Algorithm {
    let Op::Conv { sources, .. } = op else {
        return Algorithm::Direct;
    };
    // Never for the image, tensor 0: the transforms take whole vectors of channels, and its pixels have
    // no room for them.
    let [(1.., conv)] = sources.as_slice() else {
        return Algorithm::Direct;
    };
    if (conv.kernel, conv.stride, conv.padding) != (3, 1, 1)
        || (conv.dilation, conv.groups) != (1, 1)
    {
        return Algorithm::Direct;
    }
    FEWEST_TILES
        .into_iter()
        .find(|(size, fewest)| size.tiles(height, width) >= *fewest)
        .map_or(Algorithm::Direct, |(size, _)| Algorithm::Winograd(size))
}

/// The algorithm of each layer for images of `[height, width, channels]`; all direct without
/// `winograd`.
pub fn algorithms(
    layers: &[Layer],
    [height, width, channels]: [usize; 3],
    winograd: bool,
) -> Vec<Algorithm> {
    let shape = Shape {
        batch: 1,
        height,
        width,
    };
    let shapes = shapes(layers, shape, channels);
    layers
        .iter()
        .zip(&shapes[1..])
        .map(|(layer, out)| match winograd {
            true => choose(&layer.op, out.height, out.width),
            false => Algorithm::Direct,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::architecture::Stem;
    use crate::graph::family;
    use crate::graph::fuse::{Fusion, fuse};

    /// The op of layer `name` of a network.
    fn op_of(network: &str, name: &str) -> Op {
        let operations = family::named(network).unwrap().operations(10, 1);
        let layers = fuse(&operations, Fusion::ForF32);
        layers.into_iter().find(|l| l.name == name).unwrap().op
    }

    fn op(name: &str) -> Op {
        op_of("resnet50", name)
    }

    #[test]
    fn stride_1_windows_take_the_largest_tiles_that_are_many_enough() {
        let four = Algorithm::Winograd(TileSize::Four);
        let two = Algorithm::Winograd(TileSize::Two);
        for (name, size, expected) in [
            ("layer1.0.relu2", 56, four),
            ("layer2.1.relu2", 28, four),
            ("layer3.1.relu2", 14, two),
            ("layer4.1.relu2", 7, two),
            ("layer4.1.relu2", 2, Algorithm::Direct),
        ] {
            assert_eq!(choose(&op(name), size, size), expected, "{name} {size}");
        }
    }

    #[test]
    fn basic_blocks_add_their_residual_after_the_last_transform() {
        let four = Algorithm::Winograd(TileSize::Four);
        for name in ["layer1.0.relu1", "layer1.0", "layer2.0", "layer2.1"] {
            assert_eq!(choose(&op_of("resnet18", name), 56, 56), four, "{name}");
        }
    }

    #[test]
    fn the_first_convolution_is_direct() {
        let mut architecture = family::named("resnet18").unwrap();
        architecture.stem = Stem::Conv3x3;
        let layers = fuse(&architecture.operations(10, 1), Fusion::ForF32);
        for size in [32, 64, 224] {
            assert_eq!(choose(&layers[0].op, size, size), Algorithm::Direct);
            assert_ne!(choose(&layers[1].op, size, size), Algorithm::Direct);
        }
    }

    #[test]
    fn grouped_convolutions_are_direct() {
        let op = op_of("resnext50_32x4d", "layer1.0.relu2");
        assert_eq!(choose(&op, 56, 56), Algorithm::Direct);
    }

    #[test]
    fn dilated_convolutions_are_direct() {
        let mut architecture = family::named("resnet18").unwrap();
        architecture.dilation = Some(vec![1, 1, 2, 4]);
        for layer in fuse(&architecture.operations(10, 1), Fusion::ForF32) {
            let dilated = layer.convs().any(|conv| conv.dilation > 1);
            let plain = choose(&layer.op, 56, 56) == Algorithm::Direct;
            assert!(plain || !dilated, "{}", layer.name);
        }
    }

    #[test]
    fn everything_else_is_direct() {
        for name in [
            "relu",
            "maxpool",
            "layer1.0.relu1",
            "layer2.0.relu2",
            "layer2.0",
            "layer2.1",
            "fc",
        ] {
            assert_eq!(choose(&op(name), 56, 56), Algorithm::Direct, "{name}");
        }
    }
}
