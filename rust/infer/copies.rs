//! Copies of tensors out of the arena.

use crate::plan::PlannedStep;

/// Copies a head's output out of the arena, as a row for each image: a map in torch's order,
/// `[channels, height, width]`, the order of fc's weights.
pub(super) fn copy_out_flat(step: &PlannedStep, arena: &[f32], out: &mut [f32]) {
    let view = step.step.out();
    let pixels = view.height * view.width;
    for (n, image) in out.chunks_exact_mut(pixels * view.channels).enumerate() {
        for y in 0..view.height {
            for x in 0..view.width {
                let start = view.pixel(n, y, x);
                let pixel = &arena[start..start + view.channels];
                let places = image[y * view.width + x..].iter_mut().step_by(pixels);
                for (place, value) in places.zip(pixel) {
                    *place = *value;
                }
            }
        }
    }
}

/// Copies a step's output out of the arena, without border and gaps.
pub(super) fn copy_out(step: &PlannedStep, arena: &[f32], out: &mut [f32]) {
    let view = step.step.out();
    let mut pixels = out.chunks_exact_mut(view.channels);
    for n in 0..view.batch {
        for y in 0..view.height {
            for x in 0..view.width {
                if let Some(pixel) = pixels.next() {
                    let start = view.pixel(n, y, x);
                    pixel.copy_from_slice(&arena[start..start + view.channels]);
                }
            }
        }
    }
    debug_assert!(pixels.next().is_none());
}
