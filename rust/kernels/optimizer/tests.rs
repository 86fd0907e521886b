//! The steps of every tier against the same arithmetic in f64, and against torch's bits.

use super::{AdamW, AdamWTensor, AverageTensor, CHUNK, SgdArgs, SgdTensor, chunk, chunks};
use crate::kernels::KernelTable;
use crate::kernels::testing::{CANARY, f32s, random};
use crate::simd::Isa;

/// Steps of every test, of which the first has no momentum.
const STEPS: usize = 3;

/// Of the values, the sizes around those of vectors, and two chunks.
const LENGTHS: &[usize] = if cfg!(miri) {
    &[1, 21]
} else {
    &[1, 15, 16, 67, CHUNK + 37]
};

/// An array in the midst of canaries.
struct Array(Vec<f32>);

impl Array {
    const AROUND: usize = 16;

    fn new(values: &[f32]) -> Self {
        let mut all = vec![CANARY; values.len() + 2 * Self::AROUND];
        all[Self::AROUND..][..values.len()].copy_from_slice(values);
        Self(all)
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0[Self::AROUND..].as_mut_ptr()
    }

    /// The values, after a look at the canaries.
    fn values(&self) -> &[f32] {
        let [before, after] = [&self.0[..16], &self.0[self.0.len() - 16..]];
        let canaries = before.iter().chain(after);
        assert!(canaries.map(|v| v.to_bits()).all(|b| b == CANARY.to_bits()));
        &self.0[Self::AROUND..self.0.len() - Self::AROUND]
    }
}

fn values(len: usize, seed: usize) -> Vec<f32> {
    f32s(&random([1, 1, 1, len], seed).data)
}

/// Relative to the largest value: the steps round a few times, in each of three steps.
fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    let largest = expected.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 1e-6 * largest, "{what}: {found} for {expected}");
    }
}

/// The weights and momentum after some steps with these gradients.
fn sgd_steps(
    table: &KernelTable,
    args: &SgdArgs,
    weights: &[f32],
    gradients: &[Vec<f32>],
) -> [Vec<f32>; 2] {
    let len = weights.len();
    let mut weights = Array::new(weights);
    // Never read before it is written.
    let mut momentum = Array::new(&vec![CANARY; len]);
    for (step, gradients) in gradients.iter().enumerate() {
        let tensor = SgdTensor {
            weights: weights.as_mut_ptr(),
            gradients: gradients.as_ptr(),
            momentum: match args.momentum {
                0.0 => std::ptr::null_mut(),
                _ => momentum.as_mut_ptr(),
            },
            len,
        };
        let args = SgdArgs {
            first_step: step == 0,
            ..*args
        };
        for item in (0..tensor.items()).rev() {
            // SAFETY: the arrays have `len` values, and the table proves the tier.
            unsafe { tensor.run_item(item, &args, table.f32.optimizer.sgd) };
        }
    }
    [weights.values().to_vec(), momentum.values().to_vec()]
}

/// The same in f64.
fn sgd_reference(args: &SgdArgs, weights: &[f32], gradients: &[Vec<f32>]) -> [Vec<f64>; 2] {
    let [lr, momentum, decay, scale] =
        [args.lr, args.momentum, args.weight_decay, args.grad_scale].map(f64::from);
    let of = |(i, &w): (usize, &f32)| {
        let (mut w, mut v) = (f64::from(w), 0.0);
        for gradients in gradients {
            let g = f64::from(gradients[i]) * scale + decay * w;
            // With zeros before, the first step is like the others.
            v = momentum * v + g;
            w -= lr * if args.nesterov { g + momentum * v } else { v };
        }
        (w, v)
    };
    let (weights, momentum) = weights.iter().enumerate().map(of).unzip();
    [weights, momentum]
}

#[test]
fn sgd_matches_reference_on_every_tier() {
    for &len in LENGTHS {
        let weights = values(len, 1);
        let gradients: Vec<_> = (0..STEPS).map(|step| values(len, 2 + step)).collect();
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            for (weight_decay, grad_scale) in [(0.0, 1.0), (0.05, 1.0), (0.05, 0.3)] {
                let args = SgdArgs {
                    lr: 0.1,
                    momentum,
                    nesterov,
                    weight_decay,
                    grad_scale,
                    first_step: false,
                };
                let [w, v] = sgd_reference(&args, &weights, &gradients);
                for table in KernelTable::available() {
                    let what = format!("{} {len} {args:?}", table.isa);
                    let [weights, moments] = sgd_steps(&table, &args, &weights, &gradients);
                    assert_near(&weights, &w, &what);
                    if momentum == 0.0 {
                        assert!(moments.iter().all(|v| v.is_nan()), "{what}");
                    } else {
                        assert_near(&moments, &v, &what);
                    }
                }
            }
        }
    }
}

const ADAMW: AdamW = AdamW {
    lr: 3e-3,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.05,
};

/// The weights and both moments after some steps with these gradients, times `grad_scale`.
fn adamw_steps(
    table: &KernelTable,
    adamw: &AdamW,
    grad_scale: f32,
    weights: &[f32],
    gradients: &[Vec<f32>],
) -> [Vec<f32>; 3] {
    let len = weights.len();
    let mut weights = Array::new(weights);
    let [mut first, mut second] = [Array::new(&vec![0.0; len]), Array::new(&vec![0.0; len])];
    for (step, gradients) in gradients.iter().enumerate() {
        let tensor = AdamWTensor {
            weights: weights.as_mut_ptr(),
            gradients: gradients.as_ptr(),
            first: first.as_mut_ptr(),
            second: second.as_mut_ptr(),
            len,
        };
        let args = adamw.args(step as u64 + 1, grad_scale);
        for item in (0..tensor.items()).rev() {
            // SAFETY: as above.
            unsafe { tensor.run_item(item, &args, table.f32.optimizer.adamw) };
        }
    }
    [&weights, &first, &second].map(|array| array.values().to_vec())
}

#[test]
fn adamw_matches_reference_on_every_tier() {
    let from_scratch = AdamW {
        beta1: 0.4,
        beta2: 0.95,
        eps: 1e-3,
        weight_decay: 0.0,
        ..ADAMW
    };
    for &len in LENGTHS {
        let weights = values(len, 1);
        let gradients: Vec<_> = (0..STEPS).map(|step| values(len, 2 + step)).collect();
        for (adamw, scale) in [(ADAMW, 1.0), (from_scratch, 1.0), (ADAMW, 0.3)] {
            let AdamW {
                lr,
                beta1,
                beta2,
                eps,
                weight_decay,
            } = adamw;
            let mut expected = [vec![], vec![], vec![]];
            for (i, &w) in weights.iter().enumerate() {
                let (mut w, mut m, mut v) = (f64::from(w), 0.0, 0.0);
                for (gradients, t) in gradients.iter().zip(1..) {
                    let g = f64::from(gradients[i]) * f64::from(scale);
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = beta2 * v + (1.0 - beta2) * g * g;
                    let [m, v] = [m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t))];
                    w = w * (1.0 - lr * weight_decay) - lr * m / (v.sqrt() + eps);
                }
                for (values, value) in expected.iter_mut().zip([w, m, v]) {
                    values.push(value);
                }
            }
            for table in KernelTable::available() {
                let what = format!("{} {len} {adamw:?} {scale}", table.isa);
                let found = adamw_steps(&table, &adamw, scale, &weights, &gradients);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_near(found, expected, &what);
                }
            }
        }
    }
}

/// Weights and gradients as `torch_bits` has them.
fn torch_inputs() -> (Vec<f32>, Vec<Vec<f32>>) {
    let weights = (0..21).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0);
    let gradients = (0..STEPS).map(|step| {
        let of = |i: usize| (((i * 53 + step * 29) % 97) as f32 - 48.0) / 32.0;
        (0..21).map(of).collect()
    });
    (weights.collect(), gradients.collect())
}

/// Asserts that some of the values are those that torch 2.15 computes with one thread on a processor
/// with AVX-512, alike with and without `foreach`: to the bit on tiers with fused multiply-add.
fn assert_torch_bits(table: &KernelTable, found: &[f32], bits: [u32; 5]) {
    for (i, bits) in [0, 1, 7, 16, 20].into_iter().zip(bits) {
        let (found, expected) = (found[i], f32::from_bits(bits));
        let near = (found - expected).abs() <= 1e-6 * expected.abs();
        let equal = found == expected || table.isa == Isa::Portable;
        assert!(near && equal, "{}: {found:e} for {expected:e}", table.isa);
    }
}

/// `w.grad = gradient * 0.7`, then a step of `torch.optim.SGD([w], ...)`, three times.
#[test]
fn sgd_computes_torchs_bits() {
    let (weights, gradients) = torch_inputs();
    let plain = SgdArgs {
        lr: 0.1,
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        grad_scale: 0.7,
        first_step: false,
    };
    let with_momentum = SgdArgs {
        momentum: 0.9,
        weight_decay: 5e-4,
        ..plain
    };
    let nesterov = SgdArgs {
        lr: 0.05,
        nesterov: true,
        weight_decay: 1e-2,
        ..with_momentum
    };
    for table in KernelTable::available() {
        let [w, _] = sgd_steps(&table, &plain, &weights, &gradients);
        let bits = [0xbf28147b, 0xbe5b3332, 0x3e08a3d7, 0x3f279999, 0xbe9d47ae];
        assert_torch_bits(&table, &w, bits);

        let [w, v] = sgd_steps(&table, &with_momentum, &weights, &gradients);
        let bits = [0xbee0fa3d, 0xbe996a75, 0x3dad3e23, 0x3f26c0df, 0xbed376fc];
        assert_torch_bits(&table, &w, bits);
        let bits = [0xbf80dba6, 0x3c639700, 0xbe96ee1d, 0xbf44b3b4, 0x3e984ef6];
        assert_torch_bits(&table, &v, bits);

        let [w, v] = sgd_steps(&table, &nesterov, &weights, &gradients);
        let bits = [0xbf0ff50c, 0xbe8095aa, 0x3de1243e, 0x3f25aca3, 0xbeb3fa61];
        assert_torch_bits(&table, &w, bits);
        let bits = [0xbf831a78, 0x3bfeae80, 0xbe95de6d, 0xbf40f3e5, 0x3e9419a4];
        assert_torch_bits(&table, &v, bits);
    }
}

/// As for SGD, with `torch.optim.AdamW([w], ...)`.
#[test]
fn adamw_computes_torchs_bits() {
    let (weights, gradients) = torch_inputs();
    for table in KernelTable::available() {
        let [w, m, v] = adamw_steps(&table, &ADAMW, 0.7, &weights, &gradients);
        let bits = [0xbf460579, 0xbe558f16, 0x3ddb87b8, 0x3f13c037, 0xbe8a04d5];
        assert_torch_bits(&table, &w, bits);
        let bits = [0xbdcdfd8b, 0x3aba5e35, 0xbcf18fc4, 0xbd9d844d, 0x3cf41207];
        assert_torch_bits(&table, &m, bits);
        let bits = [0x3c54e5fa, 0x3c364686, 0x3c371dac, 0x3c542a11, 0x3c3cb830];
        assert_torch_bits(&table, &v, bits);
    }
}

/// The average after it has moved to each of these weights.
fn averages(table: &KernelTable, part: f32, average: &[f32], weights: &[Vec<f32>]) -> Vec<f32> {
    let len = average.len();
    let mut average = Array::new(average);
    for weights in weights {
        let tensor = AverageTensor {
            average: average.as_mut_ptr(),
            weights: weights.as_ptr(),
            len,
        };
        for item in (0..tensor.items()).rev() {
            // SAFETY: as above.
            unsafe { tensor.run_item(item, part, table.f32.optimizer.average) };
        }
    }
    average.values().to_vec()
}

#[test]
fn averages_match_reference_on_every_tier_and_torchs_lerp() {
    for &len in LENGTHS {
        let average = values(len, 1);
        let weights: Vec<_> = (0..STEPS).map(|step| values(len, 2 + step)).collect();
        for part in [0.0, 0.001, 0.3, 0.5, 0.9, 1.0] {
            let mut expected: Vec<f64> = average.iter().map(|&v| v.into()).collect();
            for weights in &weights {
                for (average, &w) in expected.iter_mut().zip(weights) {
                    *average += f64::from(part) * (f64::from(w) - *average);
                }
            }
            for table in KernelTable::available() {
                let found = averages(&table, part, &average, &weights);
                assert_near(&found, &expected, &format!("{} {len} {part}", table.isa));
                // The ends are exact.
                assert!(part != 0.0 || found == average);
                assert!(part != 1.0 || found == weights[STEPS - 1]);
            }
        }
    }
    let (average, weights) = torch_inputs();
    for table in KernelTable::available() {
        // `average.lerp_(weights, 1 - 0.9)`, three times.
        let found = averages(&table, (1.0 - 0.9_f64) as f32, &average, &weights);
        let bits = [0xbf369581, 0xbe158d50, 0x3d1a0c4a, 0x3e9f872a, 0xbe1ab439];
        assert_torch_bits(&table, &found, bits);
    }
}

#[test]
fn sums_of_squares_are_exact_to_f64_and_the_same_on_every_tier() {
    for &len in [0].iter().chain(LENGTHS) {
        let values = values(len, 3);
        let expected: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let sums: Vec<f64> = KernelTable::available()
            // SAFETY: the table proves the tier.
            .map(|table| unsafe { (table.f32.optimizer.sum_of_squares)(&values) })
            .collect();
        assert!((sums[0] - expected).abs() <= 1e-13 * expected);
        assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
    }
}

#[test]
fn sums_of_squares_are_finite_if_all_values_are() {
    let len = if cfg!(miri) { 21 } else { CHUNK };
    for (value, is_finite) in [
        (f32::MAX, true),
        (f32::INFINITY, false),
        (f32::NEG_INFINITY, false),
        (f32::NAN, false),
    ] {
        for table in KernelTable::available() {
            let sum = |values: &[f32]| {
                // SAFETY: the table proves the tier.
                unsafe { (table.f32.optimizer.sum_of_squares)(values) }
            };
            for at in [0, 7, len - 1] {
                let mut values = vec![1.0; len];
                values[at] = value;
                assert_eq!(sum(&values).is_finite(), is_finite, "{value}");
            }
            assert_eq!(sum(&vec![value; len]).is_finite(), is_finite, "{value}");
        }
    }
}

#[test]
fn chunks_cover_an_array_once() {
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let mut next = 0;
        for item in 0..chunks(len) {
            let range = chunk(len, item);
            assert_eq!(range.start, next);
            assert!(!range.is_empty() && range.len() <= CHUNK);
            next = range.end;
        }
        assert_eq!(next, len);
    }
}
