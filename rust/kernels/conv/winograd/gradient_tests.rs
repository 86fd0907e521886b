//! Convolutions by the packed weights' transforms, and both gradients, on every tier against the reference
//! loops.

use super::{
    PackedRoutines, PointProducts, TileBlock, TileSize, TransformGradient, TransformInput,
    TransformOutput, TransformPacked, WeightsGradient,
};
use crate::dtype::Dtype;
use crate::kernels::conv::f32::{WeightGradient, packed_len};
use crate::kernels::conv::{Conv, Grid, Shift, Source, TileShape};
use crate::kernels::reference::{self, Tensor};
use crate::kernels::reference_gradients::{conv2d_input_gradient, conv2d_weight_gradient};
use crate::kernels::testing::{
    Arena, CANARY, activations, assert_canaries, assert_close, lay_out, put, random, take,
};
use crate::kernels::testing_packed::{FIRST, Packed};
use crate::kernels::view::View;
use crate::kernels::{ActivationLayout, KernelTable};
use crate::shape::Window;

const SIZES: [TileSize; 2] = [TileSize::Two, TileSize::Four];

const WINDOW: Window = Window {
    kernel: 3,
    stride: 1,
    padding: 1,
    dilation: 1,
};

/// Shapes `[batch, height, width, in_channels]` and output channels: tiles that end with the image and
/// beyond it; channels around the edges of vectors, of panels and of blocks of rows.
fn shapes() -> Vec<([usize; 4], usize)> {
    if cfg!(miri) {
        return vec![([1, 3, 2, 3], 2)];
    }
    vec![
        ([1, 1, 1, 1], 9),
        ([2, 4, 8, 16], 32),
        ([3, 5, 7, 5], 9),
        ([1, 6, 3, 33], 17),
        ([2, 9, 10, 70], 40),
        ([1, 3, 11, 32], 64),
        ([1, 7, 5, 48], 16),
        ([1, 2, 13, 40], 130),
    ]
}

/// The tiles of images of `out`'s shape, in `blocks` blocks or fewer.
fn blocks(size: TileSize, out: &View, blocks: usize) -> Vec<TileBlock> {
    let tiles = out.batch * size.tiles(out.height, out.width);
    let each = tiles.div_ceil(blocks);
    (0..tiles)
        .step_by(each)
        .map(|start| TileBlock {
            size,
            tiles: start..(start + each).min(tiles),
            tiles_per_item: 3,
        })
        .collect()
}

/// A place for matrices of each point, with a row for each tile of a block.
fn matrices(size: TileSize, tiles: usize, channels: usize) -> View {
    ActivationLayout::Nhwc.matrices(Dtype::F32, size.points(), tiles, channels)
}

/// The convolution of `x` with `weights`, or the gradient of a convolution by an input of channels as `out`
/// has, if `x` is that of the output.
struct Layer<'a> {
    size: TileSize,
    x: &'a Tensor,
    /// `[out_channels, 3, 3, in_channels]`.
    weights: &'a Tensor,
    transposed: bool,
    /// Added by the convolution; the gradient leaves out biases.
    bias: &'a [f64],
    /// The values that the result is added to.
    old: Option<&'a Tensor>,
}

impl Layer<'_> {
    fn run(&self, count: usize, table: &KernelTable, what: &str) -> Tensor {
        let [batch, height, width, from] = self.x.shape;
        let [out_channels, _, _, in_channels] = self.weights.shape;
        let to = if self.transposed {
            in_channels
        } else {
            out_channels
        };
        let (size, nr) = (self.size, table.f32.conv.nr());
        let packed = Packed::new([in_channels, out_channels], 1, 3, nr);
        let mut parameters = packed.before(self.weights);
        if !self.transposed {
            // Those beyond the last channel stay canaries.
            let biases = self.bias.iter().enumerate();
            biases.for_each(|(o, &x)| parameters[FIRST + packed.bias(o)] = x as f32);
        }
        let mut transform = TransformPacked {
            size,
            weights_bytes: FIRST * size_of::<f32>(),
            out_bytes: 0,
            in_channels,
            out_channels,
            transposed: self.transposed,
            tile: table.f32.conv.tile(),
        };
        let out = activations([batch, height, width, to], 1);
        let all = blocks(size, &out, count);
        let tiles = all[0].tiles.len();
        let mut views = [
            activations(self.x.shape, 1),
            out,
            matrices(size, tiles, from),
            matrices(size, tiles, to),
            activations([1, 1, 1, transform.len_bytes() / size_of::<f32>()], 0),
        ];
        let mut arena = lay_out(&mut views);
        let [input, out, v, p, u] = views;
        put(self.x, &input, &mut arena);
        if let Some(old) = self.old {
            put(old, &out, &mut arena);
        }
        transform.out_bytes = u.offset_bytes;
        for item in (0..transform.items()).rev() {
            let routines = PackedRoutines {
                transform: table.f32.winograd.of_size(size).packed,
                transpose: table.f32.weight_gradient.transpose,
                round: None,
            };
            // SAFETY: the table proves the tier, and the result lies inside the arena.
            unsafe {
                transform.run_item(
                    item,
                    arena.as_mut_ptr(),
                    &parameters,
                    std::ptr::null_mut(),
                    &routines,
                )
            };
        }
        let range = u.offset_bytes..u.offset_bytes + transform.len_bytes();
        let weights: Vec<f32> = bytemuck::cast_slice(&arena[range]).to_vec();
        assert!(
            weights.iter().all(|x| !x.is_nan()),
            "{what}: not all written"
        );
        let weights: &[u8] = bytemuck::cast_slice(&weights);
        let matrix_bytes = packed_len(to, from, nr) * size_of::<f32>();
        for (i, block) in all.iter().enumerate() {
            let rows = block.tiles.len();
            let panels = to.div_ceil(nr);
            let input = TransformInput {
                block: block.clone(),
                input,
                v,
            };
            let products = PointProducts {
                product: Conv {
                    sources: vec![Source::pixels(v.first_pixels(rows))],
                    weights_bytes: 0,
                    residual: None,
                    relu: false,
                    out: p.first_pixels(rows),
                    grid: Grid::choose(rows, panels, table.f32.conv.mr(), 2),
                },
                points: size.points(),
                to_next_point: Shift {
                    input_bytes: v.image_stride_bytes(),
                    out_bytes: p.image_stride_bytes(),
                    weights_bytes: matrix_bytes,
                },
            };
            let output = TransformOutput {
                block: block.clone(),
                p,
                bias_bytes: size.points() * matrix_bytes,
                out,
                residual: self.old.is_some(),
                relu: false,
                is_last: i + 1 == all.len(),
            };
            let start = arena.as_mut_ptr();
            // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
            unsafe {
                for item in 0..input.items() {
                    input.run_item(item, start, &table.f32.winograd);
                }
                for item in 0..products.items() {
                    products.run_item(item, start, weights, &table.f32.conv);
                }
                for item in 0..output.items() {
                    output.run_item(item, start, weights, &table.f32.winograd);
                }
            }
        }
        assert_canaries(&arena, &views, what);
        take(&out, &arena)
    }
}

/// The transformed weights, panel by panel: the same as those of f32, rounded in pairs of rows.
#[test]
fn packed_weights_in_bf16_are_those_of_f32_rounded() {
    for table in KernelTable::available() {
        let nr = table.f32.conv.nr();
        for kernels in [Some(table.emulated_mixed), table.mixed]
            .into_iter()
            .flatten()
        {
            let sizes = [[5, 3], [nr, 2 * nr], [nr + 7, nr / 2], [3 * nr, nr + 1]];
            for [ins, outs] in sizes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
                for transposed in [false, true] {
                    let packed = Packed::new([ins, outs], 1, 3, nr);
                    let parameters = packed.before(&random([outs, 3, 3, ins], 1));
                    let size = TileSize::Four;
                    let run = |tile: TileShape| {
                        let transform = TransformPacked {
                            size,
                            weights_bytes: FIRST * size_of::<f32>(),
                            out_bytes: 0,
                            in_channels: ins,
                            out_channels: outs,
                            transposed,
                            tile,
                        };
                        let len = transform.len_bytes() / size_of::<u32>();
                        let mut out = vec![u32::MAX; len];
                        let mut scratch = vec![CANARY; transform.scratch_bytes() / 4];
                        let routines = PackedRoutines {
                            transform: table.f32.winograd.of_size(size).packed,
                            transpose: table.f32.weight_gradient.transpose,
                            round: Some(kernels.round),
                        };
                        for item in (0..transform.items()).rev() {
                            // SAFETY: the table proves the tier; the buffers hold the result and the scratch.
                            unsafe {
                                transform.run_item(
                                    item,
                                    out.as_mut_ptr().cast(),
                                    &parameters,
                                    scratch.as_mut_ptr(),
                                    &routines,
                                );
                            }
                        }
                        out
                    };
                    let (exact, found) = (run(table.f32.conv.tile()), run(kernels.tile()));
                    let [rows, columns] = if transposed { [outs, ins] } else { [ins, outs] };
                    let panels = size.points() * columns.div_ceil(nr);
                    let (from, to) = ((1 + rows) * nr, (1 + rows.div_ceil(2)) * nr);
                    let mut expected = Vec::new();
                    for panel in exact[..panels * from].chunks_exact(from) {
                        expected.extend(&panel[..nr]);
                        for pair in panel[nr..].chunks(2 * nr) {
                            let bits = |i: usize| {
                                let value = pair.get(i).map_or(0.0, |&bits| f32::from_bits(bits));
                                u32::from(half::bf16::from_f32(value).to_bits())
                            };
                            expected.extend((0..nr).map(|i| bits(i) | bits(nr + i) << 16));
                        }
                    }
                    expected.extend(&exact[panels * from..]);
                    assert_eq!(found.len(), panels * to + exact.len() - panels * from);
                    // Biases of the convolution are canaries of this test, in either form.
                    assert!(found == expected, "{} {ins} {outs} {transposed}", table.isa);
                }
            }
        }
    }
}

#[test]
fn packed_weights_are_transformed_for_both_directions() {
    for table in KernelTable::available() {
        for (shape, out_channels) in shapes() {
            let [batch, height, width, in_channels] = shape;
            let x = random(shape, 1);
            let weights = random([out_channels, 3, 3, in_channels], 2);
            let gradient = random([batch, height, width, out_channels], 3);
            let bias = random([1, 1, 1, out_channels], 5).data;
            let forward = reference::conv2d(&x, &weights, WINDOW, 1);
            let forward = reference::add_bias(&forward, &bias);
            let by_input = conv2d_input_gradient(shape, &weights, &gradient, WINDOW, 1);
            let cases = SIZES
                .into_iter()
                .flat_map(|size| [(size, 1, false), (size, 3, true), (size, 3, false)]);
            for (size, count, accumulate) in cases {
                let what = format!("{} {shape:?} {out_channels} {size:?} {count}", table.isa);
                for (transposed, x, product) in
                    [(false, &x, &forward), (true, &gradient, &by_input)]
                {
                    let old = random(product.shape, 4);
                    let layer = Layer {
                        size,
                        x,
                        weights: &weights,
                        transposed,
                        bias: &bias,
                        old: accumulate.then_some(&old),
                    };
                    let expected = match accumulate {
                        true => &reference::add(&old, product),
                        false => product,
                    };
                    let found = layer.run(count, &table, &what);
                    assert_close(&found, expected, &what);
                }
            }
        }
    }
}

/// The matrices of all points, summed over the blocks of tiles.
fn products(
    size: TileSize,
    [input, gradient, v, p, u]: [View; 5],
    count: usize,
    arena: &mut Arena,
    table: &KernelTable,
) {
    let start = arena.as_mut_ptr();
    for (i, block) in blocks(size, &gradient, count).into_iter().enumerate() {
        let rows = block.tiles.len();
        let from = TransformInput {
            block: block.clone(),
            input,
            v,
        };
        let to = TransformGradient { block, gradient, p };
        let [v, p] = [v, p].map(|view| View {
            width: rows,
            ..view
        });
        let shape = [table.f32.conv.mr(), table.f32.conv.nr()];
        let product = WeightGradient::of_points(v, p, i > 0, shape);
        let bytes = size.points() * product.part_len() * size_of::<f32>();
        assert!(bytes <= u.len_bytes());
        let mut scratch = vec![CANARY; product.scratch_bytes() / size_of::<f32>()];
        let transform = table.f32.winograd.of_size(size).gradient;
        // SAFETY: the views lie inside the arena, apart from each other, and one thread runs.
        unsafe {
            for item in (0..from.items()).rev() {
                from.run_item(item, start, &table.f32.winograd);
            }
            for item in (0..to.items()).rev() {
                to.run_item(item, start, transform);
            }
            for item in (0..product.items()).rev() {
                let out = start.add(u.offset_bytes).cast();
                let kernels = &table.f32.weight_gradient;
                product.run_item(item, start, out, scratch.as_mut_ptr(), kernels);
            }
        }
    }
}

#[test]
fn weight_gradients_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        let nr = table.f32.conv.nr();
        for (shape, out_channels) in shapes() {
            let [batch, height, width, in_channels] = shape;
            let x = random(shape, 1);
            let gradient = random([batch, height, width, out_channels], 2);
            let product = conv2d_weight_gradient(&x, &gradient, WINDOW, 1);
            let packed = Packed::new([in_channels, out_channels], 1, 3, nr);
            for (size, count) in SIZES.into_iter().flat_map(|size| [(size, 1), (size, 3)]) {
                let what = format!("{} {shape:?} {out_channels} {size:?} {count}", table.isa);
                let u_len = size.points() * packed_len(out_channels, in_channels, nr);
                let gradient_view = activations(gradient.shape, 1);
                let tiles = blocks(size, &gradient_view, count)[0].tiles.len();
                let mut views = [
                    activations(shape, 1),
                    gradient_view,
                    matrices(size, tiles, in_channels),
                    matrices(size, tiles, out_channels),
                    activations([1, 1, 1, u_len], 0),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                put(&gradient, &views[1], &mut arena);
                products(size, views, count, &mut arena, &table);
                for accumulate in [false, true] {
                    let old = random(product.shape, 3);
                    let (expected, mut gradients) = match accumulate {
                        true => (reference::add(&old, &product), packed.before(&old)),
                        false => (product.clone(), vec![CANARY; 2 * FIRST + packed.len()]),
                    };
                    let step = WeightsGradient {
                        size,
                        u_bytes: views[4].offset_bytes,
                        first: FIRST,
                        in_channels,
                        out_channels,
                        nr,
                        accumulate,
                    };
                    for item in (0..step.items()).rev() {
                        let row = table.f32.winograd.of_size(size).gradient_row;
                        // SAFETY: the matrices lie inside the arena, and the gradients hold all panels.
                        unsafe {
                            step.run_item(item, arena.as_mut_ptr(), gradients.as_mut_ptr(), row);
                        }
                    }
                    let found = packed.take(&gradients, expected.shape, &what);
                    assert_close(&found, &expected, &what);
                }
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}
