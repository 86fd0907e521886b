//! The packed form of weights and of their gradients in tests, worked out on its own.

use super::conv::ChannelWindow;
use super::conv::f32::{packed_len, panel_len};
use super::reference::Tensor;
use super::testing::CANARY;

/// Elements before a layer's packed form, and after it.
pub const FIRST: usize = 48;

/// The packed form of a convolution's weights.
pub struct Packed {
    /// The input channels that each panel reads.
    pub channels: ChannelWindow,
    /// Taps of the window.
    pub taps: usize,
    out_channels: usize,
    nr: usize,
}

impl Packed {
    /// Of `[in_channels, out_channels]`, for panels of `nr`.
    pub fn new(channels: [usize; 2], groups: usize, kernel: usize, nr: usize) -> Self {
        let [in_channels, out_channels] = channels;
        Self {
            channels: ChannelWindow::new(in_channels, out_channels, groups, nr),
            taps: kernel * kernel,
            out_channels,
            nr,
        }
    }

    /// K of a panel.
    pub fn k(&self) -> usize {
        self.taps * self.channels.len
    }

    /// Elements of all panels.
    pub fn len(&self) -> usize {
        packed_len(self.out_channels, self.k(), self.nr)
    }

    /// The place of a bias.
    pub fn bias(&self, o: usize) -> usize {
        o / self.nr * panel_len(self.k(), self.nr) + o % self.nr
    }

    /// The places of the weights, in the order of OHWI.
    pub fn weights(&self) -> Vec<usize> {
        let of = |o: usize| {
            let start = self.channels.start(o / self.nr);
            let first = self.bias(o) + self.nr;
            let group = self.channels.group(o);
            (0..self.taps).flat_map(move |tap| {
                let row = move |i| first + (tap * self.channels.len + i - start) * self.nr;
                group.clone().map(row)
            })
        };
        (0..self.out_channels).flat_map(of).collect()
    }

    /// Gradients before a kernel adds to them: `weights`, zeros where a panel has none, and canaries in
    /// place of biases and around.
    pub fn before(&self, weights: &Tensor) -> Vec<f32> {
        let mut gradients = vec![CANARY; FIRST + self.len() + FIRST];
        let panels =
            gradients[FIRST..FIRST + self.len()].chunks_exact_mut(panel_len(self.k(), self.nr));
        panels.for_each(|panel| panel[self.nr..].fill(0.0));
        for (at, &value) in self.weights().into_iter().zip(&weights.data) {
            gradients[FIRST + at] = value as f32;
        }
        gradients
    }

    /// Takes the weights out of `gradients`. Asserts that all other rows of the panels are zeros, and that
    /// biases and everything around are canaries.
    pub fn take(&self, gradients: &[f32], shape: [usize; 4], what: &str) -> Tensor {
        let places = self.weights();
        let mut rest = gradients.to_vec();
        let data = places.iter().map(|at| f64::from(rest[FIRST + at]));
        let found = Tensor {
            shape,
            data: data.collect(),
        };
        places.iter().for_each(|at| rest[FIRST + at] = 0.0);
        let panels = rest[FIRST..FIRST + self.len()].chunks_exact_mut(panel_len(self.k(), self.nr));
        for panel in panels {
            assert!(panel[self.nr..].iter().all(|&x| x == 0.0), "{what}: zeros");
            panel[self.nr..].fill(CANARY);
        }
        assert!(rest.iter().all(|x| x.is_nan()), "{what}: wrote outside");
        found
    }
}
