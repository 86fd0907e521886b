//! The convolution in bf16: the bits that its definition says, where pairs are widened, and near them by the processor's
//! instruction, whose maker may add in another order. (int8's tests are with its panels.)

use half::bf16;

use crate::dtype::Dtype;
use crate::kernels::conv::{ChannelWindow, Conv, Grid, Source};
use crate::kernels::reference::Tensor;
use crate::kernels::testing::{Arena, assert_canaries, assert_within, lay_out, random, rounded};
use crate::kernels::view::View;
use crate::kernels::{ActivationLayout, Bf16Kernels, Bf16Speed, KernelTable};
use crate::shape::Window;

/// The processor's sums may differ in the last bit of f32, so that some results round to the other neighbour in bf16.
const NEAR: f64 = 1e-3;

/// One test's convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `[batch, height, width, in_channels]`.
    x: [usize; 4],
    out_channels: usize,
    /// Kernel, stride, padding, dilation.
    window: [usize; 4],
    groups: usize,
    residual: bool,
    relu: bool,
    /// Channels of a second input, which is read by a 1x1 window of the same stride.
    shortcut: Option<usize>,
    /// Results in f32, as fc's.
    logits: bool,
}

const PLAIN: Case = Case {
    x: [1, 3, 2, 3],
    out_channels: 3,
    window: [3, 1, 1, 1],
    groups: 1,
    residual: false,
    relu: false,
    shortcut: None,
    logits: false,
};

fn cases() -> Vec<Case> {
    let small = Case {
        residual: true,
        relu: true,
        ..PLAIN
    };
    if cfg!(miri) {
        return vec![small];
    }
    let of = |x, out_channels, window| Case {
        x,
        out_channels,
        window,
        ..PLAIN
    };
    let grouped = |channels, out_channels, groups| Case {
        groups,
        relu: true,
        ..of([2, 5, 6, channels], out_channels, [3, 1, 1, 1])
    };
    vec![
        small,
        of([2, 9, 7, 64], 64, [1, 1, 0, 1]),
        of([2, 9, 8, 33], 41, [1, 2, 0, 1]),
        of([1, 9, 8, 6], 33, [3, 2, 4, 4]),
        of([1, 7, 7, 256], 48, [3, 1, 1, 1]),
        Case {
            residual: true,
            ..of([2, 6, 5, 24], 51, [1, 1, 0, 1])
        },
        Case {
            shortcut: Some(9),
            relu: true,
            ..of([2, 5, 4, 7], 18, [3, 2, 1, 1])
        },
        grouped(128, 128, 32),
        grouped(12, 12, 3),
        grouped(60, 30, 10),
        grouped(9, 9, 9),
        Case {
            logits: true,
            ..of([3, 1, 1, 70], 41, [1, 1, 0, 1])
        },
    ]
}

fn put(tensor: &Tensor, view: &View, arena: &mut Arena) {
    let [batch, height, width, channels] = tensor.shape;
    for n in 0..batch {
        // SAFETY: the view lies inside the arena.
        unsafe { view.zero_border(n, arena.as_mut_ptr()) };
        for y in 0..height {
            for x in 0..width {
                // SAFETY: as above; there is room for what is stored after the channels.
                let pixel = unsafe {
                    let pixel = view.pixel_ptr::<bf16>(arena.as_mut_ptr(), n, y, x);
                    std::slice::from_raw_parts_mut(pixel, view.stored_channels())
                };
                pixel.fill(bf16::ZERO);
                for (c, value) in pixel[..channels].iter_mut().enumerate() {
                    *value = bf16::from_f64(tensor.at(n, y, x, c));
                }
            }
        }
    }
}

/// An input with its weights, `[out_channels, kernel, kernel, group]`.
struct Part {
    x: Tensor,
    weights: Tensor,
    window: Window,
    channels: ChannelWindow,
    view: View,
}

impl Part {
    fn new(x: Tensor, outs: usize, window: Window, groups: usize, seed: usize, nr: usize) -> Self {
        let channels = x.shape[3];
        let weights = random(
            [outs, window.kernel, window.kernel, channels / groups],
            seed,
        );
        let shape = x.shape.into();
        let view = ActivationLayout::Nhwc.activations(Dtype::Bf16, shape, window.padding);
        Self {
            x: rounded(&x),
            weights: rounded(&weights),
            window,
            channels: ChannelWindow::new(channels, outs, groups, nr).aligned(2),
            view,
        }
    }

    fn k(&self) -> usize {
        self.window.kernel * self.window.kernel * self.channels.len
    }

    /// The weight of an output channel for channel `c` of a tap, of those that its panel reads.
    fn weight(&self, o: usize, tap: usize, c: usize, nr: usize) -> f32 {
        let group = self.channels.group(o);
        let c = self.channels.start(o / nr) + c;
        match group.contains(&c) {
            true => {
                let k = self.window.kernel;
                self.weights.at(o, tap / k, tap % k, c - group.start) as f32
            }
            false => 0.0,
        }
    }

    /// Adds an output's products in the definition's order: pair by pair, the second value first.
    fn add_to(&self, sum: &mut f32, [n, y, x]: [usize; 3], o: usize, nr: usize) {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = self.window;
        let [_, height, width, channels] = self.x.shape;
        let value = |tap: usize, c: usize| {
            let iy = (y * stride + tap / kernel * dilation).wrapping_sub(padding);
            let ix = (x * stride + tap % kernel * dilation).wrapping_sub(padding);
            let c = self.channels.start(o / nr) + c;
            match iy < height && ix < width && c < channels {
                true => self.x.at(n, iy, ix, c) as f32,
                false => 0.0,
            }
        };
        for tap in 0..kernel * kernel {
            for pair in (0..self.channels.len).step_by(2) {
                for c in [pair + 1, pair] {
                    *sum += value(tap, c) * self.weight(o, tap, c, nr);
                }
            }
        }
    }
}

fn run(case: Case, kernels: &Bf16Kernels, exact: bool, items: usize) {
    let what = format!("{} {case:?} {items}", kernels.conv.instructions);
    let tile = kernels.conv.tile();
    let nr = tile.nr;
    let outs = case.out_channels;
    let [kernel, stride, padding, dilation] = case.window;
    let window = Window {
        kernel,
        stride,
        padding,
        dilation,
    };
    let mut parts = vec![Part::new(
        random(case.x, 1),
        outs,
        window,
        case.groups,
        2,
        nr,
    )];
    let [batch, height, width, _] = case.x;
    let out = [batch, window.output(height), window.output(width), outs];
    if let Some(channels) = case.shortcut {
        let window = Window {
            kernel: 1,
            padding: 0,
            dilation: 1,
            ..window
        };
        let x = random([batch, height, width, channels], 3);
        parts.push(Part::new(x, outs, window, 1, 4, nr));
    }
    let dtype = if case.logits { Dtype::F32 } else { Dtype::Bf16 };
    let mut views: Vec<View> = parts.iter().map(|part| part.view).collect();
    views.push(ActivationLayout::Nhwc.activations(dtype, out.into(), 1));
    let mut arena = lay_out(&mut views);
    for (part, view) in parts.iter().zip(&views) {
        put(&part.x, view, &mut arena);
    }
    let residual = rounded(&random(out, 5));
    let out_view = *views.last().unwrap();
    if case.residual {
        put(&residual, &out_view, &mut arena);
    }

    let bias: Vec<f32> = random([1, 1, 1, outs], 6)
        .data
        .iter()
        .map(|&b| b as f32)
        .collect();
    let k: usize = parts.iter().map(Part::k).sum();
    let panels = tile.panels(outs);
    let mut packed = vec![f32::NAN; panels * tile.panel_len(k)];
    for (p, place) in packed.chunks_exact_mut(tile.panel_len(k)).enumerate() {
        let mut panel = vec![0.0; nr * (1 + k)];
        for o in p * nr..((p + 1) * nr).min(outs) {
            panel[o - p * nr] = bias[o];
            let mut row = 1;
            for part in &parts {
                for i in 0..part.k() {
                    let (tap, c) = (i / part.channels.len, i % part.channels.len);
                    panel[row * nr + o - p * nr] = part.weight(o, tap, c, nr);
                    row += 1;
                }
            }
        }
        kernels.round_panel(&panel, place);
    }
    let sources = parts
        .iter()
        .zip(&views)
        .map(|(part, view)| Source::grouped(*view, part.window, part.channels, panels));
    let m = out[..3].iter().product();
    let conv = Conv {
        sources: sources.collect(),
        weights_bytes: 0,
        residual: case.residual.then_some(out_view),
        relu: case.relu,
        out: out_view,
        grid: Grid::choose(m, panels, tile.mr, items),
    };
    for item in (0..conv.items()).rev() {
        let (arena, packed) = (arena.as_mut_ptr(), bytemuck::cast_slice(&packed));
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe { kernels.conv.run_item(&conv, item, arena, packed) };
    }

    let expected = Tensor::from_fn(out, |n, y, x, o| {
        let mut sum = bias[o];
        for part in &parts {
            part.add_to(&mut sum, [n, y, x], o, nr);
        }
        if case.residual {
            sum += residual.at(n, y, x, o) as f32;
        }
        if case.relu {
            sum = sum.max(0.0);
        }
        match case.logits {
            true => f64::from(sum),
            false => bf16::from_f32(sum).to_f64(),
        }
    });
    let found = Tensor::from_fn(out, |n, y, x, o| match case.logits {
        true => f64::from(out_view.pixel::<f32>(&arena, n, y, x)[o]),
        false => out_view.pixel::<bf16>(&arena, n, y, x)[o].to_f64(),
    });
    match exact {
        true => assert!(found.data == expected.data, "{what}"),
        false => assert_within(&found, &expected, NEAR, &what),
    }
    assert_canaries(&arena, &views, &what);
}

#[test]
fn every_tier_computes_what_the_definition_says() {
    let items: &[usize] = if cfg!(miri) { &[7] } else { &[1, 7] };
    for case in cases() {
        for &items in items {
            for table in KernelTable::available() {
                let exact = table.bf16_speed == Bf16Speed::Widened;
                run(case, &table.bf16, exact, items);
            }
        }
    }
}
