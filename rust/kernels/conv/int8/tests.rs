//! The convolution in int8 against the reference loops, whose sums of whole numbers are exact in f64: the results are
//! the same to the bit.

use super::PanelValues;
use crate::dtype::Dtype;
use crate::kernels::ActivationLayout;
use crate::kernels::conv::{ChannelWindow, Conv, Grid, Source, TileShape};
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{Arena, assert_canaries, lay_out, random};
use crate::kernels::view::View;
use crate::kernels::{IntKernels, KernelTable};
use crate::shape::Window;
use crate::simd::Activation;

/// One test's convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `[batch, height, width, in_channels]`.
    x: [usize; 4],
    out_channels: usize,
    window: Window,
    groups: usize,
    residual: bool,
    /// Channels of a second input, which is read by a 1x1 window of the same stride.
    shortcut: Option<usize>,
    /// Results in f32, as fc's.
    logits: bool,
    /// The largest activation.
    most: usize,
}

impl Case {
    fn new(x: [usize; 4], out_channels: usize, window: [usize; 3]) -> Self {
        let [kernel, stride, padding] = window;
        Self {
            x,
            out_channels,
            window: Window {
                kernel,
                stride,
                padding,
                dilation: 1,
            },
            groups: 1,
            residual: false,
            shortcut: None,
            logits: false,
            most: 255,
        }
    }
}

/// The numbers of items that a layer is cut into, about.
const ITEMS: &[usize] = if cfg!(miri) { &[7] } else { &[1, 7] };

fn cases() -> Vec<Case> {
    let mut dilated = Case::new([1, 9, 8, 6], 33, [3, 2, 4]);
    dilated.window.dilation = 4;
    let mut strided = Case::new([2, 5, 4, 7], 18, [3, 2, 1]);
    strided.shortcut = Some(9);
    if cfg!(miri) {
        (strided.x, strided.out_channels, strided.shortcut) = ([1, 3, 2, 3], 3, Some(2));
        return vec![strided];
    }
    let mut cases = vec![
        dilated,
        strided,
        Case::new([2, 9, 7, 64], 64, [1, 1, 0]),
        Case::new([2, 9, 8, 33], 40, [1, 2, 0]),
        Case::new([3, 5, 7, 20], 35, [3, 1, 1]),
        Case::new([1, 2, 3, 1], 1, [3, 1, 1]),
        Case::new([1, 7, 7, 512], 48, [3, 1, 1]),
    ];
    for residual in [false, true] {
        let mut case = Case::new([2, 6, 5, 24], 50, [1, 1, 0]);
        case.residual = residual;
        case.shortcut = (!residual).then_some(40);
        cases.push(case);
    }
    for (in_channels, out_channels, groups) in
        [(128, 128, 32), (12, 12, 3), (60, 30, 10), (9, 9, 9)]
    {
        let mut case = Case::new([2, 5, 6, in_channels], out_channels, [3, 1, 1]);
        case.groups = groups;
        cases.push(case);
    }
    let mut fc = Case::new([3, 1, 1, 70], 41, [1, 1, 0]);
    (fc.logits, fc.most) = (true, 4095);
    cases.push(fc);
    cases
}

/// Whole numbers from `least` to `most`.
fn whole(shape: [usize; 4], seed: usize, least: f64, most: f64) -> Tensor {
    let mut tensor = random(shape, seed);
    for value in &mut tensor.data {
        *value = ((*value + 1.0) / 2.0 * (most - least) + least).round();
    }
    tensor
}

fn put<A: Activation>(tensor: &Tensor, view: &View, arena: &mut Arena) {
    let [batch, height, width, _] = tensor.shape;
    for n in 0..batch {
        // SAFETY: the view lies inside the arena.
        unsafe { view.zero_border(n, arena.as_mut_ptr()) };
        for y in 0..height {
            for x in 0..width {
                for c in 0..view.channels {
                    // SAFETY: as above.
                    unsafe {
                        let pixel = view.pixel_ptr::<A>(arena.as_mut_ptr(), n, y, x);
                        *pixel.add(c) = A::of(tensor.at(n, y, x, c) as f32);
                    }
                }
            }
        }
    }
}

/// The rows of a matrix of weights, spread to the channels that each panel reads.
fn rows(weights: &Tensor, channels: ChannelWindow, panel: usize, nr: usize) -> Vec<i8> {
    let [outs, kernel, _, group_len] = weights.shape;
    let mut rows = Vec::new();
    for o in panel * nr..((panel + 1) * nr).min(outs) {
        let at = channels.group(o).start - channels.start(panel);
        for tap in 0..kernel * kernel {
            for c in 0..channels.len {
                let inside = (at..at + group_len).contains(&c);
                let value = match inside {
                    true => weights.at(o, tap / kernel, tap % kernel, c - at),
                    false => 0.0,
                };
                rows.push(value as i8);
            }
        }
    }
    rows
}

fn run<A: Activation>(case: Case, kernels: &IntKernels<A>, items: usize) {
    let what = format!("{} {case:?} {items}", kernels.conv.instructions);
    let tile: TileShape = kernels.conv.tile();
    let (kernel, [batch, height, width, channels]) = (case.window.kernel, case.x);
    let outs = case.out_channels;
    let x = whole(case.x, 1, 0.0, case.most as f64);
    let w = whole(
        [outs, kernel, kernel, channels / case.groups],
        2,
        -127.0,
        127.0,
    );
    let mut sums = reference::conv2d(&x, &w, case.window, case.groups);
    let bias: Vec<i32> = (0..outs).map(|o| 1000 * o as i32 - 7000).collect();
    let shortcut = case.shortcut.map(|channels| {
        let x = whole([batch, height, width, channels], 5, 0.0, 255.0);
        let w = whole([outs, 1, 1, channels], 6, -127.0, 127.0);
        let window = Window {
            kernel: 1,
            padding: 0,
            dilation: 1,
            ..case.window
        };
        let product = reference::conv2d(&x, &w, window, 1);
        sums = reference::add(&sums, &product);
        (x, w, window)
    });
    let out_dtype = if case.logits { Dtype::F32 } else { A::DTYPE };
    let activations = |dtype, shape: [usize; 4], border| {
        ActivationLayout::Nhwc.activations(dtype, shape.into(), border)
    };
    let mut views = vec![
        activations(A::DTYPE, case.x, case.window.padding),
        activations(out_dtype, sums.shape, 1),
    ];
    views.extend(
        shortcut
            .iter()
            .map(|(x, ..)| activations(A::DTYPE, x.shape, 0)),
    );
    let mut arena = lay_out(&mut views);
    put::<A>(&x, &views[0], &mut arena);
    if let Some((x, ..)) = &shortcut {
        put::<A>(x, &views[2], &mut arena);
    }
    let residual = whole(sums.shape, 9, 0.0, 255.0);
    if case.residual {
        put::<A>(&residual, &views[1], &mut arena);
    }

    let panels = tile.panels(outs);
    let of = |w: &Tensor, channels, groups| {
        let [outs, ..] = w.shape;
        ChannelWindow::new(channels, outs, groups, tile.nr).aligned(tile.depth)
    };
    let main = of(&w, channels, case.groups);
    let mut sources = vec![Source::grouped(views[0], case.window, main, panels)];
    let mut k = kernel * kernel * main.len;
    let mut short = None;
    if let Some((x, w, window)) = &shortcut {
        let channels = of(w, x.shape[3], 1);
        sources.push(Source::grouped(views[2], *window, channels, panels));
        k += channels.len;
        short = Some((w, channels));
    }
    let multiplier: Vec<f32> = (0..outs)
        .map(|o| (1.0 + 0.01 * o as f32) / (30.0 * (k * case.most) as f32))
        .collect();
    let ratio = 0.61;
    let mut packed = vec![-1_i32; panels * tile.panel_len(k)];
    for (panel, place) in packed.chunks_exact_mut(tile.panel_len(k)).enumerate() {
        let some = panel * tile.nr..((panel + 1) * tile.nr).min(outs);
        let main_rows = rows(&w, main, panel, tile.nr);
        let mut matrices = vec![(&main_rows[..], kernel * kernel * main.len)];
        let short_rows = short.map(|(w, channels)| rows(w, channels, panel, tile.nr));
        if let (Some(rows), Some((_, channels))) = (&short_rows, short) {
            matrices.push((rows, channels.len));
        }
        let values = PanelValues {
            bias: &bias[some.clone()],
            multiplier: &multiplier[some],
            ratio,
        };
        kernels.pack.panel(&matrices, &values, place);
    }
    let m = sums.shape[..3].iter().product();
    let conv = Conv {
        sources,
        weights_bytes: 0,
        residual: case.residual.then_some(views[1]),
        relu: !case.logits,
        out: views[1],
        grid: Grid::choose(m, panels, tile.mr, items),
    };
    for item in (0..conv.items()).rev() {
        let (arena, packed) = (arena.as_mut_ptr(), bytemuck::cast_slice(&packed));
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe { kernels.conv.run_item(&conv, item, arena, packed) };
    }
    let [batch, height, width, _] = sums.shape;
    let mut kinds = [0; 3];
    for n in 0..batch {
        for y in 0..height {
            for x in 0..width {
                for o in 0..outs {
                    let sum = sums.at(n, y, x, o) as i32 + bias[o];
                    let mut v = sum as f32 * multiplier[o];
                    if case.residual {
                        v += residual.at(n, y, x, o) as f32 * ratio;
                    }
                    let at = format!("{what}: {n} {y} {x} {o}");
                    if case.logits {
                        assert_eq!(views[1].pixel::<f32>(&arena, n, y, x)[o], v, "{at}");
                        continue;
                    }
                    let expected = v.clamp(0.0, 255.0).round_ties_even();
                    let found: i32 = views[1].pixel::<A>(&arena, n, y, x)[o].into();
                    assert_eq!(found, expected as i32, "{at}");
                    kinds[usize::from(v > 0.0) + usize::from(v > 255.0)] += 1;
                }
            }
        }
    }
    let inside = kinds[1];
    assert!(case.logits || inside > 0, "{what}: results are all clamped");
    assert_canaries(&arena, &views, &what);
}

#[test]
fn every_kernel_computes_what_the_definition_says() {
    for table in KernelTable::available() {
        let names = [Dtype::I16, Dtype::U8].map(|dtype| table.conv_name(dtype));
        println!("testing {}", names.join(", "));
    }
    for case in cases() {
        for &items in ITEMS {
            for table in KernelTable::available() {
                run(case, &table.i16, items);
                if case.most == 255 {
                    // Of VNNI or, where there is none, emulated.
                    run(case, &table.u8, items);
                }
            }
            if case.most == 255 {
                let portable = KernelTable::available().next().unwrap();
                run(case, &portable.with_emulated_fours().unwrap().u8, items);
            }
        }
    }
}

/// The sums of pairs that saturate in `vpmaddubsw`, and of the longest windows.
#[test]
fn the_largest_products_do_not_saturate() {
    for table in KernelTable::available() {
        largest(&table.i16);
        largest(&table.u8);
        largest(&table.with_emulated_fours().unwrap().u8);
    }
}

fn largest<A: Activation>(kernels: &IntKernels<A>) {
    let (tile, k) = (kernels.conv.tile(), if cfg!(miri) { 64 } else { 18_432 });
    let view =
        |dtype, channels| ActivationLayout::Nhwc.activations(dtype, [1, 1, 1, channels].into(), 0);
    let mut views = [view(A::DTYPE, k), view(Dtype::F32, 2)];
    let mut arena = lay_out(&mut views);
    let x = Tensor::from_fn([1, 1, 1, k], |_, _, _, _| 255.0);
    put::<A>(&x, &views[0], &mut arena);
    let rows = [vec![127; k], vec![-127; k]].concat();
    let mut packed = vec![0; tile.panel_len(k)];
    let values = PanelValues {
        bias: &[1, -1],
        multiplier: &[1.0, 1.0],
        ratio: 1.0,
    };
    kernels.pack.panel(&[(&rows, k)], &values, &mut packed);
    let conv = Conv {
        sources: vec![Source::pixels(views[0])],
        weights_bytes: 0,
        residual: None,
        relu: false,
        out: views[1],
        grid: Grid::choose(1, 1, tile.mr, 1),
    };
    // SAFETY: the views lie inside the arena, and one thread runs.
    unsafe {
        kernels
            .conv
            .run_item(&conv, 0, arena.as_mut_ptr(), bytemuck::cast_slice(&packed))
    };
    let largest = 255 * 127 * k as i32 + 1;
    let expected = [largest as f32, -largest as f32];
    assert_eq!(views[1].pixel::<f32>(&arena, 0, 0, 0), expected);
}
