//! The steps between which each tensor is needed.

use super::arena::Lifetime;
use crate::graph::layer::{Layer, TensorId};

/// The first and the last step that uses a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Used {
    /// The lifetime of `len` bytes that are used so.
    pub(super) fn lifetime(self, len: usize) -> Lifetime {
        Lifetime {
            len,
            first: self.first,
            last: self.last,
        }
    }
}

/// The number of layers that an embedding needs: all except fc.
pub(super) fn embedding_layers(layers: &[Layer]) -> usize {
    layers.len() - usize::from(layers.last().is_some_and(Layer::is_fc))
}

/// The use of each of `tensors` tensors by a forward, which no longer needs a tensor once its readers
/// have run; None for a tensor that does not exist. Step 0 is the input's, step i + 1
/// layer i's.
pub(super) fn while_running(layers: &[Layer], tensors: usize) -> Vec<Option<Used>> {
    let mut used = vec![None; tensors];
    let mut touch = |id: TensorId, step: usize| {
        let first = Used {
            first: step,
            last: step,
        };
        used[id].get_or_insert(first).last = step;
    };
    touch(0, 0);
    for (i, layer) in layers.iter().enumerate() {
        for (id, _) in layer.inputs() {
            touch(id, i + 1);
        }
        touch(layer.output, i + 1);
    }
    // The embedding and the logits are read after the end.
    for layer in &layers[embedding_layers(layers) - 1..] {
        touch(layer.output, layers.len() + 1);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;
    use crate::graph::fuse::{Fusion, fuse};

    #[test]
    fn the_embedding_and_the_logits_are_kept_to_the_end_and_nothing_else() {
        for classes in [10, 0] {
            let operations = family::named("resnet18").unwrap().operations(classes, 1);
            let layers = fuse(&operations, Fusion::ForF32);
            let used = while_running(&layers, layers.len() + 1);
            let kept: Vec<_> = (0..used.len())
                .filter(|&id| used[id].is_some_and(|used| used.last == layers.len() + 1))
                .collect();
            let results = if classes == 0 { 1 } else { 2 };
            let last: Vec<_> = layers[layers.len() - results..]
                .iter()
                .map(|l| l.output)
                .collect();
            assert_eq!(kept, last, "{classes} classes");
            assert_eq!(used[0].map(|used| used.first), Some(0));
        }
    }
}
