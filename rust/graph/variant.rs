//! The overrides of a named architecture in config.json.

use serde::{Deserialize, Serialize};

use super::architecture::{
    Architecture, Block, HeadPool, MAX_STAGES, Shortcut, Stem, StemPool, StrideOn,
};

/// The fields of config.json's `variant`, which override those of the named architecture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // Each field is one of `Architecture`.
pub struct Variant {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expansion: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width_per_group: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_channels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_widths: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_pool: Option<StemPool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dilation: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride_on: Option<StrideOn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_epsilon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relu_before_add: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadPool>,
}

impl Variant {
    /// Replaces the numbers of `base` that this variant states.
    pub fn apply(&self, base: Architecture) -> Architecture {
        let v = self.clone();
        let block = v.block.unwrap_or(base.block);
        let expansion = match (v.expansion, v.block) {
            (Some(expansion), _) => expansion,
            (None, None) => base.expansion,
            (None, Some(Block::Basic)) => 1,
            (None, Some(Block::Bottleneck)) => 4,
        };
        let blocks = v.blocks.unwrap_or(base.blocks);
        // The planes double from stage to stage, however many there are.
        let doubled = |first: usize| (0..blocks.len().min(MAX_STAGES)).map(move |s| first << s);
        let widths = v
            .widths
            .unwrap_or_else(|| doubled(base.widths[0]).collect::<Vec<_>>());
        let stem = v.stem.unwrap_or(base.stem);
        let stem_widths = match (v.stem_widths, stem) {
            (Some(widths), _) => widths,
            (None, stem) if stem == base.stem => base.stem_widths,
            (None, Stem::Deep) => vec![base.widths[0] / 2, base.widths[0] / 2, base.widths[0]],
            (None, Stem::Conv7x7 | Stem::Conv3x3) => vec![base.widths[0]],
        };
        Architecture {
            block,
            blocks,
            widths,
            expansion,
            groups: v.groups.unwrap_or(base.groups),
            width_per_group: v.width_per_group.unwrap_or(base.width_per_group),
            in_channels: v.in_channels.unwrap_or(base.in_channels),
            stem,
            stem_widths,
            stem_stride: v.stem_stride.or(base.stem_stride),
            stem_pool: v.stem_pool.or(base.stem_pool),
            dilation: v.dilation.or(base.dilation),
            last_stride: v.last_stride.or(base.last_stride),
            stride_on: v.stride_on.unwrap_or(base.stride_on),
            shortcut: v.shortcut.unwrap_or(base.shortcut),
            conv_bias: v.conv_bias.unwrap_or(base.conv_bias),
            batch_norm: v.batch_norm.unwrap_or(base.batch_norm),
            norm_epsilon: v.norm_epsilon.unwrap_or(base.norm_epsilon),
            relu_before_add: v.relu_before_add.unwrap_or(base.relu_before_add),
            head: v.head.unwrap_or(base.head),
        }
    }
}
