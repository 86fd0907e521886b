//! From an architecture to its operations.

use super::architecture::{
    Architecture, Block, HeadPool, PadShortcut, Reduce, Shortcut, Stem, StrideOn, Zeros,
};
use super::operations::{ChannelPad, Convolution, Kind, Operation, TensorId};
use crate::shape::{PoolWindow, Window};

impl Architecture {
    /// The operations, the last one `fc` with `classes` outputs; there is no `fc` for 0 classes.
    ///
    /// - `side`: the height and width of the map that a head with a window makes; 1 otherwise.
    pub fn operations(&self, classes: usize, side: usize) -> Vec<Operation> {
        let mut net = Builder {
            architecture: self,
            operations: Vec::new(),
        };
        let mut x = net.stem();
        let mut in_channels = *self.stem_widths.last().unwrap_or(&0);
        let stages = self.widths.iter().zip(&self.blocks);
        for (stage, ((&planes, &blocks), steps)) in stages.zip(self.stage_steps()).enumerate() {
            for block in 0..blocks {
                let (stride, first_dilation) = match block {
                    0 => (steps.stride, steps.first_dilation),
                    _ => (1, steps.dilation),
                };
                let shape = BlockShape {
                    name: format!("layer{}.{block}", stage + 1),
                    in_channels,
                    planes,
                    stride,
                    first_dilation,
                    dilation: steps.dilation,
                };
                x = net.block(x, &shape);
                in_channels = planes * self.expansion;
            }
        }
        let pool = match self.head {
            HeadPool::GlobalAvgPool => Kind::AvgPool(None),
            HeadPool::GlobalMaxPool => Kind::MaxPool(None),
            HeadPool::AvgPool(head) => Kind::AvgPool(Some(head.window())),
        };
        x = net.push("avgpool", &[x], pool);
        if classes > 0 {
            let fc = Kind::Linear {
                channels: in_channels,
                side,
                classes,
            };
            net.push("fc", &[x], fc);
        }
        net.operations
    }
}

/// One residual block.
struct BlockShape {
    name: String,
    in_channels: usize,
    planes: usize,
    stride: usize,
    /// Of the first 3x3 convolution.
    first_dilation: usize,
    /// Of the other one of a basic block.
    dilation: usize,
}

struct Builder<'a> {
    architecture: &'a Architecture,
    operations: Vec<Operation>,
}

impl Builder<'_> {
    fn push(&mut self, name: &str, inputs: &[TensorId], kind: Kind) -> TensorId {
        self.operations.push(Operation {
            name: name.into(),
            inputs: inputs.to_vec(),
            kind,
        });
        self.operations.len()
    }

    fn relu(&mut self, name: &str, x: TensorId) -> TensorId {
        self.push(name, &[x], Kind::Relu)
    }

    /// A convolution and its batch norm.
    fn conv_norm(
        &mut self,
        [conv, norm]: [&str; 2],
        x: TensorId,
        [in_channels, out_channels]: [usize; 2],
        window: Window,
        groups: usize,
    ) -> TensorId {
        let has_norm = self.architecture.batch_norm;
        let x = self.push(
            conv,
            &[x],
            Kind::Conv(Convolution {
                in_channels,
                out_channels,
                kernel: window.kernel,
                stride: window.stride,
                padding: window.padding,
                dilation: window.dilation,
                groups,
                bias: self.architecture.conv_bias || !has_norm,
            }),
        );
        if !has_norm {
            return x;
        }
        let kind = Kind::BatchNorm {
            channels: out_channels,
            epsilon: self.architecture.norm_epsilon,
        };
        self.push(norm, &[x], kind)
    }

    fn stem(&mut self) -> TensorId {
        let Architecture {
            in_channels,
            stem,
            ref stem_widths,
            stem_stride,
            stem_pool,
            ..
        } = *self.architecture;
        let [first, last] = [stem_widths[0], stem_widths[stem_widths.len() - 1]];
        let stride = stem_stride.unwrap_or(stem.default_stride());
        let names = ["conv1", "bn1"];
        let x = match stem {
            Stem::Conv7x7 => self.conv_norm(names, 0, [in_channels, last], window(7, stride), 1),
            Stem::Conv3x3 => self.conv_norm(names, 0, [in_channels, last], window(3, stride), 1),
            Stem::Deep => {
                let second = stem_widths[1];
                let (a, b) = (["conv1.0", "conv1.1"], ["conv1.3", "conv1.4"]);
                let x = self.conv_norm(a, 0, [in_channels, first], window(3, stride), 1);
                let x = self.relu("conv1.2", x);
                let x = self.conv_norm(b, x, [first, second], window(3, 1), 1);
                let x = self.relu("conv1.5", x);
                self.conv_norm(["conv1.6", "bn1"], x, [second, last], window(3, 1), 1)
            }
        };
        let x = self.relu("relu", x);
        match stem_pool.unwrap_or(stem.default_pool()).window() {
            Some(pool) => self.push("maxpool", &[x], Kind::MaxPool(Some(pool))),
            None => x,
        }
    }

    /// A residual block: convolutions, plus the block's input in their output's shape.
    fn block(&mut self, x: TensorId, shape: &BlockShape) -> TensorId {
        let name = &shape.name;
        let out_channels = shape.planes * self.architecture.expansion;
        let mut y = match self.architecture.block {
            Block::Basic => self.basic(x, shape),
            Block::Bottleneck => self.bottleneck(x, shape),
        };
        if self.architecture.relu_before_add {
            let last = match self.architecture.block {
                Block::Basic => 2,
                Block::Bottleneck => 3,
            };
            y = self.relu(&format!("{name}.relu{last}"), y);
        }
        if self.architecture.shortcut == Shortcut::None {
            return self.relu(name, y);
        }
        let same_shape = shape.stride == 1 && shape.in_channels == out_channels;
        let identity = if same_shape && self.architecture.shortcut != Shortcut::ConvAlways {
            x
        } else {
            self.downsample(x, shape)
        };
        let sum = self.push(&format!("{name}.add"), &[y, identity], Kind::Add);
        self.relu(name, sum)
    }

    /// 3x3, ReLU, 3x3.
    fn basic(&mut self, x: TensorId, shape: &BlockShape) -> TensorId {
        let inner = self.architecture.inner_width(shape.planes);
        let out = shape.planes * self.architecture.expansion;
        let y = self.part(
            1,
            x,
            shape,
            [shape.in_channels, inner],
            dilated(shape.stride, shape.first_dilation),
            1,
        );
        let y = self.relu(&format!("{}.relu1", shape.name), y);
        self.part(2, y, shape, [inner, out], dilated(1, shape.dilation), 1)
    }

    /// 1x1 to the inner width, ReLU, 3x3, ReLU, 1x1 to the block's output channels.
    fn bottleneck(&mut self, x: TensorId, shape: &BlockShape) -> TensorId {
        let Architecture {
            expansion,
            groups,
            stride_on,
            ..
        } = *self.architecture;
        let inner = self.architecture.inner_width(shape.planes);
        let out = shape.planes * expansion;
        let strides = match stride_on {
            StrideOn::Conv1 => [shape.stride, 1],
            StrideOn::Conv2 => [1, shape.stride],
        };
        let name = &shape.name;
        let middle = dilated(strides[1], shape.first_dilation);
        let first = [shape.in_channels, inner];
        let y = self.part(1, x, shape, first, window(1, strides[0]), 1);
        let y = self.relu(&format!("{name}.relu1"), y);
        let y = self.part(2, y, shape, [inner, inner], middle, groups);
        let y = self.relu(&format!("{name}.relu2"), y);
        self.part(3, y, shape, [inner, out], window(1, 1), 1)
    }

    /// Convolution and batch norm number `i` of a block.
    fn part(
        &mut self,
        i: usize,
        x: TensorId,
        shape: &BlockShape,
        channels: [usize; 2],
        window: Window,
        groups: usize,
    ) -> TensorId {
        let names = ["conv", "bn"].map(|kind| format!("{}.{kind}{i}", shape.name));
        self.conv_norm([&names[0], &names[1]], x, channels, window, groups)
    }

    /// The block's input in the shape of its output.
    fn downsample(&mut self, x: TensorId, shape: &BlockShape) -> TensorId {
        let out_channels = shape.planes * self.architecture.expansion;
        let name = |i: usize| format!("{}.downsample.{i}", shape.name);
        let (x, stride, first) = match self.architecture.shortcut {
            Shortcut::Pad(pad) => return self.pad(x, shape, pad),
            Shortcut::None => return x,
            Shortcut::Conv | Shortcut::ConvAlways => (x, shape.stride, 0),
            // Stride 1 needs no pool, but the names after it stay.
            Shortcut::AvgPoolConv if shape.stride == 1 && shape.dilation == 1 => (x, 1, 1),
            Shortcut::AvgPoolConv => {
                let window = if shape.stride == 1 {
                    // timm's: as many pixels as before, zeros below and on the right counted.
                    PoolWindow {
                        stride: 1,
                        extra: 1,
                        count_include_pad: true,
                        ..PoolWindow::new(2)
                    }
                } else {
                    HALF
                };
                (self.push(&name(0), &[x], Kind::AvgPool(Some(window))), 1, 1)
            }
        };
        let names = [name(first), name(first + 1)];
        self.conv_norm(
            [&names[0], &names[1]],
            x,
            [shape.in_channels, out_channels],
            window(1, stride),
            1,
        )
    }

    /// The block's input with fewer pixels and channels of zeros, without weights.
    fn pad(&mut self, x: TensorId, shape: &BlockShape, pad: PadShortcut) -> TensorId {
        let out_channels = shape.planes * self.architecture.expansion;
        let zeros = out_channels - shape.in_channels;
        let before = match pad.zeros {
            Zeros::Around => zeros / 2,
            Zeros::End => 0,
        };
        let pad = ChannelPad {
            window: match pad.reduce {
                Reduce::Average if shape.stride == 2 => HALF,
                Reduce::Average | Reduce::Slice => PoolWindow {
                    stride: shape.stride,
                    ..PoolWindow::new(1)
                },
            },
            before,
            after: zeros - before,
        };
        self.push(&format!("{}.downsample", shape.name), &[x], Kind::Pad(pad))
    }
}

/// The mean of 2x2 pixels; at the end of an odd side, of those that there are.
const HALF: PoolWindow = PoolWindow {
    ceil_mode: true,
    ..PoolWindow::new(2)
};

/// A window with the padding that keeps the image's size if the stride is 1.
fn window(kernel: usize, stride: usize) -> Window {
    Window {
        kernel,
        stride,
        padding: kernel / 2,
        dilation: 1,
    }
}

/// A 3x3 window with the padding that keeps the image's size if the stride is 1.
fn dilated(stride: usize, dilation: usize) -> Window {
    Window {
        padding: dilation,
        dilation,
        ..window(3, stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;

    fn parameters(name: &str, classes: usize) -> usize {
        let operations = family::named(name).unwrap().operations(classes, 1);
        operations
            .iter()
            .flat_map(Operation::parameters)
            .filter(|(part, _)| !part.starts_with("running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    #[test]
    fn a_d_shortcut_has_a_pool_where_its_stage_has_a_stride_or_a_dilation() {
        let pools = |architecture: &Architecture| -> Vec<String> {
            let operations = architecture.operations(10, 1);
            let pools = operations
                .iter()
                .filter(|o| matches!(o.kind, Kind::AvgPool(Some(_))));
            pools.map(|o| o.name.clone()).collect()
        };
        let mut architecture = family::named("resnet50d").unwrap();
        let first = |stages: &[usize]| -> Vec<String> {
            stages
                .iter()
                .map(|s| format!("layer{s}.0.downsample.0"))
                .collect()
        };
        assert_eq!(pools(&architecture), first(&[2, 3, 4]));
        architecture.dilation = Some(vec![2, 2, 2, 2]);
        assert_eq!(pools(&architecture), first(&[1, 2, 3, 4]));
    }

    #[test]
    fn the_family_has_the_published_numbers_of_parameters() {
        // torchvision's `_metrics`/`num_params`; resnet50d's from timm.
        for (name, expected) in [
            ("resnet18", 11_689_512),
            ("resnet34", 21_797_672),
            ("resnet50", 25_557_032),
            ("resnet101", 44_549_160),
            ("resnet152", 60_192_808),
            ("resnext50_32x4d", 25_028_904),
            ("resnext101_32x8d", 88_791_336),
            ("resnext101_64x4d", 83_455_272),
            ("wide_resnet50_2", 68_883_240),
            ("wide_resnet101_2", 126_886_696),
            ("resnet50d", 25_576_264),
        ] {
            assert_eq!(parameters(name, 1000), expected, "{name}");
        }
        // The paper's 0.27, 0.46, 0.66, 0.85 and 1.7 million.
        for (name, expected) in [
            ("cifar_resnet20", 269_722),
            ("cifar_resnet32", 464_154),
            ("cifar_resnet44", 658_586),
            ("cifar_resnet56", 853_018),
            ("cifar_resnet110", 1_727_962),
        ] {
            assert_eq!(parameters(name, 10), expected, "{name}");
        }
    }

    #[test]
    fn a_cifar_network_has_the_layers_of_its_name_and_no_other_weights() {
        for layers in [20, 32, 44, 56, 110] {
            let architecture = family::named(&format!("cifar_resnet{layers}")).unwrap();
            let operations = architecture.operations(10, 1);
            let weighted = |o: &&Operation| matches!(o.kind, Kind::Conv(_) | Kind::Linear { .. });
            assert_eq!(operations.iter().filter(weighted).count(), layers);
            let pads: Vec<_> = operations
                .iter()
                .filter_map(|o| match o.kind {
                    Kind::Pad(pad) => Some((o.name.as_str(), pad.window.stride, pad.before)),
                    _ => None,
                })
                .collect();
            let expected = [
                ("layer2.0.downsample", 2, 8),
                ("layer3.0.downsample", 2, 16),
            ];
            assert_eq!(pads, expected);
        }
    }

    #[test]
    fn a_d_network_has_a_mean_of_the_pixels_there_are_before_the_convolutions_of_its_shortcuts() {
        let architecture = family::named("resnet18d").unwrap();
        let operations = architecture.operations(10, 1);
        let pools: Vec<_> = operations
            .iter()
            .filter_map(|o| match o.kind {
                Kind::AvgPool(Some(window)) => Some((o.name.as_str(), window)),
                _ => None,
            })
            .collect();
        let window = PoolWindow {
            ceil_mode: true,
            count_include_pad: false,
            ..PoolWindow::new(2)
        };
        let expected = [
            "layer2.0.downsample.0",
            "layer3.0.downsample.0",
            "layer4.0.downsample.0",
        ];
        assert_eq!(pools, expected.map(|name| (name, window)));
        assert_eq!(architecture.stem, Stem::Deep);
    }

    #[test]
    fn option_c_has_a_convolution_in_every_shortcut() {
        let mut architecture = family::named("resnet18").unwrap();
        architecture.shortcut = Shortcut::ConvAlways;
        let operations = architecture.operations(10, 1);
        let shortcuts = operations
            .iter()
            .filter(|o| o.name.ends_with("downsample.0"));
        assert_eq!(shortcuts.count(), 8);
    }

    #[test]
    fn resnet50_has_fifty_layers_and_four_shortcut_convolutions() {
        let operations = family::named("resnet50").unwrap().operations(10, 1);
        let weighted = |o: &&Operation| matches!(o.kind, Kind::Conv(_) | Kind::Linear { .. });
        assert_eq!(operations.iter().filter(weighted).count(), 50 + 4);
    }

    #[test]
    fn the_stride_is_where_the_architecture_says() {
        let mut architecture = family::named("resnet50").unwrap();
        for (stride_on, conv) in [(StrideOn::Conv2, "conv2"), (StrideOn::Conv1, "conv1")] {
            architecture.stride_on = stride_on;
            for operation in architecture.operations(10, 1) {
                let Kind::Conv(numbers) = &operation.kind else {
                    continue;
                };
                let name = &operation.name;
                let first = ["layer2.0", "layer3.0", "layer4.0"]
                    .iter()
                    .any(|block| name.starts_with(block));
                let strided = name.ends_with(conv) || name.ends_with("downsample.0");
                let expected = name == "conv1" || (first && strided);
                assert_eq!(numbers.stride == 2, expected, "{name}");
            }
        }
    }
}
