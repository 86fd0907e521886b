//! The outputs of layers, for inspection.

use super::copies::copy_out;
use super::images::{Images, batches};
use super::network::Network;
use super::walk::Pass;
use crate::error::Error;
use crate::kernels::input::Pixels;
use crate::plan::{Grouping, Plan, PlannedStep, Segment, shapes};
use crate::shape::Shape;
use crate::threads::{Call, Team, Watch, check, turn};

/// A step's output: its name, its shape `[batch, height, width, channels]`, its elements.
pub type Activation = (String, [usize; 4], Vec<f32>);

impl Network {
    /// Every layer's output, in order, for inspection or to compare two implementations layer by layer.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn activations(&self, images: Images, shape: Shape) -> Result<Vec<Activation>, Error> {
        let all: Vec<usize> = (0..self.layers().count()).collect();
        self.features(Call::default(), images, shape, &all)
    }

    /// The outputs of some layers, given by index, in network order. Layers after the last of them do
    /// not run.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn features<'a>(
        &self,
        call: impl Into<Call<'a>>,
        images: Images,
        shape: Shape,
        layers: &[usize],
    ) -> Result<Vec<Activation>, Error> {
        let (threads, watch) = call.into().checked(self.threads)?;
        let pixels = self.pixels(images, shape)?;
        let mut outputs: Vec<Activation> = Vec::new();
        if shape.batch == 0 {
            let shapes = shapes(&self.layers, shape, self.image_channels());
            let all = self.layers.iter().zip(&shapes[1..]);
            let named: Vec<_> = all.filter(|(layer, _)| layer.is_named()).collect();
            outputs.extend(layers.iter().map(|&i| {
                let (layer, out) = named[i];
                let shape = [0, out.height, out.width, out.channels];
                (layer.name.clone(), shape, Vec::new())
            }));
        }
        // Every layer takes the whole batch here, so its memory grows with it.
        for (_, batch, pixels) in batches(pixels, shape, 1) {
            check(watch)?;
            let plan = self.make_plan(Shape { batch, ..shape }, threads, Grouping::Whole)?;
            let parts = self.features_of_batch(&plan, watch, pixels, layers)?;
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
        plan: &Plan,
        watch: Option<&Watch>,
        pixels: Pixels,
        layers: &[usize],
    ) -> Result<Vec<Activation>, Error> {
        let team = Team::get(plan.threads);
        let turn = turn(&team, watch)?;
        let pass = Pass {
            plan,
            pixels,
            turn: &turn,
            watch,
        };
        let mut outputs = Vec::new();
        self.session.get().with_workspace(|workspace| {
            let mut done = 0;
            let completed = |step: &(usize, &PlannedStep)| step.1.completes_layer;
            for (layer, (end, step)) in plan.steps.iter().enumerate().filter(completed).enumerate()
            {
                if !layers.contains(&layer) {
                    continue;
                }
                // A later step may overwrite this output, so the walk stops here and copies it.
                let steps = Segment::one(done..end + 1);
                self.walk(&[steps], &pass, workspace, &|_| ())?;
                done = end + 1;
                let view = step.step.out();
                let shape = [view.batch, view.height, view.width, view.channels];
                let mut out = Vec::new();
                let len = shape.iter().product();
                out.try_reserve_exact(len)
                    .map_err(|e| Error::OutOfMemory(format!("features: {e}")))?;
                out.resize(len, 0.0);
                copy_out(step, workspace.arena(plan.arena_bytes)?, &mut out);
                outputs.push((step.name.clone(), shape, out));
            }
            Ok(outputs)
        })
    }
}
