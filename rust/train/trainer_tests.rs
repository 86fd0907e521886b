//! A trainer's numbers: kept if a pass does not end well, kept if frozen, and moved by a step.

use std::collections::HashSet;

use super::fixtures::{Fixture, basic};
use super::gradient_tests::names;
use super::{Group, Hyperparameters, Method, Set, TrainOptions, Trainer};
use crate::error::Error;
use crate::threads::{Call, Watch};

fn trainer(fixture: &Fixture) -> Trainer {
    fixture.trainer(&TrainOptions {
        threads: Some(1),
        ..TrainOptions::default()
    })
}

/// The bits of all parameters and running statistics.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let all: Vec<_> = trainer
        .tensors()
        .map(|(name, ..)| name.to_owned())
        .collect();
    let read = |name: String| {
        let values = trainer.read(Set::Values, &name).unwrap();
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    all.into_iter().map(read).collect()
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn an_interrupted_pass_keeps_the_running_statistics() {
    let mut fixture = basic();
    let mut trainer = trainer(&fixture);
    let before = bits(&trainer);
    loop {
        let goes_on = || false;
        // Asks after a pause, so a pass that is stopped has taken as long, and was past its first layers.
        let watch = Watch::new(&goes_on);
        let call = Call {
            threads: Some(1),
            watch: Some(&watch),
        };
        let (images, targets) = (&fixture.images, &fixture.targets);
        match trainer.backward(call, images, targets, fixture.shape, false) {
            Err(Error::Interrupted) => break,
            result => drop(result.unwrap()),
        }
        assert_ne!(bits(&trainer), before);
        trainer = self::trainer(&fixture);
        fixture.set_batch(4 * fixture.shape.batch);
    }
    assert_eq!(bits(&trainer), before);
    // The next pass is like that of a new trainer.
    fixture.set_batch(3);
    let mut other = self::trainer(&fixture);
    assert_eq!(
        fixture.backward(&mut trainer, 1),
        fixture.backward(&mut other, 1)
    );
    assert_eq!(bits(&trainer), bits(&other));
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn a_pass_with_nan_keeps_the_running_statistics() {
    let mut fixture = basic();
    let mut trainer = trainer(&fixture);
    let before = bits(&trainer);
    let value = std::mem::replace(&mut fixture.images[7], f32::NAN);
    let losses = fixture.backward(&mut trainer, 2);
    assert!(losses.iter().any(|loss| loss.is_nan()));
    assert_eq!(bits(&trainer), before);
    fixture.images[7] = value;
    let losses = fixture.backward(&mut trainer, 2);
    assert!(losses.iter().all(|loss| loss.is_finite()));
    assert_ne!(bits(&trainer), before);
}

/// A step of SGD without momentum.
fn sgd(lr: f64) -> Hyperparameters {
    Hyperparameters {
        method: Method::Sgd {
            momentum: 0.0,
            nesterov: false,
        },
        lr,
        weight_decay: 0.1,
        clip_norm: None,
        average: None,
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn frozen_layers_keep_their_parameters_and_statistics() {
    let fixture = basic();
    for is_frozen in [
        // The beginning, a layer in the middle, all but the end.
        |name: &str| name.starts_with("conv1") || name.starts_with("bn1"),
        |name: &str| name.starts_with("layer2"),
        |name: &str| !name.starts_with("fc"),
    ] {
        let mut trainer = trainer(&fixture);
        let all = names(&trainer);
        let frozen: HashSet<_> = all.iter().filter(|name| is_frozen(name)).cloned().collect();
        assert!(!frozen.is_empty());
        let before = bits(&trainer);
        trainer.freeze(&frozen).unwrap();
        let loss: f64 = fixture.backward(&mut trainer, 2).iter().sum();
        trainer.update(2.into(), &sgd(1e-3)).unwrap();
        for ((name, now), (_, before)) in bits(&trainer).into_iter().zip(before) {
            assert_eq!(now == before, is_frozen(&name), "{name}");
        }
        let next: f64 = fixture.backward(&mut trainer, 2).iter().sum();
        assert!(next < loss, "{next} {loss}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn only_whole_layers_of_the_network_can_be_frozen() {
    let mut trainer = trainer(&basic());
    for (names, expected) in [
        (vec!["fc.weight"], "1 of 2"),
        (
            vec!["fc.weight", "fc.bias", "fc.scale"],
            "fc.scale: not a parameter",
        ),
        (vec!["bn1.running_mean"], "not a parameter"),
    ] {
        let names = names.into_iter().map(str::to_owned).collect();
        let message = trainer.freeze(&names).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// Runs two steps of `numbers`, and compares each weight with `step`: from the number of the step, the
/// weight, the gradient, the learning rate, the decay and two memories, to the weight.
fn check_steps(
    numbers: Hyperparameters,
    step: impl Fn(i32, f64, f64, [f64; 2], &mut [f64; 2]) -> f64,
) {
    let fixture = basic();
    let run = |threads: usize| {
        let mut trainer = trainer(&fixture);
        let all = names(&trainer);
        let half = Group {
            lr_scale: 0.5,
            decays: false,
        };
        let groups: Vec<_> = all
            .iter()
            .filter(|name| name.contains("bn") || name.ends_with("bias"))
            .map(|name| (name.clone(), half))
            .collect();
        trainer.set_groups(&groups).unwrap();
        let mut memories = vec![Vec::new(); all.len()];
        for number in 1..=2 {
            fixture.backward(&mut trainer, 1);
            let read = |trainer: &Trainer, set| -> Vec<_> {
                all.iter()
                    .map(|name| trainer.read(set, name).unwrap())
                    .collect()
            };
            let [weights, gradients] = [Set::Values, Set::Gradients].map(|set| read(&trainer, set));
            trainer.update(threads.into(), &numbers).unwrap();
            let after = read(&trainer, Set::Values);
            for (t, name) in all.iter().enumerate() {
                let in_group = groups.iter().any(|(n, _)| n == name);
                let factors = match in_group {
                    true => [0.5 * numbers.lr, 0.0],
                    false => [numbers.lr, numbers.weight_decay],
                };
                memories[t].resize(weights[t].len(), [0.0; 2]);
                for (i, memory) in memories[t].iter_mut().enumerate() {
                    let (w, g) = (f64::from(weights[t][i]), f64::from(gradients[t][i]));
                    let expected = step(number, w, g, factors, memory);
                    let error = (f64::from(after[t][i]) - expected).abs();
                    let moved = (expected - w).abs();
                    assert!(
                        error <= 1e-5 * moved + 2e-7 * w.abs().max(1e-3),
                        "{name} {i}: {error:e}"
                    );
                }
            }
        }
        assert_eq!(trainer.steps(), 2);
        bits(&trainer)
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn steps_of_sgd_move_the_weights() {
    for nesterov in [false, true] {
        let numbers = Hyperparameters {
            method: Method::Sgd {
                momentum: 0.9,
                nesterov,
            },
            ..sgd(0.01)
        };
        check_steps(numbers, |_, w, g, [lr, decay], [velocity, _]| {
            let g = g + decay * w;
            *velocity = 0.9 * *velocity + g;
            w - lr
                * if nesterov {
                    g + 0.9 * *velocity
                } else {
                    *velocity
                }
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn steps_of_adamw_move_the_weights() {
    let (beta1, beta2, eps) = (0.9, 0.95, 1e-6);
    let numbers = Hyperparameters {
        method: Method::AdamW { beta1, beta2, eps },
        ..sgd(0.003)
    };
    check_steps(numbers, |step, w, g, [lr, decay], [first, second]| {
        *first = beta1 * *first + (1.0 - beta1) * g;
        *second = beta2 * *second + (1.0 - beta2) * g * g;
        let mean = *first / (1.0 - beta1.powi(step));
        let deviation = (*second / (1.0 - beta2.powi(step))).sqrt();
        w - lr * decay * w - lr * mean / (deviation + eps)
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn a_bounded_step_returns_the_norm_and_one_that_is_not_finite_changes_nothing() {
    let fixture = basic();
    let mut trainer = trainer(&fixture);
    fixture.backward(&mut trainer, 1);
    let squares = names(&trainer)
        .into_iter()
        .flat_map(|name| trainer.read(Set::Gradients, &name).unwrap());
    let expected = squares.map(|g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let before = trainer.read(Set::Values, "fc.bias").unwrap();
    let gradient = trainer.read(Set::Gradients, "fc.bias").unwrap();
    let numbers = Hyperparameters {
        clip_norm: Some(0.5 * expected),
        weight_decay: 0.0,
        ..sgd(1.0)
    };
    let norm = trainer.update(2.into(), &numbers).unwrap().unwrap();
    assert!(
        (norm - expected).abs() < 1e-6 * expected,
        "{norm} {expected}"
    );
    let after = trainer.read(Set::Values, "fc.bias").unwrap();
    for ((before, after), g) in before.iter().zip(&after).zip(&gradient) {
        assert!((before - after - 0.5 * g).abs() < 1e-5 * g.abs().max(0.1));
    }
    let before = bits(&trainer);
    trainer
        .write(Set::Gradients, "fc.bias", &[f32::NAN; 5])
        .unwrap();
    let norm = trainer.update(2.into(), &numbers).unwrap().unwrap();
    assert!(norm.is_nan());
    assert_eq!((bits(&trainer), trainer.steps()), (before, 1));
}
