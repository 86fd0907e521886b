//! The network computed by the reference loops: one operation at a time, summed in f64.
//!
//! It takes a few nanoseconds for each multiplication, so seconds for an image. The tests compare the
//! fused and planned network with it, and it is the first stage of `resnet-rs bench --ladder`.

use super::network::Network;
use crate::error::Error;
use crate::graph::operations::{Convolution, Kind, Operation};
use crate::kernels::reference::{
    Tensor, add, add_bias, avg_pool, batch_norm, conv2d, global_avg_pool, global_max_pool,
    max_pool, pad_channels, relu,
};
use crate::shape::Shape;
use crate::weights::{Precision, Tensors, WeightsFile, oihw_to_ohwi};

/// Every operation's output in order, as `(name, tensor)`.
///
/// # Errors
/// A tensor of the weights is missing or not finite.
pub fn activations(
    operations: &[Operation],
    weights: &Tensors,
    image: Tensor,
) -> Result<Vec<(String, Tensor)>, Error> {
    let mut tensors: Vec<Tensor> = vec![image];
    for operation in operations {
        let name = &operation.name;
        let x = &tensors[operation.inputs[0]];
        let vector = |part: &str| -> Result<Vec<f64>, Error> {
            let values = weights.read(&format!("{name}.{part}"))?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let out = match operation.kind {
            Kind::Conv(_) | Kind::Linear { .. } => {
                let conv = operation.convolution();
                let conv = conv.unwrap_or_else(|| unreachable!("both kinds are convolutions"));
                let y = convolve(name, &conv, weights, x)?;
                match conv.bias {
                    true => add_bias(&y, &vector("bias")?),
                    false => y,
                }
            }
            Kind::BatchNorm { epsilon, .. } => {
                let (mean, variance) = (vector("running_mean")?, vector("running_var")?);
                let (scale, shift) = (vector("weight")?, vector("bias")?);
                batch_norm(x, &mean, &variance, &scale, &shift, epsilon)
            }
            Kind::Relu => relu(x),
            Kind::Add => add(x, &tensors[operation.inputs[1]]),
            Kind::MaxPool(Some(window)) => max_pool(x, window),
            Kind::MaxPool(None) => global_max_pool(x),
            Kind::AvgPool(Some(window)) => avg_pool(x, window),
            Kind::AvgPool(None) => global_avg_pool(x),
            Kind::Pad(pad) => pad_channels(&avg_pool(x, pad.window), pad.before, pad.after),
        };
        tensors.push(out);
    }
    let names = operations.iter().map(|operation| operation.name.clone());
    Ok(names.zip(tensors.into_iter().skip(1)).collect())
}

/// A convolution without its bias.
fn convolve(
    name: &str,
    conv: &Convolution,
    weights: &Tensors,
    x: &Tensor,
) -> Result<Tensor, Error> {
    let [o, i, k] = [conv.out_channels, conv.in_channels, conv.kernel];
    let i = i / conv.groups;
    let mut oihw = weights.read(&format!("{name}.weight"))?;
    let mut ohwi = Vec::new();
    oihw_to_ohwi(&mut oihw, [o, i, k, k], &mut ohwi);
    let window = Tensor {
        shape: [o, k, k, i],
        data: ohwi.into_iter().map(f64::from).collect(),
    };
    Ok(conv2d(x, &window, conv.window(), conv.groups))
}

impl Network {
    /// The logits of one image by the reference loops.
    ///
    /// - `image`: `[height, width, channels]`, normalised.
    ///
    /// # Errors
    /// The weights file cannot be read again, `image` has another length, or the network's head is made for
    /// images of another size.
    pub fn reference_logits(
        &self,
        image: &[f32],
        [height, width]: [usize; 2],
    ) -> Result<Vec<f64>, Error> {
        if self.precision() == Precision::Int8 {
            return Err(Error::Argument(
                "the reference loops: expected f32 weights, found those of an int8 network".into(),
            ));
        }
        let channels = self.architecture.in_channels;
        if height == 0 || width == 0 || image.len() != height * width * channels {
            return Err(Error::Argument(format!(
                "image: expected {height} x {width} x {channels} elements, found {}",
                image.len()
            )));
        }
        self.check_head(Shape {
            batch: 1,
            height,
            width,
        })?;
        if self.path.as_os_str().is_empty() {
            return Err(Error::Argument(
                "the reference reads the weights' file again, and these came from memory or \
                 another format: write them as a directory first (resnet-rs convert)"
                    .into(),
            ));
        }
        let file = WeightsFile::open(&self.path)?;
        let image = Tensor {
            shape: [1, height, width, channels],
            data: image.iter().map(|&v| f64::from(v)).collect(),
        };
        let mut outputs = activations(&self.spec.operations, &Tensors::of_file(&file)?, image)?;
        Ok(outputs
            .pop()
            .map_or_else(Vec::new, |(_, logits)| logits.data))
    }
}
