//! The output pixels that an input pixel of a convolution reaches, in one direction.

use crate::shape::Window;

/// The input pixels of a phase: those at `phase`, `phase + stride`, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// The first pixel.
    pub(super) first: usize,
    /// Pixels.
    pub(super) len: usize,
    /// The taps that read them, each with the output pixel's distance from the number of the input pixel
    /// within the phase.
    pub(super) taps: Vec<(usize, isize)>,
}

/// The phases of an input of `size` pixels.
pub(super) fn phases(window: Window, size: usize) -> Vec<Phase> {
    let stride = window.stride as isize;
    (0..window.stride.min(size))
        .map(|first| {
            // Input pixel p = first + stride · i lies under tap k of output pixel (p + padding - k · d) / stride.
            let reaches = |k: usize| {
                let distance = (first + window.padding) as isize - (k * window.dilation) as isize;
                (distance % stride == 0).then_some((k, distance / stride))
            };
            Phase {
                first,
                len: (size - first).div_ceil(window.stride),
                taps: (0..window.kernel).filter_map(reaches).collect(),
            }
        })
        .collect()
}

/// The border that the output's gradient needs, for an input of `size` pixels and an output of `out` pixels.
pub(super) fn border(window: Window, size: usize, out: usize) -> usize {
    let beyond = |phase: &Phase| {
        let last = phase.len as isize - 1;
        let of_tap = move |&(_, distance): &(usize, isize)| {
            (-distance).max(last + distance - (out as isize - 1)).max(0)
        };
        phase.taps.iter().map(of_tap).max().unwrap_or(0)
    };
    let most = phases(window, size).iter().map(beyond).max();
    most.unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair of an output pixel and a tap inside the image is in the phases, once.
    #[test]
    fn every_tap_is_reached_once() {
        for kernel in 1..=7 {
            for stride in 1..=3 {
                for dilation in 1..=2 {
                    for (padding, size) in [(0, 13), (1, 8), (3, 9), (2, 14)] {
                        let window = Window {
                            kernel,
                            stride,
                            padding,
                            dilation,
                        };
                        if window.span() > size + 2 * padding {
                            continue;
                        }
                        let out = window.output(size);
                        let mut expected = Vec::new();
                        for o in 0..out {
                            for k in 0..kernel {
                                expected.extend(window.input(o, k, size).map(|i| (i, k, o)));
                            }
                        }
                        let border = border(window, size, out) as isize;
                        let mut found = Vec::new();
                        for phase in phases(window, size) {
                            for i in 0..phase.len {
                                for &(k, distance) in &phase.taps {
                                    let o = i as isize + distance;
                                    assert!(o >= -border && o < out as isize + border);
                                    if (0..out as isize).contains(&o) {
                                        let pixel = phase.first + stride * i;
                                        found.push((pixel, k, o as usize));
                                    }
                                }
                            }
                        }
                        expected.sort_unstable();
                        found.sort_unstable();
                        assert_eq!(found, expected, "{window:?} {size}");
                    }
                }
            }
        }
    }
}
