//! A network that learns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::graph::Graph;
use super::optimizer::Group;
use super::parameters::Parameters;
use super::plan::{Inputs, PlannedTrainStep, TrainContext, TrainPlan, Trainable};
use super::precision::Precision;
use super::state::{Set, State, all};
use super::walk::walk;
use crate::error::Error;
use crate::graph::architecture::Architecture;
use crate::graph::config::Config;
use crate::graph::operations::Operation;
use crate::kernels::KernelTable;
use crate::kernels::conv::mixed::MixedKernels;
use crate::kernels::input::Pixels;
use crate::kernels::loss::ImageLoss;
use crate::memory::Buffer;
use crate::shape::Shape;
use crate::simd::{Features, Isa};
use crate::threads::{Call, Progress, Team, resolve_threads, turn};
use crate::weights::{NetworkSpec, Tensors};

/// The number of plans that are remembered: those of the last shapes.
const PLANS: usize = 4;

/// Options of a trainer.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The tier of kernels; None takes `RESNET_RS_ISA`, else the fastest of this machine.
    pub isa: Option<Isa>,
    /// The number of threads; None takes the default of inference.
    pub threads: Option<usize>,
    /// Lets 3x3 convolutions with stride 1 run with Winograd's algorithm.
    pub winograd: bool,
    /// The products of convolutions.
    pub precision: Precision,
    /// The share of a batch in the running statistics of batch norm.
    pub norm_momentum: f64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            isa: None,
            threads: None,
            winograd: true,
            precision: Precision::F32,
            norm_momentum: 0.1,
        }
    }
}

/// The outcome of a backward pass: for each image its loss, and the class that the network saw in it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// For each image `-Σ target · log softmax(logits)`.
    pub losses: Vec<f64>,
    /// For each image the index of the largest logit.
    pub predictions: Vec<usize>,
}

/// A network that learns: its parameters, their gradients, and the plans of its steps.
pub struct Trainer {
    pub(super) parameters: Parameters,
    pub(super) state: State,
    pub(super) table: KernelTable,
    pub(super) threads: usize,
    pub(super) trainable: Trainable,
    spec: NetworkSpec,
    architecture: Architecture,
    graph: Graph,
    winograd: bool,
    precision: Precision,
    bf16: Option<MixedKernels>,
    norm_momentum: f64,
    plans: Vec<Arc<TrainPlan>>,
    arena: Option<Buffer>,
    scratch: Option<Buffer>,
    pub(super) progress: Progress,
    /// The part of each parameter in a step.
    pub(super) groups: Vec<Group>,
    /// Steps of the optimiser so far.
    pub(super) steps: u64,
}

impl Trainer {
    /// A trainer of the network that `config` describes, beginning with `tensors`.
    ///
    /// # Errors
    /// A tensor is missing, surplus or malformed, the network cannot be trained, or there is not enough memory.
    pub fn new(config: Config, tensors: &Tensors, options: &TrainOptions) -> Result<Self, Error> {
        let architecture = config.architecture()?;
        let isa = Isa::resolve(options.isa)?;
        let threads = resolve_threads(options.threads)?;
        let table = KernelTable::new(isa, Features::detect())
            .ok_or_else(|| Error::UnsupportedIsa(format!("this machine has no {isa}")))?;
        let bf16 = options.precision.kernels(&table)?;
        let spec = NetworkSpec::new(&architecture, config, tensors)?;
        if spec.precision != crate::weights::Precision::F32 {
            return Err(tensors.error(format!(
                "expected f32 weights to train, found {}: train the weights that they were made from",
                spec.precision
            )));
        }
        if spec.num_classes == 1 {
            return Err(Error::Argument(
                "num_classes: expected at least 2 classes to tell apart, found 1".into(),
            ));
        }
        let operations = &spec.operations;
        let graph = Graph::new(operations)?;
        let parameters = Parameters::new(operations, table.shapes().f32);
        let trainable = Trainable(vec![true; operations.len()]);
        let state = State::new(&parameters, tensors)?;
        Ok(Self {
            groups: vec![Group::default(); parameters.tensors.len()],
            parameters,
            state,
            table,
            threads,
            trainable,
            spec,
            architecture,
            graph,
            winograd: options.winograd,
            precision: options.precision,
            bf16,
            norm_momentum: options.norm_momentum,
            plans: Vec::new(),
            arena: None,
            scratch: None,
            progress: Progress::default(),
            steps: 0,
        })
    }

    /// The forward pass in training mode, the loss, and the gradients of all parameters that train, which replace
    /// those that are there or, with `accumulate`, are added to them. Running statistics take their share of the
    /// batch.
    ///
    /// - `images`: normalised, `[batch, height, width, channels]`.
    /// - `targets`: `[batch, classes]`. The loss is `-Σ target · log softmax(logits)` over all images.
    ///
    /// # Errors
    /// A length does not fit the shape, batch norm has a single value of a channel, there is not enough memory, or
    /// the caller has ended the call.
    pub fn backward(
        &mut self,
        call: Call,
        images: &[f32],
        targets: &[f32],
        shape: Shape,
        accumulate: bool,
    ) -> Result<Outcome, Error> {
        let (outcome, _) = self.run(call, images, targets, shape, accumulate, false)?;
        Ok(outcome)
    }

    /// A backward pass, and the time of each step if it is `timed`.
    fn run(
        &mut self,
        call: Call,
        images: &[f32],
        targets: &[f32],
        shape: Shape,
        accumulate: bool,
        timed: bool,
    ) -> Result<(Outcome, Vec<f64>), Error> {
        let (threads, watch) = call.checked(self.threads)?;
        self.check(images, targets, shape)?;
        let team = Team::get(threads);
        let turn = turn(&team, watch)?;
        let plan = self.plan(shape, threads, accumulate)?;
        let scratch_bytes = plan.scratch_bytes;
        let scratch = grown(
            &mut self.scratch,
            scratch_bytes * turn.threads(),
            "scratch memory",
        )?;
        let arena = grown(
            &mut self.arena,
            plan.arena_bytes,
            "activations and gradients",
        )?;
        let mut losses = vec![ImageLoss::default(); shape.batch];
        // They change in the forward pass, and come back if the pass does not end well.
        let statistics = self.state.statistics.to_vec();
        let context = TrainContext {
            pixels: Pixels::F32(images),
            parameters: self.state.values.as_slice_of(),
            gradients: self.state.gradients.as_mut_slice_of::<f32>().as_mut_ptr(),
            running: self.state.statistics.as_mut_slice_of::<f32>().as_mut_ptr(),
            targets,
            losses: losses.as_mut_ptr(),
            table: &self.table,
            bf16: self.bf16.as_ref(),
            arena: arena.as_mut_ptr(),
            scratch: scratch.as_mut_ptr(),
            scratch_bytes,
        };
        // SAFETY: the buffers have the lengths that the plan and the parameters ask for.
        let mut walk_steps = |steps: &[PlannedTrainStep]| unsafe {
            walk(steps, &turn, &mut self.progress, &context, watch)
        };
        let mut times = Vec::new();
        let walked = if timed {
            plan.steps.chunks(1).try_for_each(|step| {
                let begin = Instant::now();
                walk_steps(step)?;
                times.push(begin.elapsed().as_secs_f64());
                Ok(())
            })
        } else {
            walk_steps(&plan.steps)
        };
        if walked.is_err() || losses.iter().any(|loss| !loss.loss.is_finite()) {
            self.state.statistics.copy_from_slice(&statistics);
        }
        walked?;
        let outcome = Outcome {
            losses: losses.iter().map(|loss| loss.loss).collect(),
            predictions: losses.iter().map(|loss| loss.best).collect(),
        };
        Ok((outcome, times))
    }

    /// The time of each step of a backward pass, in seconds. Steps run one after the other with a wait for all
    /// threads between.
    ///
    /// # Errors
    /// As for [`Trainer::backward`].
    pub fn profile(
        &mut self,
        call: Call,
        images: &[f32],
        targets: &[f32],
        shape: Shape,
    ) -> Result<Vec<f64>, Error> {
        self.run(call, images, targets, shape, false, true)
            .map(|(_, times)| times)
    }

    fn check(&self, images: &[f32], targets: &[f32], shape: Shape) -> Result<(), Error> {
        shape.check_sides()?;
        let channels = self.architecture.in_channels;
        let pixels = shape.height * shape.width * channels;
        if shape.batch == 0 || Some(images.len()) != shape.batch.checked_mul(pixels) {
            return Err(Error::Argument(format!(
                "x: expected {} x {} x {} x {channels} elements and at least one image, found {}",
                shape.batch,
                shape.height,
                shape.width,
                images.len()
            )));
        }
        let classes = self.num_classes();
        if Some(targets.len()) != shape.batch.checked_mul(classes) {
            return Err(Error::Argument(format!(
                "targets: expected {} x {classes} elements, found {}",
                shape.batch,
                targets.len()
            )));
        }
        if let Some([_, side]) = self.spec.fixed_head
            && [shape.height, shape.width] != [side; 2]
        {
            return Err(Error::Argument(format!(
                "x: this network's head expects images of {side} x {side}, found {} x {}",
                shape.height, shape.width
            )));
        }
        Ok(())
    }

    /// The plan for a shape, made if it is not remembered.
    fn plan(
        &mut self,
        shape: Shape,
        threads: usize,
        accumulate: bool,
    ) -> Result<Arc<TrainPlan>, Error> {
        let is_same = |plan: &Arc<TrainPlan>| {
            (plan.shape, plan.threads, plan.accumulate) == (shape, threads, accumulate)
        };
        let plan = match self.plans.iter().position(is_same) {
            Some(at) => self.plans.remove(at),
            None => {
                let inputs = Inputs {
                    graph: &self.graph,
                    parameters: &self.parameters,
                    trainable: &self.trainable,
                    channels: self.architecture.in_channels,
                    kernels: self.table.shapes(),
                    bf16: self.bf16.as_ref().map(MixedKernels::tile),
                    winograd: self.winograd,
                    momentum: self.norm_momentum,
                };
                Arc::new(TrainPlan::new(&inputs, shape, threads, accumulate)?)
            }
        };
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        self.plans.push(plan.clone());
        Ok(plan)
    }

    /// The plan of a backward pass for a shape.
    ///
    /// # Errors
    /// As for [`Trainer::backward`].
    pub fn plan_of(&mut self, shape: Shape, threads: usize) -> Result<Arc<TrainPlan>, Error> {
        self.plan(shape, threads, false)
    }

    /// The names and shapes of all tensors, with true for running statistics.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], bool)> {
        all(&self.parameters).map(|(named, is_statistic)| {
            (named.name.as_str(), named.shape.as_slice(), is_statistic)
        })
    }

    /// A tensor of a set, in torchvision's layout; None if the set has no such tensor.
    pub fn read(&self, set: Set, name: &str) -> Option<Vec<f32>> {
        self.state.read(set, &self.parameters, name)
    }

    /// Overwrites a tensor of a set.
    ///
    /// # Errors
    /// There is no such tensor, it has another number of elements, or there is not enough memory.
    pub fn write(&mut self, set: Set, name: &str, values: &[f32]) -> Result<(), Error> {
        self.state.make(set, &self.parameters)?;
        self.state.write(set, &self.parameters, name, values)
    }

    /// Sets the parameters that do not train, by torchvision's names.
    ///
    /// # Errors
    /// A name is not that of a parameter, or only some of an operation's parameters are named.
    pub fn freeze(&mut self, frozen: &HashSet<String>) -> Result<(), Error> {
        let trainable = trainable(&self.spec.operations, frozen)?;
        if trainable != self.trainable {
            self.trainable = trainable;
            self.plans.clear();
        }
        Ok(())
    }

    /// Steps of the optimiser so far; they correct AdamW's means.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets the number of steps, when a training run goes on.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// The network's description.
    pub fn config(&self) -> &Config {
        &self.spec.config
    }

    /// Channels of an image.
    pub fn in_channels(&self) -> usize {
        self.architecture.in_channels
    }

    /// The number of logits.
    pub fn num_classes(&self) -> usize {
        self.spec.num_classes
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The products of convolutions.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The tier.
    pub fn isa(&self) -> Isa {
        self.table.isa
    }

    /// Bytes of activations and gradients by them, for the shapes so far.
    pub fn arena_bytes(&self) -> usize {
        self.arena.as_ref().map_or(0, |arena| arena.len())
    }
}

/// A buffer of at least `len` bytes.
fn grown<'a>(
    buffer: &'a mut Option<Buffer>,
    len: usize,
    what: &str,
) -> Result<&'a mut Buffer, Error> {
    if buffer.as_ref().is_none_or(|buffer| buffer.len() < len) {
        *buffer = None;
        *buffer = Some(Buffer::new(len, what)?);
    }
    buffer
        .as_mut()
        .ok_or_else(|| Error::OutOfMemory(format!("{what}: no memory")))
}

/// The operations that train: all whose parameters are not frozen.
fn trainable(operations: &[Operation], frozen: &HashSet<String>) -> Result<Trainable, Error> {
    let mut unknown = frozen.clone();
    let mut trainable = Vec::new();
    for operation in operations {
        let parameters = operation.named_parameters();
        let names: Vec<_> = parameters
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !name.contains(".running_"))
            .collect();
        let count = names.iter().filter(|name| unknown.remove(**name)).count();
        if count > 0 && count < names.len() {
            return Err(Error::Argument(format!(
                "freeze: expected all parameters of {}, found {count} of {}",
                operation.name,
                names.len()
            )));
        }
        trainable.push(count == 0);
    }
    match unknown.iter().min() {
        Some(name) => Err(Error::Argument(format!(
            "freeze: {name}: not a parameter of this network"
        ))),
        None => Ok(Trainable(trainable)),
    }
}
