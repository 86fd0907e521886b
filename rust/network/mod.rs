//! A network: its layers and its packed weights; `forward` walks its plan.

pub mod architecture;
pub mod config;
mod fold;
mod forward;
mod layout;
mod packed;
pub mod reference;
mod session;
pub mod weights;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::kernels::input::Normalization;
use crate::kernels::{Isa, KernelTable};
use crate::plan::{Algorithm, LayerWeights, Shape, choose, shapes};
use crate::threads::{ProcessLocal, Team, resolve_threads};
use architecture::{Architecture, ConvSpec, Layer};
use config::{Config, Preprocessing};
use packed::PackedWeights;
use session::Session;
use weights::{Tensors, WeightsFile};

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
        let has_config = config_path.exists();
        if is_dir && !has_config {
            let text = "no such file: a weights directory holds model.safetensors and config.json \
                        (see docs/weights.md)";
            return Err(Error::io(
                &config_path,
                io::Error::new(io::ErrorKind::NotFound, text),
            ));
        }
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
        let weights = PackedWeights::new(&layers, &algorithms, tensors, &table, &team)?;
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
