//! A small network of odd widths against the reference loops, from a weights file on.

use std::collections::HashMap;

use super::fixtures::{
    CLASSES, image, logits, network, random, random_weights, random_weights_of, shape, tiny,
    weights_file,
};
use super::{Head, Images, Network, Options, reference};
use crate::error::Error;
use crate::graph::architecture::{
    Architecture, Block, HeadPool, HeadWindow, PadShortcut, Reduce, Shortcut, Stem, StemPool,
    StrideOn, Zeros,
};
use crate::graph::config::Config;
use crate::graph::head::head_side;
use crate::graph::operations::{Kind, Operation};
use crate::graph::preprocessing::Size;
use crate::kernels::reference::Tensor;
use crate::shape::Shape;
use crate::simd::Isa;
use crate::weights::Tensors;

/// The variants of the family, each alone.
fn variants() -> Vec<(&'static str, Architecture)> {
    let tiny = tiny;
    vec![
        ("bottleneck", tiny()),
        (
            "basic",
            Architecture {
                block: Block::Basic,
                expansion: 1,
                widths: vec![10, 9, 17, 33],
                ..tiny()
            },
        ),
        (
            "v1",
            Architecture {
                stride_on: StrideOn::Conv1,
                norm_epsilon: 1e-2,
                conv_bias: true,
                ..tiny()
            },
        ),
        (
            "grouped",
            Architecture {
                widths: vec![16, 32, 48, 64],
                groups: 3,
                width_per_group: 20,
                ..tiny()
            },
        ),
        (
            "d",
            Architecture {
                stem: Stem::Deep,
                stem_widths: vec![7, 6, 10],
                shortcut: Shortcut::AvgPoolConv,
                ..tiny()
            },
        ),
        (
            "relu before add",
            Architecture {
                relu_before_add: true,
                in_channels: 1,
                ..tiny()
            },
        ),
        (
            "folded",
            Architecture {
                batch_norm: false,
                in_channels: 4,
                ..tiny()
            },
        ),
        (
            "small images",
            Architecture {
                stem: Stem::Conv3x3,
                blocks: vec![1, 2],
                widths: vec![5, 9],
                ..tiny()
            },
        ),
        (
            "dilated",
            Architecture {
                dilation: Some(vec![1, 1, 2, 4]),
                stem_pool: Some(StemPool::MaxCeil),
                ..tiny()
            },
        ),
        (
            "dilated d",
            Architecture {
                block: Block::Basic,
                expansion: 1,
                dilation: Some(vec![1, 2, 2, 2]),
                last_stride: Some(1),
                shortcut: Shortcut::AvgPoolConv,
                head: HeadPool::GlobalMaxPool,
                ..tiny()
            },
        ),
        (
            "option A",
            Architecture {
                block: Block::Basic,
                expansion: 1,
                stem_widths: vec![4],
                shortcut: Shortcut::Pad(PadShortcut {
                    reduce: Reduce::Average,
                    zeros: Zeros::Around,
                }),
                ..tiny()
            },
        ),
        (
            "option A at the end",
            Architecture {
                shortcut: Shortcut::Pad(PadShortcut {
                    reduce: Reduce::Slice,
                    zeros: Zeros::End,
                }),
                stem_stride: Some(1),
                stem_pool: Some(StemPool::None),
                blocks: vec![1, 2],
                widths: vec![5, 9],
                ..tiny()
            },
        ),
        (
            "option C",
            Architecture {
                shortcut: Shortcut::ConvAlways,
                stem: Stem::Conv3x3,
                stem_stride: Some(2),
                stem_pool: Some(StemPool::Max),
                ..tiny()
            },
        ),
    ]
}

/// Against f64, through all layers: the same bound as every parity test of the project.
const TOLERANCE: f64 = 1e-5;

/// Asserts that every layer of a network equals the reference's operation of that name.
fn assert_matches_reference(architecture: &Architecture, config: &Config, shape: Shape) {
    let (side, _) = head_side(architecture, &config.preprocessing).unwrap();
    let operations = architecture.operations(CLASSES, side);
    let weights = random_weights_of(&operations);
    let file = weights_file(&weights);
    let tensors = Tensors::of_file(&file).unwrap();

    let channels = architecture.in_channels;
    let x = random(99, shape.batch * shape.height * shape.width * channels);
    let tensor = Tensor {
        shape: [shape.batch, shape.height, shape.width, channels],
        data: x.iter().map(|&v| f64::from(v)).collect(),
    };
    let expected = reference::activations(&operations, &tensors, tensor).unwrap();
    let expected: HashMap<_, _> = expected.into_iter().collect();
    for isa in Isa::available() {
        for [winograd, fused] in [[false, true], [true, true], [true, false]] {
            let options = Options {
                isa: Some(isa),
                threads: Some(2),
                winograd,
                fused,
                precision: None,
                strict: false,
            };
            let network = Network::of(architecture.clone(), config.clone(), &tensors, &options);
            let network = network.unwrap();
            let found = network.activations(Images::F32(&x), shape).unwrap();
            if !fused {
                assert_eq!(found.len(), operations.len());
            }
            for (name, dims, data) in &found {
                let want = &expected[name];
                assert_eq!(*dims, want.shape, "{name}");
                let pairs = || data.iter().zip(&want.data);
                let error: f64 = pairs().map(|(&f, w)| (f64::from(f) - w).powi(2)).sum();
                let norm: f64 = want.data.iter().map(|w| w * w).sum();
                let relative = (error / norm).sqrt();
                assert!(
                    relative <= TOLERANCE,
                    "{isa} {shape:?} {name}: {relative:e}"
                );
            }
            // The parallel walk gives what the walk for looking gave, to the bit.
            assert_eq!(logits(&network, &x, shape), found[found.len() - 1].2);
        }
    }
}

#[test]
fn every_layer_matches_reference_on_every_tier() {
    for shape in [shape(1, 1, 1), shape(2, 33, 47), shape(3, 64, 40)] {
        assert_matches_reference(&tiny(), &Config::default(), shape);
    }
}

#[test]
fn every_variant_matches_reference_on_every_tier() {
    for (name, architecture) in variants() {
        eprintln!("{name}");
        architecture.check().unwrap();
        let mut config = Config::default();
        let channels = architecture.in_channels;
        config.preprocessing.mean = vec![0.5; channels];
        config.preprocessing.std = vec![0.25; channels];
        assert_matches_reference(&architecture, &config, shape(2, 45, 29));
    }
}

#[test]
fn a_head_of_windows_is_flattened_as_torch_does_and_fixes_the_size() {
    for (kernel, stride, padding, crop, side) in [(2, 2, 1, 64, 2), (7, 7, 0, 224, 1)] {
        let window = HeadWindow {
            kernel,
            stride: Some(stride),
            padding,
        };
        let architecture = Architecture {
            head: HeadPool::AvgPool(window),
            ..tiny()
        };
        let mut config = Config::default();
        config.preprocessing.crop = Some(Size::Side(crop));
        assert_eq!(
            head_side(&architecture, &config.preprocessing).unwrap(),
            (side, Some([side, crop as usize]))
        );
        let size = shape(2, crop as usize, crop as usize);
        assert_matches_reference(&architecture, &config, size);

        let operations = architecture.operations(CLASSES, side);
        let file = random_weights_of(&operations);
        let file = weights_file(&file);
        let tensors = Tensors::of_file(&file).unwrap();
        let network = Network::of(architecture, config, &tensors, &Options::default()).unwrap();
        // The embedding is what fc's weights are for, in their order.
        let x = image(size, 7);
        let embedding = network.forward(Images::F32(&x), size, Head::Embedding);
        let embedding = embedding.unwrap();
        let (matrix, bias) = (
            tensors.read("fc.weight").unwrap(),
            tensors.read("fc.bias").unwrap(),
        );
        let logits = logits(&network, &x, size);
        let features = embedding.len() / 2;
        for (image, logits) in embedding
            .chunks_exact(features)
            .zip(logits.chunks_exact(CLASSES))
        {
            for (o, row) in matrix.chunks_exact(features).enumerate() {
                let dot: f32 = image.iter().zip(row).map(|(x, w)| x * w).sum();
                assert!(
                    (dot + bias[o] - logits[o]).abs() < 1e-4,
                    "{dot} {}",
                    logits[o]
                );
            }
        }

        let other = shape(1, 2 * crop as usize, crop as usize);
        let x = image(other, 1);
        let error = network.forward(Images::F32(&x), other, Head::Logits);
        let message = error.unwrap_err().to_string();
        assert!(
            message.contains(&format!("expected {crop} x {crop}")),
            "{message}"
        );
    }
}

#[test]
fn without_classes_the_logits_are_the_embedding() {
    let mut weights = random_weights();
    for with_fc in [true, false] {
        if !with_fc {
            weights.retain(|name, _| !name.starts_with("fc."));
        }
        let file = weights_file(&weights);
        let tensors = Tensors::of_file(&file).unwrap();
        let config = Config {
            num_classes: Some(0),
            ..Config::default()
        };
        let network = Network::of(tiny(), config, &tensors, &Options::default()).unwrap();
        let shape = shape(2, 30, 20);
        let x = image(shape, 4);
        let embedding = network.forward(Images::F32(&x), shape, Head::Embedding);
        let embedding = embedding.unwrap();
        assert_eq!(embedding.len(), 2 * 99);
        assert_eq!(embedding, logits(&network, &x, shape));
    }
}

#[test]
fn a_bias_beside_a_batch_norm_is_read_where_it_is() {
    let architecture = Architecture {
        conv_bias: true,
        ..tiny()
    };
    let operations = architecture.operations(CLASSES, 1);
    let mut weights = random_weights_of(&operations);
    weights.remove("layer1.0.conv2.bias").unwrap();
    let file = weights_file(&weights);
    let tensors = Tensors::of_file(&file).unwrap();
    let options = Options::default();
    let network = Network::of(architecture, Config::default(), &tensors, &options).unwrap();
    let with_bias =
        |operation: &&Operation| matches!(&operation.kind, Kind::Conv(conv) if conv.bias);
    let found = network.operations().iter().filter(with_bias).count();
    let convs = operations.iter().filter(with_bias).count();
    assert_eq!(found, convs - 1);
}

#[test]
fn threads_and_batches_change_no_bit() {
    let weights = random_weights();
    // Small images run all at once; large ones go through the first layers in groups: one by one
    // on one thread and two, two by two on three, and on eight all at once.
    for (batch, height, width) in [(5, 40, 50), (4, 230, 250)] {
        let whole = shape(batch, height, width);
        let x = image(whole, 5);
        for isa in Isa::available() {
            let expected = logits(&network(&weights, isa, 1), &x, whole);
            for threads in [2, 3, 8] {
                let network = network(&weights, isa, threads);
                let what = format!("{isa}, {threads} threads, {whole:?}");
                assert_eq!(logits(&network, &x, whole), expected, "{what}");
                for (n, image) in x.chunks_exact(height * width * 3).enumerate() {
                    let one = logits(&network, image, shape(1, height, width));
                    assert_eq!(one, expected[n * CLASSES..][..CLASSES], "{what}, image {n}");
                }
            }
        }
    }
}

#[test]
fn groups_of_images_change_no_bit_of_any_variant() {
    // Two images at a time go through the first layers on one thread, all of them on three.
    let whole = shape(5, 120, 150);
    for (name, architecture) in variants() {
        let operations = architecture.operations(CLASSES, 1);
        let weights = random_weights_of(&operations);
        let file = weights_file(&weights);
        let tensors = Tensors::of_file(&file).unwrap();
        let channels = architecture.in_channels;
        let mut config = Config::default();
        config.preprocessing.mean = vec![0.5; channels];
        config.preprocessing.std = vec![0.25; channels];
        let len = 120 * 150 * channels;
        let x = random(5, 5 * len);
        for fused in [true, false] {
            let options = Options {
                fused,
                ..Options::default()
            };
            let network = Network::of(architecture.clone(), config.clone(), &tensors, &options);
            let network = network.unwrap();
            let run = |threads, x: &[f32], shape| {
                let images = Images::F32(x);
                network.forward_on(threads, images, shape, Head::Logits)
            };
            let expected = run(1, &x, whole).unwrap();
            assert_eq!(run(3, &x, whole).unwrap(), expected, "{name} {fused}");
            for (image, logits) in x.chunks_exact(len).zip(expected.chunks_exact(CLASSES)) {
                let one = run(2, image, shape(1, 120, 150)).unwrap();
                assert_eq!(one, logits, "{name} {fused}");
            }
        }
        let message = |threads| {
            let error = Network::of(
                architecture.clone(),
                config.clone(),
                &tensors,
                &Options::default(),
            )
            .unwrap()
            .forward_on(threads, Images::F32(&x), whole, Head::Logits);
            error.unwrap_err().to_string()
        };
        assert!(message(0).contains("at least 1") && message(1 << 61).contains("at most 1024"));
    }
}

#[test]
fn pixels_are_normalised_on_the_way_in() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let shape = shape(1, 9, 13);
    let pixels: Vec<u8> = (0..9 * 13 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let mut normalized = vec![0.0; pixels.len()];
    network.normalize(&pixels, &mut normalized).unwrap();
    let out = network
        .forward(Images::U8(&pixels), shape, Head::Logits)
        .unwrap();
    assert_eq!(out, logits(&network, &normalized, shape));
}

#[test]
fn an_embedding_is_what_fc_reads() {
    let weights = random_weights();
    let network = network(&weights, Isa::Portable, 2);
    let shape = shape(2, 20, 20);
    let x = image(shape, 3);
    let embedding = network
        .forward(Images::F32(&x), shape, Head::Embedding)
        .unwrap();
    let activations = network.activations(Images::F32(&x), shape).unwrap();
    let pool = activations
        .iter()
        .find(|(name, ..)| name == "avgpool")
        .unwrap();
    assert_eq!(embedding, pool.2);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let mut out = vec![0.0; CLASSES];
    let mut run = |shape, len: usize| {
        let x = vec![0.0; len];
        network.forward_into(Images::F32(&x), shape, Head::Logits, &mut out)
    };
    let message = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert!(message(run(shape(1, 0, 5), 0)).contains("at least 1"));
    assert!(message(run(shape(1, 4, 4), 47)).contains("found 47"));
    assert!(message(run(shape(2, 4, 4), 96)).contains("out: expected 2 x 7"));
    assert!(message(run(shape(1, 1 << 20, 1 << 20), 0)).contains("at most"));
    assert!(run(shape(0, 4, 4), 0).is_err());
}

#[test]
fn a_variance_below_zero_is_named() {
    let mut weights = random_weights();
    weights.get_mut("layer1.0.bn2.running_var").unwrap().1[3] = -1.0;
    let file = weights_file(&weights);
    let result = Network::of(
        tiny(),
        Config::default(),
        &Tensors::of_file(&file).unwrap(),
        &Options::default(),
    );
    let message = result.err().unwrap().to_string();
    assert!(message.contains("layer1.0.bn2.running_var") && message.contains("element 3"));
}
