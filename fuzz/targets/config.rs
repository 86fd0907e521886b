//! Any bytes as a `config.json`: an error, or a description of a network with its shapes.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use resnet_rs::graph::config::Config;
use resnet_rs::graph::operations::output_shapes;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = Config::parse(data, Path::new("config.json")) else {
        return;
    };
    let Ok(architecture) = config.architecture() else {
        return;
    };
    let operations = architecture.operations(config.num_classes.unwrap_or(1000), 1);
    output_shapes(&operations, [64, 64, architecture.in_channels]);
});
