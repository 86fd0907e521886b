//! Backwards through ReLU and batch norm: the sums over all pixels, then dy.

// Loops over indices instead of iterators: the compiler keeps small arrays in registers.
#![allow(clippy::needless_range_loop)]

use super::coefficients::{Array, Coefficients};
use super::rows::{Blocks, CHUNK, Exact, Rows, WIDTH};
use super::statistics::block_places;
use crate::kernels::view::View;
use crate::simd::Simd;

/// The values whose sign lets a gradient pass.
#[derive(Clone, Copy, Debug)]
pub enum Mask {
    /// There was no ReLU, or the gradient has been masked already.
    None,
    /// The activation, which is in memory.
    Output(View),
    /// `y · scale + shift`, which is computed again.
    Normalized,
}

/// The mask of some channels of some pixels.
#[derive(Clone, Copy)]
pub enum MaskRows<'a> {
    None,
    Output(&'a [*mut f32]),
    Normalized,
}

/// The arguments of a block's sums: for each channel `Σ dz` and `Σ dz · (y - mean)`.
pub struct SumsArgs<'a> {
    pub gradient: &'a [*mut f32],
    /// None if there is no batch norm, and nothing is summed.
    pub y: Option<&'a [*mut f32]>,
    pub mask: MaskRows<'a>,
    /// Writes dz in place of the gradient.
    pub in_place: bool,
    pub first: usize,
    pub channels: usize,
    /// Of the first channel: the mean, the scale, the shift.
    pub mean: *const f32,
    pub scale: *const f32,
    pub shift: *const f32,
    /// The results' places.
    pub sum: *mut f32,
    pub dot: *mut f32,
}

/// # Safety
/// The machine has the tier; the channels of each row and of each array, rounded up to whole vectors, are
/// valid for reads, those of the results and, in place, of the gradient for writes.
pub type Sums = unsafe fn(&SumsArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`Sums`].
pub(super) unsafe fn sums<S: Simd>(args: &SumsArgs) {
    // SAFETY: the caller guarantees the tier and whole vectors of channels.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let wide = WIDTH * S::LANES;
                let mut c = 0;
                while c + wide <= args.channels {
                    sums_of::<S, WIDTH>(s, args, c);
                    c += wide;
                }
                while c < args.channels {
                    sums_of::<S, 1>(s, args, c);
                    c += S::LANES;
                }
            },
        );
    }
}

/// The sums of `W` vectors of channels, beginning with channel `c` of those of the arguments.
#[inline(always)]
unsafe fn sums_of<S: Simd, const W: usize>(s: S, args: &SumsArgs, c: usize) {
    // SAFETY: the caller guarantees the vectors.
    unsafe {
        let lanes = S::LANES;
        let at = args.first + c;
        let array = |p: *const f32| -> [S::V; W] {
            std::array::from_fn(
                #[inline(always)]
                |i| s.load(p.add(c + i * lanes)),
            )
        };
        let Some(ys) = args.y else {
            if let MaskRows::Output(outs) = args.mask {
                for (gradient, out) in args.gradient.iter().zip(outs) {
                    for i in 0..W {
                        let (gradient, out) =
                            (gradient.add(at + i * lanes), out.add(at + i * lanes));
                        s.store(gradient, passed(s, s.load(out), s.load(gradient)));
                    }
                }
            }
            return;
        };
        let mut sums = Exact::<S, W>::zero(s);
        let mut dots = Exact::<S, W>::zero(s);
        let mean = array(args.mean);
        match args.mask {
            MaskRows::None => {
                let chunks = args.gradient.chunks(CHUNK).zip(ys.chunks(CHUNK));
                for (gradients, ys) in chunks {
                    let (mut sum, mut dot) = ([s.splat(0.0); W], [s.splat(0.0); W]);
                    for (gradient, y) in gradients.iter().zip(ys) {
                        for i in 0..W {
                            let dz = s.load(gradient.add(at + i * lanes));
                            let y = s.load(y.add(at + i * lanes));
                            sum[i] = s.add(sum[i], dz);
                            dot[i] = s.mul_add(dz, s.sub(y, mean[i]), dot[i]);
                        }
                    }
                    sums.add(s, sum);
                    dots.add(s, dot);
                }
            }
            MaskRows::Output(outs) => {
                let chunks = args.gradient.chunks(CHUNK).zip(ys.chunks(CHUNK));
                for ((gradients, ys), outs) in chunks.zip(outs.chunks(CHUNK)) {
                    let (mut sum, mut dot) = ([s.splat(0.0); W], [s.splat(0.0); W]);
                    for ((gradient, y), out) in gradients.iter().zip(ys).zip(outs) {
                        for i in 0..W {
                            let gradient = gradient.add(at + i * lanes);
                            let out = s.load(out.add(at + i * lanes));
                            let dz = passed(s, out, s.load(gradient));
                            if args.in_place {
                                s.store(gradient, dz);
                            }
                            let y = s.load(y.add(at + i * lanes));
                            sum[i] = s.add(sum[i], dz);
                            dot[i] = s.mul_add(dz, s.sub(y, mean[i]), dot[i]);
                        }
                    }
                    sums.add(s, sum);
                    dots.add(s, dot);
                }
            }
            MaskRows::Normalized => {
                let (scale, shift) = (array(args.scale), array(args.shift));
                let chunks = args.gradient.chunks(CHUNK).zip(ys.chunks(CHUNK));
                for (gradients, ys) in chunks {
                    let (mut sum, mut dot) = ([s.splat(0.0); W], [s.splat(0.0); W]);
                    for (gradient, y) in gradients.iter().zip(ys) {
                        for i in 0..W {
                            let y = s.load(y.add(at + i * lanes));
                            let a = s.mul_add(y, scale[i], shift[i]);
                            let dz = passed(s, a, s.load(gradient.add(at + i * lanes)));
                            sum[i] = s.add(sum[i], dz);
                            dot[i] = s.mul_add(dz, s.sub(y, mean[i]), dot[i]);
                        }
                    }
                    sums.add(s, sum);
                    dots.add(s, dot);
                }
            }
        }
        let (sum, dot) = (sums.total(s), dots.total(s));
        for i in 0..W {
            s.store(args.sum.add(c + i * lanes), sum[i]);
            s.store(args.dot.add(c + i * lanes), dot[i]);
        }
    }
}

/// `x` where the activation is above 0 (or NaN, like torch's gradient of ReLU), else 0.
#[inline(always)]
fn passed<S: Simd>(s: S, activation: S::V, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    s.if_above_or_nan(activation, zero, x, zero)
}

/// The sums of all blocks, laid out by the plan; the gradient is masked on the way.
#[derive(Clone, Debug)]
pub struct GradientSums {
    /// The gradient of the activation.
    pub gradient: View,
    /// The output of the convolution before the batch norm, its coefficients, and the place of the blocks'
    /// sums; None to mask only.
    pub norm: Option<(View, Coefficients, usize)>,
    /// The mask. One from memory is applied in place; another is applied again by [`NormGradient`].
    pub mask: Mask,
}

impl GradientSums {
    /// Items of work.
    pub fn items(&self) -> usize {
        Blocks::of(&self.gradient).items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`Statistics::run_item`](super::Statistics::run_item).
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, sums: Sums) {
        let (block, channels) = Blocks::of(&self.gradient).item(item);
        let gradient = Rows::of(&self.gradient, block, arena);
        let out = match &self.mask {
            Mask::Output(out) => Some(Rows::of(out, block, arena)),
            _ => None,
        };
        let y = self.norm.map(|(y, ..)| Rows::of(&y, block, arena));
        let array = |array| match &self.norm {
            Some((_, coefficients, _)) => coefficients
                .array(array, arena)
                .wrapping_add(channels.start),
            None => std::ptr::null_mut(),
        };
        let places = match self.norm {
            Some((_, _, bytes)) => block_places(bytes, block, self.gradient.channels, arena)
                .map(|place| place.wrapping_add(channels.start)),
            None => [std::ptr::null_mut(); 2],
        };
        // SAFETY: the caller keeps the same contract; pixels have room for whole vectors.
        unsafe {
            sums(&SumsArgs {
                gradient: gradient.as_slice(),
                y: y.as_ref().map(Rows::as_slice),
                mask: match (&self.mask, &out) {
                    (Mask::Output(_), Some(rows)) => MaskRows::Output(rows.as_slice()),
                    (Mask::Normalized, _) => MaskRows::Normalized,
                    _ => MaskRows::None,
                },
                in_place: out.is_some(),
                first: channels.start,
                channels: channels.len(),
                mean: array(Array::Mean),
                scale: array(Array::Scale),
                shift: array(Array::Shift),
                sum: places[0],
                dot: places[1],
            });
        }
    }
}

/// The arguments of a row: `dy = factor · (dz - offset - (y - mean) · slope)`.
pub struct GradientArgs {
    pub gradient: *const f32,
    pub gradient_stride: usize,
    pub y: *const f32,
    pub y_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Applies the mask of `y · scale + shift`.
    pub mask: bool,
    /// Mean, scale, shift, factor, offset and slope.
    pub arrays: [*const f32; 6],
    pub pixels: usize,
    pub channels: usize,
}

/// # Safety
/// As for [`ActivateRow`](super::activate::ActivateRow); `out` may be the gradient.
pub type GradientRow = unsafe fn(&GradientArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`GradientRow`].
pub(super) unsafe fn gradient_row<S: Simd>(args: &GradientArgs) {
    // SAFETY: the caller guarantees the tier and whole vectors of channels.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for pixel in 0..args.pixels {
                    for c in (0..args.channels).step_by(S::LANES) {
                        let [mean, scale, shift, factor, offset, slope] = args.arrays;
                        let y = s.load(args.y.add(pixel * args.y_stride + c));
                        let mut dz = s.load(args.gradient.add(pixel * args.gradient_stride + c));
                        if args.mask {
                            let a = s.mul_add(y, s.load(scale.add(c)), s.load(shift.add(c)));
                            dz = passed(s, a, dz);
                        }
                        let centred = s.sub(y, s.load(mean.add(c)));
                        let dz = s.sub(dz, s.load(offset.add(c)));
                        let dz = s.sub(dz, s.mul(centred, s.load(slope.add(c))));
                        let dy = s.mul(dz, s.load(factor.add(c)));
                        s.store(args.out.add(pixel * args.out_stride + c), dy);
                    }
                }
            },
        );
    }
}

/// The gradient of a convolution's output, laid out by the plan.
#[derive(Clone, Debug)]
pub struct NormGradient {
    /// The gradient of the activation.
    pub gradient: View,
    /// The output of the convolution.
    pub y: View,
    /// Its coefficients.
    pub coefficients: Coefficients,
    /// Masks the gradient by the sign of `y · scale + shift`.
    pub mask: bool,
    /// The result's place, which may be that of the gradient; its border is zeroed too.
    pub out: View,
}

impl NormGradient {
    /// Items of work: each row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`Activate::run_item`](super::Activate::run_item).
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, gradient: GradientRow) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, row) = (item / self.out.height, item % self.out.height);
        let arrays = [
            Array::Mean,
            Array::Scale,
            Array::Shift,
            Array::Factor,
            Array::Offset,
            Array::Slope,
        ];
        // SAFETY: the caller keeps the same contract.
        unsafe {
            gradient(&GradientArgs {
                gradient: self.gradient.pixel_ptr(arena, n, row, 0),
                gradient_stride: self.gradient.pixel_stride,
                y: self.y.pixel_ptr(arena, n, row, 0),
                y_stride: self.y.pixel_stride,
                out: self.out.pixel_ptr(arena, n, row, 0),
                out_stride: self.out.pixel_stride,
                mask: self.mask,
                arrays: arrays.map(|array| self.coefficients.array(array, arena).cast_const()),
                pixels: self.out.width,
                channels: self.out.channels,
            });
        }
    }
}
