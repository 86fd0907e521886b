//! Small int8 networks: the same bits from every kernel, thread and batch, and files with wrong scales. What the bits
//! must be is tested in Python, against the definition in NumPy (`tests/test_int8_core.py`).

use std::collections::BTreeMap;
use std::path::Path;

use super::fixtures::{
    CLASSES, architectures, image, network, random, random_weights, shape, tiny,
};
use super::{Head, Images, Network, Options};
use crate::graph::architecture::Architecture;
use crate::graph::config::Config;
use crate::graph::fuse::{Fusion, fuse};
use crate::graph::layer::{Layer, Op};
use crate::graph::operations::Operation;
use crate::kernels::KernelTable;
use crate::simd::Isa;
use crate::weights::{Dtype, Entry, Precision, Tensors};

/// Tensors by name: type, shape, bytes.
type Weights = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn quantized(operations: &[Operation]) -> Weights {
    mixed(operations, |_| false)
}

/// The same with some layers in bf16, by their places.
fn mixed(operations: &[Operation], is_bf16: impl Fn(usize) -> bool) -> Weights {
    let layers = fuse(operations, Fusion::WithShortcuts);
    let real: Vec<&str> = layers
        .iter()
        .enumerate()
        .filter(|(i, _)| is_bf16(*i))
        .flat_map(|(_, layer)| layer.convs().map(|conv| conv.conv.as_str()))
        .collect();
    let mut weights = Weights::new();
    let mut put = |name: String, dtype, shape: Vec<usize>, bytes: Vec<u8>| {
        weights.insert(name, (dtype, shape, bytes));
    };
    let f32s = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors = operations.iter().flat_map(Operation::named_parameters);
    for (i, (name, shape)) in tensors.enumerate() {
        let of_conv = operations
            .iter()
            .any(|o| o.convolution().is_some() && name == format!("{}.weight", o.name));
        let window: usize = shape.iter().skip(1).product();
        if real.iter().any(|conv| name == format!("{conv}.weight")) {
            let gain = (3.0 / window as f32).sqrt();
            let values = random(i as u64 + 1, shape.iter().product());
            let values = values.iter().map(|v| v * gain).collect();
            put(name, Dtype::F32, shape, f32s(values));
        } else if of_conv {
            let values = random(i as u64 + 1, shape.iter().product());
            let whole = values.iter().map(|v| (v * 127.0).round() as i8 as u8);
            put(name, Dtype::I8, shape, whole.collect());
        }
    }
    let has_fc = layers.last().is_some_and(Layer::is_fc);
    let head = layers.len() - 1 - usize::from(has_fc);
    let has_whole_head = !has_fc || !is_bf16(layers.len() - 1);
    // Every activation has the same unit, so a shortcut's weights have that of its block's.
    let unit = 3.0 / 255.0;
    for (i, layer) in layers.iter().enumerate() {
        for (s, conv) in layer.convs().enumerate() {
            let first = layer.inputs()[0].0 == 0;
            let window = layer.convs().map(|conv| conv.window_len()).sum::<usize>() as f32;
            let gain = (3.0 / window).sqrt() / 127.0 * if first { 1.0 / 64.0 } else { 1.0 };
            let scales: Vec<f32> = (0..conv.out_channels)
                .map(|o| gain * (1.0 + 0.02 * o as f32))
                .collect();
            if !is_bf16(i) {
                let name = format!("{}.weight_scale", conv.conv);
                put(name, Dtype::F32, vec![conv.out_channels], f32s(scales));
            }
            if s == 0 {
                let bias = random(77 + i as u64, conv.out_channels);
                let bias = bias.iter().map(|v| v * 0.3).collect();
                put(
                    format!("{}.bias", conv.conv),
                    Dtype::F32,
                    vec![conv.out_channels],
                    f32s(bias),
                );
            }
        }
        let scale = match layer.op {
            Op::Conv { .. } if !layer.is_fc() => unit,
            Op::AvgPool(..) if i == head && has_whole_head => 3.0 / 4095.0,
            _ => continue,
        };
        put(
            format!("{}.output_scale", layer.name),
            Dtype::F32,
            vec![1],
            f32s(vec![scale]),
        );
    }
    weights
}

fn load(
    table: KernelTable,
    architecture: &Architecture,
    weights: &Weights,
    threads: usize,
) -> Result<Network, crate::error::Error> {
    let entry = |(dtype, shape, bytes): &'_ (Dtype, Vec<usize>, Vec<u8>)| {
        (*dtype, shape.clone(), bytes.clone())
    };
    let owned: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| (name, entry(tensor)))
        .collect();
    let entries = owned.iter().map(|(name, (dtype, shape, bytes))| {
        let entry = Entry {
            dtype: *dtype,
            shape: shape.clone(),
            data: &bytes[..],
        };
        ((*name).clone(), entry)
    });
    let tensors = Tensors::new(Path::new("memory"), entries.collect());
    let options = Options {
        threads: Some(threads),
        ..Options::default()
    };
    Network::on(
        table,
        architecture.clone(),
        Config::default(),
        &tensors,
        &options,
    )
}

/// The kernels of each tier, and emulated fours beside the portable ones.
fn tables() -> Vec<KernelTable> {
    let portable = KernelTable::available().next().unwrap();
    KernelTable::available()
        .chain(portable.with_emulated_fours())
        .collect()
}

#[test]
fn all_kernels_threads_and_batches_compute_the_same_bits() {
    for (what, architecture) in architectures() {
        let weights = quantized(&architecture.operations(CLASSES, 1));
        assert_same_bits(what, &architecture, &weights);
    }
}

/// A choice of layers by their places, and its name.
type Which = (&'static str, fn(usize) -> bool);

/// The layers that compute in bf16: the first, the last ones, every other one, all but one.
const MIXED: [Which; 5] = [
    ("first", |i| i == 0),
    ("all but the first", |i| i > 0),
    ("odd", |i| i % 2 == 1),
    ("even", |i| i % 2 == 0),
    ("third", |i| i % 3 == 2),
];

#[test]
fn networks_of_int8_and_bf16_compute_the_same_bits_too() {
    for (what, architecture) in architectures() {
        for (which, is_bf16) in MIXED {
            let operations = architecture.operations(CLASSES, 1);
            let weights = mixed(&operations, is_bf16);
            assert_same_bits(&format!("{what}, {which} in bf16"), &architecture, &weights);
        }
    }
}

#[test]
fn names_and_outputs_are_those_of_the_layers_without_changes_of_type() {
    let architecture = tiny();
    let operations = architecture.operations(CLASSES, 1);
    let layers = fuse(&operations, Fusion::WithShortcuts);
    let names: Vec<_> = layers.iter().map(|layer| layer.name.clone()).collect();
    let at = shape(2, 45, 38);
    let images = image(at, 5);
    for (which, is_bf16) in MIXED {
        let weights = mixed(&operations, is_bf16);
        let table = KernelTable::available().next().unwrap();
        let network = load(table, &architecture, &weights, 1).unwrap();
        let found: Vec<_> = network.layers().map(|layer| layer.name.clone()).collect();
        assert_eq!(found, names, "{which}");
        let plan = network.plan(at).unwrap();
        let changes = plan.steps.iter().filter(|step| !step.completes_layer);
        assert!(
            changes.count() > 1,
            "{which}: the input and a change of type"
        );
        let outputs = network.activations(Images::F32(&images), at).unwrap();
        let found: Vec<_> = outputs.iter().map(|(name, ..)| name.clone()).collect();
        assert_eq!(found, names, "{which}");
        let logits = network
            .forward(Images::F32(&images), at, Head::Logits)
            .unwrap();
        assert_eq!(outputs.last().unwrap().2, logits, "{which}");
        let at = shape(0, 45, 38);
        let empty = network.activations(Images::F32(&[]), at).unwrap();
        assert_eq!(empty.len(), names.len());
    }
}

fn assert_same_bits(what: &str, architecture: &Architecture, weights: &Weights) {
    let (height, width) = (45, 38);
    let images = image(shape(3, height, width), 5);
    let len = images.len() / 3;
    let mut expected: Option<(Vec<f32>, Vec<f32>)> = None;
    for table in tables() {
        for threads in [1, 2, 4] {
            let network = load(table, architecture, weights, threads).unwrap();
            assert_eq!(network.precision(), Precision::Int8);
            let run = |head, range: std::ops::Range<usize>| {
                let images = Images::F32(&images[range.start * len..range.end * len]);
                network
                    .forward(images, shape(range.len(), height, width), head)
                    .unwrap()
            };
            let both = (run(Head::Logits, 0..3), run(Head::Embedding, 0..3));
            let alone: Vec<f32> = (0..3).flat_map(|i| run(Head::Logits, i..i + 1)).collect();
            assert_eq!(alone, both.0, "{what} {}", table.conv_name(table.int8));
            let spread = both.0.iter().fold(0.0_f32, |most, &x| most.max(x.abs()));
            assert!(spread > 0.1, "{what}: logits say nothing");
            let expected = expected.get_or_insert_with(|| both.clone());
            assert_eq!(both, *expected, "{what} {}", table.conv_name(table.int8));
        }
    }
}

#[test]
fn pixels_and_the_same_pixels_normalised_give_the_same_bits() {
    let architecture = tiny();
    let weights = quantized(&architecture.operations(CLASSES, 1));
    for table in tables() {
        let network = load(table, &architecture, &weights, 1).unwrap();
        let pixels: Vec<u8> = (0..33 * 40 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut normalized = vec![0.0; pixels.len()];
        network.normalize(&pixels, &mut normalized).unwrap();
        let at = shape(1, 33, 40);
        let of_pixels = network
            .forward(Images::U8(&pixels), at, Head::Logits)
            .unwrap();
        let of_values = network
            .forward(Images::F32(&normalized), at, Head::Logits)
            .unwrap();
        assert_eq!(of_pixels, of_values);
    }
}

/// Values far outside the pixels' range, and no numbers at all, become pixels.
#[test]
fn the_input_is_clamped() {
    let architecture = tiny();
    let weights = quantized(&architecture.operations(CLASSES, 1));
    let table = KernelTable::available().last().unwrap();
    let network = load(table, &architecture, &weights, 1).unwrap();
    let at = shape(1, 33, 33);
    let constant = |x: f32| {
        let images = vec![x; 33 * 33 * 3];
        network
            .forward(Images::F32(&images), at, Head::Logits)
            .unwrap()
    };
    assert_eq!(constant(1e9), constant(3.0));
    assert_eq!(constant(f32::INFINITY), constant(3.0));
    assert_eq!(constant(f32::NAN), constant(-3.0));
    assert_ne!(constant(3.0), constant(-3.0));
}

#[test]
fn wrong_tensors_are_errors_that_name_them() {
    let architecture = tiny();
    let good = quantized(&architecture.operations(CLASSES, 1));
    let table = KernelTable::available().next().unwrap();
    let f32s =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let with = |name: &str, bytes: Vec<u8>| {
        let mut weights = good.clone();
        weights.get_mut(name).unwrap().2 = bytes;
        weights
    };
    let without = |name: &str| {
        let mut weights = good.clone();
        weights.remove(name).unwrap();
        weights
    };
    let scale = "layer1.0.relu1.output_scale";
    let ten = |first: f32| f32s(&[[first].as_slice(), &[0.01; 9]].concat());
    let mut real = good.clone();
    let weight = real.get_mut("conv1.weight").unwrap();
    *weight = (Dtype::F32, weight.1.clone(), vec![0; 4 * weight.2.len()]);
    let mut least = good["conv1.weight"].2.clone();
    least[5] = 0x80;
    for (weights, words) in [
        (without(scale), vec![scale, "not found"]),
        (without("conv1.bias"), vec!["conv1.bias", "not found"]),
        (with(scale, f32s(&[-0.5])), vec![scale, "above 0", "-0.5"]),
        (with(scale, f32s(&[0.0])), vec![scale, "above 0", "0"]),
        (with(scale, f32s(&[f32::NAN])), vec![scale, "finite", "NaN"]),
        (
            with(scale, f32s(&[f32::INFINITY])),
            vec![scale, "finite", "inf"],
        ),
        (
            with(scale, f32s(&[3e38])),
            vec!["layer1.0.relu1", "too far apart"],
        ),
        (with(scale, f32s(&[1e-38])), vec!["too far apart"]),
        (
            with("layer1.0.downsample.0.weight_scale", f32s(&[0.5; 15])),
            vec![
                "layer1.0.downsample.0.weight_scale",
                "units of the layer's sums",
            ],
        ),
        (
            with("conv1.weight_scale", ten(1e-25)),
            vec!["conv1.bias", "2^30", "element 0"],
        ),
        (
            with("conv1.weight", least),
            vec!["conv1.weight", "-127 to 127", "element 5"],
        ),
        (real, vec!["conv1.weight", "I8", "F32"]),
    ] {
        let error = load(table, &architecture, &weights, 1)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
    }
}

#[test]
fn statistics_count_what_activations_hold_for_any_number_of_threads() {
    let weights = random_weights();
    let at = shape(2, 30, 35);
    let images = image(at, 3);
    for isa in Isa::available() {
        let all: Vec<_> = [1, 2, 3]
            .map(|threads| {
                let network = network(&weights, isa, threads);
                network
                    .statistics(threads, Images::F32(&images), at)
                    .unwrap()
            })
            .into();
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        let network = network(&weights, isa, 1);
        let activations = network.activations(Images::F32(&images), at).unwrap();
        let (input, layers) = all[0].split_first().unwrap();
        assert_eq!(input.name, "input");
        let [height, width] = [30, 35];
        let expected: f64 = images.iter().step_by(3).map(|&x| f64::from(x)).sum();
        assert!((input.sums[0] - expected).abs() < 1e-9 * (height * width) as f64);
        assert_eq!(layers.len(), activations.len());
        for (found, (name, dims, values)) in layers.iter().zip(activations) {
            assert_eq!(found.name, name);
            let max = values.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
            assert_eq!(found.max, max, "{name}");
            let mut counts = vec![0; found.counts.len()];
            for x in &values {
                counts[(x.max(0.0).to_bits() >> 16) as usize] += 1;
            }
            assert_eq!(found.counts, counts, "{name}");
            for (c, sum) in found.sums.iter().enumerate() {
                let values = values.iter().skip(c).step_by(dims[3]);
                let expected: f64 = values.map(|&x| f64::from(x)).sum();
                assert!(
                    (sum - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
                    "{name} {c}"
                );
            }
        }
    }
}

#[test]
fn an_f32_network_is_none_of_int8_and_the_other_way_round() {
    let architecture = tiny();
    let weights = quantized(&architecture.operations(CLASSES, 1));
    let table = KernelTable::available().next().unwrap();
    let network = load(table, &architecture, &weights, 1).unwrap();
    let at = shape(1, 33, 33);
    let images = image(at, 1);
    let error = network.statistics(1, Images::F32(&images), at).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected an f32 network, found int8")
    );
    let error = network.reference_logits(&images, [33, 33]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected f32 weights, found those of an int8")
    );
}
