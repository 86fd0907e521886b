//! The order in which images and layers meet: how many images go through a run of layers together, and
//! on how many workers.

use std::ops::Range;

use super::lifetimes::{Used, embedding_layers};
use crate::graph::layer::Layer;
use crate::shape::{Shape, TensorShape};

/// Pixels of the images that a lane takes through the first layers together: one image of 224 x 224,
/// whose activations stay near the core from a layer to the next.
const GROUP_PIXELS: usize = 224 * 224;

/// In layers with at most this many output pixels of an image, weights are most of the traffic. They
/// run faster for the whole batch at once.
const FEW_PIXELS: usize = 64;

/// How images go through the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All of the batch: every layer runs for all images at once.
    Whole,
    /// As suits caches and workers: a few images at a time through the layers that have many pixels, side
    /// by side on several workers, then the whole batch through those that have few pixels and many
    /// weights.
    Caches,
}

/// A run of layers, and the lanes that take images through them.
///
/// A lane has a place of its own in the arena. It takes a group of images through all layers of the
/// region, then the next group. Lanes do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The layers, by index. The image's own step belongs to layer 0.
    pub(super) layers: Range<usize>,
    /// Images that a lane takes at once.
    pub(super) group: usize,
    /// Lanes.
    pub(super) lanes: usize,
}

/// The groups of images that a lane takes, one after the other.
pub(super) type Groups = Vec<Range<usize>>;

impl Region {
    /// Its first and its last step, as a forward counts them: step i + 1 is layer i's, and the image's own
    /// comes before.
    pub(super) fn used(&self) -> Used {
        let Range { start, end } = self.layers;
        let first = if start == 0 { 0 } else { start + 1 };
        Used { first, last: end }
    }

    /// True if `used` lies inside.
    pub(super) fn contains(&self, used: Used) -> bool {
        let Used { first, last } = self.used();
        first <= used.first && used.last <= last
    }

    /// `used`, as a tensor is that all groups of the region need, if they come one after another.
    pub(super) fn extend(&self, used: Used) -> Used {
        let Used { first, last } = self.used();
        let is_inside = |step| first <= step && step <= last;
        Used {
            first: if is_inside(used.first) {
                first
            } else {
                used.first
            },
            last: if is_inside(used.last) {
                last
            } else {
                used.last
            },
        }
    }

    /// The groups of each lane for `batch` images, in turns: lanes begin a turn together. In the first
    /// turn each lane has as many groups as all others; if groups remain, each of a few lanes
    /// has one in the second, on more workers.
    pub(super) fn turns(&self, batch: usize) -> Vec<Vec<Groups>> {
        let groups: Groups = (0..batch)
            .step_by(self.group)
            .map(|first| first..(first + self.group).min(batch))
            .collect();
        let each = groups.len() / self.lanes;
        let (even, rest) = groups.split_at(each * self.lanes);
        let first = (each > 0).then(|| even.chunks(each).map(<[_]>::to_vec).collect());
        let second = (!rest.is_empty()).then(|| rest.chunks(1).map(<[_]>::to_vec).collect());
        first.into_iter().chain(second).collect()
    }
}

/// The regions of a forward on `threads` workers; `tensors` are the layers' shapes.
pub(super) fn choose(
    layers: &[Layer],
    tensors: &[TensorShape],
    shape: Shape,
    threads: usize,
    grouping: Grouping,
) -> Vec<Region> {
    let batch = shape.batch.max(1);
    let whole = |layers| Region {
        layers,
        group: batch,
        lanes: 1,
    };
    let few = |layer: &Layer| {
        let out = &tensors[layer.output];
        out.height * out.width <= FEW_PIXELS
    };
    // A forward's results are read from one tensor: that of the whole batch.
    let result = embedding_layers(layers) - 1;
    let split = layers[..result].iter().position(few).unwrap_or(result);
    let fits = (GROUP_PIXELS / (shape.height * shape.width)).max(1);
    // As even as possible: a lane does all of its groups before another helps it.
    let turns = batch.div_ceil(fits * threads);
    let group = batch.div_ceil(turns * threads);
    let lanes = batch.div_ceil(group).min(threads);
    if grouping == Grouping::Whole || split == 0 || group >= batch {
        return vec![whole(0..layers.len())];
    }
    let first = Region {
        layers: 0..split,
        group,
        lanes,
    };
    let regions = [first, whole(split..layers.len())];
    regions
        .into_iter()
        .filter(|region| !region.layers.is_empty())
        .collect()
}

#[cfg(test)]
// A lane with one group is meant, not all indices of it.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::graph::architecture::{HeadPool, HeadWindow};
    use crate::graph::family;
    use crate::graph::fuse::{Fusion, fuse};
    use crate::plan::shapes;

    fn regions(batch: usize, side: usize, threads: usize, grouping: Grouping) -> Vec<Region> {
        let layers = fuse(
            &family::named("resnet50").unwrap().operations(10, 1),
            Fusion::ForF32,
        );
        let shape = Shape {
            batch,
            height: side,
            width: side,
        };
        let tensors = shapes(&layers, shape, 3);
        let regions = choose(&layers, &tensors, shape, threads, grouping);
        assert_eq!(regions.last().unwrap().layers.end, layers.len());
        regions
    }

    #[test]
    fn each_worker_takes_images_of_its_own_through_the_layers_with_many_pixels() {
        let layers = fuse(
            &family::named("resnet50").unwrap().operations(10, 1),
            Fusion::ForF32,
        );
        for (batch, side, threads, group, lanes, split) in [
            (8, 224, 1, 1, 1, "layer4.0.relu2"),
            (8, 224, 2, 1, 2, "layer4.0.relu2"),
            (2, 224, 2, 1, 2, "layer4.0.relu2"),
            // Two workers for each image.
            (8, 224, 16, 1, 8, "layer4.0.relu2"),
            (20, 224, 8, 1, 8, "layer4.0.relu2"),
            (50, 112, 1, 4, 1, "layer3.0.relu2"),
            // Small images in even groups: two turns of 32 each, not one of 49 and a rest.
            (128, 32, 2, 32, 2, "maxpool"),
            (12, 64, 2, 6, 2, "layer2.0.relu2"),
        ] {
            let regions = regions(batch, side, threads, Grouping::Caches);
            let [first, rest] = &regions[..] else {
                panic!("{regions:?}")
            };
            let found = (first.group, first.lanes, &*layers[rest.layers.start].name);
            assert_eq!(
                found,
                (group, lanes, split),
                "{batch} x {side} on {threads}"
            );
            assert_eq!((rest.group, rest.lanes), (batch, 1));
            assert_eq!(first.layers, 0..rest.layers.start);
        }
    }

    #[test]
    fn an_image_alone_and_what_one_worker_takes_at_once_run_whole() {
        for (batch, side, threads) in [(1, 224, 2), (1, 1000, 16), (4, 64, 1), (1, 32, 2)] {
            let regions = regions(batch, side, threads, Grouping::Caches);
            assert_eq!((regions.len(), regions[0].group), (1, batch));
        }
        assert_eq!(regions(8, 224, 2, Grouping::Whole).len(), 1);
    }

    #[test]
    fn results_are_those_of_the_whole_batch_however_many_pixels_they_have() {
        let mut architecture = family::named("resnet50").unwrap();
        architecture.head = HeadPool::AvgPool(HeadWindow {
            kernel: 2,
            stride: Some(1),
            padding: 0,
        });
        for num_classes in [0, 10] {
            let layers = fuse(&architecture.operations(num_classes, 10), Fusion::ForF32);
            let shape = Shape {
                batch: 5,
                height: 350,
                width: 350,
            };
            let tensors = shapes(&layers, shape, 3);
            let regions = choose(&layers, &tensors, shape, 2, Grouping::Caches);
            assert_eq!(regions.len(), 2);
            assert_eq!(layers[regions[1].layers.start].name, "avgpool");
        }
    }

    #[test]
    fn lanes_take_as_many_groups_as_each_other_and_the_rest_has_a_turn_of_its_own() {
        let turns = |batch, group, lanes| {
            let region = Region {
                layers: 0..1,
                group,
                lanes,
            };
            region.turns(batch)
        };
        assert_eq!(turns(4, 1, 2), [[[0..1, 1..2], [2..3, 3..4]]]);
        let uneven: Vec<Vec<Groups>> = turns(7, 2, 3);
        assert_eq!(uneven.len(), 2);
        assert_eq!(uneven[0], [[0..2], [2..4], [4..6]]);
        assert_eq!(uneven[1], [[6..7]]);
        assert_eq!(turns(2, 1, 4), [[[0..1], [1..2]]]);
        assert!(turns(0, 1, 2).is_empty());
    }
}
