//! The items of work of an array, and the vectors of an item.

use std::ops::Range;

use crate::simd::Simd;

/// Elements of an item of work: few enough for the second-level cache with two moments, and enough
/// that taking an item costs nothing.
pub const CHUNK: usize = 1 << 14;

/// The items of an array of `len` elements.
pub fn chunks(len: usize) -> usize {
    len.div_ceil(CHUNK)
}

/// The elements of item `item` of an array of `len`.
///
/// # Panics
/// If there is no such item.
pub fn chunk(len: usize, item: usize) -> Range<usize> {
    let start = item * CHUNK;
    assert!(start < len);
    start..(start + CHUNK).min(len)
}

/// Calls `f` with the first element and the number of elements of each vector: of whole ones, whose
/// number is a constant there, and then of the rest.
#[inline(always)]
pub(super) fn for_each_vector<S: Simd>(_: S, len: usize, f: impl Fn(usize, usize)) {
    let whole = len / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        f(i, S::LANES);
    }
    if whole < len {
        f(whole, len - whole);
    }
}

/// `from + weight · (to - from)`, in the form of torch's `lerp`, which is exact at both ends.
#[inline(always)]
pub(super) fn lerp<S: Simd>(s: S, from: S::V, to: S::V, weight: f32) -> S::V {
    if weight.abs() < 0.5 {
        s.mul_add(s.sub(to, from), s.splat(weight), from)
    } else {
        s.mul_add(s.sub(from, to), s.splat(1.0 - weight), to)
    }
}
