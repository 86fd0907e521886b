//! Files that are right, wrong and hostile.

use std::collections::HashMap;
use std::fs;

use half::{bf16, f16};
use safetensors::tensor::TensorView;

use super::{Dtype, Tensors, WeightsFile};
use crate::error::Error;

fn expected() -> Vec<(String, Vec<usize>)> {
    vec![("a.weight".into(), vec![2, 3]), ("b".into(), vec![1])]
}

type Raw = (Dtype, Vec<usize>, Vec<u8>);

fn view(dtype: Dtype, shape: &[usize], data: &[u8]) -> Raw {
    (dtype, shape.to_vec(), data.to_vec())
}

fn file(tensors: &[(&str, Raw)]) -> Vec<u8> {
    let views: HashMap<_, _> = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| {
            (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn good() -> Vec<u8> {
    let a: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    file(&[
        ("a.weight", view(Dtype::F32, &[2, 3], &a)),
        ("b", view(Dtype::F32, &[1], &1.5_f32.to_le_bytes())),
        ("b.num_batches_tracked", view(Dtype::I64, &[], &[0; 8])),
    ])
}

fn load(bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let file = WeightsFile::open(&path)?;
    let tensors = Tensors::of_file(&file)?;
    tensors.check(&expected(), None)?;
    let mut all = tensors.read("a.weight")?;
    all.extend(tensors.read("b")?);
    Ok(all)
}

#[test]
fn a_good_file_loads() {
    assert_eq!(load(&good()).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.5]);
}

#[test]
fn half_precision_is_widened_exactly() {
    let values = [1.5_f32, -2.0, 0.25, 65504.0, 6.0e-8, 0.0];
    let a: Vec<u8> = values
        .iter()
        .flat_map(|&v| f16::from_f32(v).to_le_bytes())
        .collect();
    let loaded = load(&file(&[
        ("a.weight", view(Dtype::F16, &[2, 3], &a)),
        (
            "b",
            view(Dtype::BF16, &[1], &bf16::from_f32(-3.0).to_le_bytes()),
        ),
    ]));
    let want: Vec<f32> = values.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    let loaded = loaded.unwrap();
    assert_eq!((&loaded[..6], loaded[6]), (&want[..], -3.0));
}

#[test]
fn errors_name_the_tensor() {
    let a = [0; 24];
    let b = ("b", view(Dtype::F32, &[1], &[0; 4]));
    let nan: Vec<u8> = [0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0_f32]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let good_a = ("a.weight", view(Dtype::F32, &[2, 3], &a));
    for (bytes, fragments) in [
        (
            file(std::slice::from_ref(&good_a)),
            vec!["tensor b", "not found"],
        ),
        (
            file(&[
                good_a.clone(),
                b.clone(),
                ("c", view(Dtype::F32, &[1], &[0; 4])),
            ]),
            vec!["tensor c", "not part"],
        ),
        (
            file(&[("a.weight", view(Dtype::F32, &[3, 2], &a)), b.clone()]),
            vec!["a.weight", "expected shape [2, 3]", "found [3, 2]"],
        ),
        (
            file(&[("a.weight", view(Dtype::F32, &[2, 3], &nan)), b.clone()]),
            vec!["a.weight", "finite", "NaN at element 2"],
        ),
        (
            file(&[("a.weight", view(Dtype::I32, &[2, 3], &a)), b.clone()]),
            vec!["a.weight", "F16 or BF16", "I32"],
        ),
        (
            file(&[
                (
                    "module.layer1.0.conv1.weight",
                    view(Dtype::F32, &[2, 3], &a),
                ),
                b,
            ]),
            vec!["a.weight", "module", "strips"],
        ),
        (vec![], vec!["empty"]),
        (vec![1, 2, 3], vec!["at least 8 bytes", "found 3"]),
        (
            vec![9; 8],
            vec!["a length of 651061555542690057 in a file of 8 bytes"],
        ),
        (vec![0xff; 100], vec!["length"]),
        (good()[..good().len() - 1].to_vec(), vec!["truncated"]),
        ([good(), vec![0]].concat(), vec!["more or fewer"]),
    ] {
        let message = load(&bytes).unwrap_err().to_string();
        for fragment in fragments.iter().chain(&["model.safetensors"]) {
            assert!(message.contains(fragment), "{message} lacks {fragment}");
        }
    }
}

/// No byte of the header can be changed so that loading panics or reads outside the file.
#[test]
fn a_header_that_lies_is_an_error_or_harmless() {
    let bytes = good();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in 0..header {
        for value in [0, b'0', b'9', b'"', b'[', 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            // Either is right; what matters is that it returns.
            let _ = load(&changed);
        }
    }
}
