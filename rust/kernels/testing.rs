//! Tensors of the kernels' tests: random values, into an arena and out of it.

use super::reference::Tensor;
use super::view::View;

/// Against loops in f64: f32 rounds each of K sums and products by at most 2^-24, mostly far less
/// because the errors go both ways; K is below 5,000.
const TOLERANCE: f64 = 2e-6;

/// The value of an output before a kernel writes it, and of everything around it: never a result.
pub const CANARY: f32 = f32::NAN;

/// Values between -1 and 1, the same for the same seed; exact in f32.
pub fn random(shape: [usize; 4], seed: usize) -> Tensor {
    Tensor::from_fn(shape, |n, y, x, c| {
        let mut h = (seed * 31 + n) * 37 + y;
        h = (h * 41 + x) * 43 + c;
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (h as f64) / f64::from(1 << 23) - 1.0
    })
}

pub fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Puts a tensor into the arena, its border zero.
pub fn put(tensor: &Tensor, view: &View, arena: &mut [f32]) {
    let [batch, height, width, channels] = tensor.shape;
    for n in 0..batch {
        // SAFETY: the view lies inside the arena.
        unsafe { view.zero_border(n, arena.as_mut_ptr()) };
        for y in 0..height {
            for x in 0..width {
                for c in 0..channels {
                    arena[view.pixel(n, y, x) + c] = tensor.at(n, y, x, c) as f32;
                }
            }
        }
    }
}

/// Takes a tensor out of the arena.
pub fn take(view: &View, arena: &[f32]) -> Tensor {
    let shape = [view.batch, view.height, view.width, view.channels];
    Tensor::from_fn(shape, |n, y, x, c| {
        f64::from(arena[view.pixel(n, y, x) + c])
    })
}

pub fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || found.data.iter().zip(&expected.data);
    let error = norm(&mut pairs().map(|(f, e)| f - e)) / norm(&mut expected.data.iter().copied());
    assert!(error <= TOLERANCE, "{what}: relative error {error:e}");
}

/// Lays views one behind the other, a gap of canaries after each.
pub fn lay_out(views: &mut [View]) -> Vec<f32> {
    let mut end = 64;
    for view in views {
        view.offset = end;
        end += view.len().next_multiple_of(16) + 64;
    }
    vec![CANARY; end]
}

/// Asserts that every element outside `views` is still a canary.
pub fn assert_canaries(arena: &[f32], views: &[View], what: &str) {
    for (i, value) in arena.iter().enumerate() {
        let inside = views
            .iter()
            .any(|v| (v.offset..v.offset + v.len()).contains(&i));
        assert!(inside || value.is_nan(), "{what}: wrote outside, at {i}");
    }
}
