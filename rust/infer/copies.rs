//! Copies of tensors out of the arena, as f32.

use half::bf16;

use crate::dtype::{Dtype, Element};
use crate::plan::PlannedStep;

/// Copies a head's output out of the arena, as a row for each image: a map in torch's order,
/// `[channels, height, width]`, the order of fc's weights.
pub(super) fn copy_out_flat(step: &PlannedStep, arena: &[u8], out: &mut [f32]) {
    let view = step.step.out();
    let pixels = view.height * view.width;
    for (n, image) in out.chunks_exact_mut(pixels * view.channels).enumerate() {
        for y in 0..view.height {
            for x in 0..view.width {
                let places = image[y * view.width + x..].iter_mut().step_by(pixels);
                read_pixel(step, arena, [n, y, x], places);
            }
        }
    }
}

/// Copies a step's output out of the arena, without border and gaps.
pub(super) fn copy_out(step: &PlannedStep, arena: &[u8], out: &mut [f32]) {
    let view = step.step.out();
    let mut pixels = out.chunks_exact_mut(view.channels);
    for n in 0..view.batch {
        for y in 0..view.height {
            for x in 0..view.width {
                if let Some(pixel) = pixels.next() {
                    read_pixel(step, arena, [n, y, x], pixel.iter_mut());
                }
            }
        }
    }
    debug_assert!(pixels.next().is_none());
}

/// Writes the channels of a pixel to `places`; whole numbers times their unit.
fn read_pixel<'a>(
    step: &PlannedStep,
    arena: &[u8],
    at: [usize; 3],
    places: impl Iterator<Item = &'a mut f32>,
) {
    fn copy<'a, T: Element + Into<f32>>(
        step: &PlannedStep,
        arena: &[u8],
        [n, y, x]: [usize; 3],
        places: impl Iterator<Item = &'a mut f32>,
    ) {
        let pixel: &[T] = step.step.out().pixel(arena, n, y, x);
        for (place, &value) in places.zip(pixel) {
            *place = value.into() * step.scale;
        }
    }
    match step.step.out().dtype {
        Dtype::F32 => copy::<f32>(step, arena, at, places),
        Dtype::Bf16 => copy::<bf16>(step, arena, at, places),
        Dtype::I16 => copy::<i16>(step, arena, at, places),
        Dtype::U8 => copy::<u8>(step, arena, at, places),
    }
}
