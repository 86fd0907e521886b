//! Naive loops for the gradients of convolutions and of batch norm, NHWC, summed in f64.

use super::reference::Tensor;
use crate::shape::Window;

/// A tensor of zeros.
fn zeros(shape: [usize; 4]) -> Tensor {
    Tensor::from_fn(shape, |_, _, _, _| 0.0)
}

/// Calls `f` for each product of [`conv2d`](super::reference::conv2d) with the places, by element, of
/// the input, of the weight and of the output.
///
/// - `x`: the input's shape `[batch, height, width, in_channels]`.
/// - `out`: the output's shape.
fn for_each_product(
    x: [usize; 4],
    out: [usize; 4],
    window: Window,
    groups: usize,
    mut f: impl FnMut(usize, usize, usize),
) {
    let [_, height, width, in_channels] = x;
    let [batch, out_h, out_w, out_channels] = out;
    let [group_in, group_out] = [in_channels / groups, out_channels / groups];
    let kernel = window.kernel;
    for pixel in 0..batch * out_h * out_w {
        let (n, oy, ox) = (
            pixel / (out_h * out_w),
            pixel / out_w % out_h,
            pixel % out_w,
        );
        for tap in 0..kernel * kernel {
            let (ky, kx) = (tap / kernel, tap % kernel);
            let inside = window.input(oy, ky, height);
            let Some((iy, ix)) = inside.zip(window.input(ox, kx, width)) else {
                continue;
            };
            let first = ((n * height + iy) * width + ix) * in_channels;
            for o in 0..out_channels {
                for i in 0..group_in {
                    f(
                        first + o / group_out * group_in + i,
                        (o * kernel * kernel + tap) * group_in + i,
                        pixel * out_channels + o,
                    );
                }
            }
        }
    }
}

/// The gradient of [`conv2d`](super::reference::conv2d) by its weights: `[out_channels, kernel, kernel,
/// in_channels / groups]`. `out` is the gradient of the output.
pub fn conv2d_weight_gradient(x: &Tensor, out: &Tensor, window: Window, groups: usize) -> Tensor {
    let group_in = x.shape[3] / groups;
    let mut gradient = zeros([out.shape[3], window.kernel, window.kernel, group_in]);
    for_each_product(x.shape, out.shape, window, groups, |i, w, o| {
        gradient.data[w] += x.data[i] * out.data[o];
    });
    gradient
}

/// The gradient of [`conv2d`](super::reference::conv2d) by its input, which has the shape `x`. `out` is
/// the gradient of the output.
pub fn conv2d_input_gradient(
    x: [usize; 4],
    weights: &Tensor,
    out: &Tensor,
    window: Window,
    groups: usize,
) -> Tensor {
    let mut gradient = zeros(x);
    for_each_product(x, out.shape, window, groups, |i, w, o| {
        gradient.data[i] += weights.data[w] * out.data[o];
    });
    gradient
}

/// The sum over all pixels of each channel: the gradient of a bias.
pub fn sum_pixels(x: &Tensor) -> Vec<f64> {
    let channels = x.shape[3];
    let mut sums = vec![0.0; channels];
    for (i, value) in x.data.iter().enumerate() {
        sums[i % channels] += value;
    }
    sums
}

/// The mean and the variance of each channel, with the number of values as divisor.
pub fn moments(x: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let channels = x.shape[3];
    let m = (x.data.len() / channels) as f64;
    let means: Vec<f64> = sum_pixels(x).into_iter().map(|sum| sum / m).collect();
    let squares = Tensor::from_fn(x.shape, |n, y, i, c| (x.at(n, y, i, c) - means[c]).powi(2));
    let variances = sum_pixels(&squares).into_iter().map(|sum| sum / m);
    let variances = variances.collect();
    (means, variances)
}

/// The gradients of [`batch_norm`](super::reference::batch_norm) by `y`, by the scales and by the shifts.
/// `out` is the gradient of the output.
///
/// - `statistics`: the means and variances, those of `y` itself unless it is `frozen`.
pub fn batch_norm_gradient(
    y: &Tensor,
    out: &Tensor,
    (means, variances): (Vec<f64>, Vec<f64>),
    scale: &[f64],
    epsilon: f64,
    frozen: bool,
) -> [Tensor; 3] {
    let channels = y.shape[3];
    let m = (y.data.len() / channels) as f64;
    let inverse = |c: usize| 1.0 / (variances[c] + epsilon).sqrt();
    let normalized = Tensor::from_fn(y.shape, |n, i, j, c| {
        (y.at(n, i, j, c) - means[c]) * inverse(c)
    });
    let products = Tensor::from_fn(y.shape, |n, i, j, c| {
        out.at(n, i, j, c) * normalized.at(n, i, j, c)
    });
    let [by_scale, by_shift] = [&products, out].map(|x| Tensor {
        shape: [1, 1, 1, channels],
        data: sum_pixels(x),
    });
    let by_y = Tensor::from_fn(y.shape, |n, i, j, c| {
        let of_statistics = match frozen {
            true => 0.0,
            false => (by_shift.data[c] + normalized.at(n, i, j, c) * by_scale.data[c]) / m,
        };
        scale[c] * inverse(c) * (out.at(n, i, j, c) - of_statistics)
    });
    [by_y, by_scale, by_shift]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{batch_norm, conv2d};
    use crate::kernels::testing::random;

    /// A convolution is linear in either factor, so a step of one gives the gradient.
    #[cfg_attr(miri, ignore = "no unsafe code, and slow")]
    #[test]
    fn gradients_of_a_convolution_are_its_differences() {
        let window = Window {
            kernel: 3,
            stride: 2,
            padding: 2,
            dilation: 2,
        };
        let (x, weights) = (random([2, 5, 6, 4], 1), random([6, 3, 3, 2], 2));
        let out = conv2d(&x, &weights, window, 2);
        let direction = random(out.shape, 3);
        let along = |x: &Tensor, weights: &Tensor| -> f64 {
            let moved = conv2d(x, weights, window, 2)
                .data
                .into_iter()
                .zip(&out.data);
            let pairs = moved.zip(&direction.data);
            pairs.map(|((moved, out), d)| (moved - out) * d).sum()
        };
        let by_weights = conv2d_weight_gradient(&x, &direction, window, 2);
        for i in 0..weights.data.len() {
            let mut moved = weights.clone();
            moved.data[i] += 1.0;
            assert!((along(&x, &moved) - by_weights.data[i]).abs() < 1e-10);
        }
        let by_input = conv2d_input_gradient(x.shape, &weights, &direction, window, 2);
        for i in 0..x.data.len() {
            let mut moved = x.clone();
            moved.data[i] += 1.0;
            assert!((along(&moved, &weights) - by_input.data[i]).abs() < 1e-10);
        }
    }

    #[cfg_attr(miri, ignore = "no unsafe code, and slow")]
    #[test]
    fn gradients_of_batch_norm_are_its_differences() {
        let (epsilon, step) = (1e-3, 1e-6);
        let (y, direction) = (random([2, 3, 2, 3], 1), random([2, 3, 2, 3], 2));
        let (scale, shift) = (vec![0.5, -1.5, 2.0], vec![1.0, 0.0, -1.0]);
        for frozen in [false, true] {
            let statistics = |y: &Tensor| match frozen {
                true => (vec![0.25; 3], vec![0.75; 3]),
                false => moments(y),
            };
            let along = |y: &Tensor, scale: &[f64], shift: &[f64]| -> f64 {
                let (means, variances) = statistics(y);
                let out = batch_norm(y, &means, &variances, scale, shift, epsilon);
                let pairs = out.data.iter().zip(&direction.data);
                pairs.map(|(a, b)| a * b).sum()
            };
            let of = statistics(&y);
            let [by_y, by_scale, by_shift] =
                batch_norm_gradient(&y, &direction, of, &scale, epsilon, frozen);
            let moved = |values: &[f64], i: usize, step: f64| {
                let mut values = values.to_vec();
                values[i] += step;
                values
            };
            let check = |gradient: f64, f: &dyn Fn(f64) -> f64| {
                let difference = (f(step) - f(-step)) / (2.0 * step);
                assert!((gradient - difference).abs() < 1e-7);
            };
            for c in 0..3 {
                check(by_scale.data[c], &|s| {
                    along(&y, &moved(&scale, c, s), &shift)
                });
                check(by_shift.data[c], &|s| {
                    along(&y, &scale, &moved(&shift, c, s))
                });
            }
            for i in 0..y.data.len() {
                check(by_y.data[i], &|step| {
                    let mut y = y.clone();
                    y.data[i] += step;
                    along(&y, &scale, &shift)
                });
            }
        }
    }
}
