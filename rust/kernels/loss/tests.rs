//! Losses and gradients of every tier against the reference loops.

use super::{CrossEntropyLayer, ImageLoss};
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{activations, assert_canaries, lay_out, put, random, take};

/// Of each value, beside a rounding of f64 for values that cancel: one rounding to f32.
const TOLERANCE: f64 = 1e-7;

fn assert_near(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= TOLERANCE * expected.abs() + 1e-14,
        "{what}: {found} for {expected}"
    );
}

/// The losses and the gradient of `logits`, on one tier.
fn run(
    table: &KernelTable,
    logits: &Tensor,
    targets: &[f32],
    factor: f64,
    in_place: bool,
) -> (Vec<ImageLoss>, Tensor) {
    let mut views = [activations(logits.shape, 0), activations(logits.shape, 0)];
    let mut arena = lay_out(&mut views);
    put(logits, &views[0], &mut arena);
    let gradient = views[usize::from(!in_place)];
    let layer = CrossEntropyLayer {
        logits: views[0],
        gradient: Some(gradient),
    };
    let mut losses = vec![ImageLoss::default(); layer.items()];
    let mut alone = losses.clone();
    let without = CrossEntropyLayer {
        gradient: None,
        ..layer.clone()
    };
    let kernel = table.f32.loss.cross_entropy;
    for item in (0..layer.items()).rev() {
        let p = arena.as_mut_ptr();
        // SAFETY: the views lie inside the arena, and the table proves the tier.
        unsafe {
            without.run_item(item, p, targets, factor, alone.as_mut_ptr(), kernel);
            layer.run_item(item, p, targets, factor, losses.as_mut_ptr(), kernel);
        }
    }
    // Bits, because a NaN equals nothing. Miri's exponentials err anew in each call.
    let bits = |losses: &[ImageLoss]| -> Vec<(u64, usize)> {
        let pairs = losses.iter().map(|l| (l.loss.to_bits(), l.best));
        pairs.collect()
    };
    assert!(cfg!(miri) || bits(&losses) == bits(&alone));
    assert_canaries(&arena, &views, &table.isa.to_string());
    (losses, take(&gradient, &arena))
}

#[test]
fn losses_and_gradients_match_reference_on_every_tier() {
    let factor = 1.0 / 12.0;
    let sizes: &[usize] = if cfg!(miri) {
        &[1, 5]
    } else {
        &[1, 2, 6, 17, 1000]
    };
    for &classes in sizes {
        for spread in [0.0, 5.0, 90.0, 1e4] {
            let logits = random([3, 1, 1, classes], 1);
            let logits = Tensor::from_fn(logits.shape, |n, y, x, c| {
                f64::from((logits.at(n, y, x, c) * spread + 3.0) as f32)
            });
            // A single class; a share for each; weights that do not sum to one.
            let shares = random([3, 1, 1, classes], 2);
            let targets = Tensor::from_fn(logits.shape, |n, y, x, c| match n {
                0 => f64::from(c == classes / 2),
                1 => f64::from((0.1 / classes as f64) as f32) + f64::from(c == 0) * 0.875,
                _ => shares.at(n, y, x, c).abs(),
            });
            let f32s: Vec<f32> = targets.data.iter().map(|&t| t as f32).collect();
            for table in KernelTable::available() {
                for in_place in [false, true] {
                    let what = format!("{} {classes} classes, spread {spread}", table.isa);
                    let (losses, gradient) = run(&table, &logits, &f32s, factor, in_place);
                    for (n, found) in losses.iter().enumerate() {
                        let image = n * classes..(n + 1) * classes;
                        let logits = &logits.data[image.clone()];
                        let targets: Vec<f64> =
                            f32s[image.clone()].iter().map(|&t| t.into()).collect();
                        let (loss, expected) = reference::cross_entropy(logits, &targets);
                        assert_near(found.loss, loss, &what);
                        for (found, expected) in gradient.data[image].iter().zip(expected) {
                            assert_near(*found, factor * expected, &what);
                        }
                        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let best = logits.iter().position(|&v| v == max);
                        assert_eq!(Some(found.best), best, "{what}");
                    }
                }
            }
        }
    }
}

#[cfg_attr(miri, ignore = "Miri's exponentials err anew in each call")]
#[test]
fn every_tier_gives_the_same_bits() {
    let logits = random([2, 1, 1, 37], 3);
    let targets = [1.0 / 37.0; 2 * 37];
    let results: Vec<_> = KernelTable::available()
        .map(|table| run(&table, &logits, &targets, 1.0, false))
        .collect();
    assert!(results.iter().all(|result| *result == results[0]));
}

#[test]
fn logits_that_are_not_finite_give_no_finite_loss() {
    const NAN: f64 = f64::NAN;
    const INFINITE: f64 = f64::INFINITY;
    for (logits, best) in [
        ([1.0, NAN, 2.0, NAN], 1),
        ([NAN; 4], 0),
        ([0.0, INFINITE, 1.0, INFINITE], 1),
        ([INFINITE, 0.0, NAN, 1.0], 2),
        ([-INFINITE; 4], 0),
        ([-INFINITE, 2.0, 1.0, 2.0], 1),
    ] {
        let logits = Tensor::from_fn([1, 1, 1, 4], |_, _, _, c| logits[c]);
        for table in KernelTable::available() {
            for targets in [[0.0, 1.0, 0.0, 0.0], [0.25; 4]] {
                let (losses, _) = run(&table, &logits, &targets, 1.0, false);
                assert!(!losses[0].loss.is_finite(), "{:?}", logits.data);
                assert_eq!(losses[0].best, best, "{:?}", logits.data);
            }
        }
    }
}

#[cfg_attr(miri, ignore = "no unsafe code, and slow")]
#[test]
fn the_reference_gradient_is_that_of_finite_differences() {
    let step = 1e-6;
    let logits = random([1, 1, 1, 9], 4).data;
    let targets: Vec<f64> = random([1, 1, 1, 9], 5)
        .data
        .iter()
        .map(|t| t.abs())
        .collect();
    let (_, gradient) = reference::cross_entropy(&logits, &targets);
    for c in 0..9 {
        let loss = |step: f64| {
            let mut logits = logits.clone();
            logits[c] += step;
            reference::cross_entropy(&logits, &targets).0
        };
        let difference = (loss(step) - loss(-step)) / (2.0 * step);
        assert!((gradient[c] - difference).abs() < 1e-8);
    }
}
