//! The kernels of every tier against the reference loops.

use super::KernelTable;
use super::conv::{ChannelWindow, Conv, Grid, Source};
use super::elementwise::ElementwiseLayer;
use super::pack::packed_len;
use super::pool::{AvgPoolLayer, AvgWindow, MaxPoolLayer};
use super::reference::{self, Tensor, Window};
use super::view::View;

/// Against loops in f64: f32 rounds each of K sums and products by at most 2^-24, mostly far less
/// because the errors go both ways; K is below 5,000.
const TOLERANCE: f64 = 2e-6;

/// What an output holds before a kernel writes it, and what lies around it: never a result.
const CANARY: f32 = f32::NAN;

/// Values between -1 and 1, the same for the same seed; exact in f32.
fn random(shape: [usize; 4], seed: usize) -> Tensor {
    Tensor::from_fn(shape, |n, y, x, c| {
        let mut h = (seed * 31 + n) * 37 + y;
        h = (h * 41 + x) * 43 + c;
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (h as f64) / f64::from(1 << 23) - 1.0
    })
}

fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Puts a tensor into the arena, its border zero.
fn put(tensor: &Tensor, view: &View, arena: &mut [f32]) {
    let [batch, height, width, channels] = tensor.shape;
    for n in 0..batch {
        // SAFETY: the view lies inside the arena.
        unsafe { view.zero_border(n, arena.as_mut_ptr()) };
        for y in 0..height {
            for x in 0..width {
                for c in 0..channels {
                    arena[view.pixel(n, y, x) + c] = tensor.at(n, y, x, c) as f32;
                }
            }
        }
    }
}

/// Takes a tensor out of the arena.
fn take(view: &View, arena: &[f32]) -> Tensor {
    let shape = [view.batch, view.height, view.width, view.channels];
    Tensor::from_fn(shape, |n, y, x, c| {
        f64::from(arena[view.pixel(n, y, x) + c])
    })
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || found.data.iter().zip(&expected.data);
    let error = norm(&mut pairs().map(|(f, e)| f - e)) / norm(&mut expected.data.iter().copied());
    assert!(error <= TOLERANCE, "{what}: relative error {error:e}");
}

/// Lays views one behind the other, a gap of canaries after each.
fn lay_out(views: &mut [View]) -> Vec<f32> {
    let mut end = 64;
    for view in views {
        view.offset = end;
        end += view.len().next_multiple_of(16) + 64;
    }
    vec![CANARY; end]
}

/// That every element outside `views` is still a canary.
fn assert_canaries(arena: &[f32], views: &[View], what: &str) {
    for (i, value) in arena.iter().enumerate() {
        let inside = views
            .iter()
            .any(|v| (v.offset..v.offset + v.len()).contains(&i));
        assert!(inside || value.is_nan(), "{what}: wrote outside, at {i}");
    }
}

/// A convolution as the tests describe it.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    height: usize,
    width: usize,
    in_channels: usize,
    out_channels: usize,
    window: Window,
    /// In channels of a second source, a 1x1 convolution with this stride.
    shortcut: Option<(usize, usize)>,
    residual: bool,
    relu: bool,
    out_border: usize,
    /// Whether pixels lie side by side, as in the network's input.
    dense: bool,
}

impl Case {
    fn new(height: usize, width: usize, channels: [usize; 2], window: [usize; 3]) -> Self {
        let [kernel, stride, padding] = window;
        Self {
            batch: 2,
            height,
            width,
            in_channels: channels[0],
            out_channels: channels[1],
            window: Window {
                kernel,
                stride,
                padding,
            },
            shortcut: None,
            residual: false,
            relu: false,
            out_border: 0,
            dense: false,
        }
    }
}

fn run_conv(case: Case, table: &KernelTable, items: usize) {
    let what = format!("{} {case:?}", table.conv_name());
    let Window {
        kernel,
        stride,
        padding,
    } = case.window;
    let (oc, ic) = (case.out_channels, case.in_channels);
    let x = random([case.batch, case.height, case.width, ic], 1);
    let w = random([oc, kernel, kernel, ic], 2);
    let bias = random([1, 1, 1, oc], 3);
    let mut expected = reference::conv2d(&x, &w, case.window, 1);
    let [batch, out_h, out_w, _] = expected.shape;

    let input = if case.dense {
        View::pixels(batch, case.height, case.width, ic, padding)
    } else {
        View::activations(batch, case.height, case.width, ic).with_border(padding)
    };
    let out = View::activations(batch, out_h, out_w, oc).with_border(case.out_border);
    // The shortcut's input: as large as its stride asks for.
    let (sc, sc_stride) = case.shortcut.unwrap_or((1, 1));
    let x2 = random([batch, out_h * sc_stride, out_w * sc_stride, sc], 4);
    let w2 = random([oc, 1, 1, sc], 5);
    let input2 = View::activations(batch, x2.shape[1], x2.shape[2], sc);

    let mut views = [input, out, input2];
    let mut arena = lay_out(&mut views);
    let [input, out, input2] = views;
    put(&x, &input, &mut arena);
    put(&x2, &input2, &mut arena);

    expected = reference::add_bias(&expected, &bias.data);
    let mut sources = vec![Source::new(input, kernel, stride, padding)];
    let (w, w2) = (f32s(&w.data), f32s(&w2.data));
    let mut matrices = vec![(&w[..], kernel * kernel * ic)];
    if case.shortcut.is_some() {
        let window = Window {
            kernel: 1,
            stride: sc_stride,
            padding: 0,
        };
        let shortcut = reference::conv2d(&x2, &random([oc, 1, 1, sc], 5), window, 1);
        expected = reference::add(&expected, &shortcut);
        sources.push(Source::new(input2, 1, sc_stride, 0));
        matrices.push((&w2, sc));
    }
    if case.residual {
        let residual = random(expected.shape, 6);
        put(&residual, &out, &mut arena);
        expected = reference::add(&expected, &residual);
    }
    if case.relu {
        expected = reference::relu(&expected);
    }

    let k = matrices.iter().map(|(_, k)| k).sum();
    let mut packed = vec![CANARY; packed_len(oc, k, table.nr)];
    (table.pack)(&matrices, &f32s(&bias.data), table.nr, &mut packed);
    let panels = oc.div_ceil(table.nr);
    let conv = Conv {
        sources,
        weights: 0,
        residual: case.residual.then_some(out),
        relu: case.relu,
        out,
        grid: Grid::choose(batch * out_h * out_w, panels, table.mr(), items),
    };
    for item in 0..conv.items() {
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe { conv.run_item(item, arena.as_mut_ptr(), &packed, table) };
    }
    assert_close(&take(&out, &arena), &expected, &what);
    assert_canaries(&arena, &views, &what);
    let border: f64 = (0..batch)
        .flat_map(|n| out.border_runs(n).flatten())
        .map(|i| f64::from(arena[i]))
        .sum();
    assert!(case.out_border == 0 || border == 0.0, "{what}: border");
}

/// The shapes of the network, small; then sizes around every edge of tiles and panels.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(9, 7, [64, 64], [1, 1, 0]),
        Case::new(9, 7, [16, 48], [3, 1, 1]),
        Case::new(9, 8, [32, 32], [3, 2, 1]),
        Case {
            dense: true,
            ..Case::new(21, 17, [3, 64], [7, 2, 3])
        },
        Case {
            shortcut: Some((48, 2)),
            relu: true,
            ..Case::new(5, 7, [16, 64], [1, 1, 0])
        },
        Case {
            residual: true,
            relu: true,
            ..Case::new(5, 7, [16, 64], [1, 1, 0])
        },
        Case {
            out_border: 1,
            relu: true,
            ..Case::new(6, 5, [8, 40], [1, 1, 0])
        },
        // Padded strides, from 512 channels on.
        Case::new(3, 5, [512, 33], [3, 1, 1]),
        // Windows that are not what the network has.
        Case::new(6, 9, [5, 7], [5, 3, 2]),
        Case::new(6, 9, [5, 7], [2, 1, 0]),
        Case::new(1, 1, [3, 5], [3, 1, 1]),
        Case::new(1, 1, [3, 5], [7, 2, 3]),
        Case::new(4, 5, [1, 1], [4, 4, 0]),
    ];
    // Every tile height, and every number of channels around a panel's edge.
    for width in 1..=30 {
        cases.push(Case {
            batch: 1,
            ..Case::new(1, width, [5, 34], [1, 1, 0])
        });
    }
    for out_channels in 1..=66 {
        cases.push(Case {
            batch: 1,
            residual: out_channels % 2 == 0,
            relu: out_channels % 3 == 0,
            ..Case::new(2, 3, [7, out_channels], [1, 1, 0])
        });
    }
    cases
}

#[test]
fn conv_matches_reference_on_every_tier() {
    for table in KernelTable::available() {
        println!("testing {}", table.conv_name());
        for case in cases() {
            for items in [1, 30] {
                run_conv(case, &table, items);
            }
        }
    }
}

#[test]
fn conv_with_identity_weights_is_exact() {
    for table in KernelTable::available() {
        let channels = 70;
        let mut identity = vec![0.0; channels * channels];
        identity
            .iter_mut()
            .step_by(channels + 1)
            .for_each(|w| *w = 1.0);
        let mut packed = vec![CANARY; packed_len(channels, channels, table.nr)];
        (table.pack)(
            &[(&identity, channels)],
            &vec![0.0; channels],
            table.nr,
            &mut packed,
        );
        let x = random([1, 3, 9, channels], 7);
        let mut views = [View::activations(1, 3, 9, channels); 2];
        let mut arena = lay_out(&mut views);
        put(&x, &views[0], &mut arena);
        let conv = Conv {
            sources: vec![Source::new(views[0], 1, 1, 0)],
            weights: 0,
            residual: None,
            relu: false,
            out: views[1],
            grid: Grid::choose(27, channels.div_ceil(table.nr), table.mr(), 1),
        };
        for item in 0..conv.items() {
            // SAFETY: as above.
            unsafe { conv.run_item(item, arena.as_mut_ptr(), &packed, &table) };
        }
        assert_eq!(take(&views[1], &arena), x);
    }
}

#[test]
fn pools_match_reference_on_every_tier() {
    let window = Window {
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    for table in KernelTable::available() {
        for (height, width, channels) in [(1, 1, 1), (2, 5, 3), (8, 7, 16), (9, 12, 70)] {
            let what = format!("{} {height} x {width} x {channels}", table.isa);
            // Negative values, so that padding with zeros would win.
            let x = random([2, height, width, channels], 8);
            let x = Tensor::from_fn(x.shape, |n, y, i, c| x.at(n, y, i, c) - 2.0);
            let max = reference::max_pool(&x, window);
            let mean = reference::global_avg_pool(&x);
            let mut views = [
                View::activations(2, height, width, channels),
                View::activations(2, max.shape[1], max.shape[2], channels).with_border(1),
                View::activations(2, 1, 1, channels),
            ];
            let mut arena = lay_out(&mut views);
            put(&x, &views[0], &mut arena);
            let max_pool = MaxPoolLayer {
                input: views[0],
                out: views[1],
            };
            let avg_pool = AvgPoolLayer {
                input: views[0],
                out: views[2],
                window: None,
            };
            let p = arena.as_mut_ptr();
            // SAFETY: as above.
            unsafe {
                (0..max_pool.items()).for_each(|item| max_pool.run_item(item, p, &table));
                (0..avg_pool.items()).for_each(|item| avg_pool.run_item(item, p, &table));
            }
            assert_close(&take(&views[1], &arena), &max, &what);
            assert_close(&take(&views[2], &arena), &mean, &what);
            assert_canaries(&arena, &views, &what);
        }
    }
}

#[test]
fn windowed_average_pools_match_reference_on_every_tier() {
    let window = |kernel, stride, padding, ceil_mode, count_include_pad| AvgWindow {
        kernel,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
    };
    for window in [
        window(2, 2, 0, true, false),
        window(2, 1, 0, true, false),
        window(2, 2, 1, false, true),
        window(3, 1, 1, false, true),
        window(7, 7, 0, false, true),
    ] {
        for (height, width, channels) in [(7, 7, 3), (8, 11, 16), (9, 12, 70), (1, 2, 5)] {
            let x = random([2, height, width, channels], 8);
            let mean = reference::avg_pool(&x, window);
            if mean.data.is_empty() {
                continue;
            }
            for table in KernelTable::available() {
                let mut views = [
                    View::activations(2, height, width, channels),
                    View::activations(2, mean.shape[1], mean.shape[2], channels).with_border(1),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                let pool = AvgPoolLayer {
                    input: views[0],
                    out: views[1],
                    window: Some(window),
                };
                let p = arena.as_mut_ptr();
                // SAFETY: as above.
                unsafe { (0..pool.items()).for_each(|item| pool.run_item(item, p, &table)) };
                let what = format!("{} {height} x {width} {window:?}", table.isa);
                assert_close(&take(&views[1], &arena), &mean, &what);
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn norm_sum_and_relu_match_reference_on_every_tier() {
    let (a, b) = (random([2, 3, 5, 37], 1), random([2, 3, 5, 37], 2));
    let weights: Vec<f32> = (0..74).map(|i| (i as f32 - 30.0) / 20.0).collect();
    let (scale, shift) = weights.split_at(37);
    for table in KernelTable::available() {
        for (with_norm, with_b, with_relu) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (true, true, true),
        ] {
            let view = View::activations(2, 3, 5, 37);
            let mut views = [view, view, view.with_border(1)];
            let mut arena = lay_out(&mut views);
            put(&a, &views[0], &mut arena);
            put(&b, &views[1], &mut arena);
            let layer = ElementwiseLayer {
                a: views[0],
                norm: with_norm.then_some(0),
                b: with_b.then_some(views[1]),
                relu: with_relu,
                out: views[2],
            };
            for item in 0..layer.items() {
                // SAFETY: as above.
                unsafe { layer.run_item(item, arena.as_mut_ptr(), &weights, &table) };
            }
            let expected = Tensor::from_fn(a.shape, |n, y, x, c| {
                let mut value = a.at(n, y, x, c);
                if with_norm {
                    value = value * f64::from(scale[c]) + f64::from(shift[c]);
                }
                if with_b {
                    value += b.at(n, y, x, c);
                }
                if with_relu { value.max(0.0) } else { value }
            });
            let what = format!("{} {with_norm} {with_b} {with_relu}", table.isa);
            assert_close(&take(&views[2], &arena), &expected, &what);
            assert_canaries(&arena, &views, &what);
        }
    }
}

#[test]
fn panels_of_grouped_convolutions_read_the_channels_of_their_groups() {
    for (in_channels, out_channels, groups) in [
        (128, 128, 32),
        (256, 256, 32),
        (2048, 2048, 32),
        (12, 12, 3),
        (60, 30, 10),
        (9, 9, 9),
    ] {
        for nr in [8, 16, 32] {
            let window = ChannelWindow::new(in_channels, out_channels, groups, nr);
            for o in 0..out_channels {
                let start = window.start(o / nr);
                let group = window.group(o);
                let what = format!("{in_channels} {out_channels} {groups} {nr} {o}");
                assert_eq!(group.len(), in_channels / groups, "{what}");
                assert!(
                    start <= group.start && group.end <= start + window.len,
                    "{what}"
                );
                assert!(start + window.len <= in_channels, "{what}");
            }
        }
    }
    // Thirty-two groups of four channels: a panel of thirty-two reads thirty-two.
    assert_eq!(ChannelWindow::new(128, 128, 32, 32).len, 32);
}

#[test]
fn nan_comes_through_max_pool_and_relu() {
    for table in KernelTable::available() {
        let mut views = [
            View::activations(1, 3, 3, 20),
            View::activations(1, 2, 2, 20),
        ];
        for at in 0..9 {
            let mut arena = lay_out(&mut views);
            let x = Tensor::from_fn(
                [1, 3, 3, 20],
                |_, y, x, _| {
                    if y * 3 + x == at { f64::NAN } else { 1.0 }
                },
            );
            put(&x, &views[0], &mut arena);
            let pool = MaxPoolLayer {
                input: views[0],
                out: views[1],
            };
            // SAFETY: as above.
            unsafe { (0..pool.items()).for_each(|i| pool.run_item(i, arena.as_mut_ptr(), &table)) };
            let out = take(&views[1], &arena);
            assert!(out.data.iter().any(|v| v.is_nan()), "{} at {at}", table.isa);
        }

        let mut arena = lay_out(&mut views);
        put(
            &Tensor::from_fn([1, 3, 3, 20], |_, _, _, _| f64::NAN),
            &views[0],
            &mut arena,
        );
        let mut packed = vec![0.0; packed_len(20, 20, table.nr)];
        (table.pack)(&[(&[1.0; 400], 20)], &[0.0; 20], table.nr, &mut packed);
        let conv = Conv {
            sources: vec![Source::new(views[0], 1, 2, 0)],
            weights: 0,
            residual: None,
            relu: true,
            out: views[1],
            grid: Grid::choose(4, 20_usize.div_ceil(table.nr), table.mr(), 1),
        };
        for item in 0..conv.items() {
            // SAFETY: as above.
            unsafe { conv.run_item(item, arena.as_mut_ptr(), &packed, &table) };
        }
        assert!(take(&views[1], &arena).data.iter().all(|v| v.is_nan()));
    }
}

#[test]
fn grid_covers_everything_in_about_as_many_items_as_wanted() {
    for m in [1, 5, 49, 196, 3136, 12544, 100_000] {
        for panels in [1, 2, 16, 64] {
            for mr in [4, 6, 14] {
                for wanted in [1, 8, 20, 64, 512] {
                    let grid = Grid::choose(m, panels, mr, wanted);
                    let what = format!("{m} {panels} {mr} {wanted} {grid:?}");
                    assert!(grid.rows <= 256 && grid.rows.is_multiple_of(mr), "{what}");
                    assert!(grid.rows * grid.row_blocks >= m, "{what}");
                    assert!(grid.rows * (grid.row_blocks - 1) < m, "{what}");
                    assert!(grid.panels * grid.panel_blocks >= panels, "{what}");
                    assert!(grid.panels * (grid.panel_blocks - 1) < panels, "{what}");
                    let possible = m.div_ceil(mr) * panels;
                    assert!(grid.len() >= wanted.min(possible).div_ceil(2), "{what}");
                }
            }
        }
    }
}
