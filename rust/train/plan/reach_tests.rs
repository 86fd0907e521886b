//! The gradient by a convolution's input, phase by phase, on every tier against the reference loops.

use super::reach::{border, phases};
use crate::kernels::KernelTable;
use crate::kernels::conv::f32::TransposedWeights;
use crate::kernels::conv::{ChannelWindow, Conv, Grid, Source};
use crate::kernels::reference;
use crate::kernels::reference_gradients::conv2d_input_gradient;
use crate::kernels::testing::{
    activations, assert_canaries, assert_close, lay_out, put, random, take,
};
use crate::kernels::testing_packed::{FIRST, Packed};
use crate::shape::Window;

/// One test's convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `[batch, height, width, in_channels]`.
    x: [usize; 4],
    out_channels: usize,
    groups: usize,
    window: Window,
}

/// The taps of a phase's rows and columns: their numbers in the window, and their distances.
struct PhaseTaps {
    first: [usize; 2],
    taps: Vec<usize>,
    offsets: Vec<[isize; 2]>,
}

/// The phases of an image that are reached by taps, and true if there are others.
fn reached(window: Window, [height, width]: [usize; 2]) -> (Vec<PhaseTaps>, bool) {
    let (rows, columns) = (phases(window, height), phases(window, width));
    let mut found = Vec::new();
    for row in &rows {
        for column in &columns {
            let pairs = row
                .taps
                .iter()
                .flat_map(|y| column.taps.iter().map(move |x| (y, x)));
            let (taps, offsets): (Vec<_>, Vec<_>) = pairs
                .map(|(y, x)| (y.0 * window.kernel + x.0, [y.1, x.1]))
                .unzip();
            if !taps.is_empty() {
                found.push(PhaseTaps {
                    first: [row.first, column.first],
                    taps,
                    offsets,
                });
            }
        }
    }
    let has_gaps = found.len() < rows.len() * columns.len();
    (found, has_gaps)
}

fn run(case: Case, accumulate: bool, table: &KernelTable) {
    let what = format!("{} {case:?} {accumulate}", table.isa);
    let Case {
        x: [batch, height, width, in_channels],
        out_channels,
        groups,
        window,
    } = case;
    let out = [
        batch,
        window.output(height),
        window.output(width),
        out_channels,
    ];
    let kernel = window.kernel;
    let weights = random([out_channels, kernel, kernel, in_channels / groups], 1);
    let gradient = random(out, 2);
    let old = random(case.x, 3);
    let mut expected = conv2d_input_gradient(case.x, &weights, &gradient, window, groups);

    let (mr, nr) = (table.f32.conv.mr(), table.f32.conv.nr());
    let packed = Packed::new([in_channels, out_channels], groups, kernel, nr);
    let parameters = packed.before(&weights);
    let transposed = ChannelWindow::new(out_channels, in_channels, groups, nr);
    let panels = in_channels.div_ceil(nr);
    let (phases, has_gaps) = reached(window, [height, width]);
    let of_taps = |taps: &[usize]| TransposedWeights {
        weights_bytes: FIRST * size_of::<f32>(),
        out_bytes: 0,
        taps: taps.to_vec(),
        window_taps: packed.taps,
        channels: packed.channels,
        transposed,
        out_channels,
        nr,
    };
    let border = border(window, height, out[1]).max(border(window, width, out[2]));
    let mut views = vec![activations(out, border), activations(case.x, 1)];
    for phase in &phases {
        let len = of_taps(&phase.taps).len_bytes() / size_of::<f32>();
        views.push(activations([1, 1, 1, len], 0));
    }
    let mut arena = lay_out(&mut views);
    put(&gradient, &views[0], &mut arena);
    if accumulate {
        put(&old, &views[1], &mut arena);
        expected = reference::add(&old, &expected);
    } else if has_gaps {
        // SAFETY: the view lies inside the arena.
        (0..batch).for_each(|n| unsafe { views[1].zero_image(n, arena.as_mut_ptr()) });
    }
    for (phase, view) in phases.iter().zip(&views[2..]) {
        let weights = TransposedWeights {
            out_bytes: view.offset_bytes,
            ..of_taps(&phase.taps)
        };
        for item in (0..weights.items()).rev() {
            let transpose = table.f32.weight_gradient.transpose;
            // SAFETY: the table proves the tier, and the result lies inside the arena.
            unsafe { weights.run_item(item, arena.as_mut_ptr(), &parameters, transpose) };
        }
        let range = view.offset_bytes..view.offset_bytes + weights.len_bytes();
        let packed: Vec<f32> = bytemuck::cast_slice(&arena[range]).to_vec();
        let out = views[1].without_border().every(window.stride, phase.first);
        let conv = Conv {
            sources: vec![Source::at_offsets(
                views[0],
                &phase.offsets,
                transposed,
                panels,
            )],
            weights_bytes: 0,
            residual: accumulate.then_some(out),
            relu: false,
            out,
            grid: Grid::choose(out.shape().pixels(), panels, mr, 5),
        };
        for item in (0..conv.items()).rev() {
            let weights = bytemuck::cast_slice(&packed);
            // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
            unsafe {
                table
                    .f32
                    .conv
                    .run_item(&conv, item, arena.as_mut_ptr(), weights)
            };
        }
    }
    assert_close(&take(&views[1], &arena), &expected, &what);
    assert_canaries(&arena, &views, &what);
}

fn case(x: [usize; 4], out_channels: usize, groups: usize, window: [usize; 4]) -> Case {
    let [kernel, stride, padding, dilation] = window;
    Case {
        x,
        out_channels,
        groups,
        window: Window {
            kernel,
            stride,
            padding,
            dilation,
        },
    }
}

fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return vec![
            case([1, 3, 2, 3], 2, 1, [3, 2, 1, 1]),
            case([1, 2, 2, 4], 4, 2, [1, 2, 0, 1]),
        ];
    }
    let mut cases = Vec::new();
    // Every window over sides that its stride does not divide, also smaller than the window.
    for kernel in [1, 2, 3, 5, 7] {
        for stride in 1..=3 {
            for padding in 0..=3 {
                for (dilation, sides) in [(1, [9, 8]), (2, [13, 14]), (1, [1, 2])] {
                    let [height, width] = sides;
                    let case = case(
                        [2, height, width, 3],
                        5,
                        1,
                        [kernel, stride, padding, dilation],
                    );
                    if case.window.span() <= height.min(width) + 2 * padding {
                        cases.push(case);
                    }
                }
            }
        }
    }
    for (channels, groups) in [
        // Whole blocks to transpose, and others.
        ([64, 32], 1),
        ([32, 96], 1),
        ([48, 16], 1),
        ([40, 33], 1),
        ([33, 64], 1),
        ([5, 70], 1),
        // Groups narrower than a panel, wider than one, of one channel.
        ([24, 24], 6),
        ([32, 64], 4),
        ([64, 32], 4),
        ([66, 132], 3),
        ([80, 80], 2),
        ([64, 64], 2),
        ([19, 19], 19),
        ([40, 20], 10),
    ] {
        let [in_channels, out_channels] = channels;
        for window in [[3, 1, 1, 1], [3, 2, 1, 1], [1, 2, 0, 1], [3, 1, 2, 2]] {
            cases.push(case([1, 5, 6, in_channels], out_channels, groups, window));
        }
    }
    cases
}

#[test]
fn input_gradients_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        for case in cases() {
            for accumulate in [false, true] {
                run(case, accumulate, &table);
            }
        }
    }
}
