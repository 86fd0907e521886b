//! The input channels that a panel of output channels reads.

use std::ops::Range;

/// The input channels that each panel of output channels reads: all of them or, in a grouped
/// convolution, those of the groups that the panel's channels belong to.
///
/// All panels read the same number of channels, so that they are packed in the same way: weights
/// between channels of different groups are zeros. If groups are narrower than a panel, most of its
/// weights are zeros; multiplying them costs less than a panel of another shape would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelWindow {
    /// Channels that a panel reads.
    pub len: usize,
    /// Channels of the whole input.
    pub(super) in_channels: usize,
    group_in: usize,
    group_out: usize,
    nr: usize,
    panels: usize,
    /// The channels of a group that are read together.
    depth: usize,
}

impl ChannelWindow {
    /// For panels of `nr` output channels. `groups` divides both numbers of channels.
    pub fn new(in_channels: usize, out_channels: usize, groups: usize, nr: usize) -> Self {
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let groups_of = |first: usize| {
            let last = (first + nr).min(out_channels) - 1;
            last / group_out - first / group_out + 1
        };
        let most = (0..out_channels).step_by(nr).map(groups_of).max();
        Self {
            len: most.unwrap_or(1) * group_in,
            in_channels,
            group_in,
            group_out,
            nr,
            panels: out_channels.div_ceil(nr),
            depth: 1,
        }
    }

    /// The same in whole groups of `depth` channels: what lies between them is read, and multiplied by zeros.
    pub fn aligned(self, depth: usize) -> Self {
        let starts = (0..self.panels).map(|panel| self.start(panel) % depth);
        let len = (self.len + starts.max().unwrap_or(0)).next_multiple_of(depth);
        let in_channels = self.in_channels.next_multiple_of(depth);
        Self {
            len: len.min(in_channels),
            in_channels,
            depth,
            ..self
        }
    }

    /// The first channel that panel `panel` reads.
    pub fn start(&self, panel: usize) -> usize {
        let first = panel * self.nr / self.group_out * self.group_in;
        (first - first % self.depth).min(self.in_channels - self.len)
    }

    /// True if the window is one over `channels` channels, or over as many in whole groups.
    pub(super) fn fits(&self, channels: usize) -> bool {
        self.in_channels == channels.next_multiple_of(self.depth)
    }

    /// The input channels of output channel `o`'s group.
    pub fn group(&self, o: usize) -> Range<usize> {
        let first = o / self.group_out * self.group_in;
        first..first + self.group_in
    }

    /// True if every panel reads every channel.
    pub fn is_whole(&self) -> bool {
        self.len == self.in_channels
    }
}
