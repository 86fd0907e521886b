//! The networks of the paper, as lists of layers.
//!
//! He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015. The stride of a
//! stage's first block is on its 3x3 convolution ("v1.5"), as torchvision has it; the paper has it
//! on the first 1x1.

/// What distinguishes one network of the family from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// The name in config.json, torchvision's.
    pub name: &'static str,
    /// Channels of an image.
    pub in_channels: usize,
    /// Output channels of the first convolution.
    pub stem: usize,
    /// Channels of the 3x3 convolutions of each stage.
    pub widths: [usize; 4],
    /// Bottleneck blocks of each stage.
    pub blocks: [usize; 4],
    /// Output channels of a block, in terms of its width.
    pub expansion: usize,
}

/// The paper's 50-layer network: 16 blocks of three convolutions, the stem, and fc.
pub const RESNET50: Architecture = Architecture {
    name: "resnet50",
    in_channels: 3,
    stem: 64,
    widths: [64, 128, 256, 512],
    blocks: [3, 4, 6, 3],
    expansion: 4,
};

/// Every network that config.json may name.
pub const ARCHITECTURES: &[Architecture] = &[RESNET50];

/// A tensor between layers: 0 is the image, then one for each layer's output.
pub type TensorId = usize;

/// One fused layer: what runs as a step.
#[derive(Clone, Debug)]
pub struct Layer {
    /// torchvision's name of the last operation that is fused into it.
    pub name: String,
    /// The output; the residual's tensor where it is added in place.
    pub output: TensorId,
    /// What is computed.
    pub op: Op,
}

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// `relu(Σ convolutions + residual)`, batch norm and biases folded in.
    Conv {
        /// The inputs and their convolutions: one, or a block's last one and its shortcut.
        sources: Vec<(TensorId, ConvSpec)>,
        /// What is added before ReLU.
        residual: Option<TensorId>,
        /// Whether negative results become zero.
        relu: bool,
    },
    /// 3x3 with stride 2, padding 1.
    MaxPool(TensorId),
    /// The mean of each channel over all pixels.
    GlobalAvgPool(TensorId),
}

/// A convolution with what follows it in the weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// The weights' name: `<conv>.weight`.
    pub conv: String,
    /// The batch norm's name, `<norm>.running_mean` and so on; without one there is a bias.
    pub norm: Option<String>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the window.
    pub kernel: usize,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
    /// Whether the weights are a matrix `[out, in]`, as fc's are, and no OIHW tensor.
    pub is_matrix: bool,
}

impl Architecture {
    /// The network that config.json calls `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|a| a.name == name)
    }

    /// Features before fc.
    pub fn embedding_size(&self) -> usize {
        self.widths[3] * self.expansion
    }

    /// The layers in the order they run, the last one fc with `classes` outputs.
    pub fn layers(&self, classes: usize) -> Vec<Layer> {
        let mut net = Builder { layers: Vec::new() };

        let stem = conv("conv1", "bn1", self.in_channels, self.stem, 7, 2);
        let mut x = net.conv("relu", 0, stem);
        x = net.push("maxpool", Op::MaxPool(x));

        let mut in_channels = self.stem;
        for (stage, (&width, &blocks)) in self.widths.iter().zip(&self.blocks).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                x = self.bottleneck(&mut net, &name, x, in_channels, width, stride);
                in_channels = width * self.expansion;
            }
        }

        x = net.push("avgpool", Op::GlobalAvgPool(x));
        let fc = ConvSpec {
            conv: "fc".into(),
            norm: None,
            in_channels,
            out_channels: classes,
            kernel: 1,
            stride: 1,
            padding: 0,
            is_matrix: true,
        };
        let fc = Op::Conv {
            sources: vec![(x, fc)],
            residual: None,
            relu: false,
        };
        net.push("fc", fc);
        net.layers
    }

    /// 1x1 to `width` channels, 3x3, 1x1 to `width · expansion`, plus the input; where the shapes
    /// differ, plus a 1x1 convolution of the input (the paper's option B).
    fn bottleneck(
        &self,
        net: &mut Builder,
        name: &str,
        x: TensorId,
        in_channels: usize,
        width: usize,
        stride: usize,
    ) -> TensorId {
        let out_channels = width * self.expansion;
        let part = |i: usize, ic, oc, kernel, stride| {
            let (conv_name, bn_name) = (format!("{name}.conv{i}"), format!("{name}.bn{i}"));
            conv(&conv_name, &bn_name, ic, oc, kernel, stride)
        };
        let reduce = part(1, in_channels, width, 1, 1);
        let spatial = part(2, width, width, 3, stride);
        let expand = part(3, width, out_channels, 1, 1);

        let y = net.conv(&format!("{name}.relu1"), x, reduce);
        let y = net.conv(&format!("{name}.relu2"), y, spatial);

        let mut sources = vec![(y, expand)];
        let same_shape = stride == 1 && in_channels == out_channels;
        if !same_shape {
            let (conv_name, bn_name) = (
                format!("{name}.downsample.0"),
                format!("{name}.downsample.1"),
            );
            let projection = conv(&conv_name, &bn_name, in_channels, out_channels, 1, stride);
            sources.push((x, projection));
        }
        let sum = Op::Conv {
            sources,
            residual: same_shape.then_some(x),
            relu: true,
        };
        net.push(name, sum)
    }
}

/// A convolution followed by a batch norm, padded so that stride 1 keeps the image's size.
fn conv(
    name: &str,
    norm: &str,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
) -> ConvSpec {
    ConvSpec {
        conv: name.into(),
        norm: Some(norm.into()),
        in_channels,
        out_channels,
        kernel,
        stride,
        padding: kernel / 2,
        is_matrix: false,
    }
}

struct Builder {
    layers: Vec<Layer>,
}

impl Builder {
    /// Appends a convolution with ReLU and nothing besides.
    fn conv(&mut self, name: &str, input: TensorId, spec: ConvSpec) -> TensorId {
        let op = Op::Conv {
            sources: vec![(input, spec)],
            residual: None,
            relu: true,
        };
        self.push(name, op)
    }

    /// Appends a layer. A residual is added in place: nothing reads the block's input any more.
    fn push(&mut self, name: &str, op: Op) -> TensorId {
        let output = match op {
            Op::Conv {
                residual: Some(residual),
                ..
            } => residual,
            _ => self.layers.len() + 1,
        };
        self.layers.push(Layer {
            name: name.into(),
            output,
            op,
        });
        output
    }
}

impl Layer {
    /// The convolutions, in the order in which they are summed.
    pub fn convs(&self) -> impl Iterator<Item = &ConvSpec> {
        let sources = match &self.op {
            Op::Conv { sources, .. } => &sources[..],
            _ => &[],
        };
        sources.iter().map(|(_, conv)| conv)
    }

    /// The tensors that are read under a window, and the padding that each wants.
    pub fn inputs(&self) -> Vec<(TensorId, usize)> {
        match &self.op {
            Op::Conv { sources, .. } => {
                let padding = |(id, conv): &(TensorId, ConvSpec)| (*id, conv.padding);
                sources.iter().map(padding).collect()
            }
            Op::MaxPool(input) | Op::GlobalAvgPool(input) => vec![(*input, 0)],
        }
    }
}

impl ConvSpec {
    /// K of the matrix product: the elements of a window.
    pub fn k(&self) -> usize {
        self.kernel * self.kernel * self.in_channels
    }

    /// The weights' shape in the file: OIHW, or `[out, in]` for fc.
    pub fn weight_shape(&self) -> Vec<usize> {
        let (o, i, k) = (self.out_channels, self.in_channels, self.kernel);
        if self.is_matrix {
            vec![o, i]
        } else {
            vec![o, i, k, k]
        }
    }

    /// The tensors of the file that belong to it, with their shapes.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let vector = vec![self.out_channels];
        let mut tensors = vec![(format!("{}.weight", self.conv), self.weight_shape())];
        match &self.norm {
            Some(norm) => tensors.extend(
                ["weight", "bias", "running_mean", "running_var"]
                    .map(|part| (format!("{norm}.{part}"), vector.clone())),
            ),
            None => tensors.push((format!("{}.bias", self.conv), vector)),
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet50_has_the_published_number_of_parameters() {
        let trained = |name: &str| !name.contains("running_");
        let parameters: usize = RESNET50
            .layers(1000)
            .iter()
            .flat_map(Layer::convs)
            .flat_map(ConvSpec::tensors)
            .filter(|(name, _)| trained(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(parameters, 25_557_032);
    }

    #[test]
    fn resnet50_has_fifty_layers_and_four_shortcut_convolutions() {
        let layers = RESNET50.layers(1000);
        let convs: usize = layers.iter().map(|l| l.convs().count()).sum();
        assert_eq!(convs, 50 + 4);
    }

    #[test]
    fn only_the_first_block_of_a_later_stage_strides_and_on_its_3x3() {
        for layer in RESNET50.layers(10) {
            for conv in layer.convs() {
                let first = ["layer2.0", "layer3.0", "layer4.0"]
                    .iter()
                    .any(|name| conv.conv.starts_with(name));
                let strided = conv.conv.ends_with("conv2") || conv.conv.ends_with("downsample.0");
                let expected = conv.conv == "conv1" || (first && strided);
                assert_eq!(conv.stride == 2, expected, "{}", conv.conv);
            }
        }
    }
}
