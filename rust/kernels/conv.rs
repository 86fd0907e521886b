//! A convolution layer: which work there is, and how a thread does its share of it.
//!
//! ```text
//! for each block of up to MAX_ROWS output pixels      (shared out among the threads)
//!   for each block of panels of NR channels           (shared out where pixels are few)
//!     for each panel                                  its weights stay in L1 or L2
//!       for each tile of up to MR pixels              conv_tile: registers
//! ```
//!
//! K is never split, so each output is summed in one order, whatever the shares are.

use std::ops::Range;
use std::ptr;

use super::conv_tile::{Segment, TileArgs};
use super::table::KernelTable;
use super::view::{LINE, View};

/// The most output pixels of a block: their row pointers lie on the stack.
const MAX_ROWS: usize = 256;

/// The most inputs that are summed into one output.
pub const MAX_SOURCES: usize = 2;

/// The input channels that each panel of output channels reads: all of them, but for a grouped
/// convolution those of the groups that the panel's channels belong to.
///
/// All panels read as many, so that they are packed alike: weights between channels of different
/// groups are zeros. Where groups are narrower than a panel, most of its weights are; the products
/// with them cost less than leaving the panel's shape would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelWindow {
    /// Channels that a panel reads.
    pub len: usize,
    in_channels: usize,
    group_in: usize,
    group_out: usize,
    nr: usize,
}

impl ChannelWindow {
    /// For panels of `nr` output channels. `groups` divides both numbers of channels.
    pub fn new(in_channels: usize, out_channels: usize, groups: usize, nr: usize) -> Self {
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let groups_of = |first: usize| {
            let last = (first + nr).min(out_channels) - 1;
            last / group_out - first / group_out + 1
        };
        let most = (0..out_channels).step_by(nr).map(groups_of).max();
        Self {
            len: most.unwrap_or(1) * group_in,
            in_channels,
            group_in,
            group_out,
            nr,
        }
    }

    /// The first channel that panel `panel` reads.
    pub fn start(&self, panel: usize) -> usize {
        let first = panel * self.nr / self.group_out * self.group_in;
        first.min(self.in_channels - self.len)
    }

    /// The first channel of output channel `o`'s group, and how many it has.
    pub fn group(&self, o: usize) -> Range<usize> {
        let first = o / self.group_out * self.group_in;
        first..first + self.group_in
    }

    /// Whether every panel reads every channel.
    pub fn is_whole(&self) -> bool {
        self.len == self.in_channels
    }
}

/// One input of a convolution, with the window that is read from it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where the input lies.
    pub view: View,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// The padding of the window, at most the view's border.
    pub padding: usize,
    /// Offsets of the window's taps from its top left corner: for each panel, or once where all
    /// panels read the same.
    taps: Vec<Vec<usize>>,
    /// Contiguous elements of a tap.
    tap_len: usize,
}

impl Source {
    /// The taps of a `kernel` x `kernel` window over all channels of `view`.
    ///
    /// # Panics
    /// Where the view's border is narrower than `padding`.
    pub fn new(view: View, kernel: usize, stride: usize, padding: usize) -> Self {
        let all = ChannelWindow::new(view.channels, 1, 1, 1);
        Self::grouped(view, kernel, stride, padding, all, 1)
    }

    /// The taps of a `kernel` x `kernel` window over `view`, of which each of `panels` panels reads
    /// the channels that `channels` says.
    ///
    /// # Panics
    /// Where the view's border is narrower than `padding`, or `channels` is another view's.
    pub fn grouped(
        view: View,
        kernel: usize,
        stride: usize,
        padding: usize,
        channels: ChannelWindow,
        panels: usize,
    ) -> Self {
        assert!(padding <= view.border && channels.in_channels == view.channels);
        // Where pixels lie side by side, a row of the window is one run.
        let (columns, tap_len) = if view.pixel_stride == channels.len {
            (1, kernel * channels.len)
        } else {
            (kernel, channels.len)
        };
        let panels = if channels.is_whole() { 1 } else { panels };
        let tap = |ky: usize, kx: usize| ky * view.row_pitch + kx * view.pixel_stride;
        let taps = (0..panels)
            .map(|panel| {
                let start = channels.start(panel);
                let of_row = |ky| (0..columns).map(move |kx| start + tap(ky, kx));
                (0..kernel).flat_map(of_row).collect()
            })
            .collect();
        Self {
            view,
            stride,
            padding,
            taps,
            tap_len,
        }
    }

    /// K of a panel's matrix product: the elements of the window that it reads.
    pub fn k(&self) -> usize {
        self.taps[0].len() * self.tap_len
    }

    /// Whether the window is one pixel.
    pub fn is_pixel(&self) -> bool {
        self.taps[0].len() == 1
    }

    /// Where the window of output pixel (n, 0, 0) starts, and the steps from there.
    fn walk(&self) -> Walk {
        let v = &self.view;
        let inset = v.border - self.padding;
        Walk {
            start: v.offset + inset * (v.row_pitch + v.pixel_stride),
            image: v.image_stride,
            row: self.stride * v.row_pitch,
            pixel: self.stride * v.pixel_stride,
        }
    }
}

/// Offsets of pixels in the order of a convolution's output: `start + n·image + y·row + x·pixel`.
#[derive(Clone, Copy)]
struct Walk {
    start: usize,
    image: usize,
    row: usize,
    pixel: usize,
}

impl Walk {
    fn over(view: &View) -> Self {
        Self {
            start: view.pixel(0, 0, 0),
            image: view.image_stride,
            row: view.row_pitch,
            pixel: view.pixel_stride,
        }
    }

    /// Pointers into `arena` for the output pixels `first..first + pointers.len()` of `out`'s shape.
    fn fill(&self, out: &View, first: usize, arena: *mut f32, pointers: &mut [*mut f32]) {
        let (height, width) = (out.height, out.width);
        let (mut n, mut y, mut x) = (
            first / (height * width),
            first / width % height,
            first % width,
        );
        let mut filled = 0;
        while filled < pointers.len() {
            let run = (width - x).min(pointers.len() - filled);
            let start = self.start + n * self.image + y * self.row + x * self.pixel;
            for (i, pointer) in pointers[filled..filled + run].iter_mut().enumerate() {
                // Whoever follows the pointer vouches for its being inside the arena.
                *pointer = arena.wrapping_add(start + i * self.pixel);
            }
            filled += run;
            x = 0;
            y += 1;
            if y == height {
                y = 0;
                n += 1;
            }
        }
    }
}

/// How a layer's output is cut into items of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Output pixels of an item.
    pub rows: usize,
    /// Blocks of that many pixels.
    pub row_blocks: usize,
    /// Panels of an item.
    pub panels: usize,
    /// Blocks of that many panels.
    pub panel_blocks: usize,
}

impl Grid {
    /// Cuts `m` output pixels by `panels` panels for tiles of up to `mr` pixels into about
    /// `wanted` items or more: blocks of pixels first, so that a thread finds in its cache what it
    /// wrote in the layer before; panels where there are too few pixels; then smaller blocks.
    pub fn choose(m: usize, panels: usize, mr: usize, wanted: usize) -> Self {
        let tiles = m.div_ceil(mr);
        let mut row_blocks = tiles.div_ceil(MAX_ROWS / mr);
        let mut panel_blocks = wanted.div_ceil(row_blocks).min(panels);
        if row_blocks * panel_blocks < wanted {
            row_blocks = wanted.div_ceil(panel_blocks).min(tiles);
        }
        // Round to whole tiles and panels, then count the blocks that are left.
        let rows = tiles.div_ceil(row_blocks) * mr;
        let panels_each = panels.div_ceil(panel_blocks);
        row_blocks = m.div_ceil(rows);
        panel_blocks = panels.div_ceil(panels_each);
        Self {
            rows,
            row_blocks,
            panels: panels_each,
            panel_blocks,
        }
    }

    /// Items of work.
    pub fn len(&self) -> usize {
        self.row_blocks * self.panel_blocks
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How far inputs, output and weights lie from where a [`Conv`] says, in elements: for products of
/// the same shape that run one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shift {
    /// Of every source.
    pub input: usize,
    /// Of the output.
    pub out: usize,
    /// Of the packed weights.
    pub weights: usize,
}

/// A convolution as the plan has laid it out: `out = relu(bias + Σ sources + residual)`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// What is summed, in this order.
    pub sources: Vec<Source>,
    /// Where the packed weights start in the network's weights.
    pub weights: usize,
    /// What is added before ReLU; it may be where `out` is.
    pub residual: Option<View>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Where the output lies; the border is zeroed too.
    pub out: View,
    /// The items of work.
    pub grid: Grid,
}

impl Conv {
    /// Output pixels of all images.
    pub fn m(&self) -> usize {
        self.out.batch * self.out.height * self.out.width
    }

    /// Elements of a window over all sources.
    pub fn k(&self) -> usize {
        self.sources.iter().map(Source::k).sum()
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> usize {
        self.m() * self.k() * self.out.channels
    }

    /// Items that may run in any order, on any thread: the grid's, then each image's border.
    pub fn items(&self) -> usize {
        self.grid.len() + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The plan's views lie inside `arena`, and no two tensors that are alive at this step
    /// overlap, but for `residual` and `out`; `weights` holds the packed panels. All threads are
    /// past the steps before, and each item is done by one thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        table: &KernelTable,
    ) {
        if item < self.grid.len() {
            // SAFETY: the caller's.
            unsafe { self.run_block(item, arena, weights, table, Shift::default()) };
        } else {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - self.grid.len(), arena) };
        }
    }

    /// Does one item of the grid, on tensors that lie `shift` away from where the views say.
    ///
    /// # Safety
    /// As for [`Conv::run_item`]. A residual does not shift.
    pub(super) unsafe fn run_block(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        table: &KernelTable,
        shift: Shift,
    ) {
        let (nr, grid) = (table.nr, &self.grid);
        let (row_block, panel_block) = (item / grid.panel_blocks, item % grid.panel_blocks);
        let first_row = row_block * grid.rows;
        let rows = grid.rows.min(self.m() - first_row);
        let panel_len = nr * (1 + self.k());
        let channels = self.out.channels;
        let first_panel = panel_block * grid.panels;
        let panels = first_panel..(first_panel + grid.panels).min(channels.div_ceil(nr));
        let weights = &weights[self.weights + shift.weights..][..panels.end * panel_len];
        assert!(rows <= MAX_ROWS && self.sources.len() <= MAX_SOURCES);

        let shifted = |mut walk: Walk, shift: usize| {
            walk.start += shift;
            walk
        };
        let mut inputs = [[ptr::null_mut(); MAX_ROWS]; MAX_SOURCES];
        for (input, source) in inputs.iter_mut().zip(&self.sources) {
            let walk = shifted(source.walk(), shift.input);
            walk.fill(&self.out, first_row, arena, &mut input[..rows]);
        }
        let mut out = [ptr::null_mut(); MAX_ROWS];
        shifted(Walk::over(&self.out), shift.out).fill(
            &self.out,
            first_row,
            arena,
            &mut out[..rows],
        );
        let mut residual = [ptr::null_mut(); MAX_ROWS];
        if let Some(view) = &self.residual {
            Walk::over(view).fill(&self.out, first_row, arena, &mut residual[..rows]);
        }

        let segment = |i: usize, tile: &Range<usize>, panel: usize| {
            let source = &self.sources[i.min(self.sources.len() - 1)];
            Segment {
                rows: &inputs[i][tile.clone()],
                taps: &source.taps[panel.min(source.taps.len() - 1)],
                len: source.tap_len,
            }
        };
        for panel in panels {
            let packed = weights[panel * panel_len..].as_ptr();
            for (i, tile) in tiles(rows, table.mr()).enumerate() {
                let (ahead, ahead_lines) = ahead(i, rows.div_ceil(table.mr()), panel_len, nr);
                let segments: [Segment; MAX_SOURCES] =
                    std::array::from_fn(|source| segment(source, &tile, panel));
                let args = TileArgs {
                    segments: &segments[..self.sources.len()],
                    panel: packed,
                    out: &out[tile.clone()],
                    residual: self.residual.map(|_| &residual[tile.clone()]),
                    channel: panel * nr,
                    channels: nr.min(channels - panel * nr),
                    relu: self.relu,
                    ahead: packed.wrapping_add(ahead),
                    ahead_lines,
                };
                // SAFETY: `table` proves the tier; the slices have the tile's rows; the windows
                // lie inside their views, borders included, and those inside the arena.
                unsafe { table.conv_tiles[tile.len() - 1](&args) };
            }
        }
    }
}

/// How many of a panel's tiles fetch the next panel.
const AHEAD_TILES: usize = 4;

/// What tile `i` of `tiles` fetches of the panel after this one: where its share starts, counted
/// from this panel, and the cache lines for every four k.
///
/// Where pixels are few the weights are most of the traffic, and come from beyond the second-level
/// cache: a panel's first tile would wait for them. So the tiles before it share the fetching;
/// `cargo bench --bench conv -- layer4` shows what that is worth.
fn ahead(i: usize, tiles: usize, panel_len: usize, nr: usize) -> (usize, usize) {
    let sharers = tiles.min(AHEAD_TILES);
    if i >= sharers {
        return (0, 0);
    }
    let lines = (4 * nr / LINE).div_ceil(sharers);
    (panel_len + i * panel_len / sharers, lines)
}

/// Cuts `rows` into the fewest tiles of at most `mr` rows, as even as can be: a tile of two rows
/// would wait for each of its few accumulators.
fn tiles(rows: usize, mr: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(mr);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}
