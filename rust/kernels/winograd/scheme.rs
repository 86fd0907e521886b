//! The matrices A, B and G, as straight-line arithmetic where the kernels use them.

use crate::kernels::simd::Simd;

/// F(M x M, 3x3) with A = M + 2 points a side: what is done to a column or a row.
pub trait Scheme<const M: usize, const A: usize> {
    /// G: the window's side, at each point.
    const G: [[f64; 3]; A];

    /// `Bᵀ d`.
    fn input<S: Simd>(s: S, d: [S::V; A]) -> [S::V; A];

    /// `Aᵀ p`.
    fn output<S: Simd>(s: S, p: [S::V; A]) -> [S::V; M];
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

    // Row p holds the coefficients of ∏ (x - q) over the other finite points q:
    //   0:  [1,       0, -5/2,      0, 1, 0]       a:  [0, -√2, -2,  √½, 1, 0]
    //   ∞:  [0,       1,    0,   -5/2, 0, 1]       b:  [0, -√½, -½,  √2, 1, 0]
    // and -a, -b as a, b with the odd powers' signs changed.
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
}

/// `U = G g Gᵀ` for each pair of channels, in f64, rounded once.
///
/// - `ohwi`: windows `[out_channels, 3, 3, in_channels]`.
/// - `u`: overwritten with the matrices `[A · A, out_channels, in_channels]`, point (row, column)
///   at `row · A + column`; its memory is used again.
pub type TransformWeights = fn(ohwi: &[f32], in_channels: usize, u: &mut Vec<f32>);

/// The weights' transform by scheme `T`, compiled for tier `S`, which must be there: plain loops
/// over the input channels, which the compiler makes vectors of. No tier fuses the
/// multiplications with the additions, and so all give the same.
pub(in crate::kernels) fn transform_weights<S, T, const M: usize, const A: usize>(
    ohwi: &[f32],
    in_channels: usize,
    u: &mut Vec<f32>,
) where
    S: Simd,
    T: Scheme<M, A>,
{
    // SAFETY: only a `KernelTable` hands this out, and having one means that the tier is there.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            let matrix = ohwi.len() / 9;
            u.clear();
            u.resize(A * A * matrix, 0.0);
            // G g: [row, x, in_channels].
            let mut half = vec![0.0_f64; A * 3 * in_channels];
            for (o, window) in ohwi.chunks_exact(9 * in_channels).enumerate() {
                let w = |y: usize, x: usize| &window[(3 * y + x) * in_channels..][..in_channels];
                for (row, g) in T::G.iter().enumerate() {
                    for x in 0..3 {
                        let half = &mut half[(3 * row + x) * in_channels..][..in_channels];
                        combine(half, g, [w(0, x), w(1, x), w(2, x)], f64::from, |sum| sum);
                    }
                }
                let half =
                    |row: usize, x: usize| &half[(3 * row + x) * in_channels..][..in_channels];
                for row in 0..A {
                    let half = [half(row, 0), half(row, 1), half(row, 2)];
                    for (column, g) in T::G.iter().enumerate() {
                        let start = (row * A + column) * matrix + o * in_channels;
                        let u = &mut u[start..][..in_channels];
                        combine(u, g, half, |v| v, |sum| sum as f32);
                    }
                }
            }
        },
    )
}

/// `out[i] = g[0]·a[i] + g[1]·b[i] + g[2]·c[i]`, in f64.
#[inline(always)]
fn combine<I: Copy, O>(
    out: &mut [O],
    g: &[f64; 3],
    [a, b, c]: [&[I]; 3],
    widen: impl Fn(I) -> f64,
    round: impl Fn(f64) -> O,
) {
    for (out, ((&a, &b), &c)) in out.iter_mut().zip(a.iter().zip(b).zip(c)) {
        *out = round(g[0] * widen(a) + g[1] * widen(b) + g[2] * widen(c));
    }
}
