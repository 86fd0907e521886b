//! The coefficients of each channel: from the moments of the blocks, or from running statistics.

use std::ops::Range;

use super::rows::Blocks;
use super::statistics::{block_places, padded};
use crate::kernels::view::View;

/// Channels of an item.
const CHANNELS: usize = 64;

/// The place of a batch norm's coefficients in the arena: arrays of all channels, one after the other, each
/// in whole cache lines.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients {
    /// The first array's place.
    pub bytes: usize,
    /// Channels.
    pub channels: usize,
}

/// The arrays of coefficients.
#[derive(Clone, Copy)]
pub(super) enum Array {
    /// The mean that the channel was normalised with.
    Mean,
    /// s, the reciprocal of the standard deviation.
    InverseDeviation,
    /// `a = y · scale + shift`.
    Scale,
    Shift,
    /// `dy = factor · (dz - offset - (y - mean) · slope)`.
    Factor,
    Offset,
    Slope,
}

impl Coefficients {
    const ARRAYS: usize = 7;

    /// Bytes of all arrays.
    pub fn len_bytes(channels: usize) -> usize {
        Self::ARRAYS * padded(channels) * size_of::<f32>()
    }

    fn array_bytes(&self, array: Array) -> usize {
        self.bytes + array as usize * padded(self.channels) * size_of::<f32>()
    }

    /// The place of the scales.
    pub fn scale_bytes(&self) -> usize {
        self.array_bytes(Array::Scale)
    }

    /// The place of the shifts.
    pub fn shift_bytes(&self) -> usize {
        self.array_bytes(Array::Shift)
    }

    pub(super) fn array(&self, array: Array, arena: *mut u8) -> *mut f32 {
        arena.wrapping_add(self.array_bytes(array)).cast()
    }

    /// # Safety
    /// The channel lies inside the array, and no other thread uses it.
    unsafe fn set(&self, array: Array, channel: usize, value: f64, arena: *mut u8) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.array(array, arena).add(channel).write(value as f32) };
    }

    /// # Safety
    /// The channel lies inside the array, and no other thread writes it.
    unsafe fn get(&self, array: Array, channel: usize, arena: *mut u8) -> f64 {
        // SAFETY: the caller keeps the same contract.
        f64::from(unsafe { self.array(array, arena).add(channel).read() })
    }
}

/// The places of γ and β among the parameters, by element.
#[derive(Clone, Copy, Debug)]
pub struct GammaBeta {
    /// The first γ.
    pub gamma: usize,
    /// The first β.
    pub beta: usize,
}

/// The places of a batch norm's running statistics, by element.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// The first mean.
    pub mean: usize,
    /// The first variance.
    pub variance: usize,
}

/// From moments to coefficients, laid out by the plan.
#[derive(Clone, Debug)]
pub struct FinishStatistics {
    /// The convolution's output.
    pub y: View,
    /// The blocks' moments; None to normalise with the running statistics and leave them as they are.
    pub blocks_bytes: Option<usize>,
    /// The result's place.
    pub coefficients: Coefficients,
    /// γ and β; None for a convolution without batch norm, whose scale is 1 and shift 0.
    pub norm: Option<(GammaBeta, Running)>,
    /// Added to the variance.
    pub epsilon: f64,
    /// The share of the batch in the running statistics.
    pub momentum: f64,
}

/// The channels of item `item`.
fn channels_of(item: usize, channels: usize) -> Range<usize> {
    item * CHANNELS..((item + 1) * CHANNELS).min(channels)
}

impl FinishStatistics {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.y.channels.div_ceil(CHANNELS)
    }

    /// Does one item.
    ///
    /// # Safety
    /// The places lie inside `arena`, `parameters` and `running`; all threads are past the steps before, each
    /// item is done by one thread, and no other thread writes the parameters or uses the running statistics.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        parameters: *const f32,
        running: *mut f32,
    ) {
        let set = |array, channel, value| {
            // SAFETY: the item's channels, which no other item touches.
            unsafe { self.coefficients.set(array, channel, value, arena) };
        };
        for c in channels_of(item, self.y.channels) {
            let Some((places, statistics)) = self.norm else {
                let identity = [
                    (Array::Mean, 0.0),
                    (Array::InverseDeviation, 1.0),
                    (Array::Scale, 1.0),
                    (Array::Shift, 0.0),
                    (Array::Factor, 1.0),
                    (Array::Offset, 0.0),
                    (Array::Slope, 0.0),
                ];
                identity
                    .into_iter()
                    .for_each(|(array, value)| set(array, c, value));
                continue;
            };
            // SAFETY: the caller guarantees the places.
            let (gamma, beta, running_mean, running_variance) = unsafe {
                (
                    f64::from(*parameters.add(places.gamma + c)),
                    f64::from(*parameters.add(places.beta + c)),
                    &mut *running.add(statistics.mean + c),
                    &mut *running.add(statistics.variance + c),
                )
            };
            let (mean, variance) = match self.blocks_bytes {
                None => (f64::from(*running_mean), f64::from(*running_variance)),
                Some(bytes) => {
                    let (mean, squares) = self.moments(bytes, c, arena);
                    let m = self.y.shape().pixels() as f64;
                    // The variance of a sample: with m - 1.
                    let unbiased = squares / (m - 1.0);
                    let keep = 1.0 - self.momentum;
                    *running_mean = (keep * f64::from(*running_mean) + self.momentum * mean) as f32;
                    *running_variance =
                        (keep * f64::from(*running_variance) + self.momentum * unbiased) as f32;
                    (mean, squares / m)
                }
            };
            // The mean as it is subtracted: rounded.
            let mean = f64::from(mean as f32);
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            set(Array::Mean, c, mean);
            set(Array::InverseDeviation, c, inverse);
            set(Array::Scale, c, gamma * inverse);
            set(Array::Shift, c, beta - mean * gamma * inverse);
            set(Array::Factor, c, gamma * inverse);
            set(Array::Offset, c, 0.0);
            set(Array::Slope, c, 0.0);
        }
    }

    /// The mean of channel `c` over all blocks, and the sum of the squares around it.
    fn moments(&self, bytes: usize, c: usize, arena: *mut u8) -> (f64, f64) {
        let blocks = Blocks::of(&self.y);
        let block = |i: usize| {
            let places = block_places(bytes, i, self.y.channels, arena);
            // SAFETY: the block's moments lie inside the arena, and are complete.
            let [mean, squares] = places.map(|place| f64::from(unsafe { *place.add(c) }));
            (blocks.len(i) as f64, mean, squares)
        };
        let all = || (0..blocks.count()).map(block);
        let m = self.y.shape().pixels() as f64;
        let mean = all().map(|(n, mean, _)| n * mean).sum::<f64>() / m;
        let around = |(n, block_mean, squares): (f64, f64, f64)| {
            squares + n * (block_mean - mean) * (block_mean - mean)
        };
        (mean, all().map(around).sum())
    }
}

/// From the sums of the backward pass to the gradients of γ and β and to the coefficients of dy, laid out by
/// the plan.
#[derive(Clone, Debug)]
pub struct FinishGradient {
    /// The convolution's output.
    pub y: View,
    /// The blocks' sums of `dz` and of `dz · (y - mean)`.
    pub blocks_bytes: usize,
    /// The coefficients, in which those of dy are set.
    pub coefficients: Coefficients,
    /// The places of the gradients.
    pub gradients: GammaBeta,
    /// Adds to the gradients that are there.
    pub accumulate: bool,
}

impl FinishGradient {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.y.channels.div_ceil(CHANNELS)
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`FinishStatistics::run_item`]; no other thread uses the gradients.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, gradients: *mut f32) {
        let blocks = Blocks::of(&self.y);
        let m = self.y.shape().pixels() as f64;
        for c in channels_of(item, self.y.channels) {
            let [mut sum, mut dot] = [0.0; 2];
            for i in 0..blocks.count() {
                let places = block_places(self.blocks_bytes, i, self.y.channels, arena);
                // SAFETY: the block's sums lie inside the arena, and are complete.
                let [block_sum, block_dot] = places.map(|p| f64::from(unsafe { *p.add(c) }));
                sum += block_sum;
                dot += block_dot;
            }
            // SAFETY: the item's channels, which no other item touches.
            unsafe {
                let inverse = self.coefficients.get(Array::InverseDeviation, c, arena);
                let set = |array, value| self.coefficients.set(array, c, value, arena);
                set(Array::Offset, sum / m);
                set(Array::Slope, inverse * inverse * dot / m);
                let (gamma, beta) = (
                    &mut *gradients.add(self.gradients.gamma + c),
                    &mut *gradients.add(self.gradients.beta + c),
                );
                let before = |value: f32| match self.accumulate {
                    true => value,
                    false => 0.0,
                };
                *gamma = before(*gamma) + (inverse * dot) as f32;
                *beta = before(*beta) + sum as f32;
            }
        }
    }
}
