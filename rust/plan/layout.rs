//! The place of every tensor of a batch in the arena.

use std::ops::Range;

use super::arena::{Lifetime, place};
use super::choose::Algorithm;
use super::lifetimes::{Used, while_running};
use super::outputs::shapes;
use super::weights::LayerWeights;
use super::winograd::WinogradLayer;
use crate::graph::layer::{Layer, TensorId};
use crate::kernels::ActivationLayout;
use crate::kernels::view::View;
use crate::shape::{Shape, TensorShape};

/// Pixels of the images that go through the first layers together, for each thread: one image of
/// 224 x 224, whose activations stay near the core from a layer to the next.
const GROUP_PIXELS: usize = 224 * 224;

/// In layers with at most this many output pixels of an image, weights are most of the traffic. They
/// run faster for the whole batch at once.
const FEW_PIXELS: usize = 64;

/// The number of images that go through the first layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All of the batch: every layer runs for all images at once.
    Whole,
    /// As many as suit the caches: a few at a time through the layers that have many pixels, then
    /// the whole batch through those that have few pixels and many weights.
    Caches,
}

/// The place of everything in the arena.
pub struct Layout {
    /// The tensors between layers, by id: for the whole batch, or for one group of images.
    tensors: Vec<View>,
    /// True for tensors of one group, whose place the next group reuses.
    is_grouped: Vec<bool>,
    /// The scratch tensors of each Winograd layer.
    pub scratch: Vec<Option<WinogradLayer>>,
    /// Images of a group.
    pub group: usize,
    /// The layers before this one run group by group, the others for the whole batch.
    pub split: usize,
    /// Bytes of the arena.
    pub arena_bytes: usize,
}

impl Layout {
    /// Lays out the tensors of `layers` for a batch.
    pub fn new(
        layers: &[Layer],
        weights: &[LayerWeights],
        shape: Shape,
        channels: usize,
        layout: ActivationLayout,
        threads: usize,
        grouping: Grouping,
    ) -> Self {
        let shapes = shapes(layers, shape, channels);
        let (group, split) = match grouping {
            Grouping::Whole => (shape.batch, 0),
            Grouping::Caches => choose_group(layers, &shapes, shape, threads),
        };
        let used = while_running(layers, shapes.len());
        let mut border = vec![0; shapes.len()];
        for (id, padding) in layers.iter().flat_map(Layer::inputs) {
            border[id] = border[id].max(padding);
        }
        // The image's own step comes before layer 0, and is part of a group's turn.
        let is_grouped: Vec<bool> = used
            .iter()
            .map(|used| used.is_some_and(|Used { last, .. }| last <= split))
            .collect();
        let view = |(id, &tensor): (TensorId, &TensorShape)| {
            let batch = if is_grouped[id] { group } else { shape.batch };
            let tensor = TensorShape { batch, ..tensor };
            match id {
                0 => layout.image(weights[0].dtype, tensor, border[0]),
                _ => layout.activations(weights[id - 1].dtype, tensor, border[id]),
            }
        };
        let mut tensors: Vec<View> = shapes.iter().enumerate().map(view).collect();
        let mut scratch: Vec<Option<WinogradLayer>> = layers
            .iter()
            .zip(weights)
            .enumerate()
            .map(|(i, (layer, weights))| {
                let Algorithm::Winograd(size) = weights.algorithm else {
                    return None;
                };
                let (input, _) = layer.inputs()[0];
                let images = if i < split { group } else { shape.batch };
                let (input, out) = (&tensors[input], &tensors[layer.output]);
                Some(WinogradLayer::new(
                    size, images, input, out, layout, threads,
                ))
            })
            .collect();

        let lifetime = |len: usize, first: usize, last: usize| Lifetime { len, first, last };
        let mut lifetimes: Vec<Lifetime> = used
            .iter()
            .zip(tensors.iter().zip(&is_grouped))
            .map(|(used, (view, grouped))| match *used {
                None => lifetime(0, 0, 0),
                // It holds the results of earlier groups while the next group starts at the image.
                Some(Used { first, last }) if !grouped && first <= split => {
                    lifetime(view.len_bytes(), 0, last)
                }
                Some(Used { first, last }) => lifetime(view.len_bytes(), first, last),
            })
            .collect();
        for (i, scratch) in scratch.iter().enumerate() {
            let views = scratch.iter().flat_map(|s| [s.v, s.p]);
            lifetimes.extend(views.map(|view| lifetime(view.len_bytes(), i + 1, i + 1)));
        }
        let (offsets, arena_bytes) = place(&lifetimes);
        let scratch_views = scratch
            .iter_mut()
            .flatten()
            .flat_map(|s| [&mut s.v, &mut s.p]);
        for (view, offset) in tensors.iter_mut().chain(scratch_views).zip(offsets) {
            view.offset_bytes = offset;
        }
        Self {
            tensors,
            is_grouped,
            scratch,
            group,
            split,
            arena_bytes,
        }
    }

    /// The view of a tensor for some images of the batch.
    pub fn view(&self, id: TensorId, images: Range<usize>) -> View {
        let first = if self.is_grouped[id] { 0 } else { images.start };
        self.tensors[id].images(first, images.len())
    }
}

/// The images of a group, and the first layer that runs for the whole batch.
fn choose_group(
    layers: &[Layer],
    tensors: &[TensorShape],
    shape: Shape,
    threads: usize,
) -> (usize, usize) {
    let pixels = GROUP_PIXELS * threads;
    let group = (pixels / (shape.height * shape.width)).clamp(1, shape.batch.max(1));
    let few = |layer: &Layer| {
        let out = &tensors[layer.output];
        out.height * out.width <= FEW_PIXELS
    };
    let split = layers.iter().position(few).unwrap_or(layers.len());
    if group >= shape.batch || split == 0 {
        (shape.batch.max(1), 0)
    } else {
        (group, split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;
    use crate::graph::fuse::fuse;
    use crate::kernels::KernelTable;
    use crate::simd::{Features, Isa};

    fn resnet50() -> Vec<Layer> {
        fuse(&family::named("resnet50").unwrap().operations(10, 1), true)
    }

    fn layout(batch: usize, side: usize, threads: usize) -> Layout {
        let layers = resnet50();
        let shape = Shape {
            batch,
            height: side,
            width: side,
        };
        let algorithms = vec![Algorithm::Direct; layers.len()];
        let kernels = KernelTable::new(Isa::Portable, Features::detect());
        let kernels = kernels.unwrap().shapes();
        let weights = LayerWeights::lay_out(&layers, &algorithms, &kernels);
        Layout::new(
            &layers,
            &weights,
            shape,
            3,
            kernels.layout,
            threads,
            Grouping::Caches,
        )
    }

    #[test]
    fn images_go_through_the_first_layers_in_groups_that_suit_the_caches() {
        let names: Vec<String> = resnet50().into_iter().map(|l| l.name).collect();
        for (batch, side, threads, group, split) in [
            (8, 224, 2, 2, "layer4.0.relu2"),
            (20, 224, 8, 8, "layer4.0.relu2"),
            (50, 112, 1, 4, "layer3.0.relu2"),
        ] {
            let layout = layout(batch, side, threads);
            assert_eq!((layout.group, names[layout.split].as_str()), (group, split));
        }
    }

    #[test]
    fn what_suits_the_caches_anyway_runs_whole() {
        for (batch, side) in [(1, 224), (1, 1000), (4, 64), (12, 64)] {
            let layout = layout(batch, side, 2);
            assert_eq!((layout.group, layout.split), (batch, 0), "{batch} x {side}");
        }
    }

    #[test]
    fn groups_share_their_places_and_hand_on_by_image() {
        let layout = layout(8, 224, 1);
        let ids = 0..layout.tensors.len();
        let handed_on: Vec<_> = ids.filter(|&id| !layout.is_grouped[id]).collect();
        assert!(!handed_on.is_empty());
        for id in 0..layout.tensors.len() {
            let (first, second) = (layout.view(id, 0..1), layout.view(id, 1..2));
            assert_eq!(
                first.offset_bytes == second.offset_bytes,
                layout.is_grouped[id]
            );
            assert_eq!((first.batch, second.batch), (1, 1));
        }
    }
}
