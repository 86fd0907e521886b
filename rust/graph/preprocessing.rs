//! The way from an image to the network's input, as config.json states it.

use serde::{Deserialize, Serialize, Serializer};

/// From an image to the network's input: resize, centre crop, normalise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocessing {
    /// The short side after resizing, in pixels, or `[height, width]`; None does not resize.
    pub resize: Option<Size>,
    /// The side of the square cut from the centre, or `[height, width]`; None does not crop.
    pub crop: Option<Size>,
    /// The filter of the resizing, in Pillow's names.
    pub interpolation: Interpolation,
    /// The mean of each channel, as a share of the full range.
    #[serde(serialize_with = "decimals")]
    pub mean: Vec<f32>,
    /// The standard deviation of each channel, as a share of the full range.
    #[serde(serialize_with = "decimals")]
    pub std: Vec<f32>,
}

/// Writes each value as the f64 nearest to its shortest decimals: 0.485, as the file has it, and not
/// the f64 that equals the f32, 0.48500001430511475.
fn decimals<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    let shortest = |value: &f32| value.to_string().parse().unwrap_or(f64::from(*value));
    serializer.collect_seq(values.iter().map(shortest))
}

/// One number or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
pub enum Size {
    /// One number for both sides.
    Side(u32),
    /// `[height, width]`.
    Sides([u32; 2]),
}

/// Pillow's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Interpolation {
    Nearest,
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Default for Preprocessing {
    /// torchvision's preset of its IMAGENET1K_V2 weights.
    fn default() -> Self {
        Self {
            resize: Some(Size::Side(232)),
            crop: Some(Size::Side(224)),
            interpolation: Interpolation::Bilinear,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }
}

impl Preprocessing {
    /// The usual one for the networks of an architecture, if it is not the default.
    pub fn usual_for(architecture: &str) -> Option<Self> {
        architecture.starts_with("cifar_").then(Self::cifar10)
    }

    /// The whole image at 32 x 32, with the mean and deviation that most networks for CIFAR-10 were
    /// trained with.
    pub fn cifar10() -> Self {
        Self {
            resize: Some(Size::Side(32)),
            crop: Some(Size::Side(32)),
            interpolation: Interpolation::Bilinear,
            mean: vec![0.4914, 0.4822, 0.4465],
            std: vec![0.2023, 0.1994, 0.2010],
        }
    }

    /// The usual `[height, width]` of the network's input: that of the crop, else of the resizing,
    /// else ImageNet's 224 x 224.
    pub fn input_size(&self) -> [usize; 2] {
        let size = self.crop.or(self.resize).unwrap_or(Size::Side(224));
        size.sides().map(|n| n as usize)
    }
}

impl Size {
    /// `[height, width]`.
    pub fn sides(self) -> [u32; 2] {
        match self {
            Self::Side(n) => [n, n],
            Self::Sides(sides) => sides,
        }
    }
}
