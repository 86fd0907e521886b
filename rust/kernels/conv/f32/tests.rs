//! The gradient by the weights of every tier against the reference loops.

use super::{GradientInput, MaskGroups, SumParts, WeightGradient};
use crate::kernels::KernelTable;
use crate::kernels::conv::Source;
use crate::kernels::conv::mixed::MixedKernels;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::reference_gradients::conv2d_weight_gradient;
use crate::kernels::testing::{
    CANARY, activations, assert_canaries, assert_close, image, lay_out, put, random, rounded,
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
    /// Puts pixels side by side, as in the network's input.
    dense: bool,
}

impl Case {
    fn new(x: [usize; 4], out_channels: usize, window: [usize; 3]) -> Self {
        let [kernel, stride, padding] = window;
        Self {
            x,
            out_channels,
            groups: 1,
            window: Window {
                kernel,
                stride,
                padding,
                dilation: 1,
            },
            dense: false,
        }
    }

    fn dilated(mut self, dilation: usize) -> Self {
        self.window.dilation = dilation;
        self
    }

    fn grouped(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    fn dense(self) -> Self {
        Self {
            dense: true,
            ..self
        }
    }

    /// The shape of the output.
    fn out(&self) -> [usize; 4] {
        let [batch, height, width, _] = self.x;
        let side = |size| self.window.output(size);
        [batch, side(height), side(width), self.out_channels]
    }
}

/// The kinds of a convolution's input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Input {
    Stored,
    Normalized,
}

/// Returns the number of parts, and the gradient. dy has a border of `border`, and there are about
/// `wanted` items or more.
fn run(
    case: Case,
    input: Input,
    accumulate: bool,
    [border, wanted]: [usize; 2],
    table: &KernelTable,
    bf16: Option<&MixedKernels>,
) -> (usize, Tensor) {
    let what = format!(
        "{} {case:?} {input:?} {accumulate} {border} {wanted} {}",
        table.isa,
        bf16.is_some()
    );
    let channels = case.x[3];
    let y = random(case.x, 1);
    let out = random(case.out(), 2);
    // Beyond the image there are zeros, not what the shift makes of them.
    let scale = match bf16 {
        None => random([1, 1, 1, channels], 3),
        // Powers of two, so that the activation is the same to the bit with a fused multiply-add or without.
        Some(_) => Tensor::from_fn([1, 1, 1, channels], |_, _, _, c| [0.5, -1.0, 2.0][c % 3]),
    };
    let shift = Tensor::from_fn([1, 1, 1, channels], |_, _, _, c| 1.0 - (c % 4) as f64 * 0.5);
    let x = match input {
        Input::Stored => y.clone(),
        Input::Normalized => Tensor::from_fn(case.x, |n, i, j, c| {
            (y.at(n, i, j, c) * scale.data[c] + shift.data[c]).max(0.0)
        }),
    };
    let factors = match bf16 {
        None => [x, out.clone()],
        Some(_) => [rounded(&x), rounded(&out)],
    };
    let mut expected = conv2d_weight_gradient(&factors[0], &factors[1], case.window, case.groups);

    let kernels = bf16.map_or(&table.f32.weight_gradient, |bf16| &bf16.weight_gradient);
    let tile = bf16.map_or(table.f32.conv.tile(), MixedKernels::tile);
    let (mr, nr) = (tile.mr, tile.nr);
    let packed = Packed::new(
        [case.x[3], case.out_channels],
        case.groups,
        case.window.kernel,
        nr,
    );
    let panels = case.out_channels.div_ceil(nr);
    let view = |border| match case.dense {
        true => image(case.x, border),
        false => activations(case.x, border),
    };
    let mut views = [
        view(match input {
            Input::Stored => case.window.padding,
            Input::Normalized => 0,
        }),
        activations(case.out(), border),
        activations(scale.shape, 0),
        activations(shift.shape, 0),
        // As many parts as there can be.
        activations([1, 1, 8, packed.len()], 0),
    ];
    let mut arena = lay_out(&mut views);
    for (tensor, view) in [&y, &out, &scale, &shift].into_iter().zip(&views) {
        put(tensor, view, &mut arena);
    }
    let from = match input {
        Input::Stored => GradientInput::Stored(Source::grouped(
            views[0],
            case.window,
            packed.channels,
            panels,
        )),
        Input::Normalized => GradientInput::Normalized {
            y: views[0],
            scale_bytes: views[2].offset_bytes,
            shift_bytes: views[3].offset_bytes,
            window: case.window,
            channels: packed.channels,
        },
    };
    let step = WeightGradient::new(from, views[1], accumulate, [mr, nr], wanted);
    assert_eq!(step.part_len(), packed.len(), "{what}");
    assert!(
        step.parts() * packed.len() * size_of::<f32>() <= views[4].len_bytes(),
        "{what}"
    );

    let mut gradients = match accumulate {
        true => packed.before(&random(expected.shape, 4)),
        false => vec![CANARY; FIRST + packed.len() + FIRST],
    };
    if accumulate {
        expected = reference::add(&expected, &random(expected.shape, 4));
    }
    let scratch_len = step.scratch_bytes() / size_of::<f32>();
    let mut scratch = vec![CANARY; scratch_len + FIRST];
    let parts_bytes = views[4].offset_bytes;
    for item in (0..step.items()).rev() {
        scratch.fill(CANARY);
        let start = arena.as_mut_ptr();
        // SAFETY: the views lie inside the arena, and the fifth holds all parts; the table proves the tier.
        unsafe {
            let out = match step.parts() {
                1 => gradients.as_mut_ptr().add(FIRST),
                _ => start.add(parts_bytes).cast(),
            };
            step.run_item(item, start, out, scratch.as_mut_ptr(), kernels);
        }
        assert!(
            scratch[scratch_len..].iter().all(|x| x.is_nan()),
            "{what}: scratch"
        );
    }
    if step.parts() > 1 {
        let sum = SumParts {
            parts_bytes,
            count: step.parts(),
            panels,
            k: packed.k(),
            nr,
            first: FIRST,
            accumulate,
        };
        for item in (0..sum.items()).rev() {
            // SAFETY: the parts lie inside the arena, and the gradients hold the result.
            unsafe {
                sum.run_item(
                    item,
                    arena.as_mut_ptr(),
                    gradients.as_mut_ptr(),
                    kernels.sum,
                );
            }
        }
    }
    if case.groups > 1 {
        let mask = MaskGroups {
            first: FIRST,
            channels: packed.channels,
            out_channels: case.out_channels,
            taps: packed.taps,
            nr,
        };
        for item in (0..mask.items()).rev() {
            // SAFETY: the gradients hold all panels.
            unsafe { mask.run_item(item, gradients.as_mut_ptr()) };
        }
    }
    let found = packed.take(&gradients, expected.shape, &what);
    assert_close(&found, &expected, &what);
    assert_canaries(&arena, &views, &what);
    (step.parts(), found)
}

fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return vec![
            Case::new([1, 3, 2, 3], 9, [3, 2, 1]),
            Case::new([2, 2, 2, 4], 4, [2, 1, 0]).grouped(2),
        ];
    }
    let mut cases = vec![
        Case::new([1, 1, 1, 1], 1, [1, 1, 0]),
        Case::new([3, 5, 7, 33], 70, [1, 1, 0]),
        Case::new([1, 8, 9, 20], 35, [1, 2, 0]),
        Case::new([3, 7, 6, 5], 17, [3, 1, 1]),
        Case::new([1, 9, 11, 16], 34, [3, 2, 1]),
        Case::new([3, 8, 7, 7], 9, [3, 3, 0]),
        Case::new([1, 9, 7, 6], 33, [5, 1, 2]),
        Case::new([3, 9, 8, 3], 12, [5, 3, 1]),
        Case::new([1, 13, 11, 3], 33, [7, 2, 3]),
        Case::new([3, 15, 13, 3], 19, [7, 2, 3]).dense(),
        Case::new([1, 6, 5, 4], 3, [2, 1, 1]).dense(),
        Case::new([1, 9, 8, 5], 10, [3, 1, 2]).dilated(2),
        Case::new([3, 9, 8, 5], 37, [3, 2, 1]).dilated(2),
        Case::new([1, 9, 7, 3], 8, [3, 1, 2]).dilated(2).dense(),
        // Windows that lie beyond the image in part, and whole taps that do.
        Case::new([3, 1, 1, 3], 5, [3, 1, 1]),
        Case::new([1, 2, 1, 3], 5, [7, 2, 3]),
        // Groups narrower than a panel, as wide as some, wider than all; of one channel.
        Case::new([1, 5, 6, 24], 24, [3, 1, 1]).grouped(6),
        Case::new([3, 5, 6, 32], 64, [3, 2, 1]).grouped(4),
        Case::new([1, 4, 5, 66], 132, [1, 1, 0]).grouped(3),
        Case::new([3, 4, 5, 80], 80, [3, 1, 1]).grouped(2),
        Case::new([1, 5, 5, 19], 19, [3, 1, 2])
            .grouped(19)
            .dilated(2),
        Case::new([1, 5, 5, 40], 20, [3, 1, 1]).grouped(10),
        // Several blocks of panels, of k and of pixels.
        Case::new([1, 4, 5, 130], 300, [1, 1, 0]),
        Case::new([3, 4, 5, 130], 96, [1, 1, 0]),
        Case::new([1, 5, 5, 40], 10, [3, 1, 1]),
        // Several parts.
        Case::new([3, 19, 19, 4], 9, [3, 1, 1]),
        Case::new([3, 27, 25, 20], 33, [1, 1, 0]),
        Case::new([1, 33, 35, 12], 12, [3, 1, 1]).grouped(3),
    ];
    // Every height of a tile, and every number of channels around a vector's and a panel's edge.
    cases.extend((1..=30).map(|k| Case::new([1, 2, 3, k], 5, [1, 1, 0])));
    cases.extend((1..=66).map(|o| Case::new([1, 2, 3, 5], o, [1, 1, 0])));
    cases
}

#[test]
fn weight_gradients_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        check(&table, None);
    }
}

/// In bf16 the factors are rounded, and the sums are as close.
#[test]
fn bf16_weight_gradients_match_reference_on_rounded_factors() {
    for table in KernelTable::available() {
        check(&table, Some(&table.emulated_mixed));
        table
            .mixed
            .iter()
            .for_each(|bf16| check(&table, Some(bf16)));
    }
}

fn check(table: &KernelTable, bf16: Option<&MixedKernels>) {
    let mut most = 0;
    // Emulated products take Miri minutes.
    let few = cfg!(miri) && bf16.is_some();
    for case in cases().into_iter().take(if few { 1 } else { usize::MAX }) {
        for &input in &[Input::Normalized, Input::Stored][usize::from(few)..] {
            for &accumulate in &[false, true][usize::from(few)..] {
                let (parts, gradient) = run(case, input, accumulate, [1, 1], table, bf16);
                most = most.max(parts);
                // Pixels are read where they lie if they are evenly far apart, and there are more items
                // for more threads: the bits are the same.
                let other = run(case, input, accumulate, [0, 40], table, bf16).1;
                assert_eq!(
                    gradient.data, other.data,
                    "{} {case:?} {input:?}",
                    table.isa
                );
            }
        }
    }
    assert!(cfg!(miri) || most > 1, "no case has several parts");
}
