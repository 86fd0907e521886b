//! Places in the arena, while the steps are not all known yet.

use crate::plan::{Lifetime, place};

/// A place in the arena, by number.
pub(super) type Slot = usize;

/// The places that steps use. A plan is made twice by the same code: first with all offsets 0, to learn the
/// sizes and the steps that use each place; then with the offsets that follow from these.
#[derive(Default)]
pub(super) struct Slots {
    lifetimes: Vec<Lifetime>,
    offsets: Vec<usize>,
}

impl Slots {
    /// Begins again, with offsets for the places of the first time. Returns the arena's bytes.
    pub(super) fn placed(&mut self) -> usize {
        let (offsets, bytes) = place(&self.lifetimes);
        self.offsets = offsets;
        self.lifetimes.clear();
        bytes
    }

    /// A new place of `len` bytes, and its offset.
    pub(super) fn add(&mut self, len: usize) -> (Slot, usize) {
        let slot = self.lifetimes.len();
        self.lifetimes.push(Lifetime {
            len,
            first: usize::MAX,
            last: 0,
        });
        (slot, self.offsets.get(slot).copied().unwrap_or(0))
    }

    /// Notes that step `step` uses a place.
    pub(super) fn touch(&mut self, slot: Slot, step: usize) {
        let lifetime = &mut self.lifetimes[slot];
        lifetime.first = lifetime.first.min(step);
        lifetime.last = lifetime.last.max(step);
    }
}
