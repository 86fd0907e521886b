//! The family: every network that config.json may name.
//!
//! He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015 (resnet18 to 152);
//! Xie et al.: "Aggregated Residual Transformations for Deep Neural Networks", 2016 (resnext);
//! Zagoruyko, Komodakis: "Wide Residual Networks", 2016; He, Zhang et al.: "Bag of Tricks for Image
//! Classification with Convolutional Neural Networks", 2018 (the "d" of resnet50d). The names are
//! torchvision's and timm's.

use super::architecture::{Architecture, Block, HeadPool, Shortcut, Stem, StrideOn};

/// The numbers that distinguish the named networks from each other.
struct Named {
    name: &'static str,
    block: Block,
    blocks: [usize; 4],
    groups: usize,
    width_per_group: usize,
    /// A deep stem, and an average pool in the shortcuts.
    is_d: bool,
}

use Block::{Basic, Bottleneck};

const FAMILY: &[Named] = &[
    plain("resnet18", Basic, [2, 2, 2, 2]),
    plain("resnet34", Basic, [3, 4, 6, 3]),
    plain("resnet26", Bottleneck, [2, 2, 2, 2]),
    plain("resnet50", Bottleneck, [3, 4, 6, 3]),
    plain("resnet101", Bottleneck, [3, 4, 23, 3]),
    plain("resnet152", Bottleneck, [3, 8, 36, 3]),
    plain("resnet200", Bottleneck, [3, 24, 36, 3]),
    d(plain("resnet18d", Basic, [2, 2, 2, 2])),
    d(plain("resnet34d", Basic, [3, 4, 6, 3])),
    d(plain("resnet26d", Bottleneck, [2, 2, 2, 2])),
    d(plain("resnet50d", Bottleneck, [3, 4, 6, 3])),
    d(plain("resnet101d", Bottleneck, [3, 4, 23, 3])),
    d(plain("resnet152d", Bottleneck, [3, 8, 36, 3])),
    d(plain("resnet200d", Bottleneck, [3, 24, 36, 3])),
    wide("resnext50_32x4d", [3, 4, 6, 3], 32, 4),
    d(wide("resnext50d_32x4d", [3, 4, 6, 3], 32, 4)),
    wide("resnext101_32x4d", [3, 4, 23, 3], 32, 4),
    wide("resnext101_32x8d", [3, 4, 23, 3], 32, 8),
    wide("resnext101_64x4d", [3, 4, 23, 3], 64, 4),
    wide("wide_resnet50_2", [3, 4, 6, 3], 1, 128),
    wide("wide_resnet101_2", [3, 4, 23, 3], 1, 128),
];

const fn plain(name: &'static str, block: Block, blocks: [usize; 4]) -> Named {
    Named {
        name,
        block,
        blocks,
        groups: 1,
        width_per_group: 64,
        is_d: false,
    }
}

const fn wide(
    name: &'static str,
    blocks: [usize; 4],
    groups: usize,
    width_per_group: usize,
) -> Named {
    Named {
        groups,
        width_per_group,
        ..plain(name, Bottleneck, blocks)
    }
}

const fn d(named: Named) -> Named {
    Named {
        is_d: true,
        ..named
    }
}

/// The names, in the order of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILY.iter().map(|named| named.name)
}

/// The network called `name`, or None if the family has no such network.
pub fn named(name: &str) -> Option<Architecture> {
    let named = FAMILY.iter().find(|named| named.name == name)?;
    Some(Architecture {
        block: named.block,
        blocks: named.blocks.to_vec(),
        widths: vec![64, 128, 256, 512],
        expansion: match named.block {
            Basic => 1,
            Bottleneck => 4,
        },
        groups: named.groups,
        width_per_group: named.width_per_group,
        in_channels: 3,
        stem: if named.is_d {
            Stem::Deep
        } else {
            Stem::Conv7x7
        },
        stem_widths: if named.is_d {
            vec![32, 32, 64]
        } else {
            vec![64]
        },
        stride_on: StrideOn::Conv2,
        shortcut: if named.is_d {
            Shortcut::AvgPoolConv
        } else {
            Shortcut::Conv
        },
        conv_bias: false,
        batch_norm: true,
        norm_epsilon: 1e-5,
        relu_before_add: false,
        head: HeadPool::GlobalAvgPool,
    })
}
