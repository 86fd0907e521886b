//! The work of a step: its kernels on the plan's views.

use super::step::Step;
use crate::dtype::Dtype;
use crate::kernels::input::{PixelScale, Pixels};
use crate::kernels::{Bf16Kernels, F32Kernels, IntKernels, KernelTable};
use crate::simd::Activation;

/// The state that the steps of one forward share.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The caller's images.
    pub pixels: Pixels<'a>,
    /// The way from them to an int8 network's input.
    pub pixel_scale: Option<&'a PixelScale>,
    /// The packed weights of the network.
    pub weights: &'a [u8],
    /// The tier's kernels.
    pub table: &'a KernelTable,
    /// The arena.
    pub arena: *mut u8,
}

// SAFETY: `arena` is only written through [`run_item`], whose callers keep its contract.
unsafe impl Sync for StepContext<'_> {}

/// Does one item of `step`.
///
/// # Safety
/// `context.arena` holds as many bytes as the plan asks for, and starts at a cache line; the images
/// have the plan's shape, and the weights are those that it was made for. All threads are past the
/// steps before, and each item is done by one thread.
pub unsafe fn run_item(step: &Step, item: usize, context: &StepContext) {
    match step.dtype() {
        // SAFETY: the caller keeps the same contract; the table proves the tier.
        Dtype::F32 => unsafe { run_item_f32(step, item, context, &context.table.f32) },
        // SAFETY: as above.
        Dtype::Bf16 => unsafe { run_item_bf16(step, item, context, &context.table.bf16) },
        // SAFETY: as above.
        Dtype::I16 => unsafe {
            let kernels = &context.table.i16;
            run_item_int(step, item, context, kernels);
        },
        // SAFETY: as above.
        Dtype::U8 => unsafe {
            let kernels = &context.table.u8;
            run_item_int(step, item, context, kernels);
        },
    }
}

/// [`run_item`] for a step that computes in f32.
unsafe fn run_item_f32(step: &Step, item: usize, context: &StepContext, kernels: &F32Kernels) {
    let StepContext {
        pixels,
        weights,
        arena,
        ..
    } = *context;
    // SAFETY: the caller keeps the same contract, and the kernels prove the tier; the plan has placed
    // every view inside the arena, and tensors that are alive together apart.
    unsafe {
        match step {
            Step::Input(layer) => layer.run_item(item, pixels, arena),
            Step::Conv(layer) => kernels.conv.run_item(layer, item, arena, weights),
            Step::WinogradInput(layer) => layer.run_item(item, arena, &kernels.winograd),
            Step::WinogradProducts(layer) => layer.run_item(item, arena, weights, &kernels.conv),
            Step::WinogradOutput(layer) => {
                layer.run_item(item, arena, weights, &kernels.winograd);
            }
            Step::MaxPool(layer) => layer.run_item(item, arena, kernels.pool.max),
            Step::AvgPool(layer) => layer.run_item(item, arena, kernels.pool.avg),
            Step::Elementwise(layer) => {
                layer.run_item(item, arena, weights, kernels.elementwise);
            }
            Step::Convert(_) => unreachable!("f32 networks have no such step"),
        }
    }
}

/// [`run_item`] for a step that computes in bf16.
unsafe fn run_item_bf16(step: &Step, item: usize, context: &StepContext, kernels: &Bf16Kernels) {
    let StepContext {
        pixels,
        weights,
        arena,
        ..
    } = *context;
    // SAFETY: as in `run_item_f32`.
    unsafe {
        match step {
            Step::Input(layer) => layer.run_bf16_item(item, pixels, arena),
            Step::Conv(layer) => kernels.conv.run_item(layer, item, arena, weights),
            Step::MaxPool(layer) => layer.run_item(item, arena, kernels.pool.max),
            Step::AvgPool(layer) => layer.run_item(item, arena, kernels.pool.avg),
            Step::Elementwise(layer) => {
                layer.run_item(item, arena, weights, kernels.elementwise);
            }
            Step::Convert(layer) => match layer.out.dtype {
                Dtype::I16 => layer.run_item(item, arena, context.table.i16.convert.from_bf16),
                _ => layer.run_item(item, arena, context.table.u8.convert.from_bf16),
            },
            Step::WinogradInput(_) | Step::WinogradProducts(_) | Step::WinogradOutput(_) => {
                unreachable!("bf16 networks have no such step")
            }
        }
    }
}

/// [`run_item`] for a step that computes in int8 on activations of `A`.
unsafe fn run_item_int<A: Activation>(
    step: &Step,
    item: usize,
    context: &StepContext,
    kernels: &IntKernels<A>,
) {
    let StepContext {
        pixels,
        pixel_scale,
        weights,
        arena,
        ..
    } = *context;
    // SAFETY: as in `run_item_f32`.
    unsafe {
        match step {
            Step::Input(layer) => {
                let scale = pixel_scale.expect("an int8 network has one");
                layer.run_int_item::<A>(item, pixels, scale, arena);
            }
            Step::Conv(layer) => kernels.conv.run_item(layer, item, arena, weights),
            Step::MaxPool(layer) => layer.run_item(item, arena, kernels.pool.max),
            Step::AvgPool(layer) if layer.out.dtype == A::DTYPE => {
                layer.run_item(item, arena, kernels.pool.avg);
            }
            Step::AvgPool(layer) => layer.run_item(item, arena, kernels.pool.head),
            Step::Convert(layer) => layer.run_item(item, arena, kernels.convert.to_bf16),
            Step::WinogradInput(_)
            | Step::WinogradProducts(_)
            | Step::WinogradOutput(_)
            | Step::Elementwise(_) => unreachable!("int8 networks have no such step"),
        }
    }
}
