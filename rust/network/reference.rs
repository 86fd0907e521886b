//! The network in the reference loops: every operation by itself, batch norm too, summed in f64.
//!
//! It takes a few nanoseconds for each multiplication, and so seconds for an image. It is what the
//! tests hold the fused and planned network against, and the first rung of the ladder that
//! `resnet-rs bench --ladder` climbs.

use super::architecture::{ConvSpec, Layer, Op, TensorId};
use super::fold::EPSILON;
use super::weights::{Tensors, WeightsFile};
use super::{Network, layout};
use crate::error::Error;
use crate::kernels::reference::{
    Tensor, Window, add, add_bias, batch_norm, conv2d, global_avg_pool, max_pool, relu,
};

/// Every layer's output in order, as `(name, tensor)`.
///
/// # Errors
/// A tensor of the weights is missing or not finite.
pub fn activations(
    layers: &[Layer],
    weights: &Tensors,
    image: Tensor,
) -> Result<Vec<(String, Tensor)>, Error> {
    // By id; a residual's sum takes its input's place, as in the plan.
    let mut tensors: Vec<Tensor> = vec![image; layers.len() + 1];
    let mut outputs = Vec::new();
    for layer in layers {
        let out = match &layer.op {
            Op::Conv {
                sources,
                residual,
                relu: with_relu,
            } => {
                let mut sum = residual.map(|id: TensorId| tensors[id].clone());
                for (id, conv) in sources {
                    let y = convolve(conv, weights, &tensors[*id])?;
                    sum = Some(sum.map_or_else(|| y.clone(), |sum| add(&sum, &y)));
                }
                let sum = sum.unwrap_or_else(|| tensors[0].clone());
                if *with_relu { relu(&sum) } else { sum }
            }
            Op::MaxPool(id) => {
                let window = Window {
                    kernel: 3,
                    stride: 2,
                    padding: 1,
                };
                max_pool(&tensors[*id], window)
            }
            Op::GlobalAvgPool(id) => global_avg_pool(&tensors[*id]),
        };
        outputs.push((layer.name.clone(), out.clone()));
        tensors[layer.output] = out;
    }
    Ok(outputs)
}

/// A convolution and its batch norm, or its bias.
fn convolve(conv: &ConvSpec, weights: &Tensors, x: &Tensor) -> Result<Tensor, Error> {
    let vector = |name: String| -> Result<Vec<f64>, Error> {
        Ok(weights.read(&name)?.into_iter().map(f64::from).collect())
    };
    let [o, i, k] = [conv.out_channels, conv.in_channels, conv.kernel];
    let mut oihw = weights.read(&format!("{}.weight", conv.conv))?;
    let mut ohwi = Vec::new();
    layout::oihw_to_ohwi(&mut oihw, [o, i, k, k], &mut ohwi);
    let window = Tensor {
        shape: [o, k, k, i],
        data: ohwi.into_iter().map(f64::from).collect(),
    };
    let y = conv2d(
        x,
        &window,
        Window {
            kernel: k,
            stride: conv.stride,
            padding: conv.padding,
        },
    );
    match &conv.norm {
        Some(norm) => {
            let part = |part: &str| vector(format!("{norm}.{part}"));
            let (mean, variance) = (part("running_mean")?, part("running_var")?);
            let (scale, shift) = (part("weight")?, part("bias")?);
            Ok(batch_norm(&y, &mean, &variance, &scale, &shift, EPSILON))
        }
        None => Ok(add_bias(&y, &vector(format!("{}.bias", conv.conv))?)),
    }
}

impl Network {
    /// The logits of one image by the reference loops.
    ///
    /// - `image`: `[height, width, channels]`, normalised.
    ///
    /// # Errors
    /// The weights file cannot be read again, or `image` has another length.
    pub fn reference_logits(
        &self,
        image: &[f32],
        [height, width]: [usize; 2],
    ) -> Result<Vec<f64>, Error> {
        let channels = self.architecture.in_channels;
        if height == 0 || width == 0 || image.len() != height * width * channels {
            return Err(Error::Argument(format!(
                "image: expected {height} x {width} x {channels} elements, found {}",
                image.len()
            )));
        }
        let file = WeightsFile::open(&self.path)?;
        let image = Tensor {
            shape: [1, height, width, channels],
            data: image.iter().map(|&v| f64::from(v)).collect(),
        };
        let mut outputs = activations(&self.layers, &file.tensors()?, image)?;
        Ok(outputs
            .pop()
            .map_or_else(Vec::new, |(_, logits)| logits.data))
    }
}
