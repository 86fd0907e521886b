//! Tensors of the kernels' tests: random values, into an arena and out of it.

use std::ops::{Deref, DerefMut};

use super::activations::ActivationLayout;
use super::reference::Tensor;
use super::view::{LINE_BYTES, View};
use crate::dtype::Dtype;

/// Against loops in f64: f32 rounds each of K sums and products by at most 2^-24, mostly far less
/// because the errors go both ways; K is below 5,000.
const TOLERANCE: f64 = 2e-6;

/// The value of an output before a kernel writes it, and of everything around it: never a result.
pub const CANARY: f32 = f32::NAN;

/// Each byte of an arena before a kernel writes there; four of them are a NaN.
const CANARY_BYTE: u8 = 0xff;

/// Memory for tensors, full of canaries, aligned for every dtype.
pub struct Arena(Vec<u128>);

impl Deref for Arena {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Arena {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// An f32 tensor between layers, `[batch, height, width, channels]`.
pub fn activations(shape: [usize; 4], border: usize) -> View {
    ActivationLayout::Nhwc.activations(Dtype::F32, shape.into(), border)
}

/// An f32 tensor as the network's input.
pub fn image(shape: [usize; 4], border: usize) -> View {
    ActivationLayout::Nhwc.image(Dtype::F32, shape.into(), border)
}

/// Values between -1 and 1, the same for the same seed; exact in f32.
pub fn random(shape: [usize; 4], seed: usize) -> Tensor {
    Tensor::from_fn(shape, |n, y, x, c| {
        let mut h = (seed * 31 + n) * 37 + y;
        h = (h * 41 + x) * 43 + c;
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (h as f64) / f64::from(1 << 23) - 1.0
    })
}

/// The same values rounded to f32 and then to bf16.
pub fn rounded(tensor: &Tensor) -> Tensor {
    let values = tensor.data.iter().map(|&x| half::bf16::from_f32(x as f32));
    Tensor {
        shape: tensor.shape,
        data: values.map(f64::from).collect(),
    }
}

pub fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Puts a tensor into the arena, its border zero.
pub fn put(tensor: &Tensor, view: &View, arena: &mut Arena) {
    let [batch, height, width, channels] = tensor.shape;
    for n in 0..batch {
        // SAFETY: the view lies inside the arena.
        unsafe { view.zero_border(n, arena.as_mut_ptr()) };
        for y in 0..height {
            for x in 0..width {
                let start = view.pixel_bytes(n, y, x);
                let pixel = &mut arena[start..start + channels * size_of::<f32>()];
                let pixel: &mut [f32] = bytemuck::cast_slice_mut(pixel);
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = tensor.at(n, y, x, c) as f32;
                }
            }
        }
    }
}

/// Takes a tensor out of the arena.
pub fn take(view: &View, arena: &Arena) -> Tensor {
    let shape = [view.batch, view.height, view.width, view.channels];
    Tensor::from_fn(shape, |n, y, x, c| {
        f64::from(view.pixel::<f32>(arena, n, y, x)[c])
    })
}

pub fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_within(found, expected, TOLERANCE, what);
}

/// Asserts that the error's norm is at most `tolerance` times that of the expected values.
pub fn assert_within(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || found.data.iter().zip(&expected.data);
    let error = norm(&mut pairs().map(|(f, e)| f - e));
    let expected = norm(&mut expected.data.iter().copied());
    // All zeros, or a relative error.
    assert!(
        error <= tolerance * expected,
        "{what}: relative error {:e}",
        error / expected
    );
}

/// Lays views out one after the other, with a gap of canaries after each.
pub fn lay_out(views: &mut [View]) -> Arena {
    const GAP: usize = 4 * LINE_BYTES;
    let mut end = GAP;
    for view in views {
        view.offset_bytes = end;
        end += view.len_bytes().next_multiple_of(LINE_BYTES) + GAP;
    }
    Arena(vec![u128::from_ne_bytes([CANARY_BYTE; 16]); end / 16])
}

/// Asserts that every byte outside `views` is still a canary.
pub fn assert_canaries(arena: &Arena, views: &[View], what: &str) {
    let mut inside: Vec<_> = views
        .iter()
        .map(|v| v.offset_bytes..v.offset_bytes + v.len_bytes())
        .collect();
    inside.sort_by_key(|range| range.start);
    inside.push(arena.len()..arena.len());
    let mut end = 0;
    for range in inside {
        for i in end..range.start {
            assert!(
                arena[i] == CANARY_BYTE,
                "{what}: wrote outside, at byte {i}"
            );
        }
        end = end.max(range.end);
    }
}
