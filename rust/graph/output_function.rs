//! The function that makes scores of logits.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The output function of a network, config.json's `activation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFunction {
    /// One class of several: scores add up to 1.
    Softmax,
    /// Yes or no for each output by itself.
    Sigmoid,
    /// Plain values, as in regression.
    None,
}

impl OutputFunction {
    /// The function of a network with this many outputs.
    ///
    /// A network without outputs has none, whatever is stated: its logits are the embedding. If
    /// nothing is stated, one output has a sigmoid and several have a softmax.
    ///
    /// # Errors
    /// A softmax is stated for one output.
    pub fn of(stated: Option<Self>, outputs: usize) -> Result<Self, Error> {
        match (stated, outputs) {
            (_, 0) => Ok(Self::None),
            (Some(Self::Softmax), 1) => Err(Error::Argument(
                "activation: expected \"sigmoid\", or \"none\" for regression, found \"softmax\": \
                 over one output it is 1 for every image"
                    .into(),
            )),
            (Some(function), _) => Ok(function),
            (None, 1) => Ok(Self::Sigmoid),
            (None, _) => Ok(Self::Softmax),
        }
    }
}

impl FromStr for OutputFunction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "softmax" => Ok(Self::Softmax),
            "sigmoid" => Ok(Self::Sigmoid),
            "none" => Ok(Self::None),
            _ => Err(Error::Argument(format!(
                "activation: expected softmax, sigmoid or none, found {name:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OutputFunction::{None as Plain, Sigmoid, Softmax};
    use super::*;

    #[test]
    fn several_outputs_have_a_softmax_and_one_never_has() {
        let function = |stated, outputs| OutputFunction::of(stated, outputs).unwrap();
        assert_eq!(function(None, 2), Softmax);
        assert_eq!(function(None, 1), Sigmoid);
        for stated in [Sigmoid, Plain] {
            assert_eq!(function(Some(stated), 1), stated);
            assert_eq!(function(Some(stated), 5), stated);
        }
        let message = OutputFunction::of(Some(Softmax), 1)
            .unwrap_err()
            .to_string();
        assert!(message.contains("sigmoid") && message.contains("none"));
    }

    #[test]
    fn no_outputs_have_no_function() {
        for stated in [None, Some(Softmax), Some(Sigmoid), Some(Plain)] {
            assert_eq!(OutputFunction::of(stated, 0).unwrap(), Plain);
        }
    }

    #[test]
    fn names_are_those_of_config_json() {
        for function in [Softmax, Sigmoid, Plain] {
            let name = serde_json::to_value(function).unwrap();
            assert_eq!(
                name.as_str().unwrap().parse::<OutputFunction>().unwrap(),
                function
            );
        }
        assert!("relu".parse::<OutputFunction>().is_err());
    }
}
