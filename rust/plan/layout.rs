//! The place of every tensor of a batch in the arena.

use std::ops::Range;

use super::arena::{Lifetime, place};
use super::choose::Algorithm;
use super::lifetimes::{Used, while_running};
use super::outputs::shapes;
use super::regions::{Grouping, Region, choose};
use super::weights::LayerWeights;
use super::winograd::WinogradLayer;
use crate::graph::layer::{Layer, TensorId};
use crate::kernels::ActivationLayout;
use crate::kernels::view::View;
use crate::shape::{Shape, TensorShape};

/// Lanes are whole pages apart, so that each worker's memory can lie near its core.
const LANE_ALIGNMENT: usize = 4096;

/// The place of everything in the arena.
///
/// Tensors between regions are there for the whole batch. A region's others are there once for each of its
/// lanes: the lanes' places follow each other, and each has the same order inside, so lanes may be at
/// different steps.
pub struct Layout {
    /// The tensors between layers, by id: for the whole batch, or for a group of images on lane 0.
    tensors: Vec<View>,
    /// For each tensor the region outside of which nobody needs it; none if it is there for the whole batch.
    region_of: Vec<Option<usize>>,
    /// The scratch tensors of each Winograd layer on lane 0.
    scratch: Vec<Option<WinogradLayer>>,
    /// The regions, in order.
    pub(super) regions: Vec<Region>,
    /// For each region the bytes from a lane's place to the next.
    lane_bytes: Vec<usize>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
}

/// Some images on a lane of a region.
#[derive(Clone)]
pub(super) struct Group {
    /// The region, by index.
    pub(super) region: usize,
    /// The lane.
    pub(super) lane: usize,
    /// The images.
    pub(super) images: Range<usize>,
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
        let regions = choose(layers, &shapes, shape, threads, grouping);
        let used = while_running(layers, shapes.len());
        let mut border = vec![0; shapes.len()];
        for (id, padding) in layers.iter().flat_map(Layer::inputs) {
            border[id] = border[id].max(padding);
        }
        let region_of: Vec<Option<usize>> = used
            .iter()
            .map(|used| {
                let used = (*used)?;
                regions.iter().position(|region| region.contains(used))
            })
            .collect();
        let view = |(id, &tensor): (TensorId, &TensorShape)| {
            let batch = region_of[id].map_or(shape.batch, |region| regions[region].group);
            let tensor = TensorShape { batch, ..tensor };
            match id {
                0 => layout.image(weights[0].arithmetic.dtype, tensor, border[0]),
                _ => layout.activations(weights[id - 1].arithmetic.out, tensor, border[id]),
            }
        };
        let tensors: Vec<View> = shapes.iter().enumerate().map(view).collect();
        let scratch = |(i, (layer, weights)): (usize, (&Layer, &LayerWeights))| {
            let Algorithm::Winograd(size) = weights.arithmetic.algorithm else {
                return None;
            };
            let region = regions.iter().find(|r| r.layers.contains(&i))?;
            let (input, _) = layer.inputs()[0];
            Some(WinogradLayer::new(
                size,
                region.group,
                &tensors[input],
                &tensors[layer.output],
                layout,
                threads / region.lanes,
            ))
        };
        let scratch = layers
            .iter()
            .zip(weights)
            .enumerate()
            .map(scratch)
            .collect();
        let mut laid_out = Self {
            lane_bytes: vec![0; regions.len()],
            tensors,
            region_of,
            scratch,
            regions,
            arena_bytes: 0,
        };
        laid_out.place(&used);
        laid_out
    }

    /// Gives each view its offset: first inside a lane, then lanes and everything else in the arena.
    fn place(&mut self, used: &[Option<Used>]) {
        let scratch = self
            .scratch
            .iter_mut()
            .enumerate()
            .flat_map(|(i, scratch)| {
                let region = self.regions.iter().position(|r| r.layers.contains(&i));
                let views = scratch.iter_mut().flat_map(|s| [&mut s.v, &mut s.p]);
                let used = Used {
                    first: i + 1,
                    last: i + 1,
                };
                views.map(move |view| (view, used, region))
            });
        let tensors = self.tensors.iter_mut().zip(used).zip(&self.region_of);
        let tensors = tensors.filter_map(|((view, used), region)| Some((view, (*used)?, *region)));
        // A view in lanes is alive while its lane is; any other may be written or read by all groups.
        let (mut in_lanes, mut others): (Vec<_>, Vec<_>) = tensors
            .chain(scratch)
            .partition(|(_, _, region)| region.is_some_and(|r| self.regions[r].lanes > 1));

        let mut lifetimes = Vec::new();
        for (r, region) in self.regions.iter().enumerate() {
            let mut views: Vec<_> = in_lanes.iter_mut().filter(|v| v.2 == Some(r)).collect();
            let inside: Vec<Lifetime> = views
                .iter()
                .map(|(view, used, _)| used.lifetime(view.len_bytes()))
                .collect();
            let (offsets, bytes) = place(&inside);
            for ((view, ..), offset) in views.iter_mut().zip(offsets) {
                view.offset_bytes = offset;
            }
            self.lane_bytes[r] = bytes.next_multiple_of(LANE_ALIGNMENT);
            lifetimes.push(region.used().lifetime(region.lanes * self.lane_bytes[r]));
        }
        lifetimes.extend(others.iter().map(|(view, used, region)| {
            let used = match region {
                Some(_) => *used,
                None => self.regions.iter().fold(*used, |used, r| r.extend(used)),
            };
            used.lifetime(view.len_bytes())
        }));
        let (offsets, bytes) = place(&lifetimes);
        for (view, _, region) in &mut in_lanes {
            view.offset_bytes += region.map_or(0, |r| offsets[r]);
        }
        for ((view, ..), offset) in others.iter_mut().zip(&offsets[self.regions.len()..]) {
            view.offset_bytes = *offset;
        }
        self.arena_bytes = bytes;
    }

    /// The view of a tensor for a group of images.
    pub(super) fn view(&self, id: TensorId, group: &Group) -> View {
        let view = self.tensors[id];
        match self.region_of[id] {
            Some(region) => view
                .images(0, group.images.len())
                .shifted(group.lane * self.lane_bytes[region]),
            None => view.images(group.images.start, group.images.len()),
        }
    }

    /// The Winograd scratch tensors of a layer, if it has any.
    pub(super) fn scratch(&self, layer: usize, group: &Group) -> Option<WinogradLayer> {
        let bytes = group.lane * self.lane_bytes[group.region];
        self.scratch[layer].map(|scratch| scratch.shifted(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;
    use crate::graph::fuse::{Fusion, fuse};
    use crate::kernels::KernelTable;
    use crate::plan::{Arithmetic, algorithms};
    use crate::simd::{Features, Isa};

    fn resnet50() -> Vec<Layer> {
        fuse(
            &family::named("resnet50").unwrap().operations(10, 1),
            Fusion::ForF32,
        )
    }

    fn layout(batch: usize, threads: usize) -> Layout {
        let layers = resnet50();
        let shape = Shape {
            batch,
            height: 224,
            width: 224,
        };
        let algorithms = algorithms(&layers, [224, 224, 3], true);
        let arithmetic: Vec<_> = algorithms.into_iter().map(Arithmetic::f32).collect();
        let kernels = KernelTable::new(Isa::Portable, Features::detect());
        let kernels = kernels.unwrap().shapes();
        let weights = LayerWeights::lay_out(&layers, &arithmetic, &kernels);
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

    fn group(region: usize, lane: usize, images: Range<usize>) -> Group {
        Group {
            region,
            lane,
            images,
        }
    }

    #[test]
    fn groups_share_their_places_and_hand_on_by_image() {
        let layout = layout(8, 1);
        let last = layout.regions[0].layers.end;
        let handed_on: Vec<_> = (0..layout.tensors.len())
            .filter(|&id| layout.region_of[id].is_none())
            .collect();
        assert!(!handed_on.is_empty() && handed_on[0] <= last);
        for id in 0..layout.tensors.len() {
            let view = |image| layout.view(id, &group(0, 0, image..image + 1));
            let (first, second) = (view(0), view(1));
            assert_eq!(
                first.offset_bytes == second.offset_bytes,
                layout.region_of[id].is_some()
            );
            assert_eq!((first.batch, second.batch), (1, 1));
        }
    }

    #[test]
    fn lanes_at_any_steps_touch_none_of_each_others_bytes_nor_what_is_handed_on() {
        let layout = layout(6, 3);
        assert_eq!((layout.regions[0].lanes, layout.regions[0].group), (3, 1));
        let bytes = |view: View| view.offset_bytes..view.offset_bytes + view.len_bytes();
        let mut places: Vec<(usize, Range<usize>)> = Vec::new();
        for lane in 0..3 {
            let group = group(0, lane, lane..lane + 1);
            for id in 0..layout.tensors.len() {
                if layout.region_of[id] == Some(0) {
                    places.push((lane, bytes(layout.view(id, &group))));
                }
            }
            for layer in layout.regions[0].layers.clone() {
                let scratch = layout.scratch(layer, &group);
                places.extend(
                    scratch
                        .iter()
                        .flat_map(|s| [s.v, s.p])
                        .map(|v| (lane, bytes(v))),
                );
            }
        }
        let used = while_running(&resnet50(), layout.tensors.len());
        let handed_on = (0..layout.tensors.len()).filter(|&id| {
            let used = used[id].filter(|used| used.first < layout.regions[0].layers.end);
            layout.region_of[id].is_none() && used.is_some()
        });
        places.extend(handed_on.map(|id| (3, bytes(layout.tensors[id]))));
        assert!(places.iter().any(|place| place.0 == 3));
        for (lane, a) in &places {
            assert!(a.end <= layout.arena_bytes);
            for (other, b) in &places {
                let apart = a.end <= b.start || b.end <= a.start;
                assert!(lane == other || apart, "{a:?} of {lane}, {b:?} of {other}");
            }
        }
    }
}
