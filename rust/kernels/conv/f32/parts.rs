//! The ends of a weight gradient: its parts added up, the zeros between groups, the biases.

use super::pack::panel_len;
use crate::kernels::conv::source::Walk;
use crate::kernels::conv::window::ChannelWindow;
use crate::kernels::view::View;
use crate::simd::Simd;

/// Elements of an item of [`SumParts`].
const CHUNK: usize = 8192;

/// Pixels of a block of [`BiasGradient`].
const ROWS: usize = 256;

/// The arguments of a sum: `out[i] (+)= Σ_part parts[part · stride + i]`.
pub struct SumArgs {
    /// The first part.
    pub parts: *const f32,
    /// The number of parts.
    pub count: usize,
    /// Elements from a part to the next.
    pub stride: usize,
    /// The result.
    pub out: *mut f32,
    /// Elements.
    pub len: usize,
    /// Adds to the values of `out`.
    pub accumulate: bool,
}

/// # Safety
/// The machine has the tier; `len` elements of each part are valid for reads, and those of `out` for writes.
pub type SumPartsRow = unsafe fn(&SumArgs);

/// The sum of tier `S`.
///
/// # Safety
/// See [`SumPartsRow`].
pub(super) unsafe fn sum_parts<S: Simd>(args: &SumArgs) {
    // SAFETY: the caller guarantees the tier and the elements.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for i in (0..args.len).step_by(S::LANES) {
                    let n = S::LANES.min(args.len - i);
                    let mut sum = s.load_first(n, args.parts.add(i));
                    for part in 1..args.count {
                        sum = s.add(sum, s.load_first(n, args.parts.add(part * args.stride + i)));
                    }
                    let out = args.out.add(i);
                    if args.accumulate {
                        sum = s.add(s.load_first(n, out), sum);
                    }
                    s.store_first(n, out, sum);
                }
            },
        );
    }
}

/// The parts of a weight gradient, added up in their order; biases are left out.
#[derive(Clone, Debug)]
pub struct SumParts {
    /// The place of the parts in the arena.
    pub parts_bytes: usize,
    /// The number of parts.
    pub count: usize,
    /// Panels of a part.
    pub panels: usize,
    /// K of the convolution.
    pub k: usize,
    /// Channels of a panel.
    pub nr: usize,
    /// The result among the gradients: its first element.
    pub first: usize,
    /// Adds to the gradients that are there.
    pub accumulate: bool,
}

impl SumParts {
    /// Items of a panel.
    fn chunks(&self) -> usize {
        (self.k * self.nr).div_ceil(CHUNK)
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.panels * self.chunks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The parts lie inside `arena`, the result inside `gradients`; each item is done by one thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        gradients: *mut f32,
        sum: SumPartsRow,
    ) {
        let (panel, chunk) = (item / self.chunks(), item % self.chunks());
        let panel_len = panel_len(self.k, self.nr);
        let start = panel * panel_len + self.nr + chunk * CHUNK;
        let parts = arena.wrapping_add(self.parts_bytes).cast::<f32>();
        let args = SumArgs {
            parts: parts.wrapping_add(start),
            count: self.count,
            stride: self.panels * panel_len,
            out: gradients.wrapping_add(self.first + start),
            len: CHUNK.min(self.k * self.nr - chunk * CHUNK),
            accumulate: self.accumulate,
        };
        // SAFETY: the caller keeps the same contract.
        unsafe { sum(&args) };
    }
}

/// Zeros in the gradient of a grouped convolution between channels of different groups: there are no
/// weights.
#[derive(Clone, Debug)]
pub struct MaskGroups {
    /// The gradient's first element.
    pub first: usize,
    /// The input channels that each panel reads.
    pub channels: ChannelWindow,
    /// Channels of the output.
    pub out_channels: usize,
    /// Taps of the window.
    pub taps: usize,
    /// Channels of a panel.
    pub nr: usize,
}

impl MaskGroups {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.out_channels.div_ceil(self.nr)
    }

    /// Does one item: a panel.
    ///
    /// # Safety
    /// The panels lie inside `gradients`; each item is done by one thread.
    pub unsafe fn run_item(&self, panel: usize, gradients: *mut f32) {
        let (nr, len) = (self.nr, self.channels.len);
        let panel_len = panel_len(self.taps * len, nr);
        let rows = gradients.wrapping_add(self.first + panel * panel_len + nr);
        // SAFETY: the panel's rows, which no other item touches.
        let rows = unsafe { std::slice::from_raw_parts_mut(rows, self.taps * len * nr) };
        let start = self.channels.start(panel);
        let channels = nr.min(self.out_channels - panel * nr);
        let groups: Vec<_> = (0..channels)
            .map(|o| self.channels.group(panel * nr + o))
            .collect();
        for (k, row) in rows.chunks_exact_mut(nr).enumerate() {
            let i = start + k % len;
            for (value, group) in row.iter_mut().zip(&groups) {
                if !group.contains(&i) {
                    *value = 0.0;
                }
            }
        }
    }
}

/// The gradient of a convolution's biases, `Σ_m dy[m, o]`, in the panels' places for biases.
#[derive(Clone, Debug)]
pub struct BiasGradient {
    /// dy, the gradient of the convolution's output.
    pub gradient: View,
    /// The gradient's first element.
    pub first: usize,
    /// K of the convolution.
    pub k: usize,
    /// Channels of a panel.
    pub nr: usize,
    /// Adds to the gradients that are there.
    pub accumulate: bool,
}

impl BiasGradient {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.gradient.channels.div_ceil(self.nr)
    }

    /// Does one item: a panel.
    ///
    /// # Safety
    /// The view lies inside `arena`, the panels inside `gradients`; all threads are past the steps before,
    /// and each item is done by one thread.
    pub unsafe fn run_item(&self, panel: usize, arena: *mut u8, gradients: *mut f32) {
        let (nr, view) = (self.nr, &self.gradient);
        let channels = nr.min(view.channels - panel * nr);
        let mut sums = vec![0.0_f64; channels];
        let m = view.shape().pixels();
        let mut rows = [std::ptr::null_mut::<f32>(); ROWS];
        for start in (0..m).step_by(ROWS) {
            let rows = &mut rows[..ROWS.min(m - start)];
            Walk::over(view).fill(view, start, arena, rows);
            for row in rows.iter() {
                // SAFETY: the panel's channels of a pixel.
                let row = unsafe { std::slice::from_raw_parts(row.add(panel * nr), channels) };
                for (sum, &x) in sums.iter_mut().zip(row) {
                    *sum += f64::from(x);
                }
            }
        }
        let out = gradients.wrapping_add(self.first + panel * panel_len(self.k, nr));
        // SAFETY: the panel's place for biases, which no other item touches.
        let out = unsafe { std::slice::from_raw_parts_mut(out, channels) };
        for (out, sum) in out.iter_mut().zip(sums) {
            let before = if self.accumulate { *out } else { 0.0 };
            *out = before + sum as f32;
        }
    }
}
