//! A network: its layers and its packed weights; `forward` walks its plan.

pub mod architecture;
pub mod config;
pub mod family;
mod fold;
mod forward;
pub mod fuse;
pub mod layer;
mod layout;
pub mod operations;
mod packed;
pub mod reference;
mod session;
pub mod weights;
pub mod write;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::kernels::input::Normalization;
use crate::kernels::{Isa, KernelTable};
use crate::plan::{Algorithm, LayerWeights, Shape, choose, shapes};
use crate::threads::{ProcessLocal, Team, resolve_threads};
use architecture::{Architecture, HeadPool};
use config::{Config, Preprocessing};
use fuse::fuse;
use layer::Layer;
use operations::{Kind, Operation, output_shapes};
use packed::PackedWeights;
use session::Session;
use weights::{Tensors, WeightsFile};

#[cfg(feature = "python")]
pub(crate) use forward::check_sides;
pub use forward::{Activation, Head, Images};

/// How to load a network; `Default` is what most want.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tier of kernels; None takes `RESNET_RS_ISA`, else the fastest there is.
    pub isa: Option<Isa>,
    /// The number of threads; None takes the environment's wish, else the cores that are ours.
    pub threads: Option<usize>,
    /// Whether 3x3 convolutions with stride 1 may run with Winograd's algorithm, which is
    /// faster; results differ from the direct ones by rounding.
    pub winograd: bool,
    /// Whether batch norm, addition and ReLU are computed with the convolutions before them. Without
    /// that every operation is a layer of its own, to be looked at.
    pub fused: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            isa: None,
            threads: None,
            winograd: true,
            fused: true,
        }
    }
}

/// A network, ready to run. Forwards may be called from many threads at once.
pub struct Network {
    config: Config,
    has_config: bool,
    path: PathBuf,
    architecture: Architecture,
    operations: Vec<Operation>,
    layers: Vec<Layer>,
    num_classes: usize,
    /// Where the head is no global pool: the side of the map that it makes, and of the images.
    fixed_head: Option<[usize; 2]>,
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
        let config_path = match is_dir {
            true => path.join("config.json"),
            false => path.with_file_name("config.json"),
        };
        let has_config = config_path.exists();
        if is_dir && !has_config {
            let text = "no such file: a weights directory holds model.safetensors and config.json \
                        (see docs/weights.md)";
            return Err(Error::io(
                &config_path,
                io::Error::new(io::ErrorKind::NotFound, text),
            ));
        }
        let config = match has_config {
            true => Config::read(&config_path)?,
            false => Config::default(),
        };
        let mut network = Self::load_with(path, config, options)?;
        network.has_config = has_config;
        Ok(network)
    }

    /// Loads the tensors of `path`, as [`Network::load`] does, with `config` in place of what lies
    /// beside them.
    ///
    /// # Errors
    /// As for [`Network::load`].
    pub fn load_with(path: &Path, config: Config, options: &Options) -> Result<Self, Error> {
        let is_dir = path.metadata().map_err(|e| Error::io(path, e))?.is_dir();
        let file = match is_dir {
            true => path.join("model.safetensors"),
            false => path.to_owned(),
        };
        let weights = WeightsFile::open(&file)?;
        let mut network = Self::new(config, &weights.tensors()?, options)?;
        network.path = file;
        Ok(network)
    }

    /// A network of tensors that are in memory already. They are not needed any more afterwards.
    ///
    /// # Errors
    /// As for [`Network::load`].
    pub fn new(config: Config, tensors: &Tensors, options: &Options) -> Result<Self, Error> {
        let architecture = config.architecture().map_err(Error::Argument)?;
        Self::of(architecture, config, tensors, options)
    }

    fn of(
        architecture: Architecture,
        config: Config,
        tensors: &Tensors,
        options: &Options,
    ) -> Result<Self, Error> {
        let isa = Isa::resolve(options.isa)?;
        let threads = resolve_threads(options.threads)?;
        let table = KernelTable::new(isa)
            .ok_or_else(|| Error::UnsupportedIsa(format!("this machine has no {isa}")))?;

        let num_classes = num_classes(&config, tensors)?;
        let preprocessing = &config.preprocessing;
        let (side, fixed_head) =
            head_side(&architecture, preprocessing).map_err(Error::Argument)?;
        let mut operations = architecture.operations(num_classes, side);
        for operation in &mut operations {
            // Biases beside batch norms are there or not, convolution by convolution.
            if let Kind::Conv(conv) = &mut operation.kind
                && architecture.batch_norm
            {
                conv.bias &= tensors.contains(&format!("{}.bias", operation.name));
            }
        }
        let expected: Vec<_> = operations.iter().flat_map(named_parameters).collect();
        tensors.check(&expected, (num_classes == 0).then_some("fc."))?;

        let layers = fuse(&operations, options.fused);
        let algorithms = algorithms(&layers, &architecture, preprocessing, options.winograd);
        let team = Team::get(threads);
        let weights = PackedWeights::new(&layers, &algorithms, tensors, &table, &team)?;
        Ok(Self {
            normalization: Normalization::new(&preprocessing.mean, &preprocessing.std),
            config,
            has_config: false,
            path: PathBuf::new(),
            architecture,
            operations,
            layers,
            num_classes,
            fixed_head,
            weights,
            table,
            threads,
            session: ProcessLocal::new(),
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

    /// The elements that a head gives for each image. A network without fc gives its embedding as
    /// its logits.
    pub fn width(&self, head: Head) -> usize {
        match head {
            Head::Logits if self.num_classes > 0 => self.num_classes,
            Head::Logits | Head::Embedding => {
                let side = self.fixed_head.map_or(1, |[side, _]| side);
                side * side * self.architecture.out_channels()
            }
        }
    }

    /// Trained values: weights and biases, batch norm's scales and shifts.
    pub fn num_parameters(&self) -> usize {
        self.operations
            .iter()
            .flat_map(named_parameters)
            .filter(|(name, _)| !name.contains(".running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// The operations that the network is made of, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The layers that a forward runs, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Channels of an image.
    pub fn in_channels(&self) -> usize {
        self.architecture.in_channels
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

    /// Whether any layer runs with Winograd's algorithm.
    pub fn winograd(&self) -> bool {
        let is_winograd = |w: &LayerWeights| w.algorithm != Algorithm::Direct;
        self.weights.layers.iter().any(is_winograd)
    }

    /// The number of threads that a forward uses.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// The number of classes: what the config says, which fc must have.
fn num_classes(config: &Config, tensors: &Tensors) -> Result<usize, Error> {
    if config.num_classes == Some(0) {
        return Ok(0);
    }
    let has_stem = ["conv1.weight", "conv1.0.weight"]
        .iter()
        .any(|name| tensors.contains(name));
    if !tensors.contains("fc.weight") && has_stem {
        return Err(tensors.error(
            "tensor fc.weight: expected in the file, not found (for a network without classes \
             state num_classes 0: num_classes=0 in Python, or write a directory with \
             resnet-rs convert)",
        ));
    }
    let shape = tensors.shape("fc.weight")?;
    let &[rows, _] = shape else {
        return Err(tensors.error(format!(
            "tensor fc.weight: expected shape [num_classes, features], found {shape:?}"
        )));
    };
    if rows == 0 {
        return Err(tensors.error("tensor fc.weight: expected at least 1 class, found 0"));
    }
    let stated = config.num_classes.or(config.labels.as_ref().map(Vec::len));
    match stated {
        Some(classes) if classes != rows => Err(tensors.error(format!(
            "config.json, num_classes and labels: expected {rows}, as fc.weight has, found {classes}"
        ))),
        _ => Ok(rows),
    }
}

/// The side of the map that fc reads, and where it is not always one pixel, that side and the
/// images' own.
///
/// # Errors
/// The head's window does not fit images of the config's size.
pub fn head_side(
    architecture: &Architecture,
    preprocessing: &Preprocessing,
) -> Result<(usize, Option<[usize; 2]>), String> {
    let HeadPool::AvgPool(_) = architecture.head else {
        return Ok((1, None));
    };
    let [height, width] = preprocessing.input_size();
    let image = [height, width, architecture.in_channels];
    let shapes = output_shapes(&architecture.operations(0, 1), image);
    match *shapes.last().unwrap_or(&image) {
        [side, other, _] if side == other && side > 0 && height == width => {
            Ok((side, Some([side, height])))
        }
        [pooled_height, pooled_width, _] => Err(format!(
            "variant.head: expected a window that makes a square map of square images; of \
             {height} x {width} pixels (preprocessing.crop) it makes {pooled_height} x \
             {pooled_width}"
        )),
    }
}

/// The tensors of an operation, by their names in the weights.
pub fn named_parameters(operation: &Operation) -> Vec<(String, Vec<usize>)> {
    let name = |(part, shape)| (format!("{}.{part}", operation.name), shape);
    operation.parameters().into_iter().map(name).collect()
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
