//! The activation: normalised outputs of convolutions, added, and ReLU.

use super::coefficients::{Array, Coefficients};
use crate::kernels::view::View;
use crate::simd::Simd;

/// A summand of an activation.
#[derive(Clone, Copy, Debug)]
pub enum Summand {
    /// A tensor.
    Plain(View),
    /// `y · scale + shift`.
    Normalized(View, Coefficients),
}

impl Summand {
    /// The tensor.
    pub fn view(&self) -> &View {
        match self {
            Self::Plain(view) | Self::Normalized(view, _) => view,
        }
    }
}

/// A summand's first pixel of a row.
#[derive(Clone, Copy)]
pub struct Part {
    pub first: *const f32,
    pub stride: usize,
    /// Scale and shift of each channel.
    pub norm: Option<[*const f32; 2]>,
}

/// The arguments of a row: `out = relu(a + b)`.
pub struct ActivateArgs {
    pub a: Part,
    pub b: Option<Part>,
    pub relu: bool,
    pub out: *mut f32,
    pub out_stride: usize,
    pub pixels: usize,
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; the channels of each pixel, rounded up to whole vectors, are valid for reads,
/// those of `out` for writes, and the arrays of a norm for reads.
pub type ActivateRow = unsafe fn(&ActivateArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`ActivateRow`].
pub(super) unsafe fn activate_row<S: Simd>(args: &ActivateArgs) {
    // SAFETY: the caller guarantees the tier and whole vectors of channels.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for pixel in 0..args.pixels {
                    let out = args.out.add(pixel * args.out_stride);
                    for c in (0..args.channels).step_by(S::LANES) {
                        let mut value = part(s, &args.a, pixel, c);
                        if let Some(b) = &args.b {
                            value = s.add(value, part(s, b, pixel, c));
                        }
                        if args.relu {
                            // This order of operands keeps a NaN.
                            value = s.max(s.splat(0.0), value);
                        }
                        s.store(out.add(c), value);
                    }
                }
            },
        );
    }
}

#[inline(always)]
unsafe fn part<S: Simd>(s: S, part: &Part, pixel: usize, c: usize) -> S::V {
    // SAFETY: a vector of the pixel's channels.
    unsafe {
        let x = s.load(part.first.add(pixel * part.stride + c));
        match part.norm {
            Some([scale, shift]) => s.mul_add(x, s.load(scale.add(c)), s.load(shift.add(c))),
            None => x,
        }
    }
}

/// An activation, laid out by the plan: `out = relu(a + b)`.
#[derive(Clone, Debug)]
pub struct Activate {
    /// The first summand.
    pub a: Summand,
    /// The second one.
    pub b: Option<Summand>,
    /// Makes negative results zero.
    pub relu: bool,
    /// The output's place; its border is zeroed too.
    pub out: View,
}

impl Activate {
    /// Items of work: each row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The views lie inside `arena`, with room for whole vectors in each pixel; all threads are past the
    /// steps before, and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, activate: ActivateRow) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, y) = (item / self.out.height, item % self.out.height);
        let part = |summand: &Summand| {
            let view = summand.view();
            let norm = match summand {
                Summand::Plain(_) => None,
                Summand::Normalized(_, coefficients) => Some(
                    [Array::Scale, Array::Shift]
                        .map(|array| coefficients.array(array, arena).cast_const()),
                ),
            };
            Part {
                // SAFETY: the view lies inside the arena.
                first: unsafe { view.pixel_ptr(arena, n, y, 0) },
                stride: view.pixel_stride,
                norm,
            }
        };
        // SAFETY: the caller keeps the same contract.
        unsafe {
            activate(&ActivateArgs {
                a: part(&self.a),
                b: self.b.as_ref().map(part),
                relu: self.relu,
                out: self.out.pixel_ptr(arena, n, y, 0),
                out_stride: self.out.pixel_stride,
                pixels: self.out.width,
                channels: self.out.channels,
            });
        }
    }
}
