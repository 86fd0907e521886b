//! From logits to the best classes.

/// A class and its softmax score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The class's index.
    pub index: usize,
    /// `exp(logit) / Σ exp(logits)`, from 0 to 1.
    pub score: f32,
}

/// The `k` classes with the largest logits, best first, with their softmax scores; all of them
/// if there are fewer. Equal logits are ordered by index; NaN comes last.
///
/// The softmax is taken in f64, shifted by the largest logit so that nothing overflows.
pub fn softmax_top_k(logits: &[f32], k: usize) -> Vec<Scored> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |logit: f32| (f64::from(logit) - f64::from(max)).exp();
    let sum: f64 = logits.iter().map(|&logit| exp(logit)).sum();

    let key = |i: &usize| {
        (
            logits[*i].is_nan(),
            std::cmp::Reverse(Ordered(logits[*i])),
            *i,
        )
    };
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let k = k.min(order.len());
    if k > 0 && k < order.len() {
        order.select_nth_unstable_by_key(k - 1, key);
    }
    order.truncate(k);
    order.sort_unstable_by_key(key);
    order
        .into_iter()
        .map(|index| Scored {
            index,
            score: (exp(logits[index]) / sum) as f32,
        })
        .collect()
}

/// f32 in its total order.
#[derive(PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // -0 and 0 are the same logit.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    #[test]
    fn scores_are_the_reference_softmax_in_order() {
        let logits = [0.5_f32, -1.0, 3.25, 2.0, -40.0];
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let softmax = reference::softmax(&wide);
        let top = softmax_top_k(&logits, 3);
        let indices: Vec<_> = top.iter().map(|s| s.index).collect();
        assert_eq!(indices, [2, 3, 0]);
        for scored in top {
            assert_eq!(scored.score, softmax[scored.index] as f32);
        }
    }

    #[test]
    fn ties_are_ordered_by_index_and_k_is_clamped() {
        let indices = |k| -> Vec<usize> {
            let top = softmax_top_k(&[1.0, 2.0, 2.0, 1.0], k);
            top.iter().map(|s| s.index).collect()
        };
        assert_eq!(indices(3), [1, 2, 0]);
        assert_eq!(indices(100), [1, 2, 0, 3]);
        assert_eq!(indices(0), [0; 0]);
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_comes_last() {
        let top = softmax_top_k(&[1e30, -1e30], 2);
        assert_eq!((top[0].score, top[1].score), (1.0, 0.0));
        let top = softmax_top_k(&[f32::NAN, -5.0], 2);
        assert_eq!(top[0].index, 1);
    }
}
