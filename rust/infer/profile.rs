//! The time that each step of a forward takes.

use std::sync::OnceLock;
use std::time::Instant;

use super::images::Images;
use super::network::Network;
use super::walk::Pass;
use crate::error::Error;
use crate::plan::Segment;
use crate::shape::Shape;
use crate::threads::{Team, turn};

impl Network {
    /// Runs `images` and returns the time of each step of the plan, in seconds.
    ///
    /// # Errors
    /// As for [`Network::forward`]; the images run as one batch.
    pub fn profile(&self, images: Images, shape: Shape) -> Result<Vec<f64>, Error> {
        let pixels = self.pixels(images, shape)?;
        let plan = self.plan(shape)?;
        let team = Team::get(self.threads);
        let ends: Vec<OnceLock<Instant>> = plan.steps.iter().map(|_| OnceLock::new()).collect();
        let begin = OnceLock::new();
        let turn = turn(&team, None)?;
        let pass = Pass {
            plan: &plan,
            pixels,
            turn: &turn,
            watch: None,
        };
        self.session.get().with_workspace(|workspace| {
            // Waking the team belongs to no step, so an empty walk comes first.
            self.walk(&[], &pass, workspace, &|_| ())?;
            let _ = begin.set(Instant::now());
            self.walk(
                &[Segment::one(0..plan.steps.len())],
                &pass,
                workspace,
                &|i| {
                    let _ = ends[i].set(Instant::now());
                },
            )
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
}
