//! The gradients of whole networks: those of the loss in f64, and the same for any number of threads.

use std::collections::HashMap;

use super::fixtures::{Fixture, basic, bottleneck, grouped, without_norm};
use super::{Precision, Set, TrainOptions, Trainer};
use crate::kernels::KernelTable;
use crate::kernels::testing::random;

fn options(winograd: bool) -> TrainOptions {
    TrainOptions {
        threads: Some(1),
        winograd,
        ..TrainOptions::default()
    }
}

/// The names of all parameters.
pub(super) fn names(trainer: &Trainer) -> Vec<String> {
    let trained = trainer.tensors().filter(|(.., is_statistic)| !is_statistic);
    trained.map(|(name, ..)| name.to_owned()).collect()
}

/// The derivative of the loss along a random direction of each parameter, by a finite step in f64.
fn derivatives(fixture: &Fixture, names: &[String]) -> HashMap<String, f64> {
    // So small that hardly a value crosses a kink of ReLU or of a max pool.
    const STEP: f64 = 1e-8;
    let mut parameters: HashMap<String, Vec<f64>> = fixture
        .weights
        .iter()
        .map(|(name, (_, values))| (name.clone(), values.iter().map(|&x| f64::from(x)).collect()))
        .collect();
    let derivative = |name: &String| {
        let before = parameters[name].clone();
        let direction = random([1, 1, 1, before.len()], 7).data;
        let mut loss = |step: f64| {
            let moved = before.iter().zip(&direction).map(|(x, d)| x + step * d);
            parameters.insert(name.clone(), moved.collect());
            fixture.loss(&parameters)
        };
        let difference = loss(STEP) - loss(-STEP);
        parameters.insert(name.clone(), before);
        (name.clone(), difference / (2.0 * STEP))
    };
    names.iter().map(derivative).collect()
}

fn check(fixture: &Fixture) {
    let all = names(&fixture.trainer(&options(true)));
    let expected = derivatives(fixture, &all);
    let loss = {
        let values = fixture.weights.iter();
        let values =
            values.map(|(name, (_, v))| (name.clone(), v.iter().map(|&x| x.into()).collect()));
        fixture.loss(&values.collect())
    };
    for table in KernelTable::available() {
        for winograd in [true, false] {
            let mut trainer = fixture.trainer(&TrainOptions {
                isa: Some(table.isa),
                ..options(winograd)
            });
            let found: f64 = fixture.backward(&mut trainer, 1).iter().sum();
            assert!((found - loss).abs() < 1e-5 * loss, "{found} {loss}");
            for name in &all {
                let gradient = trainer.read(Set::Gradients, name).unwrap();
                let direction = random([1, 1, 1, gradient.len()], 7).data;
                let pairs = gradient.iter().zip(&direction);
                let (mut along, mut squares, mut length) = (0.0, 0.0, 0.0);
                for (&g, d) in pairs {
                    let g = f64::from(g);
                    along += g * d;
                    squares += g * g;
                    length += d * d;
                }
                // A batch norm may cancel all that a parameter does: such a gradient is rounding only.
                let scale = (squares.sqrt() + 1e-2) * length.sqrt();
                let error = (along - expected[name]).abs() / scale;
                assert!(
                    error < 1e-4,
                    "{} {winograd} {name}: {along} {} {error:e}",
                    table.isa,
                    expected[name]
                );
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_of_basic_blocks_are_derivatives_of_the_loss() {
    check(&basic());
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_of_bottlenecks_are_derivatives_of_the_loss() {
    check(&bottleneck());
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_of_grouped_convolutions_are_derivatives_of_the_loss() {
    check(&grouped());
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_of_biases_without_batch_norm_are_derivatives_of_the_loss() {
    check(&without_norm());
}

/// The precisions that this machine has.
fn precisions() -> Vec<Precision> {
    let table = KernelTable::available().last().unwrap();
    let bf16 = table.mixed.map(|_| Precision::Bf16);
    let all = [Some(Precision::F32), Some(Precision::EmulatedBf16), bf16];
    all.into_iter().flatten().collect()
}

/// Bottlenecks are compared with torch in `tests/test_trainer_precision.py`: in the fixtures here batch norm over a
/// few values enlarges roundings of bf16 to the size of the gradients.
#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_in_bf16_are_those_of_f32_but_for_roundings() {
    for fixture in [basic(), without_norm()] {
        let all = names(&fixture.trainer(&options(true)));
        for winograd in [true, false] {
            let gradients = |isa, precision| {
                let mut trainer = fixture.trainer(&TrainOptions {
                    isa: Some(isa),
                    precision,
                    ..options(winograd)
                });
                fixture.backward(&mut trainer, 1);
                let read = |name: &String| trainer.read(Set::Gradients, name).unwrap();
                all.iter().flat_map(read).map(f64::from).collect::<Vec<_>>()
            };
            for table in KernelTable::available() {
                let exact = gradients(table.isa, Precision::F32);
                let norm: f64 = exact.iter().map(|g| g * g).sum();
                let own = table.mixed.map(|_| Precision::Bf16);
                for precision in [Some(Precision::EmulatedBf16), own].into_iter().flatten() {
                    let found = gradients(table.isa, precision);
                    let pairs = found.iter().zip(&exact);
                    let error: f64 = pairs.map(|(f, e)| (f - e) * (f - e)).sum();
                    let error = (error / norm).sqrt();
                    let name = &fixture.config.architecture;
                    let what = format!("{name} {} {precision:?} {winograd}", table.isa);
                    // Roundings of 2^-9, enlarged by batch norms over few values and by ReLUs near zero.
                    assert!((1e-4..0.3).contains(&error), "{what}: {error:e}");
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn gradients_and_statistics_are_the_same_for_any_number_of_threads() {
    for precision in precisions() {
        check_threads(precision);
    }
}

fn check_threads(precision: Precision) {
    for fixture in [basic(), bottleneck(), grouped(), without_norm()] {
        let run = |threads: usize| {
            let mut trainer = fixture.trainer(&TrainOptions {
                precision,
                ..options(true)
            });
            let losses: Vec<u64> = fixture
                .backward(&mut trainer, threads)
                .iter()
                .map(|x| x.to_bits())
                .collect();
            let all: Vec<(String, bool)> = trainer
                .tensors()
                .map(|(n, _, s)| (n.to_owned(), s))
                .collect();
            let values: Vec<u32> = all
                .iter()
                .flat_map(|(name, is_statistic)| {
                    let set = if *is_statistic {
                        Set::Values
                    } else {
                        Set::Gradients
                    };
                    trainer.read(set, name).unwrap()
                })
                .map(f32::to_bits)
                .collect();
            (losses, values)
        };
        let alone = run(1);
        for threads in [2, 3] {
            assert!(
                run(threads) == alone,
                "{} {precision:?}: {threads} threads",
                fixture.config.architecture
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn a_second_pass_adds_its_gradients() {
    for fixture in [basic(), bottleneck(), grouped(), without_norm()] {
        let mut trainer = fixture.trainer(&options(true));
        let all = names(&trainer);
        fixture.backward(&mut trainer, 1);
        let once: Vec<_> = all
            .iter()
            .map(|name| trainer.read(Set::Gradients, name).unwrap())
            .collect();
        let (images, targets) = (&fixture.images, &fixture.targets);
        trainer
            .backward(1.into(), images, targets, fixture.shape, true)
            .unwrap();
        for (name, once) in all.iter().zip(once) {
            let twice = trainer.read(Set::Gradients, name).unwrap();
            let most = once.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (once, twice) in once.iter().zip(&twice) {
                assert!(
                    (2.0 * once - twice).abs() <= 1e-5 * most,
                    "{name}: {once} {twice}"
                );
            }
        }
    }
}
