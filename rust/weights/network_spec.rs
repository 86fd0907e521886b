//! A network as its config and its tensors together state it.

use super::precision::Precision;
use super::quantized::is_quantized;
use super::tensors::Tensors;
use crate::error::Error;
use crate::graph::architecture::Architecture;
use crate::graph::config::Config;
use crate::graph::head::head_side;
use crate::graph::operations::{Kind, Operation};
use crate::graph::output_function::OutputFunction;

/// A network whose config and tensors agree.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// The config; what it left to the tensors is filled in.
    pub config: Config,
    /// The operations, in order.
    pub operations: Vec<Operation>,
    /// The number of logits.
    pub num_classes: usize,
    /// If the head is not a global pool: the side of its map, and of the images.
    pub fixed_head: Option<[usize; 2]>,
    /// The arithmetic that the tensors are for.
    pub precision: Precision,
}

impl NetworkSpec {
    /// Compares a config and its architecture with the tensors.
    ///
    /// # Errors
    /// A tensor is missing, surplus or of another shape or type, the numbers of classes differ, or the head does
    /// not fit the images.
    pub fn new(
        architecture: &Architecture,
        mut config: Config,
        tensors: &Tensors,
    ) -> Result<Self, Error> {
        let precision = match is_quantized(tensors) {
            true => Precision::Int8,
            false => Precision::F32,
        };
        if config.quantization.is_some() && precision == Precision::F32 {
            return Err(tensors.error(
                "config.json states quantization: expected int8 tensors with scales, found none",
            ));
        }
        let num_classes = num_classes(&config, tensors)?;
        let output_function = OutputFunction::of(config.activation, num_classes)
            .map_err(|error| tensors.error(error.to_string()))?;
        let (side, fixed_head) = head_side(architecture, &config.preprocessing)?;
        let mut operations = architecture.operations(num_classes, side);
        for operation in &mut operations {
            // Biases beside batch norms are optional, convolution by convolution.
            if let Kind::Conv(conv) = &mut operation.kind
                && architecture.batch_norm
            {
                let name = format!("{}.bias", operation.name);
                // In int8 it is there, but it is batch norm's.
                conv.bias &= precision == Precision::F32 && tensors.contains(&name);
            }
        }
        if precision == Precision::F32 {
            let expected: Vec<_> = operations
                .iter()
                .flat_map(Operation::named_parameters)
                .collect();
            tensors.check(&expected, (num_classes == 0).then_some("fc."))?;
        }
        config.num_classes = Some(num_classes);
        config.activation = Some(output_function);
        Ok(Self {
            config,
            operations,
            num_classes,
            fixed_head,
            precision,
        })
    }
}

/// The number of classes: that of the config, which fc must have.
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
