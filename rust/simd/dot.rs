//! Products of groups of small whole numbers, with sums in i32: the arithmetic of int8 networks.
//!
//! A 32-bit lane holds a group of neighbours of K. An instruction multiplies the group of an activation with
//! that of a weight, and adds all products to the lane's sum:
//!
//! - pairs of i16 (`vpmaddwd` and an addition), on every tier;
//! - fours of u8 and i8 (`vpdpbusd`), where the processor has VNNI.
//!
//! Activations are from 0 to 255, or to 4,095 in pairs, and weights from -127 to 127. So nothing saturates, and
//! whoever loads weights checks that no sum leaves i32: all tiers compute the same numbers. The older
//! `vpmaddubsw` multiplies fours without VNNI, but its 16-bit sums saturate.

use bytemuck::Pod;

use super::vector::Simd;
use crate::dtype::Element;

/// One tier's groups of whole numbers.
///
/// # Safety
/// As for [`Simd`]: a value is a proof that this machine has the instructions. Loads and stores touch exactly
/// the lanes, groups or values that they name.
pub unsafe trait Dot: Copy + Send + Sync + 'static {
    /// The tier of the arithmetic in f32 that follows the sums.
    type S: Simd;

    /// The type of activations.
    type A: Activation;

    /// The type of weights.
    type W: Pod + From<i8>;

    /// A register of `S::LANES` sums, or of as many groups.
    type V: Copy;

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

    /// Loads `LANES` sums or groups from `p`, which may have any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` lanes.
    unsafe fn load(self, p: *const i32) -> Self::V;

    /// Returns the group at `p` in every lane.
    ///
    /// # Safety
    /// `p` is valid for reading a group.
    unsafe fn splat_group(self, p: *const Self::A) -> Self::V;

    /// `sums + Σ x · w` over the group of each lane.
    fn dot(self, x: Self::V, w: Self::V, sums: Self::V) -> Self::V;

    /// The sums in f32, rounded to nearest even.
    fn to_f32(self, sums: Self::V) -> <Self::S as Simd>::V;

    /// Loads `LANES` activations from `p`, in f32.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` activations.
    unsafe fn load_activations(self, p: *const Self::A) -> <Self::S as Simd>::V;

    /// Stores `v`, at least 0 and at most [`MOST`], rounded to nearest even, at `p`.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` activations.
    unsafe fn store_activations(self, p: *mut Self::A, v: <Self::S as Simd>::V);
}

/// The largest activation of 8 bits.
pub const MOST: f32 = 255.0;

/// A type of activations.
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
