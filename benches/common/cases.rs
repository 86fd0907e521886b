//! The convolutions of ResNet-50 that are measured.

use resnet_rs::Shape;
use resnet_rs::graph::layer::{Layer, Op};
use resnet_rs::kernels::conv::winograd::TileSize;
use resnet_rs::plan::{Algorithm, choose, shapes};

use super::resnet50::IN_CHANNELS;
use super::size::Size;

/// Every algorithm, the one that can do all convolutions first.
pub const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::Direct,
    Algorithm::Winograd(TileSize::Two),
    Algorithm::Winograd(TileSize::Four),
];

/// A convolution of the network, and an algorithm for it.
pub struct Case {
    /// The weights' name of the first convolution of this kind.
    pub name: String,
    /// The layer of that convolution.
    pub layer: usize,
    /// Kernel and stride, those of a shortcut too, and whether something else is added.
    pub window: String,
    /// M, K and N.
    pub size: Size,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The number of this kind in a forward with this algorithm; 0 if the forward uses another.
    pub count: usize,
}

impl Case {
    /// The algorithm's name.
    pub fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Direct => "direct",
            Algorithm::Winograd(TileSize::Two) => "winograd-f2x2",
            Algorithm::Winograd(TileSize::Four) => "winograd-f4x4",
        }
    }
}

/// The distinct convolutions of `layers` for images of `shape`, in the order in which they run,
/// each with every algorithm that can do it.
pub fn cases(layers: &[Layer], shape: Shape) -> Vec<Case> {
    // Tensor 0 is the image.
    let outputs = &shapes(layers, shape, IN_CHANNELS)[1..];
    let mut cases: Vec<Case> = Vec::new();
    for (i, (layer, out)) in layers.iter().zip(outputs).enumerate() {
        let (Some(size), Some(conv)) = (Size::of(layer, out), layer.convs().next()) else {
            continue;
        };
        let window = window(layer);
        let is_same = |case: &&mut Case| case.size == size && case.window == window;
        let mut same = cases.iter_mut().filter(is_same).peekable();
        if same.peek().is_some() {
            same.filter(|case| case.count > 0)
                .for_each(|case| case.count += 1);
            continue;
        }
        let chosen = choose(&layer.op, out.height, out.width);
        cases.extend(possible(&layer.op).iter().map(|&algorithm| Case {
            name: conv.conv.clone(),
            layer: i,
            window: window.clone(),
            size,
            algorithm,
            count: usize::from(algorithm == chosen),
        }));
    }
    cases
}

/// Kernel and stride of each convolution of a layer, and whether something else is added.
fn window(layer: &Layer) -> String {
    let mut parts: Vec<_> = layer
        .convs()
        .map(|conv| format!("{0}x{0}/{1}", conv.kernel, conv.stride))
        .collect();
    if let Op::Conv {
        residual: Some(_), ..
    } = layer.op
    {
        parts.push("residual".into());
    }
    parts.join(" + ")
}

/// The algorithms that can do `op`: all of them where a large image would not run directly.
fn possible(op: &Op) -> &'static [Algorithm] {
    match choose(op, 1 << 10, 1 << 10) {
        Algorithm::Direct => &ALGORITHMS[..1],
        Algorithm::Winograd(_) => &ALGORITHMS,
    }
}
