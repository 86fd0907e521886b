//! A layer's int8 weights, re-laid, checked and packed: panel by panel, as in f32.

use std::ops::Range;

use super::quantized::scales;
use super::relay::oihw_to_ohwi;
use super::tensor::Tensor;
use super::tensors::Tensors;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::graph::layer::{ConvSpec, Layer};
use crate::kernels::conv::TileShape;
use crate::kernels::conv::int8::PanelValues;
use crate::kernels::input::PixelScale;
use crate::kernels::{KernelShapes, KernelTable};
use crate::memory::room;
use crate::plan::{Arithmetic, panel_channels, panel_k};

/// The largest bias in units of the sums. The products have the rest of i32.
const MOST_BIAS: f64 = (1 << 30) as f64;

/// The largest difference, relative, between the units of a layer's two products: they share its sums.
const SHARED_UNITS: f64 = 1.0 / 1024.0;

/// A layer's tensors, with the values that belong to its sums.
pub(super) struct IntLayer<'a> {
    convs: Vec<IntConv<'a>>,
    dtype: Dtype,
    tile: TileShape,
    /// The largest value of the inputs.
    most: f64,
    bias: Vec<f32>,
    /// The unit of each channel's sums.
    units: Vec<f64>,
    multipliers: Vec<f32>,
    ratio: f32,
    /// For the first convolution.
    pixels: Option<&'a PixelScale>,
}

/// The packing of a panel.
pub(super) struct IntJob<'a> {
    layer: &'a IntLayer<'a>,
    panel: usize,
    place: &'a mut [i32],
}

impl IntJob<'_> {
    pub(super) fn run(self, table: &KernelTable, scratch: &mut IntScratch) -> Result<(), Error> {
        self.layer.pack(self.panel, self.place, table, scratch)
    }
}

/// A convolution's weights in the file.
struct IntConv<'a> {
    spec: &'a ConvSpec,
    weights: Tensor<'a>,
    /// Input channels of a group, in the file.
    group_len: usize,
}

/// A worker's memory.
#[derive(Default)]
pub(super) struct IntScratch {
    oihw: Vec<i8>,
    ohwi: Vec<i8>,
    /// For each convolution of the layer.
    rows: Vec<Vec<i8>>,
}

impl<'a> IntLayer<'a> {
    pub(super) fn new(
        layer: &'a Layer,
        arithmetic: &Arithmetic,
        pixels: &'a PixelScale,
        tensors: &'a Tensors,
        kernels: &KernelShapes,
    ) -> Result<Self, Error> {
        let given = &arithmetic.scales;
        let mut convs = Vec::new();
        let mut units: Vec<f64> = Vec::new();
        for (spec, input) in layer.convs().zip([given.input, given.shortcut]) {
            let name = format!("{}.weight_scale", spec.conv);
            let its_units: Vec<f64> = scales(&name, tensors)?
                .into_iter()
                .map(|scale| f64::from(input) * f64::from(scale))
                .collect();
            if convs.is_empty() {
                units = its_units;
            } else if let Some(o) =
                (0..units.len()).find(|&o| (its_units[o] / units[o] - 1.0).abs() > SHARED_UNITS)
            {
                return Err(tensors.error(format!(
                    "tensor {name}: expected products in the units of the layer's sums, {:e} at element {o}, \
                     found {:e}",
                    units[o], its_units[o]
                )));
            }
            let weight = format!("{}.weight", spec.conv);
            let shape = tensors.shape(&weight)?;
            convs.push(IntConv {
                spec,
                weights: tensors.tensor(&weight)?,
                // fc's weights are a matrix.
                group_len: match shape {
                    [_, features] => features / (spec.kernel * spec.kernel),
                    _ => shape[1],
                },
            });
        }
        let mut bias = Vec::new();
        if let Some(conv) = convs.first() {
            bias = tensors.read(&format!("{}.bias", conv.spec.conv))?;
        }
        let multiplier = |unit: &f64| (unit / f64::from(given.output)) as f32;
        let multipliers: Vec<f32> = units.iter().map(multiplier).collect();
        let ratio = (f64::from(given.residual) / f64::from(given.output)) as f32;
        let is_usable = |x: &f32| x.is_normal();
        if !(multipliers.iter().all(is_usable) && is_usable(&ratio)) {
            let message = "the scales of its inputs, weights and outputs are too far apart for f32";
            return Err(tensors.error(format!("layer {}: {message}", layer.name)));
        }
        let reads_pixels = layer.inputs().first().is_some_and(|(id, _)| *id == 0);
        Ok(Self {
            convs,
            dtype: arithmetic.dtype,
            tile: kernels.tile(arithmetic.dtype),
            most: f64::from(arithmetic.most_in),
            bias,
            units,
            multipliers,
            ratio,
            pixels: reads_pixels.then_some(pixels),
        })
    }

    /// The work of packing the layer into its place, a job for each panel.
    pub(super) fn jobs<'b>(&'b self, packed: &'b mut [u8]) -> impl Iterator<Item = IntJob<'b>> {
        let panels = packed.chunks_exact_mut(self.tile.panel_bytes(self.k()));
        panels.enumerate().map(|(panel, place)| IntJob {
            layer: self,
            panel,
            place: bytemuck::cast_slice_mut(place),
        })
    }

    /// K of a panel's product.
    fn k(&self) -> usize {
        let of = |conv: &IntConv| panel_k(conv.spec, self.tile);
        self.convs.iter().map(of).sum()
    }

    /// Packs panel `panel` into its place.
    fn pack(
        &self,
        panel: usize,
        place: &mut [i32],
        table: &KernelTable,
        scratch: &mut IntScratch,
    ) -> Result<(), Error> {
        let first = panel * self.tile.nr;
        let channels = first..(first + self.tile.nr).min(self.bias.len());
        scratch.rows.resize(self.convs.len(), Vec::new());
        let IntScratch { oihw, ohwi, rows } = scratch;
        let mut bias: Vec<f64> = channels
            .clone()
            .map(|o| f64::from(self.bias[o]) / self.units[o])
            .collect();
        for (conv, rows) in self.convs.iter().zip(&mut *rows) {
            conv.read(channels.clone(), oihw, ohwi)?;
            if let Some(pixels) = self.pixels {
                conv.subtract_means(ohwi, pixels, &mut bias);
            }
            conv.spread(channels.clone(), ohwi, self.tile, rows)?;
            if let Some(pixels) = self.pixels {
                conv.mark(rows, pixels)?;
            }
        }
        let bias = self.checked_sums(channels.start, &bias, rows)?;
        let values = PanelValues {
            bias: &bias,
            multiplier: &self.multipliers[channels],
            ratio: self.ratio,
        };
        let matrices = self.convs.iter().zip(&*rows);
        let matrices: Vec<_> = matrices
            .map(|(conv, rows)| (&rows[..], panel_k(conv.spec, self.tile)))
            .collect();
        match self.dtype {
            Dtype::I16 => table.i16.pack.panel(&matrices, &values, place),
            Dtype::U8 => table.u8.pack.panel(&matrices, &values, place),
            Dtype::F32 | Dtype::Bf16 => unreachable!("the layer computes in int8"),
        }
        Ok(())
    }

    /// The biases as whole numbers, if no sum can leave i32.
    fn checked_sums(
        &self,
        first: usize,
        bias: &[f64],
        rows: &[Vec<i8>],
    ) -> Result<Vec<i32>, Error> {
        let count = bias.len();
        let whole = bias.iter().enumerate().map(|(c, bias)| {
            let rounded = bias.round_ties_even();
            let products: u64 = rows
                .iter()
                .map(|rows| {
                    let k = rows.len() / count;
                    sum_of_magnitudes(&rows[c * k..(c + 1) * k])
                })
                .sum();
            let conv = &self.convs[0];
            if rounded.abs() > MOST_BIAS {
                let message = format!(
                    "expected a bias of at most 2^30 times its scale, found {rounded:e} at element {}",
                    first + c
                );
                return Err(conv.error(".bias", &message));
            }
            if products as f64 * self.most + rounded.abs() > f64::from(i32::MAX) {
                let message = format!("the sums of channel {} can leave 32 bits", first + c);
                return Err(conv.error(".weight", &message));
            }
            Ok(rounded as i32)
        });
        whole.collect()
    }
}

/// `Σ |w|`, in pieces whose sums fit into 32 bits, of which the compiler makes vectors.
fn sum_of_magnitudes(row: &[i8]) -> u64 {
    let of_piece = |piece: &[i8]| {
        piece
            .iter()
            .map(|w| u32::from(w.unsigned_abs()))
            .sum::<u32>()
    };
    row.chunks(1 << 16)
        .map(|piece| u64::from(of_piece(piece)))
        .sum()
}

impl IntConv<'_> {
    fn error(&self, part: &str, message: &str) -> Error {
        let origin = self.weights.origin;
        origin.error(format!("tensor {}{part}: {message}", self.spec.conv))
    }

    fn taps(&self) -> usize {
        self.spec.kernel * self.spec.kernel
    }

    /// Reads the weights of some output channels: `[channels, taps, group_len]`.
    fn read(
        &self,
        channels: Range<usize>,
        oihw: &mut Vec<i8>,
        ohwi: &mut Vec<i8>,
    ) -> Result<(), Error> {
        let window = self.taps() * self.group_len;
        let range = channels.start * window..channels.end * window;
        self.weights.read_i8(range, oihw)?;
        if let Some(i) = oihw.iter().position(|&w| w == i8::MIN) {
            let at = channels.start * window + i;
            let message = format!("expected values from -127 to 127, found -128 at element {at}");
            return Err(self.error(".weight", &message));
        }
        let kernel = self.spec.kernel;
        let shape = [channels.len(), self.group_len, kernel, kernel];
        oihw_to_ohwi(oihw, shape, ohwi);
        Ok(())
    }

    /// Takes the pixels' means into the biases.
    fn subtract_means(&self, ohwi: &[i8], pixels: &PixelScale, bias: &mut [f64]) {
        let windows = ohwi.chunks_exact(self.taps() * self.group_len);
        for (bias, window) in bias.iter_mut().zip(windows) {
            let of_channel = |(c, mean): (usize, &f64)| {
                let weights = window[c..].iter().step_by(self.group_len);
                weights.map(|&w| f64::from(w)).sum::<f64>() * mean
            };
            *bias -= pixels
                .means()
                .iter()
                .enumerate()
                .map(of_channel)
                .sum::<f64>();
        }
    }

    /// From a group's input channels to those that the panel reads, with zeros between them.
    fn spread(
        &self,
        channels: Range<usize>,
        ohwi: &mut Vec<i8>,
        tile: TileShape,
        rows: &mut Vec<i8>,
    ) -> Result<(), Error> {
        let read = panel_channels(self.spec, tile);
        if read.len == self.group_len {
            std::mem::swap(ohwi, rows);
            return Ok(());
        }
        let start = read.start(channels.start / tile.nr);
        let len = channels.len() * self.taps() * read.len;
        room::reserve(rows, len, "weights while they are packed")?;
        rows.clear();
        rows.resize(len, 0);
        let windows = ohwi.chunks_exact(self.taps() * self.group_len);
        let wide = rows.chunks_exact_mut(self.taps() * read.len);
        for (o, (window, wide)) in channels.zip(windows.zip(wide)) {
            let at = read.group(o).start - start;
            let taps = window.chunks_exact(self.group_len);
            for (tap, wide) in taps.zip(wide.chunks_exact_mut(read.len)) {
                wide[at..at + self.group_len].copy_from_slice(tap);
            }
        }
        Ok(())
    }

    /// Sets the weights of the border's mark.
    fn mark(&self, rows: &mut [i8], pixels: &PixelScale) -> Result<(), Error> {
        let channels = pixels.means().len();
        for tap in rows.chunks_exact_mut(self.spec.in_channels) {
            let rests = tap.iter().zip(pixels.rests());
            let weight: f64 = rests.map(|(&w, rest)| f64::from(w) * rest).sum();
            let rounded = (weight / pixels.mark()).round_ties_even();
            if rounded.abs() > 127.0 {
                let message =
                    "expected means of pixels from 0 to 1, as config.json states them, for int8";
                return Err(self.error(".weight", message));
            }
            tap[channels] = rounded as i8;
        }
        Ok(())
    }
}
