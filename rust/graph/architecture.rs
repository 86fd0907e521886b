//! The numbers that distinguish one network of the family from another.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::shape::PoolWindow;

/// Everything that distinguishes one network from another, except its weights and classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The kind of residual block.
    pub block: Block,
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
    /// Planes of each stage; its blocks' widths are derived from them.
    pub widths: Vec<usize>,
    /// Output channels of a block for each of its planes.
    pub expansion: usize,
    /// Groups of a bottleneck's 3x3 convolution.
    pub groups: usize,
    /// Channels of a group in a stage of 64 planes.
    pub width_per_group: usize,
    /// Channels of an image.
    pub in_channels: usize,
    /// The layers before the first stage.
    pub stem: Stem,
    /// Output channels of the stem's convolutions.
    pub stem_widths: Vec<usize>,
    /// The stride of the stem's first convolution, if it is not the stem's default.
    pub stem_stride: Option<usize>,
    /// The pool after the stem, if it is not the stem's default.
    pub stem_pool: Option<StemPool>,
    /// The pixels between the taps of the 3x3 convolutions of each stage, or None for 1 everywhere. A
    /// stage with a larger number than the stage before has stride 1 in place of 2, and the first block
    /// starts with the number of the stage before.
    pub dilation: Option<Vec<usize>>,
    /// The stride of the last stage, if it is not the one that `dilation` leads to.
    pub last_stride: Option<usize>,
    /// The convolution of a bottleneck that has the block's stride.
    pub stride_on: StrideOn,
    /// The way in which a block's input takes the shape of its output.
    pub shortcut: Shortcut,
    /// Lets convolutions have biases; those in the weights are read.
    pub conv_bias: bool,
    /// True if batch norms follow the convolutions. Otherwise they are folded into the weights, and
    /// every convolution has a bias.
    pub batch_norm: bool,
    /// Added to the variance by batch norm.
    pub norm_epsilon: f64,
    /// Puts a ReLU after a block's last batch norm, before the addition.
    pub relu_before_add: bool,
    /// The pool between the last stage and the fully connected layer.
    pub head: HeadPool,
}

/// The kinds of residual blocks of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1.
    Bottleneck,
}

/// The layers before the first stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stem {
    /// The paper's: 7x7, by default with stride 2 and a max pool.
    #[serde(rename = "conv7x7")]
    Conv7x7,
    /// The "d" variants': three 3x3, by default with stride 2 for the first and a max pool.
    #[serde(rename = "deep")]
    Deep,
    /// For small images: 3x3, by default with stride 1 and no pool.
    #[serde(rename = "conv3x3")]
    Conv3x3,
}

/// The pool after the stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StemPool {
    /// 3x3 with stride 2, padding 1.
    Max,
    /// 3x3 with stride 2 and no padding; the last window may reach beyond the map (Caffe).
    MaxCeil,
    /// No pool.
    None,
}

/// The place of a bottleneck's stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StrideOn {
    /// On the first 1x1 ("v1"): the paper, Keras, detectron2.
    Conv1,
    /// On the 3x3 ("v1.5"): torchvision and timm.
    Conv2,
}

/// The way in which a block's input takes the shape of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// A 1x1 convolution with the block's stride (the paper's option B).
    Conv,
    /// A 2x2 average pool with the block's stride, and a 1x1 convolution (the "d" variants).
    AvgPoolConv,
    /// A 1x1 convolution in every block, also where the shapes agree (option C).
    ConvAlways,
    /// No weights: fewer pixels, and channels of zeros (option A).
    Pad(PadShortcut),
    /// Nothing is added: the paper's plain networks.
    None,
}

/// A shortcut without weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadShortcut {
    /// The way from the input's pixels to fewer.
    pub reduce: Reduce,
    /// The place of the channels of zeros.
    pub zeros: Zeros,
}

/// The way from a block's input to fewer pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// Every second pixel.
    Slice,
    /// The mean of 2x2 pixels; at the end of an odd side, of those that there are.
    Average,
}

/// The place of a shortcut's channels of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zeros {
    /// Half of them before the input's channels; the other half, and an odd one, after.
    Around,
    /// All after the input's channels.
    End,
}

/// The pool between the last stage and the fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadPool {
    /// The mean of each channel over all pixels.
    GlobalAvgPool,
    /// The largest value of each channel.
    GlobalMaxPool,
    /// torch's `AvgPool2d`, flattened in NCHW order; it fixes the size of the images.
    AvgPool(HeadWindow),
}

/// The window of a head's average pool; padding counts as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadWindow {
    /// Height and width.
    pub kernel: usize,
    /// From an output pixel to the next; the kernel's size if it is not stated.
    #[serde(default)]
    pub stride: Option<usize>,
    /// Rows and columns of zeros around the map.
    #[serde(default)]
    pub padding: usize,
}

/// The largest number of channels, blocks of a stage and so on: beyond it, products of sizes could
/// overflow.
const MAX_COUNT: usize = 1 << 16;

/// The most stages: an image of 2^16 pixels' side is down to a pixel after these.
pub(super) const MAX_STAGES: usize = 16;

/// The most blocks in all: the deepest networks of the paper, of 1202 layers, have 600.
const MAX_BLOCKS: usize = 1000;

impl Architecture {
    /// Channels inside the blocks of a stage with `planes` planes.
    pub fn inner_width(&self, planes: usize) -> usize {
        planes * self.width_per_group / 64 * self.groups
    }

    /// Channels of the last stage's output.
    pub fn out_channels(&self) -> usize {
        self.widths.last().map_or(0, |w| w * self.expansion)
    }

    /// Checks that the numbers describe a network.
    ///
    /// # Errors
    /// The first field that is out of range, with the expected and the found values.
    pub fn check(&self) -> Result<(), Error> {
        let stem_convs = if self.stem == Stem::Deep { 3 } else { 1 };
        for (field, values, expected) in [
            ("blocks", &self.blocks, None),
            ("widths", &self.widths, Some(self.blocks.len())),
            ("stem_widths", &self.stem_widths, Some(stem_convs)),
        ] {
            if !(1..=MAX_STAGES).contains(&values.len()) {
                return Err(Error::Argument(format!(
                    "variant.{field}: expected 1 to {MAX_STAGES} numbers, found {}",
                    values.len()
                )));
            }
            if let Some(expected) = expected
                && values.len() != expected
            {
                return Err(Error::Argument(format!(
                    "variant.{field}: expected {expected} numbers, found {}",
                    values.len()
                )));
            }
            if let Some(n) = values.iter().find(|n| !(1..=MAX_COUNT).contains(*n)) {
                return Err(Error::Argument(format!(
                    "variant.{field}: expected numbers from 1 to {MAX_COUNT}, found {n}"
                )));
            }
        }
        if self.blocks.iter().sum::<usize>() > MAX_BLOCKS {
            return Err(Error::Argument(format!(
                "variant.blocks: expected at most {MAX_BLOCKS} in all, found {:?}",
                self.blocks
            )));
        }
        for (field, n) in [
            ("expansion", self.expansion),
            ("groups", self.groups),
            ("width_per_group", self.width_per_group),
            ("in_channels", self.in_channels),
        ] {
            if !(1..=MAX_COUNT).contains(&n) {
                return Err(Error::Argument(format!(
                    "variant.{field}: expected a number from 1 to {MAX_COUNT}, found {n}"
                )));
            }
        }
        if self.block == Block::Basic && (self.groups, self.width_per_group) != (1, 64) {
            return Err(Error::Argument(format!(
                "variant.groups: a basic block has no groups (and width_per_group 64), found {} \
                 and {}",
                self.groups, self.width_per_group
            )));
        }
        for &planes in &self.widths {
            let width = self.inner_width(planes);
            if !(1..=MAX_COUNT).contains(&width) || planes * self.expansion > MAX_COUNT {
                return Err(Error::Argument(format!(
                    "variant.widths: {planes} planes make blocks of {width} inner and {} output \
                     channels; expected 1 to {MAX_COUNT}",
                    planes * self.expansion
                )));
            }
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0) {
            return Err(Error::Argument(format!(
                "variant.norm_epsilon: expected a number above 0, found {}",
                self.norm_epsilon
            )));
        }
        self.check_stages()?;
        match self.head {
            HeadPool::AvgPool(window) => window.check(),
            HeadPool::GlobalAvgPool | HeadPool::GlobalMaxPool => Ok(()),
        }
    }
}

impl Stem {
    /// The stride of the first convolution, unless another is stated.
    pub fn default_stride(self) -> usize {
        match self {
            Self::Conv7x7 | Self::Deep => 2,
            Self::Conv3x3 => 1,
        }
    }

    /// The pool, unless another is stated.
    pub fn default_pool(self) -> StemPool {
        match self {
            Self::Conv7x7 | Self::Deep => StemPool::Max,
            Self::Conv3x3 => StemPool::None,
        }
    }
}

impl StemPool {
    /// The pool's window; None if there is no pool.
    pub fn window(self) -> Option<PoolWindow> {
        let max = PoolWindow {
            stride: 2,
            ..PoolWindow::new(3)
        };
        match self {
            Self::Max => Some(PoolWindow { padding: 1, ..max }),
            Self::MaxCeil => Some(PoolWindow {
                ceil_mode: true,
                ..max
            }),
            Self::None => None,
        }
    }
}

impl HeadWindow {
    /// The window in full.
    pub fn window(&self) -> PoolWindow {
        PoolWindow {
            stride: self.stride.unwrap_or(self.kernel),
            padding: self.padding,
            count_include_pad: true,
            ..PoolWindow::new(self.kernel)
        }
    }

    fn check(&self) -> Result<(), Error> {
        let PoolWindow {
            kernel,
            stride,
            padding,
            ..
        } = self.window();
        let possible = (1..=MAX_COUNT).contains(&kernel)
            && (1..=MAX_COUNT).contains(&stride)
            && padding <= kernel / 2;
        if possible {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "variant.head: expected a kernel and a stride from 1 to {MAX_COUNT} and a padding of \
             at most half the kernel, found {kernel}, {stride} and {padding}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;

    /// `[kernel, stride, padding]`, and whether the last window may reach beyond the map.
    fn numbers(window: PoolWindow) -> ([usize; 3], bool) {
        let PoolWindow {
            kernel,
            stride,
            padding,
            ceil_mode,
            ..
        } = window;
        ([kernel, stride, padding], ceil_mode)
    }

    #[test]
    fn the_stems_pool_has_the_papers_window_or_caffes() {
        let window = |pool: StemPool| pool.window().map(numbers);
        assert_eq!(window(StemPool::Max), Some(([3, 2, 1], false)));
        assert_eq!(window(StemPool::MaxCeil), Some(([3, 2, 0], true)));
        assert_eq!(window(StemPool::None), None);
    }

    #[test]
    fn a_head_moves_by_its_kernel_unless_a_stride_is_stated_and_counts_the_padding() {
        let head = |stride| HeadWindow {
            kernel: 4,
            stride,
            padding: 1,
        };
        assert_eq!(numbers(head(Some(3)).window()), ([4, 3, 1], false));
        assert_eq!(numbers(head(None).window()), ([4, 4, 1], false));
        assert!(head(None).window().count_include_pad);
    }

    #[test]
    fn a_heads_padding_is_at_most_half_its_kernel() {
        let check = |kernel, padding| {
            let stride = None;
            HeadWindow {
                kernel,
                stride,
                padding,
            }
            .check()
        };
        assert!(check(4, 2).is_ok() && check(5, 2).is_ok() && check(1, 0).is_ok());
        for (kernel, padding) in [(4, 3), (5, 3), (1, 1)] {
            let message = check(kernel, padding).unwrap_err().to_string();
            assert!(
                message.contains("a padding of at most half the kernel"),
                "{message}"
            );
        }
    }

    #[test]
    fn all_blocks_together_are_bounded() {
        let mut architecture = family::named("resnet50").unwrap();
        architecture.blocks = vec![3, 4, 6, MAX_BLOCKS - 13];
        assert!(architecture.check().is_ok());
        architecture.blocks[0] += 1;
        let message = architecture.check().unwrap_err().to_string();
        assert!(
            message.contains(&format!(
                "variant.blocks: expected at most {MAX_BLOCKS} in all"
            )),
            "{message}"
        );
    }

    #[test]
    fn the_outputs_of_a_block_are_bounded_not_its_planes_alone() {
        let mut architecture = family::named("resnet50").unwrap();
        architecture.widths = vec![64, 64, 64, MAX_COUNT / 4];
        assert!(architecture.check().is_ok());
        architecture.widths[3] += 1;
        let message = architecture.check().unwrap_err().to_string();
        assert!(
            message.contains(
                "variant.widths: 16385 planes make blocks of 16385 inner and 65540 output"
            ),
            "{message}"
        );
    }
}
