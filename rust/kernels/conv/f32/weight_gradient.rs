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

use super::outer::{OuterArgs, OuterTile, PackArgs, PackRows, outer_tile, pack_rows};
use super::pack::panel_len;
use super::parts::{SumPartsRow, sum_parts};
use super::tiles::tiles;
use super::transposed::{Transpose, transpose};
use crate::kernels::conv::source::{Source, Walk};
use crate::kernels::conv::window::ChannelWindow;
use crate::kernels::view::{View, line_of};
use crate::shape::Window;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// Rows of a block, of a pixel each, in bf16 of a pair: a panel of dy and a tile of windows stay in the first-level
/// cache.
const ROWS: usize = 128;

/// The most pixels of a block.
const PIXELS: usize = 2 * ROWS;

/// The tiles of k of an item, at most: their windows stay in the second-level cache.
const TILES: usize = 37;

/// The tiles of k of an item, at least, if it has as many.
const LEAST_TILES: usize = 4;

/// The panels of an item, at most.
const PANELS: usize = 4;

/// Items of a layer that parts are made for.
const ITEMS: usize = 64;

/// The most bytes of all parts' results.
const PARTS_BYTES: usize = 8 << 20;

/// The routines of weight gradients, for one tier. Only a proof that this machine has the tier makes
/// them.
#[derive(Clone, Copy)]
pub struct WeightGradientKernels {
    nr: usize,
    /// Pixels of a row that is multiplied: 2 in bf16, which reads copied rows only.
    depth: usize,
    tiles: &'static [OuterTile],
    pack: PackRows,
    /// The sum of parts.
    pub sum: SumPartsRow,
    /// The transposition of weights, for the gradient by the input.
    pub transpose: Transpose,
}

impl WeightGradientKernels {
    /// The kernels of the portable tier.
    pub(in crate::kernels) fn portable(proof: Portable) -> Self {
        Self::new(proof, tiles!(outer_tile::<Portable>: OuterTile))
    }

    /// The kernels of AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2(proof: Avx2) -> Self {
        Self::new(proof, tiles!(outer_tile::<Avx2>: OuterTile))
    }

    /// The kernels of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512(proof: Avx512) -> Self {
        Self::new(proof, tiles!(outer_tile::<Avx512>: OuterTile))
    }

    fn new<S: Simd>(_proof: S, tiles: &'static [OuterTile]) -> Self {
        assert_eq!(tiles.len(), S::MR);
        Self {
            nr: 2 * S::LANES,
            depth: 1,
            tiles,
            pack: pack_rows::<S>,
            sum: sum_parts::<S>,
            transpose: transpose::<S>,
        }
    }

    /// The same with products of pairs of pixels in bf16.
    pub(in crate::kernels::conv) fn in_pairs(
        self,
        tiles: &'static [OuterTile],
        pack: PackRows,
    ) -> Self {
        Self {
            depth: 2,
            tiles,
            pack,
            ..self
        }
    }
}

/// The input of a convolution, as its weights' gradient reads it.
#[derive(Clone, Debug)]
pub enum GradientInput {
    /// A tensor with its border of zeros, read like in the convolution.
    Stored(Source),
    /// `max(0, y · scale + shift)` of another convolution's output, and zero beyond the image.
    Normalized {
        /// The output y.
        y: View,
        /// The place of the scales in the arena.
        scale_bytes: usize,
        /// The place of the shifts.
        shift_bytes: usize,
        /// The window of the convolution that reads the activation.
        window: Window,
        /// The channels that each of its panels reads.
        channels: ChannelWindow,
    },
}

impl GradientInput {
    /// Contiguous elements of a tap.
    fn tap_len(&self) -> usize {
        match self {
            Self::Stored(source) => source.tap_len,
            Self::Normalized { channels, .. } => channels.len,
        }
    }

    fn k(&self) -> usize {
        match self {
            Self::Stored(source) => source.k(),
            Self::Normalized {
                window, channels, ..
            } => window.kernel * window.kernel * channels.len,
        }
    }

    /// True if all panels read the same rows.
    fn is_whole(&self) -> bool {
        match self {
            Self::Stored(source) => source.taps.len() == 1,
            Self::Normalized { channels, .. } => channels.is_whole(),
        }
    }
}

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

/// A weight gradient as items of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GradientGrid {
    parts: usize,
    /// Pixels of a part.
    rows: usize,
    panels: usize,
    panel_blocks: usize,
    k: usize,
    k_blocks: usize,
}

impl GradientGrid {
    /// Parts by shapes alone; blocks of panels and of k, which leave sums as they are, for about `wanted` items
    /// or more.
    fn choose(
        m: usize,
        k: usize,
        panels: usize,
        shape: [usize; 2],
        is_whole: bool,
        wanted: usize,
    ) -> Self {
        let [mr, nr] = shape;
        let k_blocks = k.div_ceil(TILES * mr);
        let each = if is_whole { PANELS.min(panels) } else { 1 };
        let panel_blocks = panels.div_ceil(each);
        let bytes = panels * panel_len(k, nr) * size_of::<f32>();
        // Parts of a few blocks of pixels at least: the sums of all are added up afterwards.
        let parts = (ITEMS.div_ceil(k_blocks * panel_blocks))
            .min(m.div_ceil(4 * ROWS))
            .min((PARTS_BYTES / bytes).max(1));
        let rows = m.div_ceil(parts).next_multiple_of(ROWS);
        let parts = m.div_ceil(rows);
        // More blocks of k first: for each of panels, windows are copied anew.
        let fewest = wanted.div_ceil(parts);
        let k_blocks = fewest
            .div_ceil(panel_blocks)
            .clamp(k_blocks, k.div_ceil(LEAST_TILES * mr).max(k_blocks));
        let k_each = k.div_ceil(k_blocks).next_multiple_of(mr);
        let k_blocks = k.div_ceil(k_each);
        let panel_blocks = fewest.div_ceil(k_blocks).clamp(panel_blocks, panels);
        let each = panels.div_ceil(panel_blocks);
        Self {
            parts,
            rows,
            panels: each,
            panel_blocks: panels.div_ceil(each),
            k: k_each,
            k_blocks,
        }
    }
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

    /// The windows' first elements and their distance, if they are read where they lie: those of one pixel,
    /// evenly far apart.
    fn windows_in_place(&self, arena: *mut u8, first: usize) -> Option<(*const f32, usize)> {
        let GradientInput::Stored(source) = &self.input else {
            return None;
        };
        let walk = source.walk();
        let stride = walk.even_stride(&self.gradient)?;
        if !source.is_pixel() || source.taps.len() > 1 {
            return None;
        }
        let mut start = [ptr::null_mut::<f32>()];
        walk.fill(&self.gradient, first, arena, &mut start);
        let window = start[0].wrapping_add(source.taps[0][0]);
        Some((window.cast_const(), stride))
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
            let (a, a_stride) = match self
                .windows_in_place(arena_of_input, start)
                .filter(|_| in_place)
            {
                Some((first, stride)) => (first.wrapping_add(ks.start), stride),
                None => {
                    let pixels = start..start + count;
                    // SAFETY: the caller keeps the same contract; the scratch holds all windows.
                    unsafe {
                        self.pack_windows(
                            pixels,
                            panels.start,
                            &ks,
                            arena_of_input,
                            windows,
                            kernels,
                        );
                    }
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
        if kernels.depth > 1 {
            let first = panels.start * nr;
            let len = (panels.end * nr).min(self.gradient.channels) - first;
            // SAFETY: the panels' channels of the rows, and their places in the scratch.
            unsafe {
                (kernels.pack)(&PackArgs {
                    rows: &starts[..rows.len()],
                    first,
                    len,
                    norm: None,
                    out,
                    width: nr,
                    panels: Some([nr, ROWS * nr]),
                    zeros: panels.len() * nr - len,
                });
            }
            return;
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
                    panels: None,
                    zeros: nr - channels,
                });
            }
        }
    }

    /// Copies elements `ks` of the windows of some pixels into rows, [`windows_stride`](Self::windows_stride)
    /// elements apart.
    ///
    /// # Safety
    /// As for [`WeightGradient::run_item`].
    unsafe fn pack_windows(
        &self,
        pixels: Range<usize>,
        panel: usize,
        ks: &Range<usize>,
        arena: *mut u8,
        out: *mut f32,
        kernels: &WeightGradientKernels,
    ) {
        let (tap_len, count) = (self.input.tap_len(), pixels.len());
        let mut rows = [ptr::null::<f32>(); PIXELS];
        let mut starts = [ptr::null_mut::<f32>(); PIXELS];
        if let GradientInput::Stored(source) = &self.input {
            let starts = &mut starts[..count];
            source
                .walk()
                .fill(&self.gradient, pixels.start, arena, starts);
        }
        let mut k = ks.start;
        while k < ks.end {
            let (tap, c) = (k / tap_len, k % tap_len);
            let len = (tap_len - c).min(ks.end - k);
            self.tap_rows(tap, panel, &pixels, &starts, arena, &mut rows);
            let norm = match &self.input {
                GradientInput::Stored(_) => None,
                GradientInput::Normalized {
                    scale_bytes,
                    shift_bytes,
                    channels,
                    ..
                } => {
                    let at = (channels.start(panel) + c) * size_of::<f32>();
                    let of = |bytes: usize| arena.wrapping_add(bytes + at).cast::<f32>();
                    Some((of(*scale_bytes).cast_const(), of(*shift_bytes).cast_const()))
                }
            };
            // SAFETY: the tap's elements lie inside the view, and the results inside the scratch.
            unsafe {
                (kernels.pack)(&PackArgs {
                    rows: &rows[..count],
                    first: c,
                    len,
                    norm,
                    out: out.add(k - ks.start),
                    width: self.windows_stride(),
                    panels: None,
                    zeros: 0,
                });
            }
            k += len;
        }
    }

    /// The starts of tap `tap` of some pixels' windows; null beyond the image.
    fn tap_rows(
        &self,
        tap: usize,
        panel: usize,
        pixels: &Range<usize>,
        starts: &[*mut f32; PIXELS],
        arena: *mut u8,
        rows: &mut [*const f32; PIXELS],
    ) {
        match &self.input {
            GradientInput::Stored(source) => {
                let taps = &source.taps[panel.min(source.taps.len() - 1)];
                for (row, start) in rows.iter_mut().zip(&starts[..pixels.len()]) {
                    *row = start.wrapping_add(taps[tap]).cast_const();
                }
            }
            GradientInput::Normalized {
                y,
                window,
                channels,
                ..
            } => {
                let (ky, kx) = (tap / window.kernel, tap % window.kernel);
                let (height, width) = (self.gradient.height, self.gradient.width);
                let channel = channels.start(panel) * size_of::<f32>();
                for (row, m) in rows.iter_mut().zip(pixels.clone()) {
                    let (n, oy, ox) = (m / (height * width), m / width % height, m % width);
                    let inside = window.input(oy, ky, y.height);
                    let inside = inside.zip(window.input(ox, kx, y.width));
                    *row = inside.map_or(ptr::null(), |(iy, ix)| {
                        let at = y.pixel_bytes(n, iy, ix) + channel;
                        arena.wrapping_add(at).cast::<f32>().cast_const()
                    });
                }
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
