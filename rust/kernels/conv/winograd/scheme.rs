//! The matrices A, B and G, and their products as the straight-line arithmetic of the kernels.

use crate::simd::Simd;

/// Numbers in f64 that compilers hold in registers.
pub type Doubles = [f64; 8];

/// F(M x M, 3x3) with A = M + 2 points a side: the transforms of a column or a row.
pub trait Scheme<const M: usize, const A: usize> {
    /// G: the window's side, at each point.
    const G: [[f64; 3]; A];

    /// `G g`, in f64.
    fn weights(g: [Doubles; 3]) -> [Doubles; A];

    /// `Bᵀ d`.
    fn input<S: Simd>(s: S, d: [S::V; A]) -> [S::V; A];

    /// `Aᵀ p`.
    fn output<S: Simd>(s: S, p: [S::V; A]) -> [S::V; M];

    /// `A y`: the gradient goes back through `output`.
    fn output_gradient<S: Simd>(s: S, y: [S::V; M]) -> [S::V; A];
}

/// F(2x2, 3x3), points 0, 1, -1, ∞.
pub struct F2;

impl Scheme<2, 4> for F2 {
    const G: [[f64; 3]; 4] = [
        [-1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    fn weights([a, b, c]: [Doubles; 3]) -> [Doubles; 4] {
        let even = combine([0.5, 0.5], [a, c]);
        let [plus, minus] = around(even, scaled(0.5, b));
        [scaled(-1.0, a), plus, minus, c]
    }

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; 4]) -> [S::V; 4] {
        [
            s.sub(d[2], d[0]),
            s.add(d[2], d[1]),
            s.sub(d[2], d[1]),
            s.sub(d[3], d[1]),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: [S::V; 4]) -> [S::V; 2] {
        [
            s.add(s.add(p[0], p[1]), p[2]),
            s.add(s.sub(p[1], p[2]), p[3]),
        ]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, y: [S::V; 2]) -> [S::V; 4] {
        [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), y[1]]
    }
}

/// F(4x4, 3x3), points 0, a, -a, b, -b, ∞ with a = √½ and b = √2.
pub struct F4;

/// √½.
const POINT_A: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// √2.
const POINT_B: f64 = std::f64::consts::SQRT_2;

impl Scheme<4, 6> for F4 {
    // Row p is [1, p, p²] / ∏ (p - q) over the other finite points q: 1, -3/2 twice, 6 twice.
    const G: [[f64; 3]; 6] = [
        [1.0, 0.0, 0.0],
        [-2.0 / 3.0, -2.0 / 3.0 * POINT_A, -1.0 / 3.0],
        [-2.0 / 3.0, 2.0 / 3.0 * POINT_A, -1.0 / 3.0],
        [1.0 / 6.0, POINT_B / 6.0, 1.0 / 3.0],
        [1.0 / 6.0, -POINT_B / 6.0, 1.0 / 3.0],
        [0.0, 0.0, 1.0],
    ];

    // Rows of ±p share the even powers, and differ in the sign of the odd one.
    #[inline(always)]
    fn weights([a, b, c]: [Doubles; 3]) -> [Doubles; 6] {
        let even = combine([-2.0 / 3.0, -1.0 / 3.0], [a, c]);
        let [plus_a, minus_a] = around(even, scaled(-2.0 / 3.0 * POINT_A, b));
        let even = combine([1.0 / 6.0, 1.0 / 3.0], [a, c]);
        let [plus_b, minus_b] = around(even, scaled(POINT_B / 6.0, b));
        [a, plus_a, minus_a, plus_b, minus_b, c]
    }

    // Row p holds the coefficients of ∏ (x - q) over the other finite points q:
    //   0:  [1,       0, -5/2,      0, 1, 0]       a:  [0, -√2, -2,  √½, 1, 0]
    //   ∞:  [0,       1,    0,   -5/2, 0, 1]       b:  [0, -√½, -½,  √2, 1, 0]
    // The rows of -a and -b are those of a and b with the signs of the odd powers changed.
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; 6]) -> [S::V; 6] {
        let [a, b] = [s.splat(POINT_A as f32), s.splat(POINT_B as f32)];
        let minus_five_halves = s.splat(-2.5);
        let even_a = s.mul_add(s.splat(-2.0), d[2], d[4]);
        let odd_a = s.mul(a, s.mul_add(s.splat(-2.0), d[1], d[3]));
        let even_b = s.mul_add(s.splat(-0.5), d[2], d[4]);
        let odd_b = s.mul(b, s.mul_add(s.splat(-0.5), d[1], d[3]));
        [
            s.add(s.mul_add(minus_five_halves, d[2], d[0]), d[4]),
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            s.add(s.mul_add(minus_five_halves, d[3], d[1]), d[5]),
        ]
    }

    // Row i holds p^i for the finite points p; ∞ counts for the last row only.
    #[inline(always)]
    fn output<S: Simd>(s: S, p: [S::V; 6]) -> [S::V; 4] {
        let (sum_a, difference_a) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
        let (sum_b, difference_b) = (s.add(p[3], p[4]), s.sub(p[3], p[4]));
        let (odd_a, odd_b) = (
            s.mul(s.splat(POINT_A as f32), difference_a),
            s.mul(s.splat(POINT_B as f32), difference_b),
        );
        let [half, two] = [s.splat(0.5), s.splat(2.0)];
        [
            s.add(s.add(p[0], sum_a), sum_b),
            s.add(odd_a, odd_b),
            s.mul_add(two, sum_b, s.mul(half, sum_a)),
            s.add(s.mul_add(two, odd_b, s.mul(half, odd_a)), p[5]),
        ]
    }

    // Column i of `output` is row i here.
    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, y: [S::V; 4]) -> [S::V; 6] {
        let [half, two] = [s.splat(0.5), s.splat(2.0)];
        let even_a = s.mul_add(half, y[2], y[0]);
        let odd_a = s.mul(s.splat(POINT_A as f32), s.mul_add(half, y[3], y[1]));
        let even_b = s.mul_add(two, y[2], y[0]);
        let odd_b = s.mul(s.splat(POINT_B as f32), s.mul_add(two, y[3], y[1]));
        [
            y[0],
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            y[3],
        ]
    }
}

/// `factor · x`.
#[inline(always)]
fn scaled(factor: f64, x: Doubles) -> Doubles {
    std::array::from_fn(|i| factor * x[i])
}

/// `f[0] · x[0] + f[1] · x[1]`.
#[inline(always)]
fn combine(f: [f64; 2], x: [Doubles; 2]) -> Doubles {
    std::array::from_fn(|i| f[0] * x[0][i] + f[1] * x[1][i])
}

/// The sum and the difference.
#[inline(always)]
fn around(even: Doubles, odd: Doubles) -> [Doubles; 2] {
    [
        std::array::from_fn(|i| even[i] + odd[i]),
        std::array::from_fn(|i| even[i] - odd[i]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_is_g<T: Scheme<M, A>, const M: usize, const A: usize>() {
        let g: [Doubles; 3] =
            std::array::from_fn(|k| std::array::from_fn(|i| ((7 * i + 5 * k) % 11) as f64 - 4.5));
        for (row, result) in T::G.iter().zip(T::weights(g)) {
            for (i, result) in result.into_iter().enumerate() {
                let terms = [0, 1, 2].map(|k| row[k] * g[k][i]);
                let error = (result - terms.iter().sum::<f64>()).abs();
                assert!(error <= 1e-15 * terms.map(f64::abs).iter().sum::<f64>());
            }
        }
    }

    #[test]
    fn weights_are_products_with_g() {
        assert_is_g::<F2, 2, 4>();
        assert_is_g::<F4, 4, 6>();
    }
}
