//! Weights: read from a file or the caller's memory, checked, folded, re-laid and packed.

mod file;
mod fold;
mod jobs;
mod network_spec;
mod pack;
mod pack_int8;
mod precision;
mod quantized;
mod relay;
mod source;
mod tensor;
mod tensors;
mod write;

pub use file::{Dtype, Entry, WeightsFile};
pub use network_spec::NetworkSpec;
pub use pack::PackedWeights;
pub use precision::Precision;
pub use quantized::{QuantizedLayers, is_quantized};
pub use relay::oihw_to_ohwi;
pub use tensor::Tensor;
pub use tensors::Tensors;
pub use write::write_safetensors;

#[cfg(test)]
mod tests;
