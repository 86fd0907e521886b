//! The layout of weights: from that of files to that of the kernels.

/// Re-lays a convolution's weights from OIHW to OHWI:
/// `ohwi[o, y, x, i] = oihw[o, i, y, x]`.
///
/// torch keeps weights as `[out_channels, in_channels, height, width]`; the kernels walk over a
/// pixel's channels first, so those come last. Swapping the wrong axes is an easy mistake, and goes
/// unnoticed if two of the sizes are equal.
///
/// `ohwi` is overwritten, and its memory is reused; the content of `oihw` is undefined afterwards.
///
/// # Panics
/// If `oihw` does not hold out · in · height · width elements.
pub fn oihw_to_ohwi<T: Copy + Default>(
    oihw: &mut Vec<T>,
    [o, i, h, w]: [usize; 4],
    ohwi: &mut Vec<T>,
) {
    let plane = h * w;
    assert_eq!(oihw.len(), o * i * plane);
    if plane == 1 {
        std::mem::swap(oihw, ohwi);
        return;
    }
    ohwi.clear();
    ohwi.resize(oihw.len(), T::default());
    let window = (i * plane).max(1);
    for (from, to) in oihw.chunks_exact(window).zip(ohwi.chunks_exact_mut(window)) {
        for (yx, pixel) in to.chunks_exact_mut(i).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = from[c * plane + yx];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_goes_where_it_belongs() {
        // All four sizes differ, so that no two axes can be swapped unseen.
        let [o, i, h, w] = [2, 3, 4, 5];
        let label =
            |o: usize, i: usize, y: usize, x: usize| (1000 * o + 100 * i + 10 * y + x) as f32;
        let mut oihw = Vec::new();
        for o in 0..o {
            for i in 0..i {
                for y in 0..h {
                    for x in 0..w {
                        oihw.push(label(o, i, y, x));
                    }
                }
            }
        }
        let mut ohwi = vec![f32::NAN; 7];
        oihw_to_ohwi(&mut oihw, [o, i, h, w], &mut ohwi);
        let mut ohwi = ohwi.into_iter();
        for o in 0..o {
            for y in 0..h {
                for x in 0..w {
                    for i in 0..i {
                        assert_eq!(ohwi.next(), Some(label(o, i, y, x)));
                    }
                }
            }
        }
        assert_eq!(ohwi.next(), None);
    }

    #[test]
    fn one_by_one_windows_stay_as_they_are() {
        let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut ohwi = Vec::new();
        oihw_to_ohwi(&mut weights.to_vec(), [2, 3, 1, 1], &mut ohwi);
        assert_eq!(ohwi, weights);
    }
}
