//! The weights' transform while training: from packed weights, before each use.
//!
//! Weights change with each step, so their transform is a step of the plan like any other. The
//! gradient by the input is a convolution with the windows turned by 180 degrees and inputs and outputs
//! exchanged; it has a transform of its own.

use super::scheme::Scheme;
use super::size::TileSize;
use crate::kernels::conv::f32::{Transpose, TransposeArgs, panel_len};
use crate::kernels::view::line_of;
use crate::simd::Simd;

/// The most channels of a panel.
const MAX_NR: usize = 32;

/// Rows of an item.
const ROWS: usize = 32;

/// The arguments of a row's transform: `u[point, i] = (G g[i] Gᵀ)[point]`.
pub struct RowArgs<'a> {
    /// For each tap the row's `nr` weights, 9 · nr in all.
    pub g: [&'a [f32]; 9],
    /// The results at point 0.
    pub u: *mut f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
}

/// # Safety
/// The machine has the tier; `u` is valid for writing `g[0].len()` values at each point.
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
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            let nr = args.g[0].len().min(MAX_NR);
            let mut half = [[[0.0_f64; MAX_NR]; 3]; A];
            for (row, g) in half.iter_mut().zip(&T::G) {
                for (x, half) in row.iter_mut().enumerate() {
                    let (a, b, c) = (args.g[x], args.g[3 + x], args.g[6 + x]);
                    for i in 0..nr {
                        half[i] = g[0] * f64::from(a[i])
                            + g[1] * f64::from(b[i])
                            + g[2] * f64::from(c[i]);
                    }
                }
            }
            for (y, half) in half.iter().enumerate() {
                for (x, g) in T::G.iter().enumerate() {
                    // SAFETY: the row's values at this point.
                    let u = unsafe {
                        let u = args.u.add((y * A + x) * args.point_stride);
                        std::slice::from_raw_parts_mut(u, nr)
                    };
                    for (i, u) in u.iter_mut().enumerate() {
                        *u = (g[0] * half[0][i] + g[1] * half[1][i] + g[2] * half[2][i]) as f32;
                    }
                }
            }
        },
    );
}

/// The transform of a layer's packed weights into the matrices of all points, without biases, which follow.
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
    /// Channels of a panel.
    pub nr: usize,
}

impl TransformPacked {
    /// Rows of a point's matrix, and its columns.
    fn sides(&self) -> [usize; 2] {
        match self.transposed {
            false => [self.in_channels, self.out_channels],
            true => [self.out_channels, self.in_channels],
        }
    }

    fn blocks(&self) -> usize {
        self.sides()[0].div_ceil(ROWS)
    }

    fn matrix_len(&self) -> usize {
        let [rows, columns] = self.sides();
        columns.div_ceil(self.nr) * panel_len(rows, self.nr)
    }

    /// Bytes of the result: the matrices, and a bias for each output.
    pub fn len_bytes(&self) -> usize {
        let biases = self.sides()[1].next_multiple_of(line_of::<f32>());
        (self.size.points() * self.matrix_len() + biases) * size_of::<f32>()
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.sides()[1].div_ceil(self.nr) * self.blocks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The result lies inside `arena`; `transform` is that of the size; each item is done by one
    /// thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[f32],
        transform: TransformRow,
        transpose: Transpose,
    ) {
        let (nr, [rows, columns]) = (self.nr, self.sides());
        let (panel, block) = (item / self.blocks(), item % self.blocks());
        let out = arena.wrapping_add(self.out_bytes).cast::<f32>();
        let panel_out = out.wrapping_add(panel * panel_len(rows, nr));
        if block == 0 {
            for point in 0..self.size.points() {
                // SAFETY: the panel's place for biases at this point.
                unsafe { panel_out.add(point * self.matrix_len()).write_bytes(0, nr) };
            }
        }
        let from = panel_len(9 * self.in_channels, nr);
        let weights = &weights[self.weights_bytes / size_of::<f32>()..];
        if block == 0 {
            // Biases follow the matrices; those of turned windows are zeros.
            let biases = columns.next_multiple_of(line_of::<f32>());
            let range = panel * nr..((panel + 1) * nr).min(biases);
            let bias = out.wrapping_add(self.size.points() * self.matrix_len() + range.start);
            // SAFETY: the panel's biases, which no other item touches.
            let bias = unsafe { std::slice::from_raw_parts_mut(bias, range.len()) };
            match self.transposed {
                false => bias.copy_from_slice(&weights[panel * from..][..range.len()]),
                true => bias.fill(0.0),
            }
        }
        let first = block * ROWS;
        let last = (first + ROWS).min(rows);
        // For the turned weights: each tap's block, inputs and outputs exchanged.
        let mut turned = [[[0.0; MAX_NR]; ROWS]; 9];
        if self.transposed {
            let count = nr.min(columns - panel * nr);
            for (t, turned) in turned.iter_mut().enumerate() {
                let at = |row: usize| {
                    let place = nr * (1 + (8 - t) * self.in_channels + panel * nr);
                    row / nr * from + place + row % nr
                };
                let whole = nr / 2;
                if count.is_multiple_of(whole) && (last - first).is_multiple_of(whole) {
                    for row in (first..last).step_by(whole) {
                        let args = TransposeArgs {
                            from: weights[at(row)..].as_ptr(),
                            from_stride: nr,
                            to: turned[row - first].as_mut_ptr(),
                            to_stride: MAX_NR,
                            rows: count,
                            columns: whole,
                        };
                        // SAFETY: half a panel's columns of `count` rows, and as many rows of the block.
                        unsafe { transpose(&args) };
                    }
                } else {
                    for row in first..last {
                        let column = &weights[at(row)..];
                        for (i, slot) in turned[row - first][..count].iter_mut().enumerate() {
                            *slot = column[i * nr];
                        }
                    }
                }
            }
        }
        for row in first..last {
            let g: [&[f32]; 9] = match self.transposed {
                false => std::array::from_fn(|t| {
                    let at = panel * from + nr * (1 + t * self.in_channels + row);
                    &weights[at..][..nr]
                }),
                true => std::array::from_fn(|t| &turned[t][row - first][..nr]),
            };
            let args = RowArgs {
                g,
                u: panel_out.wrapping_add(nr * (1 + row)),
                point_stride: self.matrix_len(),
            };
            // SAFETY: the row's place at each point, which no other item touches.
            unsafe { transform(&args) };
        }
    }
}
