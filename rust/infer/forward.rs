//! The forward: images in, logits or embeddings out.

use super::copies::copy_out_flat;
use super::images::{Images, batches};
use super::network::{Head, Network};
use super::walk::Pass;
use crate::error::Error;
use crate::kernels::input::Pixels;
use crate::memory::room;
use crate::plan::Plan;
use crate::shape::Shape;
use crate::threads::{Call, Team, Watch, check, turn};

impl Network {
    /// Runs `images` and returns the head's outputs, image by image.
    ///
    /// Images run in batches of bounded size. Each image's result is the same to the bit for every
    /// batch and number of threads.
    ///
    /// # Errors
    /// The number of elements does not fit `shape`, a side is zero, or there is not enough memory.
    pub fn forward(&self, images: Images, shape: Shape, head: Head) -> Result<Vec<f32>, Error> {
        self.forward_on(Call::default(), images, shape, head)
    }

    /// [`Network::forward`] with the options of a [`Call`], or another number of threads alone: a program
    /// that runs several forwards at once may want each on one thread.
    ///
    /// # Errors
    /// As for [`Network::forward`], the number of threads is 0 or more than 1024, or the caller has ended
    /// the call.
    pub fn forward_on<'a>(
        &self,
        call: impl Into<Call<'a>>,
        images: Images,
        shape: Shape,
        head: Head,
    ) -> Result<Vec<f32>, Error> {
        let call = call.into();
        let mut out = Vec::new();
        let len = shape.batch.saturating_mul(self.width(head));
        self.pixels(images, shape)?;
        room::reserve(&mut out, len, "outputs")?;
        out.resize(len, 0.0);
        self.forward_into_on(call, images, shape, head, &mut out)?;
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
        self.forward_into_on(Call::default(), images, shape, head, out)
    }

    fn forward_into_on(
        &self,
        call: Call,
        images: Images,
        shape: Shape,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let (threads, watch) = call.checked(self.threads)?;
        let pixels = self.pixels(images, shape)?;
        let width = self.width(head);
        if Some(out.len()) != shape.batch.checked_mul(width) {
            return Err(Error::Argument(format!(
                "out: expected {} x {width} elements, found {}",
                shape.batch,
                out.len()
            )));
        }
        for (first, batch, pixels) in batches(pixels, shape, threads) {
            check(watch)?;
            let plan = self.forward_plan(Shape { batch, ..shape }, threads)?;
            let out = &mut out[first * width..(first + batch) * width];
            self.forward_batch(&plan, watch, pixels, head, out)?;
        }
        Ok(())
    }

    fn forward_batch(
        &self,
        plan: &Plan,
        watch: Option<&Watch>,
        pixels: Pixels,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let segments = match head {
            Head::Logits => &plan.segments[..],
            Head::Embedding => plan.embedding_segments(),
        };
        let end = segments.last().map_or(0, |segment| segment.steps().end);
        let last = &plan.steps[end - 1];
        let team = Team::get(plan.threads);
        // The turn comes first: callers that wait need no memory.
        let turn = turn(&team, watch)?;
        let pass = Pass {
            plan,
            pixels,
            turn: &turn,
            watch,
        };
        self.session.get().with_workspace(|workspace| {
            self.walk(segments, &pass, workspace, &|_| ())?;
            let arena = workspace.arena(plan.arena_bytes)?;
            copy_out_flat(last, arena, out);
            Ok(())
        })
    }
}
