//! A network: loading, and its properties.

use std::io;
use std::path::{Path, PathBuf};

use super::session::Session;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::graph::architecture::Architecture;
use crate::graph::config::Config;
use crate::graph::fuse::{Fusion, fuse};
use crate::graph::layer::Layer;
use crate::graph::operations::Operation;
use crate::kernels::input::{Normalization, PixelScale, quantized_channels};
use crate::kernels::{Bf16Speed, KernelTable};
use crate::plan::{Algorithm, Arithmetic, LayerWeights, algorithms};
use crate::simd::{Features, Isa};
use crate::threads::{ProcessLocal, Team, resolve_threads};
use crate::weights::{
    NetworkSpec, PackedWeights, Precision, QuantizedLayers, Tensors, WeightsFile,
};

/// The part of the network whose outputs a forward returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// fc's outputs: `[batch, num_classes]`.
    Logits,
    /// The average pool's outputs: `[batch, embedding_size]`; a map is flattened in torch's order.
    Embedding,
}

/// Options for loading a network.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tier of kernels; None takes `RESNET_RS_ISA`, else the fastest of this machine.
    pub isa: Option<Isa>,
    /// The number of threads; None takes it from the environment variables, else the number of cores
    /// that this process may use.
    pub threads: Option<usize>,
    /// Lets 3x3 convolutions with stride 1 run with Winograd's algorithm, which is faster; results
    /// differ from the direct ones by rounding.
    pub winograd: bool,
    /// Computes batch norm, addition and ReLU with the convolutions before them. Otherwise every
    /// operation is a layer of its own, for inspection.
    pub fused: bool,
    /// The arithmetic; None takes f32 or, for int8 weights, int8.
    pub precision: Option<Precision>,
    /// Runs bf16 also where it is slower than f32. Otherwise such a network runs in f32, and
    /// [`Network::remark`] says so.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            isa: None,
            threads: None,
            winograd: true,
            fused: true,
            precision: None,
            strict: false,
        }
    }
}

impl Options {
    /// The same options without defaults that come from environment variables: the tier and the number of
    /// threads are stated. Loading with them reads no variable.
    ///
    /// # Errors
    /// A value or a variable is invalid, or this machine lacks the tier.
    pub fn resolve(self) -> Result<Self, Error> {
        Ok(Self {
            isa: Some(Isa::resolve(self.isa)?),
            threads: Some(resolve_threads(self.threads)?),
            ..self
        })
    }
}

/// A network, ready to run. Forwards may be called from many threads at once.
pub struct Network {
    pub(super) spec: NetworkSpec,
    has_config: bool,
    pub(super) path: PathBuf,
    pub(super) architecture: Architecture,
    pub(super) layers: Vec<Layer>,
    pub(super) weights: PackedWeights,
    pub(super) normalization: Normalization,
    pub(super) pixel_scale: Option<PixelScale>,
    pub(super) table: KernelTable,
    precision: Precision,
    remark: Option<String>,
    pub(super) threads: usize,
    pub(super) session: ProcessLocal<Session>,
}

impl Network {
    /// Loads `path`: a directory with `model.safetensors` and `config.json`, or a `.safetensors`
    /// file, with the config beside it if there is one.
    ///
    /// # Errors
    /// A file is missing or malformed, or this machine cannot run an option.
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

    /// Loads the tensors of `path`, as [`Network::load`] does, with `config` in place of the config
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
        let network = Tensors::of_file(&weights).and_then(|t| Self::new(config, &t, options));
        // A file that was written to meanwhile is the reason for whatever else is wrong.
        weights.check_unchanged()?;
        let mut network = network?;
        network.path = file;
        Ok(network)
    }

    /// Makes a network from tensors in memory, which are not needed afterwards.
    ///
    /// # Errors
    /// As for [`Network::load`].
    pub fn new(config: Config, tensors: &Tensors, options: &Options) -> Result<Self, Error> {
        let architecture = config.architecture()?;
        Self::of(architecture, config, tensors, options)
    }

    pub(super) fn of(
        architecture: Architecture,
        config: Config,
        tensors: &Tensors,
        options: &Options,
    ) -> Result<Self, Error> {
        let isa = Isa::resolve(options.isa)?;
        let table = KernelTable::new(isa, Features::detect())
            .ok_or_else(|| Error::UnsupportedIsa(format!("this machine has no {isa}")))?;
        Self::on(table, architecture, config, tensors, options)
    }

    pub(super) fn on(
        table: KernelTable,
        architecture: Architecture,
        config: Config,
        tensors: &Tensors,
        options: &Options,
    ) -> Result<Self, Error> {
        let threads = resolve_threads(options.threads)?;
        let spec = NetworkSpec::new(&architecture, config, tensors)?;
        let (precision, remark) = precision(&spec, options, tensors, &table)?;
        let table = match precision {
            // The same bits everywhere, also in layers of bf16.
            Precision::Int8 => table.with_widened_bf16(),
            Precision::F32 | Precision::Bf16 => table,
        };
        let preprocessing = &spec.config.preprocessing;
        let (mean, std) = (&preprocessing.mean, &preprocessing.std);
        let team = Team::get(threads);
        let in_channels = architecture.in_channels;
        let fusion = match (options.fused, precision) {
            (false, _) => Fusion::Nothing,
            (true, Precision::F32) => Fusion::ForF32,
            (true, _) => Fusion::WithShortcuts,
        };
        let (layers, weights, pixel_scale) = match precision {
            Precision::F32 => {
                let layers = fuse(&spec.operations, fusion);
                let [height, width] = preprocessing.input_size();
                let image = [height, width, in_channels];
                let arithmetic: Vec<_> = algorithms(&layers, image, options.winograd)
                    .into_iter()
                    .map(Arithmetic::f32)
                    .collect();
                let weights = PackedWeights::new(&layers, &arithmetic, tensors, &table, &team)?;
                (layers, weights, None)
            }
            Precision::Bf16 => {
                let layers = fuse(&spec.operations, fusion);
                let arithmetic: Vec<_> = layers.iter().map(Arithmetic::bf16).collect();
                let weights = PackedWeights::new(&layers, &arithmetic, tensors, &table, &team)?;
                (layers, weights, None)
            }
            Precision::Int8 => {
                let quantized =
                    QuantizedLayers::new(&spec.operations, in_channels, tensors, table.int8)?;
                let pixels = PixelScale::new(mean, std);
                let weights = PackedWeights::int8(&quantized, &pixels, tensors, &table, &team)?;
                (quantized.layers, weights, Some(pixels))
            }
        };
        Ok(Self {
            normalization: Normalization::new(mean, std),
            pixel_scale,
            spec,
            has_config: false,
            path: PathBuf::new(),
            architecture,
            layers,
            weights,
            table,
            precision,
            remark,
            threads,
            session: ProcessLocal::new(),
        })
    }

    /// Normalises pixels as a forward does: `(value / 255 - mean) / std`.
    ///
    /// # Errors
    /// The lengths differ, or are not whole pixels.
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

    /// Frees the memory and the plans of past forwards; the next forward makes new ones.
    pub fn release(&self) {
        self.session.get().release();
    }

    /// The number of outputs of a head for each image. The logits of a network without fc are its
    /// embedding.
    pub fn width(&self, head: Head) -> usize {
        match head {
            Head::Logits if self.spec.num_classes > 0 => self.spec.num_classes,
            Head::Logits | Head::Embedding => {
                let side = self.spec.fixed_head.map_or(1, |[side, _]| side);
                side * side * self.architecture.out_channels()
            }
        }
    }

    /// Trained values: weights and biases, batch norm's scales and shifts.
    pub fn num_parameters(&self) -> usize {
        self.spec
            .operations
            .iter()
            .flat_map(Operation::named_parameters)
            .filter(|(name, _)| !name.contains(".running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// The network's operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.spec.operations
    }

    /// The layers of a forward, in order, without changes of type.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.is_named())
    }

    /// Channels of an image.
    pub fn in_channels(&self) -> usize {
        self.architecture.in_channels
    }

    /// The network's description without its tensors.
    pub fn config(&self) -> &Config {
        &self.spec.config
    }

    /// True if a config.json was read; otherwise the config is all defaults.
    pub fn has_config(&self) -> bool {
        self.has_config
    }

    /// The safetensors file.
    pub fn weights_path(&self) -> &Path {
        &self.path
    }

    /// The number of logits.
    pub fn num_classes(&self) -> usize {
        self.spec.num_classes
    }

    /// The kernels in use.
    pub fn kernels(&self) -> &KernelTable {
        &self.table
    }

    /// The arithmetic.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// A remark for the caller on the arithmetic: that it is not the one asked for.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Channels of the tensor that the images are copied into.
    pub(super) fn image_channels(&self) -> usize {
        match self.weights.layers[0].arithmetic.dtype {
            Dtype::I16 | Dtype::U8 => quantized_channels(self.architecture.in_channels),
            Dtype::F32 | Dtype::Bf16 => self.architecture.in_channels,
        }
    }

    /// True if any layer runs with Winograd's algorithm.
    pub fn winograd(&self) -> bool {
        let is_winograd = |w: &LayerWeights| w.arithmetic.algorithm != Algorithm::Direct;
        self.weights.layers.iter().any(is_winograd)
    }

    /// The number of threads that a forward uses.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// The arithmetic of a network, and what the caller should know about it.
///
/// # Errors
/// The weights are for another arithmetic than the one that is asked for.
fn precision(
    spec: &NetworkSpec,
    options: &Options,
    tensors: &Tensors,
    table: &KernelTable,
) -> Result<(Precision, Option<String>), Error> {
    match (options.precision, spec.precision) {
        (Some(Precision::Int8), Precision::F32) => Err(tensors.error(
            "precision int8: expected weights with scales, found f32 weights: quantise them with \
             model.quantize(images) or resnet-rs quantize",
        )),
        (Some(asked @ (Precision::F32 | Precision::Bf16)), Precision::Int8) => {
            Err(tensors.error(format!(
                "precision {asked}: expected f32 weights, found int8 weights, which run in int8 alone: load the \
                 weights that they were made from"
            )))
        }
        (_, Precision::Int8) if !options.fused => Err(Error::Argument(
            "fused: expected True for int8 weights, whose layers are whole, found False".into(),
        )),
        (Some(Precision::Bf16), _) if !options.strict => Ok(match bf16_is_slow(table) {
            None => (Precision::Bf16, None),
            Some(reason) => (
                Precision::F32,
                Some(format!(
                    "precision bf16: {reason}, so the network runs in f32; strict=True runs it in bf16 anyway"
                )),
            ),
        }),
        (Some(Precision::Bf16), _) => Ok((Precision::Bf16, None)),
        (_, found) => Ok((found, None)),
    }
}

/// The reason why bf16 is slower than f32 here, if it is.
fn bf16_is_slow(table: &KernelTable) -> Option<String> {
    match table.bf16_speed {
        Bf16Speed::Fast => None,
        Bf16Speed::Slow => Some(
            "this processor's bf16 instruction (AVX512_BF16) does half the work of its f32 instructions".into(),
        ),
        Bf16Speed::Widened => Some(format!(
            "tier {} of this processor has no bf16 instruction (AVX512_BF16)",
            table.isa
        )),
    }
}
