//! The distribution of every layer's output, from which int8 networks get their scales.

use std::sync::{Mutex, PoisonError};

use super::images::{Images, batches};
use super::network::Network;
use super::session::Workspace;
use super::walk::Pass;
use crate::error::Error;
use crate::kernels::view::View;
use crate::memory::room;
use crate::plan::{Grouping, Segment};
use crate::shape::Shape;
use crate::threads::{Call, Team, Turn, Worker, check, turn};
use crate::weights::Precision;

/// Bins of a histogram: one for each upper half of a positive f32 value's bits, so a bin is at most 1/128 of its
/// values wide, and none has to know the range before.
pub const BINS: usize = 1 << 15;

/// The distribution of a tensor's values over images and pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The layer's name, or `input` for the normalised images.
    pub name: String,
    /// The largest value; NaN if there is one.
    pub max: f32,
    /// The number of values in each bin, by `bits >> 16`; bin 0 has those that are not positive too.
    pub counts: Vec<u64>,
    /// The sum of each channel.
    pub sums: Vec<f64>,
}

impl Statistics {
    fn new(name: &str, channels: usize) -> Result<Self, Error> {
        let (mut counts, mut sums) = (Vec::new(), Vec::new());
        room::reserve(&mut counts, BINS, "statistics")?;
        room::reserve(&mut sums, channels, "statistics")?;
        counts.resize(BINS, 0);
        sums.resize(channels, 0.0);
        Ok(Self {
            name: name.into(),
            max: f32::NEG_INFINITY,
            counts,
            sums,
        })
    }

    fn merge(&mut self, other: &Counts) {
        // A NaN stays.
        if !(self.max >= other.max || self.max.is_nan()) {
            self.max = other.max;
        }
        for (count, lanes) in self.counts.iter_mut().zip(other.lanes.chunks_exact(LANES)) {
            *count += lanes.iter().map(|&n| u64::from(n)).sum::<u64>();
        }
    }
}

/// Counters of each bin: neighbours often fall into the same, and an increment waits for the one before.
const LANES: usize = 4;

/// A worker's share of a tensor.
struct Counts {
    max: f32,
    lanes: Vec<u32>,
}

impl Counts {
    fn new() -> Result<Self, Error> {
        let mut lanes = Vec::new();
        room::reserve(&mut lanes, LANES * BINS, "statistics")?;
        lanes.resize(LANES * BINS, 0);
        Ok(Self {
            max: f32::NEG_INFINITY,
            lanes,
        })
    }

    /// Counts a pixel's values, and adds them to `sums`.
    fn add(&mut self, pixel: &[f32], sums: &mut [f64]) {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            *sum += f64::from(value);
        }
        self.max = pixel
            .iter()
            .fold(self.max, |max, &x| if x > max { x } else { max });
        for (i, &value) in pixel.iter().enumerate() {
            // Those that are not positive are negative integers, or zero, too.
            let bin = value.to_bits().cast_signed().max(0) as usize >> 16;
            self.lanes[LANES * bin + i % LANES] += 1;
        }
    }
}

impl Network {
    /// The distribution of the normalised images, and of every layer's output in order. The numbers are the same for
    /// every batch and number of threads, but for the last digits of sums over several batches.
    ///
    /// # Errors
    /// As for [`Network::forward`], or the network does not run in f32.
    pub fn statistics<'a>(
        &self,
        call: impl Into<Call<'a>>,
        images: Images,
        shape: Shape,
    ) -> Result<Vec<Statistics>, Error> {
        if self.precision() != Precision::F32 {
            return Err(Error::Argument(format!(
                "statistics: expected an f32 network, found {}",
                self.precision()
            )));
        }
        let (threads, watch) = call.into().checked(self.threads)?;
        let pixels = self.pixels(images, shape)?;
        let mut all: Vec<Statistics> = Vec::new();
        for (_, batch, pixels) in batches(pixels, shape, 1) {
            check(watch)?;
            let plan = self.make_plan(Shape { batch, ..shape }, threads, Grouping::Whole)?;
            let team = Team::get(plan.threads);
            let turn = turn(&team, watch)?;
            let pass = Pass {
                plan: &plan,
                pixels,
                turn: &turn,
                watch,
            };
            let is_first = all.is_empty();
            self.session.get().with_workspace(|workspace| {
                let mut tensors = 0;
                let mut done = 0;
                for (end, planned) in plan.steps.iter().enumerate() {
                    if !(planned.completes_layer || end == 0) {
                        continue;
                    }
                    let steps = Segment::one(done..end + 1);
                    self.walk(&[steps], &pass, workspace, &|_| ())?;
                    done = end + 1;
                    let view = planned.step.out();
                    if is_first {
                        all.push(Statistics::new(&planned.name, view.channels)?);
                    }
                    observe(&mut all[tensors], view, workspace, plan.arena_bytes, &turn)?;
                    tensors += 1;
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(all)
    }
}

/// Adds the values of a tensor. Each row has sums of its own, which are added in order.
fn observe(
    all: &mut Statistics,
    view: &View,
    workspace: &mut Workspace,
    arena_bytes: usize,
    turn: &Turn,
) -> Result<(), Error> {
    let arena: &[u8] = workspace.arena(arena_bytes)?;
    let rows = view.batch * view.height;
    let mut sums = Vec::new();
    room::reserve(&mut sums, rows * view.channels, "statistics")?;
    sums.resize(rows * view.channels, 0.0_f64);
    let places: Vec<Mutex<&mut [f64]>> = sums.chunks_mut(view.channels).map(Mutex::new).collect();
    let merged = Mutex::new((&mut *all, None));
    turn.run(|worker: &Worker| {
        let work = || {
            let mut mine = Counts::new()?;
            for row in (worker.index..rows).step_by(worker.count) {
                let mut sums = places[row].lock().unwrap_or_else(PoisonError::into_inner);
                for x in 0..view.width {
                    let pixel: &[f32] = view.pixel(arena, row / view.height, row % view.height, x);
                    mine.add(pixel, &mut sums);
                }
            }
            Ok(mine)
        };
        let result: Result<Counts, Error> = work();
        let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(mine) => merged.0.merge(&mine),
            Err(error) => merged.1 = Some(error),
        }
    });
    let failure = merged
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .1;
    drop(places);
    if sums.iter().any(|sum| sum.is_nan()) {
        all.max = f32::NAN;
    }
    for row in sums.chunks_exact(view.channels) {
        all.sums
            .iter_mut()
            .zip(row)
            .for_each(|(sum, more)| *sum += more);
    }
    failure.map_or(Ok(()), Err)
}
