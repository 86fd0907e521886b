//! From logits to the best classes.

use crate::graph::output_function::OutputFunction;

/// A class and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The class's index.
    pub index: usize,
    /// With a softmax `exp(logit) / Σ exp(logits)`, from 0 to 1; with a sigmoid
    /// `1 / (1 + exp(-logit))`, from 0 to 1; without a function the logit.
    pub score: f32,
}

/// The `k` classes with the largest logits, best first, with their scores; all of them if there
/// are fewer. Equal logits are ordered by index; NaN comes last.
pub fn top_k(logits: &[f32], k: usize, function: OutputFunction) -> Vec<Scored> {
    let score = scores(logits, function);
    best(logits, k)
        .into_iter()
        .map(|index| Scored {
            index,
            score: score(logits[index]),
        })
        .collect()
}

/// From a logit of `logits` to its score, by way of f64.
fn scores(logits: &[f32], function: OutputFunction) -> Box<dyn Fn(f32) -> f32> {
    match function {
        OutputFunction::Softmax => {
            // Shifted by the largest logit so that nothing overflows.
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp = move |logit: f32| (f64::from(logit) - f64::from(max)).exp();
            let sum: f64 = logits.iter().map(|&logit| exp(logit)).sum();
            Box::new(move |logit| (exp(logit) / sum) as f32)
        }
        OutputFunction::Sigmoid => {
            Box::new(|logit| (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32)
        }
        OutputFunction::None => Box::new(|logit| logit),
    }
}

/// The indices of the `k` largest logits, largest first.
fn best(logits: &[f32], k: usize) -> Vec<usize> {
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
    fn equal_logits_come_in_the_order_of_their_classes_and_both_zeros_are_equal() {
        let indices = |logits: &[f32]| -> Vec<_> {
            let top = top_k(logits, logits.len(), OutputFunction::None);
            top.iter().map(|scored| scored.index).collect()
        };
        assert_eq!(indices(&[-0.0, 0.0, 1.0, 1.0]), [2, 3, 0, 1]);
        assert_eq!(indices(&[0.0, -0.0]), [0, 1]);
        for (one, other) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(Ordered(one).cmp(&Ordered(other)).is_eq());
        }
    }

    #[test]
    fn scores_are_the_reference_softmax_in_order() {
        let logits = [0.5_f32, -1.0, 3.25, 2.0, -40.0];
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let softmax = reference::softmax(&wide);
        let top = top_k(&logits, 3, OutputFunction::Softmax);
        let indices: Vec<_> = top.iter().map(|s| s.index).collect();
        assert_eq!(indices, [2, 3, 0]);
        for scored in top {
            assert_eq!(scored.score, softmax[scored.index] as f32);
        }
    }

    #[test]
    fn a_sigmoid_scores_each_logit_by_itself() {
        let top = top_k(&[0.0, 800.0, -800.0, 1.0], 4, OutputFunction::Sigmoid);
        let expected = [(1, 1.0), (3, 0.731_058_6), (0, 0.5), (2, 0.0)];
        for (scored, (index, score)) in top.iter().zip(expected) {
            assert_eq!(scored.index, index);
            assert!((scored.score - score).abs() < 1e-7, "{scored:?}");
        }
    }

    #[test]
    fn without_a_function_scores_are_the_logits_largest_first() {
        let top = top_k(&[-2.5, 1e30, 0.125], 2, OutputFunction::None);
        let found: Vec<_> = top.iter().map(|s| (s.index, s.score)).collect();
        assert_eq!(found, [(1, 1e30), (2, 0.125)]);
    }

    #[test]
    fn ties_are_ordered_by_index_and_k_is_clamped() {
        let indices = |k| -> Vec<usize> {
            let top = top_k(&[1.0, 2.0, 2.0, 1.0], k, OutputFunction::Softmax);
            top.iter().map(|s| s.index).collect()
        };
        assert_eq!(indices(3), [1, 2, 0]);
        assert_eq!(indices(100), [1, 2, 0, 3]);
        assert_eq!(indices(0), [0; 0]);
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_comes_last() {
        let top = top_k(&[1e30, -1e30], 2, OutputFunction::Softmax);
        assert_eq!((top[0].score, top[1].score), (1.0, 0.0));
        let top = top_k(&[f32::NAN, -5.0], 2, OutputFunction::Softmax);
        assert_eq!(top[0].index, 1);
    }
}
