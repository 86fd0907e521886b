//! The family: every network that config.json may name.
//!
//! He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015 (resnet18 to 152);
//! Xie et al.: "Aggregated Residual Transformations for Deep Neural Networks", 2016 (resnext);
//! Zagoruyko, Komodakis: "Wide Residual Networks", 2016; He, Zhang et al.: "Bag of Tricks for Image
//! Classification with Convolutional Neural Networks", 2018 (the "d" of resnet50d). The names are
//! torchvision's and timm's; those of the first paper's networks for CIFAR are our own.

use super::architecture::{
    Architecture, Block, HeadPool, PadShortcut, Reduce, Shortcut, Stem, StrideOn, Zeros,
};

/// The numbers that distinguish the named networks from each other.
struct Named {
    name: &'static str,
    block: Block,
    blocks: &'static [usize],
    /// Planes of the first stage; each further stage has twice as many.
    width: usize,
    groups: usize,
    width_per_group: usize,
    stem: Stem,
    shortcut: Shortcut,
}

use Block::{Basic, Bottleneck};

const FAMILY: &[Named] = &[
    plain("resnet18", Basic, &[2, 2, 2, 2]),
    plain("resnet34", Basic, &[3, 4, 6, 3]),
    plain("resnet26", Bottleneck, &[2, 2, 2, 2]),
    plain("resnet50", Bottleneck, &[3, 4, 6, 3]),
    plain("resnet101", Bottleneck, &[3, 4, 23, 3]),
    plain("resnet152", Bottleneck, &[3, 8, 36, 3]),
    plain("resnet200", Bottleneck, &[3, 24, 36, 3]),
    d(plain("resnet18d", Basic, &[2, 2, 2, 2])),
    d(plain("resnet34d", Basic, &[3, 4, 6, 3])),
    d(plain("resnet26d", Bottleneck, &[2, 2, 2, 2])),
    d(plain("resnet50d", Bottleneck, &[3, 4, 6, 3])),
    d(plain("resnet101d", Bottleneck, &[3, 4, 23, 3])),
    d(plain("resnet152d", Bottleneck, &[3, 8, 36, 3])),
    d(plain("resnet200d", Bottleneck, &[3, 24, 36, 3])),
    wide("resnext50_32x4d", &[3, 4, 6, 3], 32, 4),
    d(wide("resnext50d_32x4d", &[3, 4, 6, 3], 32, 4)),
    wide("resnext101_32x4d", &[3, 4, 23, 3], 32, 4),
    wide("resnext101_32x8d", &[3, 4, 23, 3], 32, 8),
    wide("resnext101_64x4d", &[3, 4, 23, 3], 64, 4),
    wide("wide_resnet50_2", &[3, 4, 6, 3], 1, 128),
    wide("wide_resnet101_2", &[3, 4, 23, 3], 1, 128),
    cifar("cifar_resnet20", &[3, 3, 3]),
    cifar("cifar_resnet32", &[5, 5, 5]),
    cifar("cifar_resnet44", &[7, 7, 7]),
    cifar("cifar_resnet56", &[9, 9, 9]),
    cifar("cifar_resnet110", &[18, 18, 18]),
];

const fn plain(name: &'static str, block: Block, blocks: &'static [usize; 4]) -> Named {
    Named {
        name,
        block,
        blocks,
        width: 64,
        groups: 1,
        width_per_group: 64,
        stem: Stem::Conv7x7,
        shortcut: Shortcut::Conv,
    }
}

const fn wide(
    name: &'static str,
    blocks: &'static [usize; 4],
    groups: usize,
    width_per_group: usize,
) -> Named {
    Named {
        groups,
        width_per_group,
        ..plain(name, Bottleneck, blocks)
    }
}

/// A deep stem, and an average pool in the shortcuts.
const fn d(named: Named) -> Named {
    Named {
        stem: Stem::Deep,
        shortcut: Shortcut::AvgPoolConv,
        ..named
    }
}

/// For images of 32 x 32: three stages, shortcuts without weights.
const fn cifar(name: &'static str, blocks: &'static [usize; 3]) -> Named {
    Named {
        name,
        block: Basic,
        blocks,
        width: 16,
        groups: 1,
        width_per_group: 64,
        stem: Stem::Conv3x3,
        shortcut: Shortcut::Pad(PadShortcut {
            reduce: Reduce::Slice,
            zeros: Zeros::Around,
        }),
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
        widths: (0..named.blocks.len()).map(|s| named.width << s).collect(),
        expansion: match named.block {
            Basic => 1,
            Bottleneck => 4,
        },
        groups: named.groups,
        width_per_group: named.width_per_group,
        in_channels: 3,
        stem: named.stem,
        stem_widths: match named.stem {
            Stem::Deep => vec![32, 32, 64],
            Stem::Conv7x7 | Stem::Conv3x3 => vec![named.width],
        },
        stem_stride: None,
        stem_pool: None,
        dilation: None,
        last_stride: None,
        stride_on: StrideOn::Conv2,
        shortcut: named.shortcut,
        conv_bias: false,
        batch_norm: true,
        norm_epsilon: 1e-5,
        relu_before_add: false,
        head: HeadPool::GlobalAvgPool,
    })
}
