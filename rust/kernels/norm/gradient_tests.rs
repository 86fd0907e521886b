//! The way backwards through batch norm, on every tier against the reference loops.

use super::coefficients::Array;
use super::testing::{
    EPSILON, PLACES, RUNNING, array, coefficients_at, finish, of_channels, place, placed, shapes,
    taken, values, vector,
};
use super::{Coefficients, FinishGradient, GradientSums, Mask, NormGradient, Statistics};
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::reference_gradients::{batch_norm_gradient, moments};
use crate::kernels::testing::{
    activations, assert_canaries, assert_close, lay_out, put, random, take,
};

/// The ways to mask a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    Output,
    Normalized,
}

/// The passage backwards through batch norm and perhaps ReLU: dy in place of the gradient or elsewhere; of a
/// batch norm that trains, and of one that is frozen.
fn run_gradient(shape: [usize; 4], kind: Kind, frozen: bool, in_place: bool, table: &KernelTable) {
    let what = format!("{} {shape:?} {kind:?} {frozen} {in_place}", table.isa);
    let channels = shape[3];
    let (y, gradient) = (values(shape), random(shape, 2));
    // The activation that masks: with a summand of its own, if it lies in memory.
    let output = random(shape, 3);
    let [gamma, beta] = [of_channels(channels, 4), of_channels(channels, 5)];
    let parameters = placed([(PLACES.gamma, &gamma), (PLACES.beta, &beta)]);
    let own = [of_channels(channels, 6), of_channels(channels, 7)];
    let own = own.map(|values| values.iter().map(|x| x.abs()).collect::<Vec<_>>());
    let mut running = placed([(RUNNING.mean, &own[0]), (RUNNING.variance, &own[1])]);
    let view = activations(shape, 1);
    let mut views = [
        activations(shape, 0),
        view,
        activations(shape, 0),
        activations(shape, 2),
        place(Statistics::len_bytes(&view)),
        place(Coefficients::len_bytes(channels)),
    ];
    let mut arena = lay_out(&mut views);
    for (tensor, view) in [&y, &gradient, &output].into_iter().zip(&views) {
        put(tensor, view, &mut arena);
    }
    let coefficients = coefficients_at(&views[5], channels);
    let blocks = (!frozen).then_some(&views[4]);
    finish(
        &views[0],
        blocks,
        coefficients,
        &parameters,
        &mut running,
        &mut arena,
        table,
    );

    let statistics = match frozen {
        true => (own[0].clone(), own[1].clone()),
        false => moments(&y),
    };
    let [scale, shift] =
        [Array::Scale, Array::Shift].map(|of| array(&coefficients, of, &mut arena).data);
    let masked = Tensor::from_fn(shape, |n, i, j, c| {
        let passes = match kind {
            Kind::None => true,
            Kind::Output => output.at(n, i, j, c) > 0.0,
            // As the kernel computes it: its sign is that of the rounded coefficients.
            Kind::Normalized => {
                (y.at(n, i, j, c) as f32).mul_add(scale[c] as f32, shift[c] as f32) > 0.0
            }
        };
        if passes { gradient.at(n, i, j, c) } else { 0.0 }
    });
    let [dy, by_gamma, by_beta] =
        batch_norm_gradient(&y, &masked, statistics, &gamma, EPSILON, frozen);

    let mask = match kind {
        Kind::None => Mask::None,
        Kind::Output => Mask::Output(views[2]),
        Kind::Normalized => Mask::Normalized,
    };
    let sums = GradientSums {
        gradient: views[1],
        norm: (!frozen).then_some((views[0], coefficients, views[4].offset_bytes)),
        mask,
    };
    if !frozen || kind == Kind::Output {
        for item in (0..sums.items()).rev() {
            // SAFETY: the table proves the tier, and the views lie inside the arena.
            unsafe { sums.run_item(item, arena.as_mut_ptr(), table.f32.norm.sums) };
        }
    }
    if kind == Kind::Output {
        assert_eq!(take(&views[1], &arena), masked, "{what}");
    } else {
        assert_eq!(take(&views[1], &arena), gradient, "{what}");
    }
    if !frozen {
        let before = [of_channels(channels, 8), of_channels(channels, 9)];
        for accumulate in [true, false] {
            let mut gradients = placed([(PLACES.gamma, &before[0]), (PLACES.beta, &before[1])]);
            let step = FinishGradient {
                y: views[0],
                blocks_bytes: views[4].offset_bytes,
                coefficients,
                gradients: PLACES,
                accumulate,
            };
            for item in (0..step.items()).rev() {
                // SAFETY: the places lie inside the arena and the gradients.
                unsafe { step.run_item(item, arena.as_mut_ptr(), gradients.as_mut_ptr()) };
            }
            let places = [(PLACES.gamma, &by_gamma), (PLACES.beta, &by_beta)];
            for ((first, expected), old) in places.into_iter().zip(&before) {
                let expected = match accumulate {
                    true => reference::add(&vector(old.clone()), expected),
                    false => expected.clone(),
                };
                assert_close(&taken(&mut gradients, first, channels), &expected, &what);
            }
            assert!(
                gradients.iter().all(|x| x.is_nan()),
                "{what}: wrote outside"
            );
        }
    }
    let out = if in_place { views[1] } else { views[3] };
    let step = NormGradient {
        gradient: views[1],
        y: views[0],
        coefficients,
        mask: kind == Kind::Normalized,
        out,
    };
    for item in (0..step.items()).rev() {
        // SAFETY: as above.
        unsafe { step.run_item(item, arena.as_mut_ptr(), table.f32.norm.gradient) };
    }
    // Of two values of a channel nothing is left but the rounding of a difference.
    if shape[0] * shape[1] * shape[2] > 2 || frozen {
        assert_close(&take(&out, &arena), &dy, &what);
    }
    let mut border = (0..out.batch).flat_map(|n| out.border_runs(n).flatten());
    assert!(border.all(|i| arena[i] == 0), "{what}: border");
    assert_canaries(&arena, &views, &what);
}

#[test]
fn gradients_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        for shape in shapes() {
            for kind in [Kind::None, Kind::Output, Kind::Normalized] {
                for (frozen, in_place) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    run_gradient(shape, kind, frozen, in_place, &table);
                }
            }
        }
    }
}
