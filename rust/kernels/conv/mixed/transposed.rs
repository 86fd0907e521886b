//! Packed weights in bf16 with inputs and outputs exchanged, for the gradient by the input.

use crate::kernels::conv::f32::{TransposedWeights, panel_len};
use crate::kernels::view::line_of;
use crate::simd::{Bf16, Simd};
use half::bf16;

/// The values of a cache line.
const LINE: usize = line_of::<f32>();

/// The most lanes of a tier.
const MOST: usize = 16;

/// The arguments of a transposition: `to[p, i] = (from[i, 2p], from[i, 2p + 1])` of a panel's NR columns.
pub struct TransposePairsArgs {
    /// `[rows, NR]`.
    pub(super) from: *const f32,
    /// A multiple of NR / 2.
    pub(super) rows: usize,
    /// `[NR / 2, rows]` pairs, NR apart.
    pub(super) to: *mut u32,
    /// The rows that the next call reads, to be fetched meanwhile.
    pub(super) next: *const f32,
}

/// # Safety
/// The machine has the instructions; the rows are valid for reads at `from` and for writes at `to`.
pub type TransposePairs = unsafe fn(&TransposePairsArgs);

/// The transposition of `B`: a panel's row is as many pairs as a register holds.
///
/// # Safety
/// See [`TransposePairs`].
pub(super) unsafe fn transpose_pairs<B: Bf16>(args: &TransposePairsArgs) {
    // SAFETY: the caller guarantees the instructions and the rows.
    unsafe {
        let b = B::assume();
        b.vectorize(
            #[inline(always)]
            || {
                let (s, lanes) = (b.simd(), B::S::LANES);
                let nr = 2 * lanes;
                for i in (0..args.rows).step_by(lanes) {
                    for line in (i * nr..(i + lanes) * nr).step_by(LINE) {
                        s.prefetch(args.next.wrapping_add(line));
                    }
                    let mut block = [0_u32; MOST * MOST];
                    for r in 0..lanes {
                        let row = args.from.add((i + r) * nr);
                        let pairs = b.round_row(s.load(row), s.load(row.add(lanes)));
                        b.store_pairs(block.as_mut_ptr().add(r * lanes), pairs);
                    }
                    // Moves of registers keep the bits of any value.
                    s.transpose(block.as_ptr().cast(), lanes, args.to.add(i).cast(), nr);
                }
            },
        );
    }
}

impl TransposedWeights {
    /// Bytes of the result in bf16.
    pub fn bf16_len_bytes(&self) -> usize {
        self.panels() * self.bf16_panel_len() * size_of::<u32>()
    }

    fn bf16_panel_len(&self) -> usize {
        panel_len((self.taps.len() * self.transposed.len).div_ceil(2), self.nr)
    }

    /// Does one item in bf16.
    ///
    /// # Safety
    /// The machine has the tier of `transpose`; the result lies inside `arena`; each item is done by one
    /// thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels, or the convolution has groups.
    pub unsafe fn run_item_bf16(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[f32],
        transpose: TransposePairs,
    ) {
        assert!(self.channels.is_whole() && self.transposed.is_whole());
        let (panel, t) = (item / self.taps.len(), item % self.taps.len());
        let (nr, len) = (self.nr, self.out_channels);
        let out = arena.wrapping_add(self.out_bytes).cast::<u32>();
        let out = out.wrapping_add(panel * self.bf16_panel_len());
        if t == 0 {
            // SAFETY: the panel's place for biases.
            unsafe { out.write_bytes(0, nr) };
        }
        let rows = out.wrapping_add(nr);
        let from = panel_len(self.window_taps * self.channels.len, nr);
        let first_in = panel * nr;
        let ins = nr.min(self.channels.in_channels - first_in);
        // The tap's weights of a panel of outputs: a row of NR for each of the inputs.
        let tap = |q: usize| {
            let base = self.weights_bytes / size_of::<f32>() + q * from;
            let base = base + nr * (1 + self.taps[t] * self.channels.len + first_in);
            &weights[base..][..ins * nr]
        };
        let whole = match ins.is_multiple_of(nr / 2) && len.is_multiple_of(2) {
            true => len / nr,
            false => 0,
        };
        for q in 0..whole {
            let args = TransposePairsArgs {
                from: tap(q).as_ptr(),
                rows: ins,
                to: rows.wrapping_add((t * len + q * nr) / 2 * nr),
                next: tap((q + 1).min(whole - 1)).as_ptr(),
            };
            // SAFETY: `ins` rows of the panel, and the tap's rows of the result, which no other item touches; `len`
            // is even, so no pair is of two taps.
            unsafe { transpose(&args) };
            if ins < nr {
                for p in 0..nr / 2 {
                    // SAFETY: the surplus channels of these rows.
                    unsafe { args.to.add(p * nr + ins).write_bytes(0, nr - ins) };
                }
            }
        }
        // A pair may be of two taps, and so of two items: each writes its half.
        let rows = rows.cast::<u16>();
        let put = |k: usize, i: usize, value: f32| {
            let bits = bf16::from_f32(value).to_bits();
            // SAFETY: half of a pair of the panel, which no other item touches.
            unsafe { rows.add((k / 2 * nr + i) * 2 + k % 2).write(bits) };
        };
        for o in whole * nr..len {
            let panel = tap(o / nr);
            for i in 0..nr {
                let value = if i < ins { panel[i * nr + o % nr] } else { 0.0 };
                put(t * len + o, i, value);
            }
        }
        let k = self.taps.len() * len;
        if t + 1 == self.taps.len() && !k.is_multiple_of(2) {
            (0..nr).for_each(|i| put(k, i, 0.0));
        }
    }
}
