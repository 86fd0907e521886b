//! What no convolution has taken in: batch norm, addition and ReLU, element by element.

use super::simd::Simd;
use super::table::KernelTable;
use super::view::View;

/// What is computed for the pixels of a row: `out = relu(a · scale + shift + b)`.
pub struct ElementwiseArgs<'a> {
    /// The row's first pixel.
    pub a: *const f32,
    /// Elements from a pixel of `a` to the next.
    pub a_stride: usize,
    /// What is multiplied and then added, for each channel.
    pub norm: Option<(&'a [f32], &'a [f32])>,
    /// The first pixel of what is added, and its stride.
    pub b: Option<(*const f32, usize)>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Where the first result goes.
    pub out: *mut f32,
    /// Elements from a pixel of `out` to the next.
    pub out_stride: usize,
    /// Pixels of the row.
    pub pixels: usize,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The tier is there; `channels` values of each pixel are valid for reads, and those of `out` for
/// writes; a norm's slices have as many.
pub type Elementwise = unsafe fn(&ElementwiseArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`Elementwise`].
pub(super) unsafe fn elementwise<S: Simd>(args: &ElementwiseArgs) {
    // SAFETY: the caller vouches for the tier and for `channels` values at each pixel.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for pixel in 0..args.pixels {
                    let a = args.a.add(pixel * args.a_stride);
                    let out = args.out.add(pixel * args.out_stride);
                    for c in 0..args.channels {
                        let mut value = *a.add(c);
                        if let Some((scale, shift)) = args.norm {
                            value = value * scale.get_unchecked(c) + shift.get_unchecked(c);
                        }
                        if let Some((b, stride)) = args.b {
                            value += *b.add(pixel * stride + c);
                        }
                        // In this form a NaN stays.
                        if args.relu && value < 0.0 {
                            value = 0.0;
                        }
                        *out.add(c) = value;
                    }
                }
            },
        );
    }
}

/// An elementwise layer, as the plan has laid it out.
#[derive(Clone, Debug)]
pub struct ElementwiseLayer {
    /// The first input.
    pub a: View,
    /// Where the scales of a batch norm start in the network's weights; its shifts follow.
    pub norm: Option<usize>,
    /// What is added.
    pub b: Option<View>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Where the output lies; the border is zeroed too.
    pub out: View,
}

impl ElementwiseLayer {
    /// Items of work: each row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The views lie inside `arena` and do not overlap; all threads are past the steps before,
    /// and each item is done by one thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        table: &KernelTable,
    ) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, y) = (item / self.out.height, item % self.out.height);
        let channels = self.out.channels;
        let norm = self.norm.map(|start| {
            let both = &weights[start..start + 2 * channels];
            both.split_at(channels)
        });
        // SAFETY: the views lie inside the arena; the table proves the tier.
        unsafe {
            let first = |view: &View| arena.add(view.pixel(n, y, 0));
            (table.elementwise)(&ElementwiseArgs {
                a: first(&self.a),
                a_stride: self.a.pixel_stride,
                norm,
                b: self.b.map(|b| (first(&b).cast_const(), b.pixel_stride)),
                relu: self.relu,
                out: first(&self.out),
                out_stride: self.out.pixel_stride,
                pixels: self.out.width,
                channels,
            });
        }
    }
}
