//! The statistics of a batch: the mean and the squares around it, block by block.

// Loops over indices instead of iterators: the compiler keeps small arrays in registers.
#![allow(clippy::needless_range_loop)]

use super::rows::{Blocks, CHUNK, Exact, Rows, WIDTH};
use crate::kernels::view::View;
use crate::simd::Simd;

/// The arguments of a block: for each channel the mean, and the sum of the squares around it.
pub struct MomentsArgs<'a> {
    /// The pixels' first channels.
    pub rows: &'a [*mut f32],
    /// The channels, beginning with `first`, rounded up to whole vectors.
    pub first: usize,
    pub channels: usize,
    /// The results' places, of the first channel.
    pub mean: *mut f32,
    pub squares: *mut f32,
}

/// # Safety
/// The machine has the tier; the channels of each row, rounded up to whole vectors, are valid for reads and
/// those of the results for writes.
pub type Moments = unsafe fn(&MomentsArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`Moments`].
pub(super) unsafe fn moments<S: Simd>(args: &MomentsArgs) {
    // SAFETY: the caller guarantees the tier and whole vectors of channels.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let wide = WIDTH * S::LANES;
                let mut c = 0;
                while c + wide <= args.channels {
                    moments_of::<S, WIDTH>(s, args, c);
                    c += wide;
                }
                while c < args.channels {
                    moments_of::<S, 1>(s, args, c);
                    c += S::LANES;
                }
            },
        );
    }
}

/// The moments of `W` vectors of channels, beginning with channel `c` of those of the arguments.
#[inline(always)]
unsafe fn moments_of<S: Simd, const W: usize>(s: S, args: &MomentsArgs, c: usize) {
    // SAFETY: the caller guarantees the vectors.
    unsafe {
        let lanes = S::LANES;
        let at = args.first + c;
        let scale = s.splat(1.0 / args.rows.len() as f32);
        let mut total = Exact::<S, W>::zero(s);
        for rows in args.rows.chunks(CHUNK) {
            let mut sum = [s.splat(0.0); W];
            for row in rows {
                for i in 0..W {
                    sum[i] = s.add(sum[i], s.load(row.add(at + i * lanes)));
                }
            }
            total.add(s, sum);
        }
        let mut mean = total.total(s);
        for i in 0..W {
            mean[i] = s.mul(mean[i], scale);
        }
        let mut total = Exact::<S, W>::zero(s);
        for rows in args.rows.chunks(CHUNK) {
            let mut squares = [s.splat(0.0); W];
            for row in rows {
                for i in 0..W {
                    let x = s.sub(s.load(row.add(at + i * lanes)), mean[i]);
                    squares[i] = s.mul_add(x, x, squares[i]);
                }
            }
            total.add(s, squares);
        }
        let squares = total.total(s);
        for i in 0..W {
            s.store(args.mean.add(c + i * lanes), mean[i]);
            s.store(args.squares.add(c + i * lanes), squares[i]);
        }
    }
}

/// The moments of all blocks of a convolution's output, laid out by the plan.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The output.
    pub y: View,
    /// The place of the blocks' moments in the arena: for each block the means of all channels, then their
    /// squares, each in whole cache lines.
    pub blocks_bytes: usize,
}

impl Statistics {
    /// Bytes of the blocks' moments, or of their sums of gradients.
    pub fn len_bytes(y: &View) -> usize {
        Blocks::of(y).count() * 2 * padded(y.channels) * size_of::<f32>()
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        Blocks::of(&self.y).items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The views lie inside `arena`; all threads are past the steps before, and each item is done by one
    /// thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, moments: Moments) {
        let (block, channels) = Blocks::of(&self.y).item(item);
        let rows = Rows::of(&self.y, block, arena);
        let places = block_places(self.blocks_bytes, block, self.y.channels, arena);
        let [mean, squares] = places.map(|place| place.wrapping_add(channels.start));
        // SAFETY: the caller keeps the same contract; pixels have room for whole vectors.
        unsafe {
            moments(&MomentsArgs {
                rows: rows.as_slice(),
                first: channels.start,
                channels: channels.len(),
                mean,
                squares,
            });
        }
    }
}

/// Channels, rounded up to a cache line.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(16)
}

/// The two results of block `block`.
pub(super) fn block_places(
    blocks_bytes: usize,
    block: usize,
    channels: usize,
    arena: *mut u8,
) -> [*mut f32; 2] {
    let len = padded(channels);
    let first = arena.wrapping_add(blocks_bytes).cast::<f32>();
    let first = first.wrapping_add(2 * block * len);
    [first, first.wrapping_add(len)]
}
