//! Any bytes as a `.safetensors` file of a tiny network: an error, or a network that runs.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use resnet_rs::graph::config::Config;
use resnet_rs::{Head, Images, Isa, Network, Options, Shape};

#[path = "file.rs"]
mod file;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/network.json");
    Config::read(path.as_ref()).expect("the seed's config is sound")
});

fuzz_target!(|data: &[u8]| {
    let options = Options {
        isa: Some(Isa::Portable),
        threads: Some(1),
        ..Options::default()
    };
    let path = file::written(data);
    let Ok(network) = Network::load_with(&path, CONFIG.clone(), &options) else {
        return;
    };
    let shape = Shape {
        batch: 1,
        height: 8,
        width: 8,
    };
    let pixels: Vec<u8> = (0..64).map(|i| i * 4).collect();
    let logits = network
        .forward(Images::U8(&pixels), shape, Head::Logits)
        .expect("a network that loads runs");
    assert_eq!(logits.len(), network.num_classes());
});
