//! Loading a network from files, and its properties.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::fixtures::{CLASSES, image, network, random_weights, shape, write};
use super::plans::kernel_name;
use super::{Head, Images, Network, Options};
use crate::error::Error;
use crate::simd::Isa;

/// The config of the tests' tiny network.
const CONFIG: &str = r#"{"format_version": 1, "architecture": "resnet50", "variant": {
    "blocks": [2, 2, 1, 2], "widths": [5, 9, 17, 33], "expansion": 3, "stem_widths": [10]}}"#;

fn load(path: &Path) -> Result<Network, Error> {
    let options = Options {
        isa: Some(Isa::Portable),
        threads: Some(1),
        ..Options::default()
    };
    Network::load(path, &options)
}

#[test]
fn a_directory_is_loaded_with_its_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    write(&random_weights(), &file);
    fs::write(dir.path().join("config.json"), CONFIG).unwrap();

    let expected = network(&random_weights(), Isa::Portable, 1);
    let size = shape(1, 30, 40);
    let x = image(size, 1);
    let logits = |network: &Network| {
        network
            .forward(Images::F32(&x), size, Head::Logits)
            .unwrap()
    };
    // The file alone is loaded with the config beside it.
    for path in [dir.path(), &file] {
        let network = load(path).unwrap();
        assert!(network.has_config());
        assert_eq!(network.weights_path(), file);
        assert_eq!(network.num_classes(), CLASSES);
        let variant = network.config().variant.as_ref().unwrap();
        assert_eq!(variant.expansion, Some(3));
        assert_eq!(logits(&network), logits(&expected));
    }
}

#[test]
fn a_directory_without_a_config_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    write(&random_weights(), &dir.path().join("model.safetensors"));
    let error = load(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Io { .. }));
    let message = error.to_string();
    assert!(
        message.contains("config.json") && message.contains("docs/weights.md"),
        "{message}"
    );
}

#[test]
fn a_file_without_a_config_is_loaded_as_the_default_network() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.safetensors");
    write(&random_weights(), &file);
    // The weights are not those of a resnet50, which the error says; no config is asked for.
    let error = load(&file).err().unwrap();
    assert!(matches!(error, Error::Weights { .. }));
    let message = error.to_string();
    assert!(
        message.contains("tensor layer1.2.") && !message.contains("config.json"),
        "{message}"
    );
}

#[test]
fn parameters_are_all_values_but_the_running_statistics() {
    let weights = random_weights();
    let trained = weights
        .iter()
        .filter(|(name, _)| !name.contains("running_"));
    let expected: usize = trained.map(|(_, (_, values))| values.len()).sum();
    assert!(expected > 1000);
    assert_eq!(
        network(&weights, Isa::Portable, 1).num_parameters(),
        expected
    );
}

#[test]
fn release_forgets_plans() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let plan = || network.forward_plan(shape(1, 8, 8), 1).unwrap();
    let first = plan();
    assert!(Arc::ptr_eq(&first, &plan()));
    network.release();
    assert!(!Arc::ptr_eq(&first, &plan()));
}

#[test]
fn a_plan_is_of_at_most_128_images_of_224_x_224_or_as_many_pixels_but_of_one_image_always() {
    let network = network(&random_weights(), Isa::Portable, 1);
    // 128 * 224 * 224 pixels are 25,088 of 16 x 16, and fewer than one of 2,600 x 2,600.
    assert!(network.plan(shape(25_088, 16, 16)).is_ok());
    assert!(network.plan(shape(1, 2_600, 2_600)).is_ok());
    for (batch, most, side) in [(25_089, 25_088, 16), (0, 25_088, 16), (2, 1, 2_600)] {
        let message = network
            .plan(shape(batch, side, side))
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains(&format!(
                "expected 1 to {most} images of this size, found {batch}"
            )),
            "{message}"
        );
    }
}

#[test]
fn only_whole_pixels_are_normalised_into_as_many_values() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let normalize = |pixels: usize, values: usize| {
        let mut out = vec![f32::NAN; values];
        let result = network.normalize(&vec![0; pixels], &mut out);
        result.map(|()| out.iter().all(|v| v.is_finite()))
    };
    assert!(normalize(6, 6).unwrap());
    // Other lengths, each of whole pixels; equal lengths, not whole pixels.
    for (pixels, values) in [(6, 3), (3, 6), (7, 7)] {
        let message = normalize(pixels, values).unwrap_err().to_string();
        assert!(message.contains("whole pixels of 3 channels"), "{message}");
        assert!(message.contains(&format!("found {pixels}")), "{message}");
    }
}

#[test]
fn resolved_options_state_the_tier_and_the_threads() {
    let stated = Options {
        isa: Some(Isa::Portable),
        threads: Some(3),
        winograd: false,
        ..Options::default()
    };
    let resolved = stated.resolve().unwrap();
    assert_eq!(resolved.isa, Some(Isa::Portable));
    assert_eq!(resolved.threads, Some(3));
    assert!(!resolved.winograd && resolved.fused);
    let defaults = Options::default().resolve().unwrap();
    assert!(defaults.isa.is_some() && defaults.threads.is_some());
}

#[test]
fn a_plan_names_the_kernel_the_algorithm_and_the_output_of_each_step() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let plan = network.plan(shape(2, 30, 40)).unwrap();
    let described: Vec<_> = plan
        .steps
        .iter()
        .map(|planned| {
            let step = &planned.step;
            let kernel = kernel_name(step, &network.table);
            (kernel, step.algorithm(), step.output_shape())
        })
        .collect();
    assert_eq!(described[0].0, "copy");
    assert_eq!(described[0].1, "pad");
    assert_eq!(described[1].1, "indirect");
    assert_eq!(described[1].2, [2, 15, 20, 10]);
    assert_eq!(plan.steps[1].step.macs(), 2 * 15 * 20 * 10 * 7 * 7 * 3);
    assert_eq!(plan.steps[2].step.macs(), 0);
    let conv = &described[1].0;
    assert!(
        conv.starts_with("f32_conv_") && conv.ends_with("_portable"),
        "{conv}"
    );
    assert_eq!(described[2].0, "f32_max_pool_portable");
    assert_eq!(described[2].1, "max pool");
    assert_eq!(described[2].2, [2, 8, 10, 10]);
    let last = &described[described.len() - 1];
    assert_eq!((last.1, last.2), ("gemm", [2, 1, 1, CLASSES]));
}

#[test]
fn a_profile_has_a_time_for_each_step() {
    let network = network(&random_weights(), Isa::Portable, 1);
    let size = shape(2, 30, 40);
    let times = network.profile(Images::F32(&image(size, 1)), size).unwrap();
    assert_eq!(times.len(), network.plan(size).unwrap().steps.len());
    assert!(times.iter().all(|s| s.is_finite()) && times.iter().sum::<f64>() > 0.0);
}

#[test]
fn the_naive_loops_take_an_image_of_the_stated_size_and_give_the_networks_logits() {
    let dir = tempfile::tempdir().unwrap();
    write(&random_weights(), &dir.path().join("model.safetensors"));
    fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    let network = load(dir.path()).unwrap();
    let size = shape(1, 30, 40);
    let x = image(size, 1);
    let found = network
        .forward(Images::F32(&x), size, Head::Logits)
        .unwrap();
    let expected = network.reference_logits(&x, [30, 40]).unwrap();
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (a, b) in found.iter().zip(&expected) {
        assert!((f64::from(*a) - b).abs() <= 1e-5 * largest, "{a} {b}");
    }
    assert!(network.reference_logits(&x[3..], [30, 40]).is_err());
}
