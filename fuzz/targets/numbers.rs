//! Any bytes as a text file of numbers: an error, or finite numbers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resnet_rs::memory::text::read_numbers;

#[path = "file.rs"]
mod file;

fuzz_target!(|data: &[u8]| {
    if let Ok(numbers) = read_numbers(&file::written(data)) {
        assert!(numbers.iter().all(|number| number.is_finite()));
    }
});
