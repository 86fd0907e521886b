//! Activations, on every tier against the reference loops.

use super::coefficients::Array;
use super::testing::{coefficients_at, of_channels, place, shapes};
use super::{Activate, Coefficients, Summand};
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{
    Arena, activations, assert_canaries, assert_close, lay_out, put, random, take,
};
use crate::kernels::view::View;

/// Coefficients of `seed`: a scale and a shift in f32, in the arena.
fn put_scale_and_shift(
    view: &View,
    channels: usize,
    seed: usize,
    arena: &mut Arena,
) -> [Vec<f64>; 2] {
    let coefficients = coefficients_at(view, channels);
    let arrays = [of_channels(channels, seed), of_channels(channels, seed + 1)];
    for (of, values) in [Array::Scale, Array::Shift].into_iter().zip(&arrays) {
        let first = coefficients.array(of, arena.as_mut_ptr());
        // SAFETY: the arrays lie inside the arena.
        let place = unsafe { std::slice::from_raw_parts_mut(first, channels) };
        place
            .iter_mut()
            .zip(values)
            .for_each(|(place, &x)| *place = x as f32);
    }
    arrays
}

#[test]
fn activations_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        for shape in shapes() {
            let channels = shape[3];
            // The second summand: none, a tensor, one that is normalised; in place of the first.
            for (second, relu, border, in_place) in [
                (None, true, 1, false),
                (None, false, 0, true),
                (Some(false), true, 2, false),
                (Some(true), true, 0, false),
                (Some(true), false, 1, false),
                (Some(false), false, 0, true),
            ] {
                let what = format!("{} {shape:?} {second:?} {relu} {in_place}", table.isa);
                let [a, b] = [random(shape, 1), random(shape, 2)];
                let mut views = [
                    activations(shape, 1),
                    activations(shape, 0),
                    activations(shape, border),
                    place(Coefficients::len_bytes(channels)),
                    place(Coefficients::len_bytes(channels)),
                ];
                let mut arena = lay_out(&mut views);
                put(&a, &views[0], &mut arena);
                put(&b, &views[1], &mut arena);
                let mut normalized = |tensor: &Tensor, view: usize, seed: usize| {
                    let [scale, shift] =
                        put_scale_and_shift(&views[view], channels, seed, &mut arena);
                    Tensor::from_fn(shape, |n, y, i, c| {
                        tensor.at(n, y, i, c) * scale[c] + shift[c]
                    })
                };
                let mut expected = normalized(&a, 3, 3);
                let summand = |view: usize, norm: usize| {
                    Summand::Normalized(views[view], coefficients_at(&views[norm], channels))
                };
                let second = second.map(|is_normalized| match is_normalized {
                    true => {
                        expected = reference::add(&expected, &normalized(&b, 4, 5));
                        summand(1, 4)
                    }
                    false => {
                        expected = reference::add(&expected, &b);
                        Summand::Plain(views[1])
                    }
                });
                if relu {
                    expected = reference::relu(&expected);
                }
                let out = match in_place {
                    true => views[0].without_border(),
                    false => views[2],
                };
                let step = Activate {
                    a: summand(0, 3),
                    b: second,
                    relu,
                    out,
                };
                for item in (0..step.items()).rev() {
                    // SAFETY: the table proves the tier, and the views lie inside the arena.
                    unsafe { step.run_item(item, arena.as_mut_ptr(), table.f32.norm.activate) };
                }
                assert_close(&take(&out, &arena), &expected, &what);
                let mut of_border = (0..out.batch).flat_map(|n| out.border_runs(n).flatten());
                assert!(
                    in_place || of_border.all(|i| out.border == 0 || arena[i] == 0),
                    "{what}: border"
                );
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn nan_comes_through_the_activation() {
    for table in KernelTable::available() {
        let mut views = [activations([1, 2, 3, 20], 0); 2];
        let mut arena = lay_out(&mut views);
        put(
            &Tensor::from_fn([1, 2, 3, 20], |_, _, _, _| f64::NAN),
            &views[0],
            &mut arena,
        );
        put(&random([1, 2, 3, 20], 1), &views[1], &mut arena);
        let step = Activate {
            a: Summand::Plain(views[0]),
            b: None,
            relu: true,
            out: views[1],
        };
        for item in 0..step.items() {
            // SAFETY: as above.
            unsafe { step.run_item(item, arena.as_mut_ptr(), table.f32.norm.activate) };
        }
        assert!(take(&views[1], &arena).data.iter().all(|x| x.is_nan()));
    }
}
