//! The statistics of a batch, on every tier against the reference loops.

use super::coefficients::Array;
use super::testing::{
    EPSILON, MOMENTUM, PLACES, RUNNING, array, coefficients_at, finish, of_channels, place, placed,
    shapes, taken, values, vector,
};
use super::{Coefficients, Statistics};
use crate::kernels::KernelTable;
use crate::kernels::reference::Tensor;
use crate::kernels::reference_gradients::moments;
use crate::kernels::testing::{
    activations, assert_canaries, assert_close, assert_within, lay_out, put,
};

/// For deviations of 1 around 10,000. A block's sum is rounded in steps of a quarter, so its mean is off by
/// some thousandths, and the squares are around that mean.
const FAR_TOLERANCE: f64 = 5e-5;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn statistics_match_reference_on_every_tier_also_far_from_zero() {
    for table in KernelTable::available() {
        for shape in shapes() {
            // A mean of 10,000 leaves steps of 2^-10 in f32: the values are rounded before.
            for mean in [0.0, 1e4] {
                let what = format!("{} {shape:?} {mean}", table.isa);
                let channels = shape[3];
                let x = values(shape);
                let deviation = 3_f64.sqrt();
                let x = Tensor::from_fn(shape, |n, y, i, c| {
                    f64::from((mean + deviation * x.at(n, y, i, c)) as f32)
                });
                let [gamma, beta] = [of_channels(channels, 2), of_channels(channels, 3)];
                let parameters = placed([(PLACES.gamma, &gamma), (PLACES.beta, &beta)]);
                let before = [of_channels(channels, 4), of_channels(channels, 5)];
                let mut running =
                    placed([(RUNNING.mean, &before[0]), (RUNNING.variance, &before[1])]);
                let view = activations(shape, 1);
                let mut views = [
                    view,
                    place(Statistics::len_bytes(&view)),
                    place(Coefficients::len_bytes(channels)),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                let coefficients = coefficients_at(&views[2], channels);
                finish(
                    &views[0],
                    Some(&views[1]),
                    coefficients,
                    &parameters,
                    &mut running,
                    &mut arena,
                    &table,
                );

                let (means, variances) = moments(&x);
                let m = (x.data.len() / channels) as f64;
                let inverses: Vec<f64> = variances
                    .iter()
                    .map(|v| 1.0 / (v + EPSILON).sqrt())
                    .collect();
                let scales: Vec<f64> = gamma.iter().zip(&inverses).map(|(g, s)| g * s).collect();
                let moved = |old: &[f64], new: &[f64], factor: f64| {
                    let pairs = old.iter().zip(new);
                    vector(
                        pairs
                            .map(|(o, n)| (1.0 - MOMENTUM) * o + MOMENTUM * n * factor)
                            .collect(),
                    )
                };
                let found = array(&coefficients, Array::Mean, &mut arena);
                assert_close(&found, &vector(means.clone()), &what);
                for (of, expected) in [
                    (Array::InverseDeviation, &inverses),
                    (Array::Scale, &scales),
                    (Array::Factor, &scales),
                ] {
                    let tolerance = if mean == 0.0 { 2e-6 } else { FAR_TOLERANCE };
                    let found = array(&coefficients, of, &mut arena);
                    assert_within(&found, &vector(expected.clone()), tolerance, &what);
                }
                let zeros = vector(vec![0.0; channels]);
                for of in [Array::Offset, Array::Slope] {
                    assert_eq!(array(&coefficients, of, &mut arena), zeros, "{what}");
                }
                let found = taken(&mut running, RUNNING.mean, channels);
                assert_close(&found, &moved(&before[0], &means, 1.0), &what);
                // The variance of a sample.
                let found = taken(&mut running, RUNNING.variance, channels);
                let expected = moved(&before[1], &variances, m / (m - 1.0));
                assert_within(&found, &expected, FAR_TOLERANCE, &what);
                assert!(running.iter().all(|x| x.is_nan()), "{what}: wrote outside");
                assert_canaries(&arena, &views, &what);

                // A batch norm without training uses the running statistics, and keeps them.
                let mean_before = of_channels(channels, 6);
                let variance: Vec<f64> = of_channels(channels, 7).iter().map(|v| v.abs()).collect();
                let mut running =
                    placed([(RUNNING.mean, &mean_before), (RUNNING.variance, &variance)]);
                let kept = running.clone();
                finish(
                    &views[0],
                    None,
                    coefficients,
                    &parameters,
                    &mut running,
                    &mut arena,
                    &table,
                );
                assert_eq!(bits(&running), bits(&kept), "{what}");
                let scales = gamma
                    .iter()
                    .zip(&variance)
                    .map(|(g, v)| g / (v + EPSILON).sqrt());
                let scales = vector(scales.collect());
                let shifts = (0..channels).map(|c| beta[c] - mean_before[c] * scales.data[c]);
                assert_close(
                    &array(&coefficients, Array::Scale, &mut arena),
                    &scales,
                    &what,
                );
                assert_close(
                    &array(&coefficients, Array::Shift, &mut arena),
                    &vector(shifts.collect()),
                    &what,
                );
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}
