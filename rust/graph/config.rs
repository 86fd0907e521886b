//! config.json: everything about a network that its tensors do not say.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::architecture::Architecture;
use super::family;
use super::output_function::OutputFunction;
use super::preprocessing::{Preprocessing, Size};
use super::variant::Variant;
use crate::error::Error;

/// The format of networks in f32.
const FORMAT_VERSION: u32 = 1;

/// The format of quantised networks, which older versions must not read.
const QUANTIZED_VERSION: u32 = 2;

/// The most pixels of an image after the crop, or after a resize to two numbers: 400 MB of RGB. It is
/// checked here, before anything is allocated for such an image.
const MAX_IMAGE_PIXELS: u64 = 1 << 27;

/// A network's description without its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of this format: 1, or 2 with `quantization`.
    pub format_version: u32,
    /// torchvision's or timm's name of the network.
    pub architecture: String,
    /// Differences from the network of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// The number of classes; if it is not stated, that of fc's outputs. With 0 there is no fc.
    #[serde(default)]
    pub num_classes: Option<usize>,
    /// The classes' names in the order of fc's outputs.
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    /// The function that makes scores of fc's outputs; if it is not stated, that of
    /// [`OutputFunction::of`].
    #[serde(default)]
    pub activation: Option<OutputFunction>,
    /// The way from an image to the network's input.
    #[serde(default)]
    pub preprocessing: Preprocessing,
    /// The weights' origin, in free form.
    #[serde(default)]
    pub source: Option<Map<String, Value>>,
    /// How the weights came to be whole numbers, in free form; only theirs have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Map<String, Value>>,
}

impl Default for Config {
    /// The config of tensors that come without one.
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            architecture: "resnet50".into(),
            variant: None,
            num_classes: None,
            labels: None,
            activation: None,
            preprocessing: Preprocessing::default(),
            source: None,
            quantization: None,
        }
    }
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or has an invalid field; the message names the field, the
    /// expected and the found value.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text, path)
    }

    /// Reads and checks `text`; messages call it `path`.
    ///
    /// # Errors
    /// As for [`Config::read`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        let malformed = |field: &str, message: String| {
            let field = if matches!(field, "" | ".") {
                String::new()
            } else {
                format!("{field}: ")
            };
            Error::weights(path, format!("{field}{message} (see docs/weights.md)"))
        };
        // Some editors begin a text file with a byte order mark.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let json: Value = serde_json::from_slice(text).map_err(|e| malformed("", e.to_string()))?;
        // serde would take a list for an object, field by field in the order of the struct.
        for (field, value) in [
            ("", Some(&json)),
            ("preprocessing", json.get("preprocessing")),
            ("variant", json.get("variant").filter(|v| !v.is_null())),
            (
                "variant.head.avg_pool",
                json.pointer("/variant/head/avg_pool"),
            ),
            (
                "variant.shortcut.pad",
                json.pointer("/variant/shortcut/pad"),
            ),
        ] {
            if value.is_some_and(|v| !v.is_object()) {
                return Err(malformed(field, "expected an object in braces".into()));
            }
        }
        let config: Self = serde_path_to_error::deserialize(with_usual(json)).map_err(|e| {
            let field = e.path().to_string();
            malformed(&field, e.into_inner().to_string())
        })?;
        config.check().map_err(|e| e.in_file(path))?;
        Ok(config)
    }

    /// The architecture that the config describes.
    ///
    /// # Errors
    /// The name is unknown, or the variant does not make a network.
    pub fn architecture(&self) -> Result<Architecture, Error> {
        let Some(named) = family::named(&self.architecture) else {
            let known: Vec<_> = family::names().collect();
            return Err(Error::Argument(format!(
                "architecture: expected one of {}, found {:?}",
                known.join(", "),
                self.architecture
            )));
        };
        let architecture = match &self.variant {
            Some(variant) => variant.apply(named),
            None => named,
        };
        architecture.check()?;
        Ok(architecture)
    }

    fn check(&self) -> Result<(), Error> {
        let Self {
            format_version,
            num_classes,
            labels,
            activation,
            preprocessing: p,
            ..
        } = self;
        let (expected, reason) = match self.quantization {
            None => (FORMAT_VERSION, "written by a newer version?"),
            Some(_) => (QUANTIZED_VERSION, "that of configs with quantization"),
        };
        if *format_version != expected {
            return Err(Error::Argument(format!(
                "format_version: expected {expected}, found {format_version}: {reason}"
            )));
        }
        let channels = self.architecture()?.in_channels;
        if let (Some(labels), Some(classes)) = (labels, num_classes)
            && labels.len() != *classes
        {
            return Err(Error::Argument(format!(
                "labels: expected {classes}, as num_classes says, found {}",
                labels.len()
            )));
        }
        if let Some(outputs) = num_classes.or(labels.as_ref().map(Vec::len)) {
            OutputFunction::of(*activation, outputs)?;
        }
        for (field, size) in [("resize", p.resize), ("crop", p.crop)] {
            if let Some(size) = size
                && !size.sides().into_iter().all(|n| (1..=1 << 16).contains(&n))
            {
                return Err(Error::Argument(format!(
                    "preprocessing.{field}: expected 1 to 65536 pixels, found {:?}",
                    size.sides()
                )));
            }
        }
        // One number for `resize` is the short side: the image says what the area is.
        let exact = p.resize.filter(|size| matches!(size, Size::Sides(_)));
        for (field, size) in [("resize", exact), ("crop", p.crop)] {
            if let Some([height, width]) = size.map(Size::sides)
                && u64::from(height) * u64::from(width) > MAX_IMAGE_PIXELS
            {
                return Err(Error::Argument(format!(
                    "preprocessing.{field}: expected at most {MAX_IMAGE_PIXELS} pixels in all, \
                     found {height} x {width}"
                )));
            }
        }
        for (field, values) in [("mean", &p.mean), ("std", &p.std)] {
            if values.len() != channels {
                return Err(Error::Argument(format!(
                    "preprocessing.{field}: expected a number for each of the {channels} channels, \
                     found {}",
                    values.len()
                )));
            }
        }
        if !p.mean.iter().all(|m| m.is_finite()) {
            return Err(Error::Argument(format!(
                "preprocessing.mean: expected numbers, found {:?}",
                p.mean
            )));
        }
        if !p.std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Error::Argument(format!(
                "preprocessing.std: expected numbers above 0, found {:?}",
                p.std
            )));
        }
        Ok(())
    }
}

/// Adds the fields of `preprocessing` that a config does not state and that are not ImageNet's.
fn with_usual(mut json: Value) -> Value {
    let name = json.get("architecture").and_then(Value::as_str);
    let usual = name.and_then(Preprocessing::usual_for);
    let (Some(usual), Some(fields)) = (usual, json.as_object_mut()) else {
        return json;
    };
    let stated = fields
        .entry("preprocessing")
        .or_insert_with(|| Value::Object(Map::new()));
    if let (Some(stated), Ok(Value::Object(usual))) =
        (stated.as_object_mut(), serde_json::to_value(usual))
    {
        for (field, value) in usual {
            stated.entry(field).or_insert(value);
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::preprocessing::Size;

    fn read(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn fields_that_are_not_stated_have_defaults() {
        let config = read(r#"{"format_version": 1, "architecture": "resnet50"}"#).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_crop_and_an_exact_size_have_a_bound_and_may_reach_it() {
        let with = |size: &str| {
            read(&format!(
                r#"{{"format_version": 1, "architecture": "resnet50", "preprocessing": {{{size}}}}}"#
            ))
        };
        let largest = r#""resize": [8192, 16384], "crop": [8192, 16384]"#;
        assert_eq!(8192 * 16384, MAX_IMAGE_PIXELS);
        assert!(with(largest).is_ok());
        for field in ["resize", "crop"] {
            let message = with(&format!(r#""{field}": [8192, 16385]"#))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(&format!(
                    "preprocessing.{field}: expected at most 134217728 pixels"
                )),
                "{message}"
            );
        }
    }

    #[test]
    fn the_stem_of_another_kind_has_widths_of_its_own() {
        let widths = |architecture: &str, stem: &str| {
            let text = format!(
                r#"{{"format_version": 1, "architecture": "{architecture}", "variant": {{"stem": "{stem}"}}}}"#
            );
            read(&text).unwrap().architecture().unwrap().stem_widths
        };
        assert_eq!(widths("resnet50", "deep"), [32, 32, 64]);
        assert_eq!(widths("resnet50d", "deep"), [32, 32, 64]);
        assert_eq!(widths("resnet50d", "conv7x7"), [64]);
        assert_eq!(widths("cifar_resnet20", "deep"), [8, 8, 16]);
    }

    #[test]
    fn a_cifar_network_takes_small_images_unless_something_else_is_stated() {
        let text = r#"{"format_version": 1, "architecture": "cifar_resnet20"}"#;
        let found = read(text).unwrap().preprocessing;
        assert_eq!(found, Preprocessing::cifar10());
        assert_eq!(found.input_size(), [32, 32]);
        let text = r#"{"format_version": 1, "architecture": "cifar_resnet20",
                       "preprocessing": {"crop": null, "std": [1, 1, 1]}}"#;
        let found = read(text).unwrap().preprocessing;
        assert_eq!((found.resize, found.crop), (Some(Size::Side(32)), None));
        assert_eq!(found.mean, Preprocessing::cifar10().mean);
        assert_eq!(found.std, [1.0; 3]);
    }

    #[test]
    fn everything_can_be_stated_and_survives_a_round_trip() {
        let text = r#"{
            "format_version": 1, "architecture": "resnet50", "num_classes": 2,
            "labels": ["cat", "bucket"], "activation": "sigmoid",
            "preprocessing": {"resize": [64, 80], "crop": null, "interpolation": "bicubic",
                              "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]},
            "source": {"weights": "mine", "epochs": 3}
        }"#;
        let config = read(text).unwrap();
        assert_eq!(config.preprocessing.resize, Some(Size::Sides([64, 80])));
        assert_eq!(config.preprocessing.crop, None);
        assert_eq!(config.activation, Some(OutputFunction::Sigmoid));
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(read(&again).unwrap(), config);
    }

    #[test]
    fn large_sizes_within_the_bound_are_accepted() {
        for (field, value) in [("crop", "11585"), ("resize", "65536")] {
            let mut fields = serde_json::to_value(Preprocessing::default()).unwrap();
            fields[field] = serde_json::from_str(value).unwrap();
            let text = format!(
                r#"{{"format_version": 1, "architecture": "resnet50", "preprocessing": {fields}}}"#
            );
            read(&text).unwrap();
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        let text = r#"{"format_version": 1, "architecture": "resnet50"}"#;
        assert_eq!(
            read(&format!("\u{feff}{text}")).unwrap(),
            read(text).unwrap()
        );
    }

    #[test]
    fn numbers_keep_their_decimals() {
        let value = serde_json::to_value(Config::default()).unwrap();
        assert_eq!(value["preprocessing"]["mean"][0], 0.485);
    }

    #[test]
    fn errors_name_the_invalid_field() {
        let with = |field: &str| {
            format!(r#"{{"format_version": 1, "architecture": "resnet50", {field}}}"#)
        };
        let preset = |field: &str, value: &str| {
            let mut fields = serde_json::to_value(Preprocessing::default()).unwrap();
            fields[field] = serde_json::from_str(value).unwrap();
            with(&format!(r#""preprocessing": {fields}"#))
        };
        for (text, fragments) in [
            ("{".to_owned(), vec!["EOF"]),
            ("[1, 2]".to_owned(), vec!["object"]),
            (r#"{"format_version": 1}"#.to_owned(), vec!["architecture"]),
            (
                r#"{"format_version": 2, "architecture": "resnet50"}"#.to_owned(),
                vec!["format_version", "expected 1", "found 2"],
            ),
            (
                r#"{"format_version": 1, "architecture": "vgg16"}"#.to_owned(),
                vec!["expected one of resnet18", "vgg16"],
            ),
            (with(r#""lables": []"#), vec!["lables"]),
            (
                with(r#""num_classes": 0, "labels": ["a"]"#),
                vec!["labels", "expected 0", "found 1"],
            ),
            (with(r#""variant": []"#), vec!["variant", "object"]),
            (
                with(r#""variant": {"stride": 1}"#),
                vec!["variant", "stride_on"],
            ),
            (
                with(r#""variant": {"head": {"avg_pool": [4, 4, 0]}}"#),
                vec!["variant.head.avg_pool", "object"],
            ),
            (
                with(
                    r#""variant": {"head": {"avg_pool": {"kernel": 2, "padding": 9223372036854775809}}}"#,
                ),
                vec!["variant.head", "half the kernel"],
            ),
            (
                with(r#""variant": {"shortcut": {"pad": ["slice", "end"]}}"#),
                vec!["variant.shortcut.pad", "object"],
            ),
            (
                with(r#""variant": {"shortcut": {"pad": {"reduce": "slice"}}}"#),
                vec!["variant.shortcut", "zeros"],
            ),
            (
                with(r#""variant": {"shortcut": {"pad": {"reduce": "max", "zeros": "end"}}}"#),
                vec!["variant.shortcut", "max", "average"],
            ),
            (
                with(r#""variant": {"shortcut": "identity"}"#),
                vec!["variant.shortcut", "identity", "conv_always", "pad"],
            ),
            (
                with(r#""variant": {"stem_pool": "avg"}"#),
                vec!["variant.stem_pool", "max_ceil"],
            ),
            (
                with(r#""variant": {"dilation": [1, 1, 2, 4], "last_stride": 2}"#),
                vec!["variant.last_stride", "found 2"],
            ),
            (
                with(r#""variant": {"blocks": [1, 0]}"#),
                vec!["variant.blocks", "found 0"],
            ),
            (
                with(r#""variant": {"widths": [8]}"#),
                vec!["variant.widths", "expected 4", "found 1"],
            ),
            (
                with(r#""variant": {"in_channels": 1}"#),
                vec!["mean", "each of the 1 channels", "found 3"],
            ),
            (
                with(r#""num_classes": 3, "labels": ["a"]"#),
                vec!["labels", "expected 3", "found 1"],
            ),
            (
                with(r#""activation": "relu""#),
                vec!["activation", "relu", "`softmax`, `sigmoid`, `none`"],
            ),
            (
                with(r#""num_classes": 1, "activation": "softmax""#),
                vec!["activation", "sigmoid", "none", "one output"],
            ),
            (
                with(r#""labels": ["a"], "activation": "softmax""#),
                vec!["activation", "one output"],
            ),
            (preset("resize", "0"), vec!["resize", "1 to 65536"]),
            (preset("resize", "-5"), vec!["[height, width]"]),
            (preset("crop", "[1, 2, 3]"), vec!["[height, width]"]),
            (
                preset("crop", "65536"),
                vec!["crop", "at most 134217728 pixels", "65536 x 65536"],
            ),
            (
                preset("resize", "[11586, 11585]"),
                vec!["resize", "at most 134217728 pixels"],
            ),
            (preset("std", "[1, 0, 1]"), vec!["std", "above 0"]),
            (preset("mean", "[1, 1]"), vec!["3"]),
            (
                preset("interpolation", "\"cubic\""),
                vec!["cubic", "bicubic"],
            ),
        ] {
            let message = read(&text).unwrap_err().to_string();
            for fragment in fragments.iter().chain(&["config.json"]) {
                assert!(message.contains(fragment), "{message} lacks {fragment}");
            }
        }
    }
}
