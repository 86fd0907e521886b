//! Naive loops for every operation, NHWC, summed in f64: the definition of the correct result.
//!
//! Nothing here is fast or clever. The tests compare the kernels with these
//! loops, and the whole network with torch in f64.

use std::ops::Range;

use crate::shape::{PoolWindow, Window};

/// A dense NHWC tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// `[batch, height, width, channels]`.
    pub shape: [usize; 4],
    /// The elements, channels fastest.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor with element `f(n, y, x, c)`.
    pub fn from_fn(shape: [usize; 4], f: impl Fn(usize, usize, usize, usize) -> f64) -> Self {
        let [batch, height, width, channels] = shape;
        let mut data = Vec::with_capacity(batch * height * width * channels);
        for n in 0..batch {
            for y in 0..height {
                for x in 0..width {
                    for c in 0..channels {
                        data.push(f(n, y, x, c));
                    }
                }
            }
        }
        Self { shape, data }
    }

    /// The element of image `n`, row `y`, column `x`, channel `c`.
    pub fn at(&self, n: usize, y: usize, x: usize, c: usize) -> f64 {
        let [_, height, width, channels] = self.shape;
        self.data[((n * height + y) * width + x) * channels + c]
    }
}

/// `out(n, y, x, o) = Σ_ky Σ_kx Σ_i weights(o, ky, kx, i) · x(n, y·s + ky - p, x·s + kx - p, i)`,
/// zeros beyond the image. `weights` is a tensor `[out_channels, kernel, kernel, in_channels]`.
///
/// With several groups `weights` has the input channels of one, and i runs over the channels of
/// the group that o belongs to.
pub fn conv2d(x: &Tensor, weights: &Tensor, window: Window, groups: usize) -> Tensor {
    let [batch, height, width, in_channels] = x.shape;
    let [group_in, group_out] = [in_channels / groups, weights.shape[0] / groups];
    let shape = [
        batch,
        window.output(height),
        window.output(width),
        weights.shape[0],
    ];
    Tensor::from_fn(shape, |n, oy, ox, o| {
        let mut sum = 0.0;
        for ky in 0..window.kernel {
            for kx in 0..window.kernel {
                if let (Some(iy), Some(ix)) =
                    (window.input(oy, ky, height), window.input(ox, kx, width))
                {
                    let first = o / group_out * group_in;
                    for i in 0..group_in {
                        sum += weights.at(o, ky, kx, i) * x.at(n, iy, ix, first + i);
                    }
                }
            }
        }
        sum
    })
}

/// `(x - mean) / sqrt(variance + epsilon) · scale + shift`, each `[channels]`.
pub fn batch_norm(
    x: &Tensor,
    mean: &[f64],
    variance: &[f64],
    scale: &[f64],
    shift: &[f64],
    epsilon: f64,
) -> Tensor {
    Tensor::from_fn(x.shape, |n, y, i, c| {
        (x.at(n, y, i, c) - mean[c]) / (variance[c] + epsilon).sqrt() * scale[c] + shift[c]
    })
}

/// `x + bias`, `[channels]`.
pub fn add_bias(x: &Tensor, bias: &[f64]) -> Tensor {
    Tensor::from_fn(x.shape, |n, y, i, c| x.at(n, y, i, c) + bias[c])
}

/// `a + b`.
pub fn add(a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.shape, b.shape);
    Tensor::from_fn(a.shape, |n, y, x, c| a.at(n, y, x, c) + b.at(n, y, x, c))
}

/// `max(x, 0)`.
pub fn relu(x: &Tensor) -> Tensor {
    Tensor::from_fn(x.shape, |n, y, i, c| x.at(n, y, i, c).max(0.0))
}

/// The largest value under the window; pixels beyond the image do not count.
pub fn max_pool(x: &Tensor, window: PoolWindow) -> Tensor {
    pool(x, window, |values| values.fold(f64::NEG_INFINITY, f64::max))
}

/// The largest value over all pixels: `[batch, 1, 1, channels]`.
pub fn global_max_pool(x: &Tensor) -> Tensor {
    let [batch, height, width, channels] = x.shape;
    Tensor::from_fn([batch, 1, 1, channels], |n, _, _, c| {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |i| (y, i)));
        pixels.fold(f64::NEG_INFINITY, |max, (y, i)| max.max(x.at(n, y, i, c)))
    })
}

/// The mean over all pixels: `[batch, 1, 1, channels]`.
pub fn global_avg_pool(x: &Tensor) -> Tensor {
    let [batch, height, width, channels] = x.shape;
    Tensor::from_fn([batch, 1, 1, channels], |n, _, _, c| {
        let mut sum = 0.0;
        for y in 0..height {
            for i in 0..width {
                sum += x.at(n, y, i, c);
            }
        }
        sum / (height * width) as f64
    })
}

/// The mean under the window; padding counts as zeros if the window says so.
pub fn avg_pool(x: &Tensor, window: PoolWindow) -> Tensor {
    pool(x, window, |values| {
        let (sum, inside) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
        let count = match window.count_include_pad {
            true => window.kernel * window.kernel,
            false => inside,
        };
        sum / f64::from(count as u32)
    })
}

/// `of` the values under each place of the window that lie inside the image.
fn pool(
    x: &Tensor,
    window: PoolWindow,
    of: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Tensor {
    let [batch, height, width, channels] = x.shape;
    let shape = [batch, window.output(height), window.output(width), channels];
    Tensor::from_fn(shape, |n, oy, ox, c| {
        let (ys, xs) = (window.inside(oy, height), window.inside(ox, width));
        let pixels = ys.flat_map(|y| xs.clone().map(move |i| (y, i)));
        of(&mut pixels.map(|(y, i)| x.at(n, y, i, c)))
    })
}

/// `x` after `before` channels of zeros and before `after` of them.
pub fn pad_channels(x: &Tensor, before: usize, after: usize) -> Tensor {
    let [batch, height, width, channels] = x.shape;
    Tensor::from_fn(
        [batch, height, width, before + channels + after],
        |n, y, i, c| match c.checked_sub(before) {
            Some(c) if c < channels => x.at(n, y, i, c),
            _ => 0.0,
        },
    )
}

/// The gradient of [`max_pool`], of [`global_max_pool`] without a window, by `x`: each window adds its
/// output's gradient to its winner. Row by row, a pixel wins if it is larger than those before, or NaN.
pub fn max_pool_gradient(x: &Tensor, out: &Tensor, window: Option<PoolWindow>) -> Tensor {
    pool_gradient(x.shape, out, window, |n, ys, xs, c| {
        let mut winner = (ys.start, xs.start);
        let mut max = f64::NEG_INFINITY;
        for y in ys {
            for i in xs.clone() {
                let value = x.at(n, y, i, c);
                if value > max || value.is_nan() {
                    max = value;
                    winner = (y, i);
                }
            }
        }
        vec![(winner, 1.0)]
    })
}

/// The gradient of [`avg_pool`], of [`global_avg_pool`] without a window, by its input `[batch, height,
/// width, channels]`: each window adds its share to each of its pixels.
pub fn avg_pool_gradient(shape: [usize; 4], out: &Tensor, window: Option<PoolWindow>) -> Tensor {
    pool_gradient(shape, out, window, |_, ys, xs, _| {
        let count = match window {
            Some(window) if window.count_include_pad => window.kernel * window.kernel,
            _ => ys.len() * xs.len(),
        };
        let pixels = ys.flat_map(|y| xs.clone().map(move |i| (y, i)));
        pixels.map(|pixel| (pixel, 1.0 / count as f64)).collect()
    })
}

/// `out`, the gradient of each window, times the factors of the window's pixels that `factors` gives for
/// an image, rows, columns and a channel.
fn pool_gradient(
    shape: [usize; 4],
    out: &Tensor,
    window: Option<PoolWindow>,
    factors: impl Fn(usize, Range<usize>, Range<usize>, usize) -> Vec<((usize, usize), f64)>,
) -> Tensor {
    let inside = |o, size| window.map_or(0..size, |window| window.inside(o, size));
    let mut gradient = Tensor::from_fn(shape, |_, _, _, _| 0.0);
    for (k, value) in out.data.iter().enumerate() {
        let (pixel, c) = (k / out.shape[3], k % out.shape[3]);
        let (row, ox) = (pixel / out.shape[2], pixel % out.shape[2]);
        let (n, oy) = (row / out.shape[1], row % out.shape[1]);
        for ((y, x), factor) in factors(n, inside(oy, shape[1]), inside(ox, shape[2]), c) {
            gradient.data[((n * shape[1] + y) * shape[2] + x) * shape[3] + c] += factor * value;
        }
    }
    gradient
}

/// `exp(x_i - max x) / Σ_j exp(x_j - max x)`.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

/// The cross-entropy `-Σ_c targets_c · log softmax(logits)_c`, and its gradient by the logits
/// `softmax(logits)_c · Σ targets - targets_c`.
pub fn cross_entropy(logits: &[f64], targets: &[f64]) -> (f64, Vec<f64>) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = max + logits.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
    let pairs = || logits.iter().zip(targets);
    let loss = pairs().map(|(v, t)| t * (log_sum - v)).sum();
    let total: f64 = targets.iter().sum();
    let gradient = pairs().map(|(v, t)| (v - log_sum).exp() * total - t);
    (loss, gradient.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conv2d_of_a_hand_worked_example() {
        // One image of 2 x 3 pixels, one channel; a 2x2 window of ones and a weight of ten.
        let x = Tensor::from_fn([1, 2, 3, 1], |_, y, x, _| (3 * y + x) as f64);
        let weights = Tensor::from_fn(
            [1, 2, 2, 1],
            |_, y, x, _| {
                if (y, x) == (1, 0) { 10.0 } else { 1.0 }
            },
        );
        let window = Window {
            kernel: 2,
            stride: 1,
            padding: 0,
            dilation: 1,
        };
        // 0 + 1 + 10·3 + 4 and 1 + 2 + 10·4 + 5.
        assert_eq!(conv2d(&x, &weights, window, 1).data, [35.0, 48.0]);
    }

    #[test]
    fn padding_is_zeros_for_a_convolution_and_nothing_for_a_max_pool() {
        let x = Tensor::from_fn([1, 1, 2, 1], |_, _, x, _| -1.0 - x as f64);
        let window = Window {
            kernel: 3,
            stride: 2,
            padding: 1,
            dilation: 1,
        };
        let ones = Tensor::from_fn([1, 3, 3, 1], |_, _, _, _| 1.0);
        assert_eq!(conv2d(&x, &ones, window, 1).data, [-3.0]);
        let pool = PoolWindow {
            stride: 2,
            padding: 1,
            ..PoolWindow::new(3)
        };
        assert_eq!(max_pool(&x, pool).data, [-1.0]);
    }

    #[test]
    fn a_dilated_window_skips_pixels() {
        let digits = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
        let x = Tensor::from_fn([1, 1, 5, 1], |_, _, x, _| digits[x]);
        let row = Tensor::from_fn([1, 3, 3, 1], |_, y, _, _| f64::from(y == 1));
        let window = Window {
            kernel: 3,
            stride: 2,
            padding: 2,
            dilation: 2,
        };
        assert_eq!(
            conv2d(&x, &row, window, 1).data,
            [101.0, 10_101.0, 10_100.0]
        );
    }

    #[test]
    fn a_ceil_window_counts_the_pixels_that_it_has() {
        let x = Tensor::from_fn([1, 1, 4, 1], |_, _, x, _| x as f64);
        let window = PoolWindow {
            stride: 2,
            ceil_mode: true,
            ..PoolWindow::new(3)
        };
        assert_eq!(max_pool(&x, window).data, [2.0, 3.0]);
        assert_eq!(avg_pool(&x, window).data, [1.0, 2.5]);
    }

    #[test]
    fn zeros_lie_before_and_after_the_channels() {
        let x = Tensor::from_fn([1, 1, 1, 2], |_, _, _, c| 5.0 + c as f64);
        assert_eq!(pad_channels(&x, 1, 2).data, [0.0, 5.0, 6.0, 0.0, 0.0]);
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_values() {
        let p = softmax(&[1000.0, 1001.0, -1e30]);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!((p[1] / p[0] - 1_f64.exp()).abs() < 1e-12);
    }
}
