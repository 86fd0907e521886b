//! A network: its layers, its packed weights, and the forward that walks its plan.

pub mod architecture;
pub mod config;
mod fold;
mod layout;
mod packed;
mod session;
pub mod weights;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::kernels::input::{Normalization, Pixels};
use crate::kernels::{Isa, KernelTable};
use crate::plan::{Algorithm, Plan, PlannedStep, Shape, StepContext, choose, shapes};
use crate::threads::{ProcessLocal, Team, resolve_threads};
use architecture::{Architecture, ConvSpec, Layer};
use config::{Config, Preprocessing};
use packed::PackedWeights;
use session::Session;
use weights::{Tensors, WeightsFile};

/// Pixels of the images that run as one batch: four of 224 x 224. More would not be faster, for
/// then the activations of the first layers leave the caches; and so a forward's memory stays the
/// same however many images it is given.
const BATCH_PIXELS: usize = 4 * 224 * 224;

/// The largest image, in pixels: beyond it, sizes in the arena could overflow.
const MAX_PIXELS: usize = 1 << 28;

/// The largest batch that is planned as one, for the same reason.
const MAX_BATCH: usize = 1 << 16;

/// How to load a network; `Default` is what most want.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tier of kernels; None takes `RESNET_RS_ISA`, else the fastest there is.
    pub isa: Option<Isa>,
    /// The number of threads; None takes the environment's wish, else the cores that are ours.
    pub threads: Option<usize>,
    /// Whether 3x3 convolutions with stride 1 may run with Winograd's algorithm, which is faster
    /// and rounds a little more.
    pub winograd: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            isa: None,
            threads: None,
            winograd: true,
        }
    }
}

/// Images to run, `[batch, height, width, channels]`, contiguous.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Normalised already.
    F32(&'a [f32]),
    /// RGB pixels, normalised with the config's mean and standard deviation.
    U8(&'a [u8]),
}

/// What a forward gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// fc's outputs: `[batch, num_classes]`.
    Logits,
    /// The average pool's outputs: `[batch, embedding_size]`.
    Embedding,
}

/// A step's output: its name, its shape `[batch, height, width, channels]`, its elements.
pub type Activation = (String, [usize; 4], Vec<f32>);

/// A network, ready to run. Forwards may be called from many threads at once.
pub struct Network {
    config: Config,
    has_config: bool,
    path: PathBuf,
    architecture: Architecture,
    layers: Vec<Layer>,
    num_classes: usize,
    weights: PackedWeights,
    normalization: Normalization,
    table: KernelTable,
    threads: usize,
    session: ProcessLocal<Session>,
}

impl Network {
    /// Loads `path`: a directory with `model.safetensors` and `config.json`, or a `.safetensors`
    /// file, whose config is read where one lies beside it.
    ///
    /// # Errors
    /// A file is missing or malformed, or an option cannot be had.
    pub fn load(path: &Path, options: &Options) -> Result<Self, Error> {
        let is_dir = path.metadata().map_err(|e| Error::io(path, e))?.is_dir();
        let file = if is_dir {
            path.join("model.safetensors")
        } else {
            path.to_owned()
        };
        let config_path = file.with_file_name("config.json");
        let has_config = is_dir || config_path.exists();
        let config = if has_config {
            Config::read(&config_path)?
        } else {
            Config::default()
        };
        let architecture = config.architecture().ok_or_else(|| {
            Error::Argument(format!("unknown architecture {:?}", config.architecture))
        })?;
        let weights = WeightsFile::open(&file)?;
        let mut network = Self::new(architecture, config.clone(), &weights.tensors()?, options)?;
        if let Some(classes) = config.num_classes.or(config.labels.map(|l| l.len()))
            && classes != network.num_classes
        {
            return Err(Error::weights(
                &config_path,
                format!(
                    "num_classes and labels: expected {}, as fc.weight has, found {classes}",
                    network.num_classes
                ),
            ));
        }
        network.has_config = has_config;
        network.path = file;
        Ok(network)
    }

    fn new(
        architecture: &Architecture,
        config: Config,
        tensors: &Tensors,
        options: &Options,
    ) -> Result<Self, Error> {
        let isa = Isa::resolve(options.isa)?;
        let threads = resolve_threads(options.threads)?;
        let table = KernelTable::new(isa)
            .ok_or_else(|| Error::UnsupportedIsa(format!("this machine has no {isa}")))?;

        let fc_shape = tensors.shape("fc.weight")?;
        let &[num_classes, _] = fc_shape.as_slice() else {
            return Err(tensors.error(format!(
                "tensor fc.weight: expected shape [num_classes, {}], found {fc_shape:?}",
                architecture.embedding_size()
            )));
        };
        if num_classes == 0 {
            return Err(tensors.error("tensor fc.weight: expected at least 1 class, found 0"));
        }
        let layers = architecture.layers(num_classes);
        let expected: Vec<_> = layers
            .iter()
            .flat_map(Layer::convs)
            .flat_map(ConvSpec::tensors)
            .collect();
        tensors.check(&expected)?;
        let preprocessing = &config.preprocessing;
        let algorithms = algorithms(&layers, architecture, preprocessing, options.winograd);
        let team = Team::get(threads);
        let weights = PackedWeights::new(&layers, &algorithms, tensors, table.nr, &team)?;
        Ok(Self {
            normalization: Normalization::new(&preprocessing.mean, &preprocessing.std),
            config,
            has_config: false,
            path: PathBuf::new(),
            architecture: architecture.clone(),
            layers,
            num_classes,
            weights,
            table,
            threads,
            session: ProcessLocal::new(),
        })
    }

    /// Runs `images` and returns the head's outputs, image by image.
    ///
    /// However many images there are, they run in batches of bounded size; each image's result is
    /// the same to the bit whatever batch it is in and however many threads there are.
    ///
    /// # Errors
    /// The number of elements does not fit `shape`, a side is zero, or memory is short.
    pub fn forward(&self, images: Images, shape: Shape, head: Head) -> Result<Vec<f32>, Error> {
        let mut out = Vec::new();
        let len = shape.batch.saturating_mul(self.width(head));
        self.pixels(images, shape)?;
        out.try_reserve_exact(len)
            .map_err(|e| Error::OutOfMemory(format!("outputs: {e}")))?;
        out.resize(len, 0.0);
        self.forward_into(images, shape, head, &mut out)?;
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
        let pixels = self.pixels(images, shape)?;
        let width = self.width(head);
        if Some(out.len()) != shape.batch.checked_mul(width) {
            return Err(Error::Argument(format!(
                "out: expected {} x {width} elements, found {}",
                shape.batch,
                out.len()
            )));
        }
        let image_len = pixels.len() / shape.batch.max(1);
        let at_once = (BATCH_PIXELS / (shape.height * shape.width)).max(1);
        for first in (0..shape.batch).step_by(at_once) {
            let batch = at_once.min(shape.batch - first);
            self.forward_batch(
                pixels.slice(first * image_len..(first + batch) * image_len),
                Shape { batch, ..shape },
                head,
                &mut out[first * width..(first + batch) * width],
            )?;
        }
        Ok(())
    }

    fn forward_batch(
        &self,
        pixels: Pixels,
        shape: Shape,
        head: Head,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let plan = self.plan_checked(shape);
        let steps = match head {
            Head::Logits => &plan.steps[..],
            Head::Embedding => plan.embedding_steps(),
        };
        let team = Team::get(self.threads);
        self.session.get().with_workspace(|workspace| {
            workspace.shares.reset(steps.len(), team.threads());
            let arena = workspace.arena(plan.arena_len)?.as_mut_ptr();
            let context = self.context(pixels, arena);
            let shares = &workspace.shares;
            team.run(|worker| {
                for (i, step) in steps.iter().enumerate() {
                    shares.for_each(i, step.step.items(), worker, |item| {
                        // SAFETY: the arena is as long as the plan asks for; `shares` gives each
                        // item to one worker, and the barrier below ends a step before the next.
                        unsafe { step.step.run_item(item, &context) };
                    });
                    worker.wait();
                }
            });
            let arena = workspace.arena(plan.arena_len)?;
            copy_out(&steps[steps.len() - 1], arena, out);
            Ok(())
        })
    }

    /// Every step's output, in order: for looking at, and for comparing with another
    /// implementation layer by layer. Runs on the calling thread.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn activations(&self, images: Images, shape: Shape) -> Result<Vec<Activation>, Error> {
        let pixels = self.pixels(images, shape)?;
        let plan = self.plan(shape)?;
        self.session.get().with_workspace(|workspace| {
            let arena = workspace.arena(plan.arena_len)?.as_mut_ptr();
            let context = self.context(pixels, arena);
            let mut activations = Vec::new();
            for step in &plan.steps {
                let _flush = crate::kernels::FlushDenormals::new();
                for item in 0..step.step.items() {
                    // SAFETY: as in `forward_batch`, by one thread alone.
                    unsafe { step.step.run_item(item, &context) };
                }
                if step.completes_layer {
                    let view = step.step.out();
                    let shape = [view.batch, view.height, view.width, view.channels];
                    let mut out = vec![0.0; shape.iter().product()];
                    copy_out(step, workspace.arena(plan.arena_len)?, &mut out);
                    activations.push((step.name.clone(), shape, out));
                }
            }
            Ok(activations)
        })
    }

    fn context<'a>(&'a self, pixels: Pixels<'a>, arena: *mut f32) -> StepContext<'a> {
        StepContext {
            pixels,
            weights: &self.weights.data,
            table: &self.table,
            arena,
        }
    }

    fn pixels<'a>(&'a self, images: Images<'a>, shape: Shape) -> Result<Pixels<'a>, Error> {
        let Shape {
            batch,
            height,
            width,
        } = shape;
        let channels = self.architecture.in_channels;
        check_sides(shape)?;
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

    /// The plan of a forward at `shape`.
    ///
    /// # Errors
    /// The batch or a side is zero or too large.
    pub fn plan(&self, shape: Shape) -> Result<Arc<Plan>, Error> {
        check_sides(shape)?;
        if !(1..=MAX_BATCH).contains(&shape.batch) {
            return Err(Error::Argument(format!(
                "batch: expected 1 to {MAX_BATCH}, found {}",
                shape.batch
            )));
        }
        Ok(self.plan_checked(shape))
    }

    fn plan_checked(&self, shape: Shape) -> Arc<Plan> {
        self.session.get().plan(shape, || {
            Plan::new(
                &self.layers,
                &self.weights.layers,
                shape,
                self.architecture.in_channels,
                &self.table,
                self.threads,
            )
        })
    }

    /// Normalises pixels as a forward does: `(value / 255 - mean) / std`.
    ///
    /// # Errors
    /// The lengths differ or are not whole pixels.
    pub fn normalize(&self, pixels: &[u8], out: &mut [f32]) -> Result<(), Error> {
        let channels = self.architecture.in_channels;
        if pixels.len() != out.len() || !pixels.len().is_multiple_of(channels) {
            return Err(Error::Argument(format!(
                "pixels: expected whole pixels of {channels} channels, as many as out, found {}",
                pixels.len()
            )));
        }
        self.normalization.apply(pixels, out);
        Ok(())
    }

    /// Gives back the memory and the plans of past forwards; the next one makes new ones.
    pub fn release(&self) {
        self.session.get().release();
    }

    /// The elements that a head gives for each image.
    pub fn width(&self, head: Head) -> usize {
        match head {
            Head::Logits => self.num_classes,
            Head::Embedding => self.architecture.embedding_size(),
        }
    }

    /// Trained values: weights and biases, batch norm's scales and shifts.
    pub fn num_parameters(&self) -> usize {
        self.layers
            .iter()
            .flat_map(Layer::convs)
            .flat_map(ConvSpec::tensors)
            .filter(|(name, _)| !name.contains(".running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// What belongs to the network besides its tensors.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a config.json was read; without one the config is all defaults.
    pub fn has_config(&self) -> bool {
        self.has_config
    }

    /// The safetensors file.
    pub fn weights_path(&self) -> &Path {
        &self.path
    }

    /// The number of logits.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// The kernels in use.
    pub fn kernels(&self) -> &KernelTable {
        &self.table
    }

    /// The number of threads that a forward uses.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// The algorithm of each layer, for the size of image that the preprocessing makes.
fn algorithms(
    layers: &[Layer],
    architecture: &Architecture,
    preprocessing: &Preprocessing,
    winograd: bool,
) -> Vec<Algorithm> {
    let [height, width] = preprocessing.input_size();
    let shape = Shape {
        batch: 1,
        height,
        width,
    };
    let shapes = shapes(layers, shape, architecture.in_channels);
    layers
        .iter()
        .zip(&shapes[1..])
        .map(|(layer, out)| match winograd {
            true => choose(&layer.op, out.height, out.width),
            false => Algorithm::Direct,
        })
        .collect()
}

/// That an image has pixels, and not so many that sizes overflow.
fn check_sides(shape: Shape) -> Result<(), Error> {
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
