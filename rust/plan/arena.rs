//! Offsets, in bytes, for tensors that live at different times in one block of memory.

use crate::kernels::view::LINE_BYTES;

/// A tensor's size and the steps between which it must not be overwritten.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// Bytes.
    pub len: usize,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that reads or writes it.
    pub last: usize,
}

/// An offset for each tensor, a multiple of a cache line, so that no two that are alive at the
/// same step overlap, and the bytes needed in all. Large tensors are placed first, each as low
/// as it fits (greedy by size: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
/// Inference", 2020).
pub fn place(tensors: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(tensors[i].len));

    let mut offsets = vec![0; tensors.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(tensors.len());
    let mut total = 0;
    for i in order {
        let tensor = &tensors[i];
        let mut offset = 0;
        // `placed` is in order of offsets: the first gap that is wide enough.
        for &j in &placed {
            let other = &tensors[j];
            let together = tensor.first <= other.last && other.first <= tensor.last;
            if together {
                if offset + tensor.len <= offsets[j] {
                    break;
                }
                offset = offset.max((offsets[j] + other.len).next_multiple_of(LINE_BYTES));
            }
        }
        offsets[i] = offset;
        total = total.max(offset + tensor.len);
        let at = placed.partition_point(|&j| offsets[j] <= offset);
        placed.insert(at, i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(len: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { len, first, last }
    }

    #[test]
    fn tensors_alive_together_never_overlap() {
        // A chain with a long-lived tensor, odd sizes, and ties.
        let tensors = [
            tensor(100, 0, 1),
            tensor(30, 1, 6),
            tensor(100, 1, 2),
            tensor(7, 2, 3),
            tensor(64, 3, 4),
            tensor(64, 4, 5),
            tensor(1, 5, 6),
        ];
        let (offsets, total) = place(&tensors);
        for (i, a) in tensors.iter().enumerate() {
            assert_eq!(offsets[i] % LINE_BYTES, 0);
            assert!(offsets[i] + a.len <= total);
            for (j, b) in tensors.iter().enumerate().skip(i + 1) {
                if a.first <= b.last && b.first <= a.last {
                    let apart =
                        offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i];
                    assert!(apart, "{i} and {j} overlap");
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let chain: Vec<_> = (0..10).map(|i| tensor(640, i, i + 1)).collect();
        assert_eq!(place(&chain).1, 1280);
    }
}
