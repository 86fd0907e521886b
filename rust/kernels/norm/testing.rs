//! The parts that the tests of batch norm share.

use super::coefficients::Array;
use super::{Coefficients, FinishStatistics, GammaBeta, Running, Statistics};
use crate::kernels::KernelTable;
use crate::kernels::reference::Tensor;
use crate::kernels::testing::{Arena, CANARY, activations, random};
use crate::kernels::view::View;

/// Added to each variance.
pub(super) const EPSILON: f64 = 1e-5;

/// The share of the batch in the running statistics.
pub(super) const MOMENTUM: f64 = 0.3;

/// The places among the parameters, and among the running statistics.
pub(super) const PLACES: GammaBeta = GammaBeta {
    gamma: 7,
    beta: 330,
};
pub(super) const RUNNING: Running = Running {
    mean: 5,
    variance: 320,
};
pub(super) const LEN: usize = 640;

/// `[batch, height, width, channels]`: one block of pixels and several, channels around the edges of
/// vectors and of items.
pub(super) fn shapes() -> Vec<[usize; 4]> {
    let shapes = vec![
        [1, 1, 2, 1],
        [2, 3, 2, 5],
        [1, 16, 16, 16],
        [3, 7, 5, 33],
        [2, 13, 11, 64],
        [1, 23, 25, 70],
        [2, 3, 5, 300],
    ];
    match cfg!(miri) {
        true => shapes[..2].to_vec(),
        false => shapes,
    }
}

/// Values around a mean of their own for each channel.
pub(super) fn values(shape: [usize; 4]) -> Tensor {
    let x = random(shape, 1);
    Tensor::from_fn(shape, |n, y, i, c| x.at(n, y, i, c) + (c % 3) as f64 * 0.5)
}

/// A number for each channel, rounded to f32.
pub(super) fn of_channels(channels: usize, seed: usize) -> Vec<f64> {
    random([1, 1, 1, channels], seed).data
}

/// γ or β, or statistics, as f32 between canaries.
pub(super) fn placed(arrays: [(usize, &[f64]); 2]) -> Vec<f32> {
    let mut all = vec![CANARY; LEN];
    for (first, values) in arrays {
        for (place, &value) in all[first..].iter_mut().zip(values) {
            *place = value as f32;
        }
    }
    all
}

/// The array that begins at `first`; it becomes canaries.
pub(super) fn taken(all: &mut [f32], first: usize, channels: usize) -> Tensor {
    let found = all[first..first + channels].to_vec();
    all[first..first + channels].fill(CANARY);
    vector(found.into_iter().map(f64::from).collect())
}

pub(super) fn vector(data: Vec<f64>) -> Tensor {
    Tensor {
        shape: [1, 1, 1, data.len()],
        data,
    }
}

/// A place for `bytes` bytes of single values.
pub(super) fn place(bytes: usize) -> View {
    activations([1, 1, 1, bytes / size_of::<f32>()], 0)
}

/// Coefficients at a view's place.
pub(super) fn coefficients_at(view: &View, channels: usize) -> Coefficients {
    Coefficients {
        bytes: view.offset_bytes,
        channels,
    }
}

/// An array of coefficients.
pub(super) fn array(coefficients: &Coefficients, array: Array, arena: &mut Arena) -> Tensor {
    let first = coefficients.array(array, arena.as_mut_ptr());
    // SAFETY: the arrays lie inside the arena.
    let values = unsafe { std::slice::from_raw_parts(first, coefficients.channels) };
    vector(values.iter().map(|&x| f64::from(x)).collect())
}

/// Sets the coefficients of `y`: from its own statistics, or from the running ones if it is `frozen`.
pub(super) fn finish(
    y: &View,
    blocks: Option<&View>,
    coefficients: Coefficients,
    parameters: &[f32],
    running: &mut [f32],
    arena: &mut Arena,
    table: &KernelTable,
) {
    if let Some(blocks) = blocks {
        let step = Statistics {
            y: *y,
            blocks_bytes: blocks.offset_bytes,
        };
        for item in (0..step.items()).rev() {
            // SAFETY: the table proves the tier, and the views lie inside the arena.
            unsafe { step.run_item(item, arena.as_mut_ptr(), table.f32.norm.moments) };
        }
    }
    let step = FinishStatistics {
        y: *y,
        blocks_bytes: blocks.map(|blocks| blocks.offset_bytes),
        coefficients,
        norm: Some((PLACES, RUNNING)),
        epsilon: EPSILON,
        momentum: MOMENTUM,
    };
    for item in (0..step.items()).rev() {
        let (parameters, running) = (parameters.as_ptr(), running.as_mut_ptr());
        // SAFETY: the places lie inside the arena, the parameters and the statistics.
        unsafe { step.run_item(item, arena.as_mut_ptr(), parameters, running) };
    }
}
