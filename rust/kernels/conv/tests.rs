//! The convolution of every tier against the reference loops.

use super::f32::packed_len;
use super::{ChannelWindow, Conv, Grid, Source};
use crate::dtype::Dtype;
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{
    Arena, CANARY, activations, assert_canaries, assert_close, f32s, image, lay_out, put, random,
    take,
};
use crate::shape::Window;

/// One test's convolution.
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
    /// Puts pixels side by side, as in the network's input.
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
                dilation: 1,
            },
            shortcut: None,
            residual: false,
            relu: false,
            out_border: 0,
            dense: false,
        }
    }

    /// The case with pixels between the taps, and a border as wide as the padding.
    fn dilated(self, dilation: usize, padding: usize) -> Self {
        Self {
            window: Window {
                padding,
                dilation,
                ..self.window
            },
            ..self
        }
    }
}

/// Does one item of `conv` in f32.
///
/// # Safety
/// As for `ConvKernels::run_item`.
unsafe fn run_item(
    table: &KernelTable,
    conv: &Conv,
    item: usize,
    arena: &mut Arena,
    packed: &[f32],
) {
    let (kernels, packed) = (&table.f32.conv, bytemuck::cast_slice(packed));
    // SAFETY: the caller keeps the same contract.
    unsafe { kernels.run_item(conv, item, arena.as_mut_ptr(), packed) };
}

fn run_conv(case: Case, table: &KernelTable, items: usize) {
    let what = format!("{} {case:?}", table.conv_name(Dtype::F32));
    let Window {
        kernel, padding, ..
    } = case.window;
    let (oc, ic) = (case.out_channels, case.in_channels);
    let x = random([case.batch, case.height, case.width, ic], 1);
    let w = random([oc, kernel, kernel, ic], 2);
    let bias = random([1, 1, 1, oc], 3);
    let mut expected = reference::conv2d(&x, &w, case.window, 1);
    let [batch, out_h, out_w, _] = expected.shape;

    let input = if case.dense {
        image([batch, case.height, case.width, ic], padding)
    } else {
        activations([batch, case.height, case.width, ic], padding)
    };
    let out = activations([batch, out_h, out_w, oc], case.out_border);
    // The shortcut's input: as large as its stride asks for.
    let (sc, sc_stride) = case.shortcut.unwrap_or((1, 1));
    let x2 = random([batch, out_h * sc_stride, out_w * sc_stride, sc], 4);
    let w2 = random([oc, 1, 1, sc], 5);
    let input2 = activations([batch, x2.shape[1], x2.shape[2], sc], 0);

    let mut views = [input, out, input2];
    let mut arena = lay_out(&mut views);
    let [input, out, input2] = views;
    put(&x, &input, &mut arena);
    put(&x2, &input2, &mut arena);

    expected = reference::add_bias(&expected, &bias.data);
    let mut sources = vec![Source::new(input, case.window)];
    let (w, w2) = (f32s(&w.data), f32s(&w2.data));
    let mut matrices = vec![(&w[..], kernel * kernel * ic)];
    if case.shortcut.is_some() {
        let window = Window {
            kernel: 1,
            stride: sc_stride,
            padding: 0,
            dilation: 1,
        };
        let shortcut = reference::conv2d(&x2, &random([oc, 1, 1, sc], 5), window, 1);
        expected = reference::add(&expected, &shortcut);
        sources.push(Source::new(input2, window));
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
    let mut packed = vec![CANARY; packed_len(oc, k, table.f32.conv.nr())];
    table.f32.conv.pack(
        &matrices,
        &f32s(&bias.data),
        table.f32.conv.nr(),
        &mut packed,
    );
    let panels = oc.div_ceil(table.f32.conv.nr());
    let conv = Conv {
        sources,
        weights_bytes: 0,
        residual: case.residual.then_some(out),
        relu: case.relu,
        out,
        grid: Grid::choose(batch * out_h * out_w, panels, table.f32.conv.mr(), items),
    };
    for item in 0..conv.items() {
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe { run_item(table, &conv, item, &mut arena, &packed) };
    }
    assert_close(&take(&out, &arena), &expected, &what);
    assert_canaries(&arena, &views, &what);
    let border: f64 = (0..batch)
        .flat_map(|n| out.border_runs(n).flatten())
        .map(|i| f64::from(arena[i]))
        .sum();
    assert!(case.out_border == 0 || border == 0.0, "{what}: border");
}

/// One case of each kind, as small as can be: Miri takes a second for a few hundred elements. The
/// tiles of its tier have up to four pixels and eight channels.
fn cases_for_miri() -> Vec<Case> {
    let relu = |case: Case| Case { relu: true, ..case };
    let mut cases = vec![
        Case {
            dense: true,
            ..Case::new(3, 4, [3, 2], [7, 2, 3])
        },
        Case {
            out_border: 1,
            ..Case::new(3, 2, [2, 3], [3, 2, 1])
        },
        Case::new(2, 3, [2, 3], [3, 1, 2]).dilated(2, 2),
        relu(Case {
            shortcut: Some((2, 2)),
            ..Case::new(1, 2, [5, 9], [1, 1, 0])
        }),
    ];
    for (width, out_channels) in [(1, 3), (2, 8), (3, 5), (4, 9)] {
        cases.push(relu(Case {
            residual: true,
            batch: 1,
            ..Case::new(1, width, [5, out_channels], [1, 1, 0])
        }));
    }
    cases
}

/// The shapes of the network, small; then sizes around every edge of tiles and panels.
fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return cases_for_miri();
    }
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
        // Windows that the network does not have.
        Case::new(6, 9, [5, 7], [5, 3, 2]),
        Case::new(6, 9, [5, 7], [2, 1, 0]),
        Case::new(1, 1, [3, 5], [3, 1, 1]),
        Case::new(1, 1, [3, 5], [7, 2, 3]),
        Case::new(4, 5, [1, 1], [4, 4, 0]),
        // Dilated windows, also larger than the image; with gaps between the pixels and without.
        Case::new(9, 7, [16, 48], [3, 1, 2]).dilated(2, 2),
        Case::new(9, 8, [5, 33], [3, 2, 4]).dilated(4, 4),
        Case::new(2, 3, [64, 16], [3, 1, 8]).dilated(8, 8),
        Case {
            dense: true,
            ..Case::new(9, 7, [3, 16], [3, 1, 2]).dilated(2, 2)
        },
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
        println!("testing {}", table.conv_name(Dtype::F32));
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
        let channels = if cfg!(miri) { 9 } else { 70 };
        let mut identity = vec![0.0; channels * channels];
        identity
            .iter_mut()
            .step_by(channels + 1)
            .for_each(|w| *w = 1.0);
        let mut packed = vec![CANARY; packed_len(channels, channels, table.f32.conv.nr())];
        table.f32.conv.pack(
            &[(&identity, channels)],
            &vec![0.0; channels],
            table.f32.conv.nr(),
            &mut packed,
        );
        let x = random([1, 3, 9, channels], 7);
        let mut views = [activations([1, 3, 9, channels], 0); 2];
        let mut arena = lay_out(&mut views);
        put(&x, &views[0], &mut arena);
        let conv = Conv {
            sources: vec![Source::pixels(views[0])],
            weights_bytes: 0,
            residual: None,
            relu: false,
            out: views[1],
            grid: Grid::choose(
                27,
                channels.div_ceil(table.f32.conv.nr()),
                table.f32.conv.mr(),
                1,
            ),
        };
        for item in 0..conv.items() {
            // SAFETY: as above.
            unsafe { run_item(&table, &conv, item, &mut arena, &packed) };
        }
        assert_eq!(take(&views[1], &arena), x);
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code, and slow")]
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
fn nan_comes_through_relu() {
    for table in KernelTable::available() {
        let mut views = [activations([1, 3, 3, 20], 0), activations([1, 2, 2, 20], 0)];
        let mut arena = lay_out(&mut views);
        put(
            &Tensor::from_fn([1, 3, 3, 20], |_, _, _, _| f64::NAN),
            &views[0],
            &mut arena,
        );
        let mut packed = vec![0.0; packed_len(20, 20, table.f32.conv.nr())];
        table.f32.conv.pack(
            &[(&[1.0; 400], 20)],
            &[0.0; 20],
            table.f32.conv.nr(),
            &mut packed,
        );
        let conv = Conv {
            sources: vec![Source::new(
                views[0],
                Window {
                    kernel: 1,
                    stride: 2,
                    padding: 0,
                    dilation: 1,
                },
            )],
            weights_bytes: 0,
            residual: None,
            relu: true,
            out: views[1],
            grid: Grid::choose(
                4,
                20_usize.div_ceil(table.f32.conv.nr()),
                table.f32.conv.mr(),
                1,
            ),
        };
        for item in 0..conv.items() {
            // SAFETY: as above.
            unsafe { run_item(&table, &conv, item, &mut arena, &packed) };
        }
        assert!(take(&views[1], &arena).data.iter().all(|v| v.is_nan()));
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code, and slow")]
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
                    assert!(grid.items() >= wanted.min(possible).div_ceil(2), "{what}");
                }
            }
        }
    }
}
