//! A plan of one tier, with random weights and activations.

use resnet_rs::Shape;
use resnet_rs::graph::layer::Layer;
use resnet_rs::kernels::KernelTable;
use resnet_rs::kernels::input::Pixels;
use resnet_rs::memory::Buffer;
use resnet_rs::plan::{Algorithm, Arithmetic, Grouping, LayerWeights, Plan, PlannedStep};
use resnet_rs::plan::{StepContext, run_item};

use super::random::random;
use super::resnet50::IN_CHANNELS;

/// The data of a forward on one thread.
pub struct Workload {
    plan: Plan,
    table: KernelTable,
    weights: Buffer,
    arena: Buffer,
}

impl Workload {
    /// For `layers`, each with its algorithm, and images of `shape`.
    pub fn new(
        layers: &[Layer],
        algorithms: &[Algorithm],
        shape: Shape,
        table: &KernelTable,
    ) -> Self {
        let arithmetic: Vec<_> = algorithms.iter().copied().map(Arithmetic::f32).collect();
        let places = LayerWeights::lay_out(layers, &arithmetic, &table.shapes());
        let plan = Plan::new(
            layers,
            &places,
            shape,
            IN_CHANNELS,
            &table.shapes(),
            1,
            Grouping::Whole,
        );
        Self {
            arena: random_buffer(plan.arena_bytes, 1),
            weights: random_buffer(LayerWeights::total_bytes(&places), 2),
            table: *table,
            plan,
        }
    }

    /// The layer of that name, ready to be run.
    pub fn layer(&mut self, name: &str) -> impl FnMut() {
        let steps: Vec<&PlannedStep> = self.plan.steps.iter().filter(|s| s.name == name).collect();
        assert!(steps.last().is_some_and(|step| step.completes_layer));
        let context = StepContext {
            pixels: Pixels::F32(&[]),
            pixel_scale: None,
            weights: &self.weights,
            table: &self.table,
            arena: self.arena.as_mut_ptr(),
        };
        move || {
            for PlannedStep { step, .. } in &steps {
                for item in 0..step.items() {
                    // SAFETY: the arena is as long as the plan asks for, and borrowed for as long
                    // as this closure lives; the plan was made for these weights; a convolution
                    // reads no pixels; one thread does one item after the other.
                    unsafe { run_item(step, item, &context) };
                }
            }
        }
    }
}

/// Bytes that are random f32 values.
fn random_buffer(bytes: usize, seed: u64) -> Buffer {
    let mut buffer = Buffer::new(bytes, "benchmark").expect("memory for a forward");
    buffer.as_mut_slice_of::<f32>().fill_with(random(seed));
    buffer
}
