//! Packed weights with inputs and outputs exchanged, for the gradient of a convolution by its input.
//!
//! The gradient of input pixel p sums, over the taps that reach it, the output's gradient times the
//! transposed weights of the tap. So it is a convolution itself, of the output's gradient. With stride s
//! the pixels of each phase (their rows and columns modulo s) are reached by taps of their own: a
//! smaller convolution for each phase (Dumoulin and Visin, "A guide to convolution arithmetic for
//! deep learning", 2016).

use super::pack::panel_len;
use crate::kernels::conv::window::ChannelWindow;
use crate::simd::Simd;

/// The arguments of a transposition of whole blocks: `to[j, i] = from[i, j]`.
pub struct TransposeArgs {
    /// `[rows, columns]`.
    pub from: *const f32,
    /// Values from a row to the next.
    pub from_stride: usize,
    /// `[columns, rows]`.
    pub to: *mut f32,
    /// Values from a row to the next.
    pub to_stride: usize,
    /// A multiple of [`ConvKernels::nr`](super::ConvKernels::nr) / 2.
    pub rows: usize,
    /// Likewise.
    pub columns: usize,
}

/// # Safety
/// The machine has the tier; the rows are valid for reads at `from` and for writes at `to`.
pub type Transpose = unsafe fn(&TransposeArgs);

/// The transposition of tier `S`.
///
/// # Safety
/// See [`Transpose`].
pub(super) unsafe fn transpose<S: Simd>(args: &TransposeArgs) {
    // SAFETY: the caller guarantees the tier and the rows.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for j in (0..args.columns).step_by(S::LANES) {
                    for i in (0..args.rows).step_by(S::LANES) {
                        s.transpose(
                            args.from.add(i * args.from_stride + j),
                            args.from_stride,
                            args.to.add(j * args.to_stride + i),
                            args.to_stride,
                        );
                    }
                }
            },
        );
    }
}

/// The weights of some taps of a convolution, transposed: panels of NR input channels, whose rows are
/// the output channels of each tap.
#[derive(Clone, Debug)]
pub struct TransposedWeights {
    /// The place of the packed weights among the parameters.
    pub weights_bytes: usize,
    /// The place of the result in the arena.
    pub out_bytes: usize,
    /// The taps, counted in the order of the window, in the order of the result.
    pub taps: Vec<usize>,
    /// Taps of the whole window.
    pub window_taps: usize,
    /// The input channels that a panel of output channels reads.
    pub channels: ChannelWindow,
    /// The output channels that a panel of input channels reads.
    pub transposed: ChannelWindow,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels of a panel.
    pub nr: usize,
}

impl TransposedWeights {
    pub(in crate::kernels::conv) fn panels(&self) -> usize {
        self.channels.in_channels.div_ceil(self.nr)
    }

    fn panel_len(&self) -> usize {
        panel_len(self.taps.len() * self.transposed.len, self.nr)
    }

    /// Bytes of the result.
    pub fn len_bytes(&self) -> usize {
        self.panels() * self.panel_len() * size_of::<f32>()
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.panels() * self.taps.len()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `transpose`; the result lies inside `arena`; each item is done by one
    /// thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[f32],
        transpose: Transpose,
    ) {
        let (panel, t) = (item / self.taps.len(), item % self.taps.len());
        let (nr, len) = (self.nr, self.transposed.len);
        let out = arena.wrapping_add(self.out_bytes).cast::<f32>();
        let out = out.wrapping_add(panel * self.panel_len());
        if t == 0 {
            // SAFETY: the panel's place for biases.
            unsafe { out.write_bytes(0, nr) };
        }
        let out = out.wrapping_add(nr * (1 + t * len));
        // SAFETY: the tap's rows of the panel, which no other item touches.
        let rows = unsafe { std::slice::from_raw_parts_mut(out, len * nr) };
        let from = panel_len(self.window_taps * self.channels.len, nr);
        let first_in = panel * nr;
        let ins = nr.min(self.channels.in_channels - first_in);
        let start = self.transposed.start(panel);
        let whole = nr / 2;
        // All panels read all channels; in a grouped convolution that may hold in one direction only.
        if self.channels.is_whole()
            && self.transposed.is_whole()
            && ins.is_multiple_of(whole)
            && self.out_channels.is_multiple_of(whole)
        {
            for o in (0..len).step_by(nr) {
                let base = self.weights_bytes / size_of::<f32>() + o / nr * from;
                let base = base + nr * (1 + self.taps[t] * self.channels.len + first_in);
                let args = TransposeArgs {
                    from: weights[base..].as_ptr(),
                    from_stride: nr,
                    to: rows[o * nr..].as_mut_ptr(),
                    to_stride: nr,
                    rows: ins,
                    columns: nr.min(len - o),
                };
                // SAFETY: `ins` rows of the panel's channels, and as many columns of the result.
                unsafe { transpose(&args) };
            }
            return;
        }
        for (o, row) in (start..start + len).zip(rows.chunks_exact_mut(nr)) {
            let (q, column) = (o / nr, o % nr);
            let read = self.channels.start(q);
            let base = self.weights_bytes / size_of::<f32>() + q * from;
            let base = base + nr * (1 + self.taps[t] * self.channels.len) + column;
            let panel = &weights[base..];
            for (i, slot) in row.iter_mut().enumerate() {
                let inside = i < ins && (read..read + self.channels.len).contains(&(first_in + i));
                *slot = match inside {
                    true => panel[(first_in + i - read) * nr],
                    false => 0.0,
                };
            }
        }
    }
}
