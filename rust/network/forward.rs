//! The forward: a batch of images through the steps of its plan.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::Network;
use super::operations::output_shapes;
use super::session::Workspace;
use crate::error::Error;
use crate::kernels::input::Pixels;
use crate::plan::{Grouping, Plan, PlannedStep, Shape, StepContext, shapes};
use crate::threads::{Team, resolve_threads};

/// Pixels of the images that run as one batch: eight of 224 x 224. More would not be faster, and so
/// a forward's memory stays the same however many images it is given.
const BATCH_PIXELS: usize = 8 * 224 * 224;

/// The largest image, in pixels: beyond it, sizes in the arena could overflow.
const MAX_PIXELS: usize = 1 << 28;

/// The most pixels of a batch that is planned as one, unless it is one image: a plan has a step for
/// each block of tiles.
const MAX_PLAN_PIXELS: usize = 128 * 224 * 224;

/// Images to run, `[batch, height, width, channels]`, contiguous.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Normalised already.
    F32(&'a [f32]),
    /// Pixels from 0 to 255, normalised with the config's mean and standard deviation.
    U8(&'a [u8]),
}

/// What a forward gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// fc's outputs: `[batch, num_classes]`.
    Logits,
    /// The average pool's outputs: `[batch, embedding_size]`; where they are a map, in torch's order.
    Embedding,
}

/// A step's output: its name, its shape `[batch, height, width, channels]`, its elements.
pub type Activation = (String, [usize; 4], Vec<f32>);

impl Network {
    /// Runs `images` and returns the head's outputs, image by image.
    ///
    /// However many images there are, they run in batches of bounded size; each image's result is
    /// the same to the bit whatever batch it is in and however many threads there are.
    ///
    /// # Errors
    /// The number of elements does not fit `shape`, a side is zero, or memory is short.
    pub fn forward(&self, images: Images, shape: Shape, head: Head) -> Result<Vec<f32>, Error> {
        self.forward_on(self.threads, images, shape, head)
    }

    /// [`Network::forward`] with other `threads` than the network's own: a program that runs
    /// several forwards at once may want each on one.
    ///
    /// # Errors
    /// As for [`Network::forward`], or `threads` is 0 or more than 1024.
    pub fn forward_on(
        &self,
        threads: usize,
        images: Images,
        shape: Shape,
        head: Head,
    ) -> Result<Vec<f32>, Error> {
        let threads = resolve_threads(Some(threads))?;
        let mut out = Vec::new();
        let len = shape.batch.saturating_mul(self.width(head));
        self.pixels(images, shape)?;
        out.try_reserve_exact(len)
            .map_err(|e| Error::OutOfMemory(format!("outputs: {e}")))?;
        out.resize(len, 0.0);
        self.forward_into_on(threads, images, shape, head, &mut out)?;
        Ok(out)
    }

    /// [`Network::forward`] into the caller's memory: `shape.batch` times [`Network::width`]
    /// elements. After the first call at a shape it allocates nothing.
    ///
    /// # Errors
    /// As for [`Network::forward`], or `out` has another length.
    pub fn forward_into(
        &self,
        images: Images,
        shape: Shape,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        self.forward_into_on(self.threads, images, shape, head, out)
    }

    fn forward_into_on(
        &self,
        threads: usize,
        images: Images,
        shape: Shape,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let pixels = self.pixels(images, shape)?;
        let width = self.width(head);
        if Some(out.len()) != shape.batch.checked_mul(width) {
            return Err(Error::Argument(format!(
                "out: expected {} x {width} elements, found {}",
                shape.batch,
                out.len()
            )));
        }
        for (first, batch, pixels) in batches(pixels, shape) {
            self.forward_batch(
                threads,
                pixels,
                Shape { batch, ..shape },
                head,
                &mut out[first * width..(first + batch) * width],
            )?;
        }
        Ok(())
    }

    fn forward_batch(
        &self,
        threads: usize,
        pixels: Pixels,
        shape: Shape,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let plan = self.forward_plan(shape, threads);
        let steps = match head {
            Head::Logits => &plan.steps[..],
            Head::Embedding => plan.embedding_steps(),
        };
        let team = Team::get(threads);
        self.session.get().with_workspace(|workspace| {
            self.walk(steps, &plan, pixels, workspace, &team, &|_| ())?;
            let arena = workspace.arena(plan.arena_len)?;
            copy_out_flat(&steps[steps.len() - 1], arena, out);
            Ok(())
        })
    }

    /// Runs `steps` on the team; `after_step` is called by one worker when a step is done and no
    /// worker has begun the next.
    fn walk(
        &self,
        steps: &[PlannedStep],
        plan: &Plan,
        pixels: Pixels,
        workspace: &mut Workspace,
        team: &Team,
        after_step: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Error> {
        workspace.shares.reset(steps.len(), team.threads());
        let context = self.context(plan, pixels, workspace)?;
        let shares = &workspace.shares;
        team.run(|worker| {
            for (i, PlannedStep { step, .. }) in steps.iter().enumerate() {
                shares.for_each(i, step.items(), worker, |item| {
                    // SAFETY: the arena is as long as the plan asks for; `shares` gives each item
                    // to one worker, and the barrier below ends a step before the next begins.
                    unsafe { step.run_item(item, &context) };
                });
                worker.wait_then(|| after_step(i));
            }
        });
        Ok(())
    }

    /// Runs `images` and returns what each step of the plan took, in seconds.
    ///
    /// # Errors
    /// As for [`Network::forward`]; the images run as one batch.
    pub fn profile(&self, images: Images, shape: Shape) -> Result<Vec<f64>, Error> {
        let pixels = self.pixels(images, shape)?;
        let plan = self.plan(shape)?;
        let team = Team::get(self.threads);
        let ends: Vec<OnceLock<Instant>> = plan.steps.iter().map(|_| OnceLock::new()).collect();
        let begin = OnceLock::new();
        self.session.get().with_workspace(|workspace| {
            // Waking the team is no step's work: an empty walk first.
            self.walk(&[], &plan, pixels, workspace, &team, &|_| ())?;
            let _ = begin.set(Instant::now());
            self.walk(&plan.steps, &plan, pixels, workspace, &team, &|i| {
                let _ = ends[i].set(Instant::now());
            })
        })?;
        let times: Vec<Instant> = std::iter::once(begin)
            .chain(ends)
            .filter_map(OnceLock::into_inner)
            .collect();
        Ok(times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect())
    }

    /// Every layer's output, in order: for looking at, and for comparing with another
    /// implementation layer by layer.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn activations(&self, images: Images, shape: Shape) -> Result<Vec<Activation>, Error> {
        let all: Vec<usize> = (0..self.layers.len()).collect();
        self.features(self.threads, images, shape, &all)
    }

    /// The outputs of some layers, by their places among the layers, in network order. What comes
    /// after the last of them does not run.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn features(
        &self,
        threads: usize,
        images: Images,
        shape: Shape,
        layers: &[usize],
    ) -> Result<Vec<Activation>, Error> {
        let threads = resolve_threads(Some(threads))?;
        let pixels = self.pixels(images, shape)?;
        let mut outputs: Vec<Activation> = Vec::new();
        if shape.batch == 0 {
            let shapes = shapes(&self.layers, shape, self.architecture.in_channels);
            outputs.extend(layers.iter().map(|&i| {
                let view = &shapes[i + 1];
                let shape = [0, view.height, view.width, view.channels];
                (self.layers[i].name.clone(), shape, Vec::new())
            }));
        }
        for (_, batch, pixels) in batches(pixels, shape) {
            let shape = Shape { batch, ..shape };
            let parts = self.features_of_batch(threads, pixels, shape, layers)?;
            if outputs.is_empty() {
                outputs = parts;
                continue;
            }
            for ((_, shape, all), (_, part_shape, part)) in outputs.iter_mut().zip(parts) {
                shape[0] += part_shape[0];
                all.try_reserve(part.len())
                    .map_err(|e| Error::OutOfMemory(format!("features: {e}")))?;
                all.extend(part);
            }
        }
        Ok(outputs)
    }

    fn features_of_batch(
        &self,
        threads: usize,
        pixels: Pixels,
        shape: Shape,
        layers: &[usize],
    ) -> Result<Vec<Activation>, Error> {
        let plan = self.make_plan(shape, threads, Grouping::Whole);
        let team = Team::get(threads);
        let mut outputs = Vec::new();
        self.session.get().with_workspace(|workspace| {
            let mut done = 0;
            let completed = |step: &(usize, &PlannedStep)| step.1.completes_layer;
            for (layer, (end, step)) in plan.steps.iter().enumerate().filter(completed).enumerate()
            {
                if !layers.contains(&layer) {
                    continue;
                }
                // A later step may write where this one did, so the steps run up to here first.
                let steps = &plan.steps[done..=end];
                self.walk(steps, &plan, pixels, workspace, &team, &|_| ())?;
                done = end + 1;
                let view = step.step.out();
                let shape = [view.batch, view.height, view.width, view.channels];
                let mut out = Vec::new();
                let len = shape.iter().product();
                out.try_reserve_exact(len)
                    .map_err(|e| Error::OutOfMemory(format!("features: {e}")))?;
                out.resize(len, 0.0);
                copy_out(step, workspace.arena(plan.arena_len)?, &mut out);
                outputs.push((step.name.clone(), shape, out));
            }
            Ok(outputs)
        })
    }

    fn context<'a>(
        &'a self,
        plan: &Plan,
        pixels: Pixels<'a>,
        workspace: &mut Workspace,
    ) -> Result<StepContext<'a>, Error> {
        Ok(StepContext {
            pixels,
            weights: &self.weights.data,
            table: &self.table,
            arena: workspace.arena(plan.arena_len)?.as_mut_ptr(),
        })
    }

    fn pixels<'a>(&'a self, images: Images<'a>, shape: Shape) -> Result<Pixels<'a>, Error> {
        let Shape {
            batch,
            height,
            width,
        } = shape;
        let channels = self.architecture.in_channels;
        check_sides(shape)?;
        self.check_head(shape)?;
        let pixels = match images {
            Images::F32(x) => Pixels::F32(x),
            Images::U8(x) => Pixels::U8(x, &self.normalization),
        };
        if Some(pixels.len()) != batch.checked_mul(height * width * channels) {
            return Err(Error::Argument(format!(
                "images: expected {batch} x {height} x {width} x {channels} elements, found {}",
                pixels.len()
            )));
        }
        Ok(pixels)
    }

    /// The plan for looking at a batch of this shape: every layer for all images at once. For one
    /// image it is the plan of a forward; a forward of several takes the first layers group by group.
    ///
    /// # Errors
    /// The batch or a side is zero or too large.
    pub fn plan(&self, shape: Shape) -> Result<Plan, Error> {
        check_sides(shape)?;
        self.check_head(shape)?;
        let most = (MAX_PLAN_PIXELS / (shape.height * shape.width)).max(1);
        if !(1..=most).contains(&shape.batch) {
            return Err(Error::Argument(format!(
                "batch: expected 1 to {most} images of this size, found {}",
                shape.batch
            )));
        }
        Ok(self.make_plan(shape, self.threads, Grouping::Whole))
    }

    /// The plan of a forward at `shape`.
    fn forward_plan(&self, shape: Shape, threads: usize) -> Arc<Plan> {
        let make = || self.make_plan(shape, threads, Grouping::Caches);
        self.session.get().plan(shape, threads, make)
    }

    fn make_plan(&self, shape: Shape, threads: usize, grouping: Grouping) -> Plan {
        Plan::new(
            &self.layers,
            &self.weights.layers,
            shape,
            self.architecture.in_channels,
            &self.table,
            threads,
            grouping,
        )
    }

    /// That a head which is not a global pool gets the map that fc's weights are for.
    fn check_head(&self, shape: Shape) -> Result<(), Error> {
        let Some([side, expected]) = self.fixed_head else {
            return Ok(());
        };
        let Shape { height, width, .. } = shape;
        let channels = self.architecture.in_channels;
        let shapes = output_shapes(&self.operations, [height, width, channels]);
        let pooled = self.operations.iter().zip(&shapes[1..]);
        let found = pooled
            .filter(|(operation, _)| operation.name == "avgpool")
            .map(|(_, &[height, width, _])| [height, width])
            .next();
        if found == Some([side, side]) {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "images: expected {expected} x {expected} pixels, for which the network's head is \
             made, found {height} x {width}"
        )))
    }
}

/// The images in batches of bounded size: for each its first image, its size and its pixels.
fn batches(pixels: Pixels<'_>, shape: Shape) -> impl Iterator<Item = (usize, usize, Pixels<'_>)> {
    let image_len = pixels.len() / shape.batch.max(1);
    let at_once = (BATCH_PIXELS / (shape.height * shape.width)).max(1);
    (0..shape.batch).step_by(at_once).map(move |first| {
        let batch = at_once.min(shape.batch - first);
        let range = first * image_len..(first + batch) * image_len;
        (first, batch, pixels.slice(range))
    })
}

/// That an image has pixels, and not so many that sizes overflow.
pub(crate) fn check_sides(shape: Shape) -> Result<(), Error> {
    let Shape { height, width, .. } = shape;
    if height == 0 || width == 0 {
        return Err(Error::Argument(format!(
            "images: expected a height and a width of at least 1, found {height} x {width}"
        )));
    }
    if height.checked_mul(width).is_none_or(|n| n > MAX_PIXELS) {
        return Err(Error::Argument(format!(
            "images: expected at most {MAX_PIXELS} pixels an image, found {height} x {width}"
        )));
    }
    Ok(())
}

/// Copies a head's output out of the arena, as a row for each image: a map in torch's order,
/// `[channels, height, width]`, which is what fc's weights are for.
fn copy_out_flat(step: &PlannedStep, arena: &[f32], out: &mut [f32]) {
    let view = step.step.out();
    let pixels = view.height * view.width;
    for (n, image) in out.chunks_exact_mut(pixels * view.channels).enumerate() {
        for y in 0..view.height {
            for x in 0..view.width {
                let start = view.pixel(n, y, x);
                let pixel = &arena[start..start + view.channels];
                let places = image[y * view.width + x..].iter_mut().step_by(pixels);
                for (place, value) in places.zip(pixel) {
                    *place = *value;
                }
            }
        }
    }
}

/// Copies a step's output out of the arena, without border and gaps.
fn copy_out(step: &PlannedStep, arena: &[f32], out: &mut [f32]) {
    let view = step.step.out();
    let mut pixels = out.chunks_exact_mut(view.channels);
    for n in 0..view.batch {
        for y in 0..view.height {
            for x in 0..view.width {
                if let Some(pixel) = pixels.next() {
                    let start = view.pixel(n, y, x);
                    pixel.copy_from_slice(&arena[start..start + view.channels]);
                }
            }
        }
    }
    debug_assert!(pixels.next().is_none());
}
