use super::TileSize;
use super::scheme::{F2, F4, Scheme};
use crate::kernels::KernelTable;
use crate::simd::{Portable, Simd};

/// One dimension, by the portable tier: `y = Aᵀ[(G g) ⊙ (Bᵀ d)]` against the sums themselves.
fn check_1d<T: Scheme<M, A>, const M: usize, const A: usize>() {
    let Some(s) = Portable::detect() else { return };
    let d: [f32; A] = std::array::from_fn(|i| (i * i) as f32 * 0.37 - 1.0);
    let g = [0.5, -1.25, 2.0];
    let transformed = T::input(s, d.map(|x| s.splat(x)));
    let products = std::array::from_fn(|i| {
        let weight: f64 = T::G[i].iter().zip(g).map(|(a, b)| a * b).sum();
        s.mul(transformed[i], s.splat(weight as f32))
    });
    let y = T::output(s, products);
    for i in 0..M {
        let direct: f64 = (0..3).map(|k| f64::from(d[i + k]) * g[k]).sum();
        let error = (f64::from(y[i][0]) - direct).abs();
        assert!(
            error < 1e-5 * direct.abs().max(1.0),
            "output {i}: {} {direct}",
            y[i][0]
        );
    }
}

#[test]
fn f2_and_f4_compute_a_convolution_of_a_line() {
    check_1d::<F2, 2, 4>();
    check_1d::<F4, 4, 6>();
}

#[test]
fn weights_are_transformed_on_both_sides() {
    // Two output channels, three input channels; the window from 1 to 2 is 1 at (1, 2), all
    // others are zero: U[i, j] = G[i][1] · G[j][2].
    let mut windows = [0.0; 2 * 9 * 3];
    windows[(9 + 5) * 3 + 2] = 1.0;
    for table in KernelTable::available() {
        let mut u = vec![f32::NAN; 5];
        let transforms = table.f32.winograd.of_size(TileSize::Four);
        transforms.transform_weights(&windows, 3, &mut u);
        for (point, matrix) in u.chunks_exact(6).enumerate() {
            let expected = F4::G[point / 6][1] * F4::G[point % 6][2];
            assert_eq!(matrix, [0.0, 0.0, 0.0, 0.0, 0.0, expected as f32]);
        }
    }
}

#[test]
fn tiles_cover_images_that_they_do_not_divide() {
    assert_eq!(TileSize::Four.tiles(14, 14), 16);
    assert_eq!(TileSize::Four.tiles(1, 5), 2);
    assert_eq!(TileSize::Two.tiles(7, 7), 16);
}
