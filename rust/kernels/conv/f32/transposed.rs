//! Packed weights with inputs and outputs exchanged, for the gradient of a convolution by its input.
//!
//! The gradient of input pixel p sums, over the taps that reach it, the output's gradient times the
//! transposed weights of the tap. So it is a convolution itself, of the output's gradient. With stride s
//! the pixels of each phase (their rows and columns modulo s) are reached by taps of their own: a
//! smaller convolution for each phase (Dumoulin and Visin, "A guide to convolution arithmetic for
//! deep learning", 2016).

use super::pack::panel_len;
use crate::kernels::conv::window::ChannelWindow;

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
    fn panels(&self) -> usize {
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
    /// The result lies inside `arena`; each item is done by one thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, weights: &[f32]) {
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
