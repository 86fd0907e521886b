//! Products of groups of neighbours of K: the arithmetic of int8 and bf16 networks.
//!
//! A 32-bit lane holds a group. An instruction multiplies the group of an activation with that of a weight,
//! and adds all products to the lane's sum:
//!
//! - pairs of i16 (`vpmaddwd` and an addition), on every tier, with sums in i32;
//! - fours of u8 and i8 (`vpdpbusd`), where the processor has VNNI, with sums in i32;
//! - pairs of bf16 ([`Bf16Pairs`](super::Bf16Pairs)), with sums in f32.
//!
//! Whole activations are from 0 to 255, or to 4,095 in pairs, and weights from -127 to 127. So nothing saturates,
//! and whoever loads weights checks that no sum leaves i32: all tiers compute the same numbers. The older
//! `vpmaddubsw` multiplies fours without VNNI, but its 16-bit sums saturate.

use bytemuck::Pod;

use super::vector::Simd;
use crate::dtype::Element;

/// One tier's groups.
///
/// # Safety
/// As for [`Simd`]: a value is a proof that this machine has the instructions. Loads and stores touch exactly
/// the lanes, groups or values that they name.
pub unsafe trait Dot: Copy + Send + Sync + 'static {
    /// The tier of the arithmetic in f32 that follows the sums.
    type S: Simd;

    /// The type of activations.
    type A: Element;

    /// A register of `S::LANES` groups.
    type G: Copy;

    /// A register of as many sums.
    type V: Copy;

    /// The way from a sum to a result.
    type F: Finish<Self::S>;

    /// Values of a group.
    const DEPTH: usize = 4 / size_of::<Self::A>();

    /// The proof, or None if this machine lacks the instructions.
    fn detect() -> Option<Self>;

    /// Returns the proof without a check.
    ///
    /// # Safety
    /// This machine has the instructions.
    unsafe fn assume() -> Self;

    /// The proof of the tier.
    fn simd(self) -> Self::S;

    /// Runs `f`, compiled with these instructions.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Loads `LANES` groups from `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` lanes.
    unsafe fn load(self, p: *const i32) -> Self::G;

    /// Takes a register's bits for sums.
    fn sums(self, bits: Self::G) -> Self::V;

    /// Takes a register of sums for groups of the same bits.
    fn bits(self, sums: Self::V) -> Self::G;

    /// Returns the group at `p` in every lane.
    ///
    /// # Safety
    /// `p` is valid for reading a group.
    unsafe fn splat_group(self, p: *const Self::A) -> Self::G;

    /// `sums + Σ x · w` over the group of each lane.
    fn dot(self, x: Self::G, w: Self::G, sums: Self::V) -> Self::V;

    /// The sums in f32, rounded to nearest even.
    fn to_f32(self, sums: Self::V) -> <Self::S as Simd>::V;

    /// Loads `LANES` activations from `p`, in f32.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` activations.
    unsafe fn load_activations(self, p: *const Self::A) -> <Self::S as Simd>::V;

    /// Stores `v`, rounded to nearest even, at `p`; of whole numbers at least 0 and at most [`MOST`].
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` activations.
    unsafe fn store_activations(self, p: *mut Self::A, v: <Self::S as Simd>::V);
}

/// Groups of whole numbers.
///
/// # Safety
/// As for [`Dot`].
pub unsafe trait IntDot: Dot<A: Activation> {
    /// The type of weights.
    type W: Pod + From<i8>;
}

/// The way from a sum to a result. A packed panel begins with rows of values for it, one value for each channel.
pub trait Finish<S: Simd>: Copy {
    /// The rows: the sums' first values, then those that are loaded here.
    const HEADER: usize;

    /// Loads the values of `LANES` channels.
    ///
    /// # Safety
    /// `rows` is the first row after that of the sums' first values, at these channels; the others follow at
    /// `stride`. All are valid for reads.
    unsafe fn load(s: S, rows: *const f32, stride: usize) -> Self;

    /// From a sum to the result, before it is rounded.
    fn apply(self, s: S, sum: S::V, residual: Option<S::V>, relu: bool) -> S::V;
}

/// From sums of whole numbers to activations in other units: `sum · multiplier + residual · ratio`, each rounded.
/// Negative results become zero where they are stored, so there is nothing to do for ReLU.
#[derive(Clone, Copy)]
pub struct Rescaled<S: Simd> {
    multiplier: S::V,
    ratio: S::V,
}

impl<S: Simd> Finish<S> for Rescaled<S> {
    const HEADER: usize = 3;

    #[inline(always)]
    unsafe fn load(s: S, rows: *const f32, stride: usize) -> Self {
        // SAFETY: the caller guarantees the rows.
        unsafe {
            Self {
                multiplier: s.load(rows),
                ratio: s.load(rows.add(stride)),
            }
        }
    }

    #[inline(always)]
    fn apply(self, s: S, sum: S::V, residual: Option<S::V>, _: bool) -> S::V {
        let v = s.mul(sum, self.multiplier);
        match residual {
            // Two roundings, on every tier.
            Some(residual) => s.add(v, s.mul(residual, self.ratio)),
            None => v,
        }
    }
}

/// From sums in f32: the residual is added, and ReLU applied.
#[derive(Clone, Copy)]
pub struct Added;

impl<S: Simd> Finish<S> for Added {
    const HEADER: usize = 1;

    #[inline(always)]
    unsafe fn load(_: S, _: *const f32, _: usize) -> Self {
        Self
    }

    #[inline(always)]
    fn apply(self, s: S, sum: S::V, residual: Option<S::V>, relu: bool) -> S::V {
        let v = residual.map_or(sum, |residual| s.add(sum, residual));
        // The order of the operands keeps a NaN.
        if relu { s.max(s.splat(0.0), v) } else { v }
    }
}

/// The largest activation of 8 bits.
pub const MOST: f32 = 255.0;

/// A type of whole activations.
pub trait Activation: Element + Ord + Into<i32> {
    /// The whole number `value`, which the type can hold.
    fn of(value: f32) -> Self;
}

impl Activation for i16 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value as Self
    }
}

impl Activation for u8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value as Self
    }
}
