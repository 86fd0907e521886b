//! The order in which a team does a plan's steps.

use std::iter;
use std::ops::Range;

use crate::threads::Worker;

/// Tracks: runs of steps that need nothing from each other. A segment begins when the one before has ended.
///
/// Each worker has a track of its own. With fewer tracks than workers several share one. A worker whose
/// track has ended helps the others, item by item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// For each track its steps. Tracks follow each other, as the steps of each do.
    pub tracks: Vec<Range<usize>>,
}

impl Segment {
    /// Steps that follow each other, as one track.
    pub fn one(steps: Range<usize>) -> Self {
        Self {
            tracks: vec![steps],
        }
    }

    /// All steps.
    pub fn steps(&self) -> Range<usize> {
        let (first, last) = (self.tracks.first(), self.tracks.last());
        first.map_or(0, |steps| steps.start)..last.map_or(0, |steps| steps.end)
    }

    /// Each track in the order in which `worker` comes to it, and the worker's share of its items.
    pub fn visits(&self, worker: &Worker) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (index, workers, tracks) = (worker.index, worker.count, self.tracks.len());
        let own = index * tracks / workers;
        // Helpers begin at different tracks.
        let others = (0..tracks).map(move |i| (own + tracks / 2 + i) % tracks);
        let order = iter::once(own).chain(others.filter(move |&track| track != own));
        order.map(move |track| {
            let owners = self.owners(track, workers);
            let share = if owners.contains(&index) {
                index - owners.start
            } else {
                index % owners.len().max(1)
            };
            (self.tracks[track].clone(), share)
        })
    }

    /// The number of shares of each step, in order, for `workers` workers.
    pub fn shares(&self, workers: usize) -> impl Iterator<Item = usize> {
        (0..self.tracks.len()).flat_map(move |track| {
            let owners = self.owners(track, workers).len().max(1);
            iter::repeat_n(owners, self.tracks[track].len())
        })
    }

    /// The workers whose own track it is; none if there are more tracks than workers.
    fn owners(&self, track: usize, workers: usize) -> Range<usize> {
        let first = |track: usize| (track * workers).div_ceil(self.tracks.len());
        first(track)..first(track + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn segment(tracks: usize) -> Segment {
        Segment {
            tracks: (0..tracks).map(|track| 2 * track..2 * track + 2).collect(),
        }
    }

    #[test]
    fn every_worker_comes_to_every_track_once_and_its_own_first() {
        for (tracks, workers) in [(1, 4), (3, 3), (4, 8), (3, 8), (5, 2), (1, 1)] {
            let segment = segment(tracks);
            let mut owners = vec![BTreeSet::new(); tracks];
            for index in 0..workers {
                let worker = Worker {
                    index,
                    count: workers,
                };
                let visits: Vec<_> = segment.visits(&worker).collect();
                let all: BTreeSet<_> = visits.iter().map(|(steps, _)| steps.start).collect();
                assert_eq!((all.len(), visits.len()), (tracks, tracks));
                let (own, share) = &visits[0];
                assert!(
                    owners[own.start / 2].insert(*share),
                    "{tracks} {workers}: a share has one owner"
                );
            }
            let shares: Vec<_> = segment.shares(workers).collect();
            assert_eq!(shares.len(), 2 * tracks);
            for (track, owners) in owners.iter().enumerate() {
                // With more tracks than workers some have no owner, and one share for whoever comes.
                let expected = owners.len().max(1);
                assert_eq!(shares[2 * track..2 * track + 2], [expected; 2]);
                assert!(workers < tracks || !owners.is_empty());
                assert!(owners.iter().all(|&share| share < expected));
            }
        }
    }

    #[test]
    fn helpers_spread() {
        let segment = segment(4);
        let second = |index| {
            let worker = Worker { index, count: 4 };
            segment.visits(&worker).nth(1).unwrap().0.start / 2
        };
        assert_eq!([0, 1, 2, 3].map(second), [2, 3, 0, 1]);
    }
}
