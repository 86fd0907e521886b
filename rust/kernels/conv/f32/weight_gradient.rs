//! The gradient of a convolution by its weights: the loops around the microkernel of outer products.
//!
//! ```text
//! for each part of the pixels                     (each has a result of its own, or there is one part)
//!   for each block of panels, each block of k     (the items of work)
//!     for each block of up to ROWS pixels of the part
//!       dy into panels [pixels, NR], windows into rows, if they are not rows already
//!       for each panel, for each tile of MR k:  one outer product after the other, in registers
//! ```
//!
//! The parts depend on shapes only, and the sum runs over the pixels of a part in order and then over
//! the parts in order. So the result is the same for any number of threads.

use std::ops::Range;
use std::ptr;

use super::gradient_grid::{GradientGrid, PIXELS, ROWS};
use super::gradient_input::{GradientInput, Windows};
use super::gradient_kernels::WeightGradientKernels;
use super::outer::{OuterArgs, PackArgs};
use super::pack::panel_len;
use crate::kernels::conv::source::{Source, Walk};
use crate::kernels::view::{View, line_of};

/// The gradient of a convolution by its weights, laid out by the plan:
/// `out[k, o] (+)= Σ_m window(m)[k] · dy[m, o]`, in the form of the packed weights, biases left out.
#[derive(Clone, Debug)]
pub struct WeightGradient {
    /// The convolution's input.
    pub input: GradientInput,
    /// dy, the gradient of the convolution's output.
    pub gradient: View,
    /// Adds to what is there. Only if there is one part.
    pub accumulate: bool,
    /// The products of the same shape that are computed, each with a result of its own.
    points: usize,
    /// The distances from the tensors of one product to those of the next, in bytes: of the input, of dy.
    to_next_point: [usize; 2],
    k: usize,
    nr: usize,
    panels: usize,
    grid: GradientGrid,
}

impl WeightGradient {
    /// For the kernels of a tier with tiles of MR by NR, `shape`, in about `wanted` items or more.
    pub fn new(
        input: GradientInput,
        gradient: View,
        accumulate: bool,
        shape: [usize; 2],
        wanted: usize,
    ) -> Self {
        let (k, nr) = (input.k(), shape[1]);
        let panels = gradient.channels.div_ceil(nr);
        let m = gradient.shape().pixels();
        let grid = GradientGrid::choose(m, k, panels, shape, input.is_whole(), wanted);
        Self {
            accumulate: accumulate && grid.parts == 1,
            input,
            gradient,
            points: 1,
            to_next_point: [0; 2],
            k,
            nr,
            panels,
            grid,
        }
    }

    /// `points` products of matrices `[rows, channels]`: the images of two tensors, each of one row. There is
    /// one part.
    pub fn of_points(input: View, gradient: View, accumulate: bool, shape: [usize; 2]) -> Self {
        let points = input.batch;
        let to_next_point = [input.image_stride_bytes(), gradient.image_stride_bytes()];
        let [input, gradient] = [input, gradient].map(|view| view.images(0, 1));
        let input = GradientInput::Stored(Source::pixels(input));
        let mut all = Self::new(input, gradient, accumulate, shape, 1);
        let rows = gradient.shape().pixels();
        all.grid = GradientGrid {
            parts: 1,
            rows: rows.next_multiple_of(ROWS),
            ..all.grid
        };
        Self {
            accumulate,
            points,
            to_next_point,
            ..all
        }
    }

    /// The number of results that have to be added up; 1 if there is nothing to add.
    pub fn parts(&self) -> usize {
        self.grid.parts
    }

    /// Elements of one part's result: those of the packed weights.
    pub fn part_len(&self) -> usize {
        self.panels * panel_len(self.k, self.nr)
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> usize {
        self.points * self.gradient.shape().pixels() * self.k * self.gradient.channels
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.points * self.items_of_point()
    }

    fn items_of_point(&self) -> usize {
        self.grid.parts * self.grid.panel_blocks * self.grid.k_blocks
    }

    /// Bytes of a worker's scratch memory.
    pub fn scratch_bytes(&self) -> usize {
        let panels = self.grid.panels * self.nr;
        ROWS * (self.windows_stride() + panels) * size_of::<f32>()
    }

    /// Elements from a copied window to the next: an odd number of cache lines, so that the same place of each
    /// falls into another set of the first-level cache.
    fn windows_stride(&self) -> usize {
        const LINE: usize = line_of::<f32>();
        (self.grid.k.div_ceil(LINE) | 1) * LINE
    }

    /// The distance of dy's pixels, if its panels are read where they lie.
    fn gradient_in_place(&self) -> Option<usize> {
        match self.gradient.channels.is_multiple_of(self.nr) {
            true => Walk::over(&self.gradient).even_stride(&self.gradient),
            false => None,
        }
    }

    /// The item's part, panels and k.
    fn item(&self, item: usize) -> (usize, Range<usize>, Range<usize>) {
        let grid = self.grid;
        let (rest, k_block) = (item / grid.k_blocks, item % grid.k_blocks);
        let (part, block) = (rest / grid.panel_blocks, rest % grid.panel_blocks);
        let panel = block * grid.panels;
        let k = k_block * grid.k;
        (
            part,
            panel..(panel + grid.panels).min(self.panels),
            k..(k + grid.k).min(self.k),
        )
    }

    /// Does one item.
    ///
    /// - `out`: the results of all parts or products, [`part_len`](Self::part_len) values each.
    /// - `scratch`: [`scratch_bytes`](Self::scratch_bytes) bytes, aligned for f32, of this worker.
    ///
    /// # Safety
    /// The views lie inside `arena`, and no thread writes them meanwhile; all threads are past the
    /// steps before, and each item is done by one thread. `out` and `scratch` are valid for reads and
    /// writes, and overlap nothing.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        out: *mut f32,
        scratch: *mut f32,
        kernels: &WeightGradientKernels,
    ) {
        let (point, item) = (item / self.items_of_point(), item % self.items_of_point());
        let [input_bytes, gradient_bytes] = self.to_next_point.map(|bytes| point * bytes);
        let (part, panels, ks) = self.item(item);
        let arena_of_input = arena.wrapping_add(input_bytes);
        let (nr, mr) = (kernels.nr, kernels.tiles.len());
        let m = self.gradient.shape().pixels();
        let out = out.wrapping_add((point + part) * self.part_len());
        let (dy, windows) = (scratch, scratch.wrapping_add(ROWS * panels.len() * nr));
        let first = part * self.grid.rows;
        let last = (first + self.grid.rows).min(m);
        let mut rows = [ptr::null_mut::<f32>(); PIXELS];
        let block = ROWS * kernels.depth;
        let in_place = kernels.depth == 1;
        for start in (first..last).step_by(block) {
            let count = block.min(last - start);
            let walk = Walk::over(&self.gradient).shifted(gradient_bytes);
            walk.fill(&self.gradient, start, arena, &mut rows[..count]);
            let (b, b_stride, to_panel) = match self.gradient_in_place().filter(|_| in_place) {
                Some(stride) => {
                    let panel = rows[0].wrapping_add(panels.start * nr);
                    (panel.cast_const(), stride, nr)
                }
                None => {
                    // SAFETY: the caller keeps the same contract; the scratch holds all panels.
                    unsafe { self.pack_gradient(&rows[..count], &panels, dy, kernels) };
                    (dy.cast_const(), nr, ROWS * nr)
                }
            };
            let there = self.input.in_place(&self.gradient, start, arena_of_input);
            let (a, a_stride) = match there.filter(|_| in_place) {
                Some((first, stride)) => (first.wrapping_add(ks.start), stride),
                None => {
                    let from = Windows {
                        out: &self.gradient,
                        pixels: start..start + count,
                        panel: panels.start,
                        ks: ks.clone(),
                    };
                    let (input, to) = (&self.input, (windows, self.windows_stride()));
                    // SAFETY: the caller keeps the same contract; the scratch holds all windows.
                    unsafe { input.copy_windows(&from, arena_of_input, to, kernels.pack) };
                    (windows.cast_const(), self.windows_stride())
                }
            };
            for (i, panel) in panels.clone().enumerate() {
                let panel_out = out.wrapping_add(panel * panel_len(self.k, nr) + nr);
                for tile in even(ks.clone(), mr) {
                    let args = OuterArgs {
                        a: a.wrapping_add(tile.start - ks.start),
                        a_stride,
                        b: b.wrapping_add(i * to_panel),
                        b_stride,
                        rows: count.div_ceil(kernels.depth),
                        out: panel_out.wrapping_add(tile.start * nr),
                        accumulate: self.accumulate || start > first,
                    };
                    // SAFETY: the windows, the panels, and a tile of the result.
                    unsafe { (kernels.tiles[tile.len() - 1])(&args) };
                }
            }
        }
    }

    /// Copies some panels of dy, `[ROWS, NR]` each.
    ///
    /// # Safety
    /// As for [`WeightGradient::run_item`]; `rows` are pixels of dy.
    unsafe fn pack_gradient(
        &self,
        rows: &[*mut f32],
        panels: &Range<usize>,
        out: *mut f32,
        kernels: &WeightGradientKernels,
    ) {
        let nr = self.nr;
        let mut starts = [ptr::null::<f32>(); PIXELS];
        for (start, row) in starts.iter_mut().zip(rows) {
            *start = row.cast_const();
        }
        for (i, panel) in panels.clone().enumerate() {
            let channels = nr.min(self.gradient.channels - panel * nr);
            // SAFETY: the panel's channels of the rows, and its place in the scratch.
            unsafe {
                (kernels.pack)(&PackArgs {
                    rows: &starts[..rows.len()],
                    first: panel * nr,
                    len: channels,
                    norm: None,
                    out: out.add(i * ROWS * nr),
                    width: nr,
                    zeros: nr - channels,
                });
            }
        }
    }
}

/// Cuts a range into runs of at most `most`, as even as can be.
fn even(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (len, count) = (range.len(), range.len().div_ceil(most));
    let cut = move |i: usize| range.start + i * len / count;
    (0..count).map(move |i| cut(i)..cut(i + 1))
}
