//! The convolution in bf16 against the reference loops over operands that are rounded to bf16, by the processor's
//! instructions and by the emulated ones of every tier.

use half::bf16;

use super::{MixedKernels, RoundPanels};
use crate::kernels::KernelTable;
use crate::kernels::conv::f32::{TransposedWeights, panel_len};
use crate::kernels::conv::{ChannelWindow, Conv, Source};
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{
    CANARY, activations, assert_canaries, assert_within, f32s, image, lay_out, put, random,
    rounded, take,
};
use crate::shape::Window;

/// Against loops in f64 over the same rounded operands: the roundings of K sums in f32, with K up to 5,000. Operands
/// that are not rounded, or rounded another way, are off by 1e-3.
const TOLERANCE: f64 = 1e-5;

/// One test's convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `[batch, height, width, in_channels]`.
    x: [usize; 4],
    out_channels: usize,
    window: Window,
    residual: bool,
    relu: bool,
    /// Puts pixels side by side, as in the network's input.
    dense: bool,
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
            residual: false,
            relu: false,
            dense: false,
        }
    }
}

/// The kernels of every tier, with a name.
fn all() -> Vec<(String, KernelTable, MixedKernels)> {
    let of = |table: KernelTable| {
        let emulated = (
            format!("emulated {}", table.isa),
            table,
            table.emulated_mixed,
        );
        let own = table
            .mixed
            .map(|own| (format!("{}", table.isa), table, own));
        [Some(emulated), own].into_iter().flatten()
    };
    KernelTable::available().flat_map(of).collect()
}

fn run(case: Case, name: &str, table: &KernelTable, kernels: &MixedKernels, items: usize) {
    let what = format!("{name} {case:?} {items}");
    let (kernel, [.., channels]) = (case.window.kernel, case.x);
    let outs = case.out_channels;
    let x = random(case.x, 1);
    let w = random([outs, kernel, kernel, channels], 2);
    let bias = random([1, 1, 1, outs], 3);
    let mut expected = reference::conv2d(&rounded(&x), &rounded(&w), case.window, 1);
    expected = reference::add_bias(&expected, &bias.data);
    let input = match case.dense {
        true => image(case.x, case.window.padding),
        false => activations(case.x, case.window.padding),
    };
    let k = kernel * kernel * channels;
    let nr = kernels.tile().nr;
    let panels = outs.div_ceil(nr);
    let mut weights = RoundPanels {
        weights_bytes: 0,
        out_bytes: 0,
        panels,
        k,
        nr,
    };
    let mut views = [
        input,
        activations(expected.shape, 1),
        activations([1, 1, 1, weights.len_bytes() / size_of::<f32>()], 0),
    ];
    let mut arena = lay_out(&mut views);
    let [input, out, place] = views;
    put(&x, &input, &mut arena);
    if case.residual {
        let residual = random(expected.shape, 6);
        put(&residual, &out, &mut arena);
        expected = reference::add(&expected, &residual);
    }
    if case.relu {
        expected = reference::relu(&expected);
    }
    let mut packed = vec![CANARY; panels * panel_len(k, nr)];
    let (matrix, bias) = (f32s(&w.data), f32s(&bias.data));
    table.f32.conv.pack(&[(&matrix, k)], &bias, nr, &mut packed);
    weights.out_bytes = place.offset_bytes;
    for item in (0..weights.items()).rev() {
        // SAFETY: the result lies inside the arena.
        unsafe { weights.run_item(item, arena.as_mut_ptr(), &packed, kernels.round) };
    }
    let m = out.shape().pixels();
    let conv = Conv {
        sources: vec![Source::new(input, case.window)],
        weights_bytes: 0,
        residual: case.residual.then_some(out),
        relu: case.relu,
        out,
        grid: MixedKernels::grid(m, k, panels, kernels.tile().mr, items),
    };
    let range = place.offset_bytes..place.offset_bytes + weights.len_bytes();
    let packed: Vec<u32> = bytemuck::cast_slice(&arena[range]).to_vec();
    let len = MixedKernels::scratch_bytes(&conv) / size_of::<u32>();
    let mut scratch = vec![u32::MAX; len + nr];
    for item in (0..conv.items()).rev() {
        scratch.fill(u32::MAX);
        let (start, packed) = (arena.as_mut_ptr(), bytemuck::cast_slice(&packed));
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe { kernels.run_item(&conv, item, start, packed, scratch.as_mut_ptr().cast()) };
        assert!(scratch[len..].iter().all(|&x| x == u32::MAX), "{what}");
    }
    assert_within(&take(&out, &arena), &expected, TOLERANCE, &what);
    assert_canaries(&arena, &views, &what);
}

fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return vec![
            Case::new([1, 3, 2, 3], 9, [3, 2, 1]),
            Case::new([2, 2, 2, 5], 4, [1, 1, 0]),
        ];
    }
    let mut dilated = Case::new([1, 9, 8, 5], 33, [3, 2, 4]);
    dilated.window.dilation = 4;
    let mut cases = vec![
        dilated,
        Case::new([2, 9, 7, 64], 64, [1, 1, 0]),
        Case::new([2, 9, 8, 33], 40, [1, 2, 0]),
        Case::new([2, 9, 8, 32], 32, [3, 2, 1]),
        Case::new([1, 4, 5, 7], 9, [3, 1, 1]),
        Case {
            dense: true,
            ..Case::new([2, 21, 17, 3], 64, [7, 2, 3])
        },
        // So large a K that a block has fewer pixels, and padded strides.
        Case::new([1, 7, 14, 515], 33, [3, 1, 1]),
        Case::new([3, 12, 13, 600], 33, [1, 1, 0]),
        Case::new([1, 1, 1, 3], 5, [7, 2, 3]),
    ];
    // Every height of a tile and every rest of K, and every number of channels around a panel's edge.
    cases.extend((1..=70).map(|k| Case::new([1, 1, k % 29 + 1, k], 5, [1, 1, 0])));
    cases.extend((1..=66).map(|outs| Case {
        residual: outs % 2 == 0,
        relu: outs % 3 == 0,
        ..Case::new([1, 2, 3, 7], outs, [1, 1, 0])
    }));
    cases
}

#[test]
fn bf16_convolutions_match_reference_on_rounded_operands() {
    for (name, table, kernels) in all() {
        for case in cases() {
            for items in [1, 30] {
                run(case, &name, &table, &kernels, items);
            }
        }
    }
}

/// The weight of a tap, output and input: different for each, and none is a bf16 value.
fn weight([o, t, i]: [usize; 3], [taps, ins]: [usize; 2]) -> f32 {
    ((o * taps + t) * ins + i) as f32 * 0.37 + 1.001
}

#[test]
fn weights_are_rounded_with_inputs_and_outputs_exchanged() {
    let every = if cfg!(miri) { 1..3 } else { 1..70 };
    for (name, _, kernels) in all() {
        let nr = kernels.tile().nr;
        for n in every.clone() {
            for [ins, outs] in [[n, 2 * nr], [nr, n], [n, n + 1], [2 * nr + nr / 2, 3 * nr]] {
                for (window_taps, taps) in [(1, vec![0]), (9, vec![8, 1, 4])] {
                    let sides = [window_taps, ins];
                    let channels = ChannelWindow::new(ins, outs, 1, nr);
                    let transposed = ChannelWindow::new(outs, ins, 1, nr);
                    let from = panel_len(window_taps * ins, nr);
                    let mut weights = vec![CANARY; outs.div_ceil(nr) * from];
                    for o in 0..outs {
                        for row in 0..window_taps * ins {
                            let value = weight([o, row / ins, row % ins], sides);
                            weights[o / nr * from + nr * (1 + row) + o % nr] = value;
                        }
                    }
                    let step = TransposedWeights {
                        weights_bytes: 0,
                        out_bytes: 0,
                        taps: taps.clone(),
                        window_taps,
                        channels,
                        transposed,
                        out_channels: outs,
                        nr,
                    };
                    let len = step.bf16_len_bytes() / size_of::<u32>();
                    let mut out = vec![u32::MAX; len + nr];
                    for item in (0..step.items()).rev() {
                        let start = out.as_mut_ptr().cast();
                        // SAFETY: the kernels prove the tier, and `out` holds the result.
                        unsafe { step.run_item_bf16(item, start, &weights, kernels.transpose) };
                    }
                    let (k, mut expected) = (taps.len() * outs, Vec::new());
                    for panel in 0..ins.div_ceil(nr) {
                        expected.extend(vec![0; nr]);
                        for pair in 0..k.div_ceil(2) {
                            let bits = |k: usize, i: usize| match k < taps.len() * outs && i < ins {
                                true => {
                                    bf16::from_f32(weight([k % outs, taps[k / outs], i], sides))
                                }
                                false => bf16::ZERO,
                            };
                            let both = |i: usize| {
                                [0, 1].map(|half| u32::from(bits(2 * pair + half, i).to_bits()))
                            };
                            let row = (panel * nr..(panel + 1) * nr).map(both);
                            expected.extend(row.map(|[first, second]| first | second << 16));
                        }
                    }
                    let what = format!("{name} {ins} {outs} {taps:?}");
                    assert_eq!(out[..len], expected, "{what}");
                    assert!(out[len..].iter().all(|&x| x == u32::MAX), "{what}");
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_come_through() {
    for (name, table, kernels) in all() {
        for value in [f64::NAN, f64::INFINITY] {
            let x = Tensor::from_fn([1, 1, 3, 4], |_, _, _, _| value);
            let mut views = [activations(x.shape, 0), activations([1, 1, 3, 2], 0)];
            let mut arena = lay_out(&mut views);
            put(&x, &views[0], &mut arena);
            let nr = kernels.tile().nr;
            let mut packed = vec![CANARY; panel_len(4, nr)];
            let weights = [(&[1.0; 8][..], 4)];
            table.f32.conv.pack(&weights, &[0.0; 2], nr, &mut packed);
            let mut bf16 = vec![0_u32; panel_len(2, nr)];
            let step = RoundPanels {
                weights_bytes: 0,
                out_bytes: 0,
                panels: 1,
                k: 4,
                nr,
            };
            let conv = Conv {
                sources: vec![Source::pixels(views[0])],
                weights_bytes: 0,
                residual: None,
                relu: false,
                out: views[1],
                grid: MixedKernels::grid(3, 4, 1, kernels.tile().mr, 1),
            };
            let mut scratch = vec![0_u32; MixedKernels::scratch_bytes(&conv) / 4];
            // SAFETY: the kernels prove the tier; the buffers hold panels, views and windows.
            unsafe {
                step.run_item(0, bf16.as_mut_ptr().cast(), &packed, kernels.round);
                let (start, weights) = (arena.as_mut_ptr(), bytemuck::cast_slice(&bf16));
                for item in 0..conv.items() {
                    kernels.run_item(&conv, item, start, weights, scratch.as_mut_ptr().cast());
                }
            }
            let found = take(&views[1], &arena).data;
            let same = |x: &f64| {
                if value.is_nan() {
                    x.is_nan()
                } else {
                    *x == value
                }
            };
            assert!(found.iter().all(same), "{name} {value}: {found:?}");
        }
    }
}
