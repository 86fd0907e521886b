//! The weights' transform while training: from packed weights, before each use.
//!
//! Weights change with each step, so their transform is a step of the plan like any other. The
//! gradient by the input is a convolution with the windows turned by 180 degrees and inputs and outputs
//! exchanged; it has a transform of its own.

// Loops over indices instead of iterators or closures: if the compiler does not inline those, they are
// compiled without the tier's instructions.
#![allow(clippy::needless_range_loop)]

use super::scheme::{Doubles, Scheme};
use super::size::TileSize;
use crate::kernels::conv::TileShape;
use crate::kernels::conv::f32::{Transpose, TransposeArgs, panel_len};
use crate::kernels::conv::mixed::{RoundRow, RoundRowArgs};
use crate::kernels::view::line_of;
use crate::simd::Simd;

/// The most channels of a panel.
const MAX_NR: usize = 32;

/// Weights of an item for each tap: they stay in the first-level cache.
const ITEM: usize = 512;

/// Values that are transformed together.
const LANES: usize = size_of::<Doubles>() / size_of::<f64>();

/// The arguments of a transform of some rows: `u[point, i] = (G g[i] Gᵀ)[point]`.
pub struct RowArgs {
    /// The rows of tap 0.
    pub g: *const f32,
    /// Elements from a tap to the next.
    pub tap_stride: isize,
    /// The results at point 0.
    pub u: *mut f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
    /// Elements, a multiple of 8.
    pub len: usize,
}

/// # Safety
/// The machine has the tier; `len` values of each tap are valid for reads, and as many at each point for
/// writes.
pub type TransformRow = unsafe fn(&RowArgs);

/// The transform of tier `S` by scheme `T`, in f64, rounded once.
///
/// # Safety
/// See [`TransformRow`].
pub(super) unsafe fn transform_row<S, T, const M: usize, const A: usize>(args: &RowArgs)
where
    S: Simd,
    T: Scheme<M, A>,
{
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for i in (0..args.len).step_by(LANES) {
                    let mut half = [[Doubles::default(); 3]; A];
                    for x in 0..3 {
                        let mut column = [Doubles::default(); 3];
                        for y in 0..3 {
                            let tap = (3 * y + x) as isize * args.tap_stride;
                            let g = args.g.offset(tap).add(i);
                            for lane in 0..LANES {
                                column[y][lane] = f64::from(*g.add(lane));
                            }
                        }
                        let column = T::weights(column);
                        for y in 0..A {
                            half[y][x] = column[y];
                        }
                    }
                    for y in 0..A {
                        let row = T::weights(half[y]);
                        for x in 0..A {
                            let u = args.u.add((y * A + x) * args.point_stride + i);
                            for lane in 0..LANES {
                                *u.add(lane) = row[x][lane] as f32;
                            }
                        }
                    }
                }
            },
        );
    }
}

/// The transform of a layer's packed weights into the matrices of all points, and the layer's biases; zeros
/// in their place for a gradient.
#[derive(Clone, Debug)]
pub struct TransformPacked {
    /// The size of the tiles.
    pub size: TileSize,
    /// The place of the packed weights among the parameters.
    pub weights_bytes: usize,
    /// The place of the result in the arena.
    pub out_bytes: usize,
    /// Channels of the convolution's input.
    pub in_channels: usize,
    /// Channels of its output.
    pub out_channels: usize,
    /// True for the gradient by the input: windows are turned, inputs and outputs exchanged.
    pub transposed: bool,
    /// The tile that multiplies by the result. Its panels are as wide as those of the weights.
    pub tile: TileShape,
}

/// The routines of [`TransformPacked`], of one tier.
#[derive(Clone, Copy)]
pub struct PackedRoutines {
    /// The transform of rows, by the scheme of the size.
    pub transform: TransformRow,
    /// Turns weights.
    pub transpose: Transpose,
    /// Makes pairs of rows, for tiles that read such.
    pub round: Option<RoundRow>,
}

impl TransformPacked {
    /// True if the result is pairs of rows in bf16.
    pub fn is_rounded(&self) -> bool {
        self.tile.depth > 1
    }

    /// Rows of a point's matrix, and its columns.
    fn sides(&self) -> [usize; 2] {
        match self.transposed {
            false => [self.in_channels, self.out_channels],
            true => [self.out_channels, self.in_channels],
        }
    }

    /// Rows of an item. Turned weights come in squares.
    fn block_rows(&self) -> usize {
        match self.transposed {
            false => ITEM / self.tile.nr,
            true => self.tile.nr,
        }
    }

    fn blocks(&self) -> usize {
        self.sides()[0].div_ceil(self.block_rows())
    }

    fn matrix_len(&self) -> usize {
        let [rows, columns] = self.sides();
        self.tile.panels(columns) * self.tile.panel_len(rows)
    }

    /// Bytes of a worker's scratch memory.
    pub fn scratch_bytes(&self) -> usize {
        match self.is_rounded() {
            false => 0,
            true => self.size.points() * self.scratch_stride() * size_of::<f32>(),
        }
    }

    /// From a point's rows to the next point's in the scratch memory: a line more than they need, so that the same
    /// place of each falls into another set of the first-level cache.
    fn scratch_stride(&self) -> usize {
        self.block_rows() * self.tile.nr + line_of::<f32>()
    }

    /// Bytes of the result: the matrices, and a bias for each output.
    pub fn len_bytes(&self) -> usize {
        let biases = self.sides()[1].next_multiple_of(line_of::<f32>());
        (self.size.points() * self.matrix_len() + biases) * size_of::<f32>()
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.tile.panels(self.sides()[1]) * self.blocks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of the routines, and the transform is that of the size; the result lies inside
    /// `arena`; each item is done by one thread. `scratch` is [`scratch_bytes`](Self::scratch_bytes) bytes of this
    /// worker.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels, or the tile reads pairs and no routine makes them.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[f32],
        scratch: *mut f32,
        routines: &PackedRoutines,
    ) {
        let (nr, rows) = (self.tile.nr, self.sides()[0]);
        let (panel, block) = (item / self.blocks(), item % self.blocks());
        let out = arena.wrapping_add(self.out_bytes).cast::<f32>();
        let panel_out = out.wrapping_add(panel * self.tile.panel_len(rows));
        if block == 0 {
            for point in 0..self.size.points() {
                // SAFETY: the panel's place for biases at this point.
                unsafe { panel_out.add(point * self.matrix_len()).write_bytes(0, nr) };
            }
        }
        let weights = &weights[self.weights_bytes / size_of::<f32>()..];
        if item == 0 {
            // SAFETY: the caller keeps the same contract.
            unsafe { self.write_biases(out, weights) };
        }
        let first = block * self.block_rows();
        let count = self.block_rows().min(rows - first);
        let place = panel_out.wrapping_add(nr * (1 + first / self.tile.depth));
        let (u, point_stride) = match self.is_rounded() {
            false => (place, self.matrix_len()),
            true => (scratch, self.scratch_stride()),
        };
        let args = RowArgs {
            g: std::ptr::null(),
            tap_stride: 0,
            u,
            point_stride,
            len: count * nr,
        };
        // SAFETY: the caller keeps the same contract; no other item touches the rows' place at each point.
        unsafe {
            match self.transposed {
                false => self.transform_rows([panel, first], weights, args, routines),
                true => self.transform_turned([panel, block], weights, args, routines),
            }
        }
        if self.is_rounded() {
            let round = routines
                .round
                .unwrap_or_else(|| unreachable!("a tile of pairs comes with its rounding"));
            for point in 0..self.size.points() {
                let args = RoundRowArgs {
                    from: u.wrapping_add(point * point_stride),
                    rows: count,
                    // Blocks have an even number of rows.
                    to: place.wrapping_add(point * self.matrix_len()).cast(),
                };
                // SAFETY: the rows at this point, and their pairs in the result, which no other item touches.
                unsafe { round(&args) };
            }
        }
    }

    /// Places of a panel of the weights.
    fn weights_panel_len(&self) -> usize {
        panel_len(9 * self.in_channels, self.tile.nr)
    }

    /// Writes the biases after the matrices: those of the layer, or zeros for a gradient.
    ///
    /// # Safety
    /// As for [`TransformPacked::run_item`].
    unsafe fn write_biases(&self, out: *mut f32, weights: &[f32]) {
        let columns = self.sides()[1];
        let place = out.wrapping_add(self.size.points() * self.matrix_len());
        // SAFETY: the layer's biases, after the matrices.
        let place = unsafe {
            place.write_bytes(0, columns.next_multiple_of(line_of::<f32>()));
            std::slice::from_raw_parts_mut(place, columns)
        };
        if !self.transposed {
            for (panel, place) in place.chunks_mut(self.tile.nr).enumerate() {
                place.copy_from_slice(&weights[panel * self.weights_panel_len()..][..place.len()]);
            }
        }
    }

    /// Transforms the rows of a panel from row `first` on.
    ///
    /// # Safety
    /// As for [`TransformPacked::run_item`]; `args` has the place of the result.
    unsafe fn transform_rows(
        &self,
        [panel, first]: [usize; 2],
        weights: &[f32],
        args: RowArgs,
        routines: &PackedRoutines,
    ) {
        let nr = self.tile.nr;
        let tap =
            |t: usize| panel * self.weights_panel_len() + nr * (1 + t * self.in_channels + first);
        let args = RowArgs {
            g: weights[tap(0)..tap(8) + args.len].as_ptr(),
            tap_stride: (nr * self.in_channels) as isize,
            ..args
        };
        // SAFETY: the rows of nine taps; the caller guarantees the rest.
        unsafe { (routines.transform)(&args) };
    }

    /// The same for a square of the turned weights: panel `block` of the weights has the rows.
    ///
    /// # Safety
    /// As for [`TransformPacked::run_item`]; `args` has the place of the result.
    unsafe fn transform_turned(
        &self,
        [panel, block]: [usize; 2],
        weights: &[f32],
        args: RowArgs,
        routines: &PackedRoutines,
    ) {
        let nr = self.tile.nr;
        let mut turned = [0.0; 9 * MAX_NR * MAX_NR];
        let square = nr * nr;
        let ins = nr.min(self.sides()[1] - panel * nr);
        let sides = [ins, args.len / nr, nr];
        for (t, turned) in turned.chunks_exact_mut(square).take(9).enumerate() {
            let at =
                block * self.weights_panel_len() + nr * (1 + t * self.in_channels + panel * nr);
            // SAFETY: the caller guarantees the tier.
            unsafe {
                turn(
                    &weights[at..][..ins * nr],
                    turned,
                    sides,
                    routines.transpose,
                )
            };
        }
        let args = RowArgs {
            // SAFETY: the last of nine squares. The pointer is the whole array's: strides lead back from it.
            g: unsafe { turned.as_ptr().add(8 * square) },
            tap_stride: -(square as isize),
            ..args
        };
        // SAFETY: nine squares, the last one first; the caller guarantees the rest.
        unsafe { (routines.transform)(&args) };
    }
}

/// Exchanges rows and columns: `count` columns of `from`, `[ins, nr]`, become the rows of `to`, `[count, nr]`.
///
/// # Safety
/// The machine has the tier of `transpose`, whose panels have `nr` channels.
unsafe fn turn(from: &[f32], to: &mut [f32], [ins, count, nr]: [usize; 3], transpose: Transpose) {
    let whole = nr / 2;
    if ins.is_multiple_of(whole) && count.is_multiple_of(whole) {
        let args = TransposeArgs {
            from: from.as_ptr(),
            from_stride: nr,
            to: to.as_mut_ptr(),
            to_stride: nr,
            rows: ins,
            columns: count,
        };
        // SAFETY: `ins` rows of a panel's width, and as many columns of a square.
        unsafe { transpose(&args) };
        return;
    }
    for (i, row) in from.chunks_exact(nr).enumerate() {
        for (o, &value) in row[..count].iter().enumerate() {
            to[o * nr + i] = value;
        }
    }
}
