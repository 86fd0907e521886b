//! Packed weights in bf16, made from f32 panels before each use.

use crate::kernels::conv::f32::panel_len;
use crate::simd::{Bf16, Simd};

/// Pairs of rows of an item.
const ITEM: usize = 64;

/// The arguments of a rounding: `to[p, o] = (from[2p, o], from[2p + 1, o])`, zero after the last row.
pub struct RoundRowArgs {
    /// `[rows, NR]`.
    pub from: *const f32,
    /// Rows of k.
    pub rows: usize,
    /// `[⌈rows / 2⌉, NR]` pairs.
    pub to: *mut u32,
}

/// # Safety
/// The machine has the instructions; the rows are valid for reads at `from` and for writes at `to`.
pub type RoundRow = unsafe fn(&RoundRowArgs);

/// The rounding of `B`.
///
/// # Safety
/// See [`RoundRow`].
pub(in crate::kernels) unsafe fn round_row<B: Bf16>(args: &RoundRowArgs) {
    // SAFETY: the caller guarantees the instructions and the rows.
    unsafe {
        let b = B::assume();
        b.vectorize(
            #[inline(always)]
            || {
                let (s, lanes) = (b.simd(), B::S::LANES);
                let nr = 2 * lanes;
                for p in 0..args.rows.div_ceil(2) {
                    for i in [0, lanes] {
                        let from = args.from.add(2 * p * nr + i);
                        let first = s.load(from);
                        let second = match 2 * p + 1 < args.rows {
                            true => s.load(from.add(nr)),
                            false => s.splat(0.0),
                        };
                        b.store_pairs(args.to.add(p * nr + i), b.round_lanes(first, second));
                    }
                }
            },
        );
    }
}

/// The bf16 form of a layer's packed weights.
#[derive(Clone, Debug)]
pub struct RoundPanels {
    /// The place of the f32 panels among the parameters.
    pub weights_bytes: usize,
    /// The place of the result in the arena.
    pub out_bytes: usize,
    /// Panels.
    pub panels: usize,
    /// Rows of a panel.
    pub k: usize,
    /// Channels of a panel.
    pub nr: usize,
}

impl RoundPanels {
    fn pairs(&self) -> usize {
        self.k.div_ceil(2)
    }

    fn blocks(&self) -> usize {
        self.pairs().div_ceil(ITEM)
    }

    /// Bytes of the result.
    pub fn len_bytes(&self) -> usize {
        self.panels * panel_len(self.pairs(), self.nr) * size_of::<u32>()
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.panels * self.blocks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `round`; the result lies inside `arena`; each item is done by one thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, weights: &[f32], round: RoundRow) {
        let (panel, block) = (item / self.blocks(), item % self.blocks());
        let (nr, first) = (self.nr, block * ITEM);
        let from = &weights[self.weights_bytes / size_of::<f32>()..];
        let from = &from[panel * panel_len(self.k, nr)..][..panel_len(self.k, nr)];
        let out = arena.wrapping_add(self.out_bytes).cast::<u32>();
        let out = out.wrapping_add(panel * panel_len(self.pairs(), nr));
        let rows = (2 * ITEM).min(self.k - 2 * first);
        let args = RoundRowArgs {
            from: from[nr * (1 + 2 * first)..][..nr * rows].as_ptr(),
            rows,
            to: out.wrapping_add(nr * (1 + first)),
        };
        // SAFETY: the panel's biases and rows, which no other item writes.
        unsafe {
            if block == 0 {
                std::ptr::copy_nonoverlapping(from.as_ptr(), out.cast(), nr);
            }
            round(&args);
        }
    }
}
