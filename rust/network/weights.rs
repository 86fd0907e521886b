//! Weights: a safetensors file, memory-mapped, or the caller's arrays; every name, shape and value
//! is checked.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
pub use safetensors::Dtype;
use safetensors::tensor::{SafeTensorError, SafeTensors};

use crate::error::Error;
use crate::file;

/// torchvision keeps this counter in its state dicts; inference has no use for it.
const IGNORED_SUFFIX: &str = ".num_batches_tracked";

/// A weights file in memory, its pages read when they are first used.
pub struct WeightsFile {
    path: PathBuf,
    map: Mmap,
}

/// Tensors by name, wherever they lie.
pub struct Tensors<'a> {
    origin: Origin<'a>,
    entries: HashMap<String, Entry<'a>>,
}

/// What tensors came from.
#[derive(Clone, Copy)]
struct Origin<'a> {
    /// For messages.
    path: &'a Path,
    /// The file, where its pages can be given back.
    file: Option<&'a WeightsFile>,
}

/// A tensor as it lies in memory: little-endian elements, the last axis fastest.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements' bytes.
    pub data: &'a [u8],
}

/// A tensor whose elements are not read yet.
pub struct Tensor<'a> {
    origin: Origin<'a>,
    name: String,
    dtype: Dtype,
    data: &'a [u8],
}

impl WeightsFile {
    /// Opens `path`, which must not be cut short or rewritten while it is being read.
    ///
    /// # Errors
    /// The file is empty, or cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = file::map(path)?.ok_or_else(|| Error::weights(path, "the file is empty"))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// Reads the header.
    ///
    /// # Errors
    /// The header is no safetensors header, or says things that the file's size does not allow.
    pub fn tensors(&self) -> Result<Tensors<'_>, Error> {
        let tensors = SafeTensors::deserialize(&self.map)
            .map_err(|e| Error::weights(&self.path, self.describe(&e)))?;
        Ok(Tensors {
            origin: Origin {
                path: &self.path,
                file: Some(self),
            },
            entries: tensors
                .tensors()
                .into_iter()
                .map(|(name, view)| {
                    let entry = Entry {
                        dtype: view.dtype(),
                        shape: view.shape().to_vec(),
                        data: view.data(),
                    };
                    (name, entry)
                })
                .collect(),
        })
    }

    /// Where `bytes`, a part of the mapping, lies in the file.
    pub fn range(&self, bytes: &[u8]) -> Range<usize> {
        let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
        start..start + bytes.len()
    }

    /// Takes `bytes`, a part of the mapping, out of this process's memory.
    fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        {
            let range = self.range(bytes);
            // SAFETY: pages of a read-only mapping of a file that are touched again are read
            // from the file again. It is advice: where it fails, the pages stay.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    fn describe(&self, error: &SafeTensorError) -> String {
        let size = self.map.len();
        let header = || u64::from_le_bytes(self.map[..8].try_into().unwrap_or_default());
        match error {
            SafeTensorError::HeaderTooSmall => {
                format!("expected a safetensors file, which has at least 8 bytes; found {size}")
            }
            SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge => format!(
                "expected a safetensors file whose first 8 bytes are its header's length; found \
                 a length of {} in a file of {size} bytes: truncated, or another format?",
                header()
            ),
            SafeTensorError::MetadataIncompleteBuffer => format!(
                "the header describes more or fewer bytes of tensors than the file's {size} bytes \
                 hold: truncated?"
            ),
            SafeTensorError::InvalidOffset(name) => format!(
                "tensor {name}: the header's offsets overlap, leave gaps, or lie outside the \
                 file of {size} bytes"
            ),
            SafeTensorError::TensorInvalidInfo => {
                "a tensor's shape and type do not fit its offsets in the header".into()
            }
            SafeTensorError::ValidationOverflow => {
                "a tensor's shape in the header is too large to be true".into()
            }
            other => format!("expected a safetensors file: {other}"),
        }
    }
}

impl Origin<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        Error::weights(self.path, message)
    }
}

impl<'a> Tensors<'a> {
    /// Tensors that the caller holds in memory; `path` is what messages call them.
    pub fn new(path: &'a Path, entries: HashMap<String, Entry<'a>>) -> Self {
        Self {
            origin: Origin { path, file: None },
            entries,
        }
    }

    /// An error of this file.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.origin.error(message)
    }

    /// All names with their tensors.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry<'a>)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn entry(&self, name: &str) -> Result<&Entry<'a>, Error> {
        let missing = || self.error(self.missing(name, 1));
        self.entries.get(name).ok_or_else(missing)
    }

    /// The shape of tensor `name`.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.entry(name)?.shape)
    }

    /// Checks that the file has the `expected` tensors (name and shape) and no others, but for
    /// those whose names start with `ignored`.
    ///
    /// # Errors
    /// The first tensor that is missing, surplus, of another shape, or of a type other than f32,
    /// f16 and bf16.
    pub fn check(
        &self,
        expected: &[(String, Vec<usize>)],
        ignored: Option<&str>,
    ) -> Result<(), Error> {
        let absent: Vec<_> = expected
            .iter()
            .filter(|(name, _)| !self.contains(name))
            .collect();
        if let Some((name, _)) = absent.first() {
            return Err(self.error(self.missing(name, absent.len())));
        }
        for (name, shape) in expected {
            let entry = self.entry(name)?;
            if entry.shape != *shape {
                return Err(self.error(format!(
                    "tensor {name}: expected shape {shape:?}, found {:?}",
                    entry.shape
                )));
            }
            if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(self.error(format!(
                    "tensor {name}: expected type F32, F16 or BF16, found {:?}",
                    entry.dtype
                )));
            }
        }
        let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let mut surplus: Vec<_> = self
            .entries
            .keys()
            .map(String::as_str)
            .filter(|name| !name.ends_with(IGNORED_SUFFIX) && !known.contains(name))
            .filter(|name| !ignored.is_some_and(|prefix| name.starts_with(prefix)))
            .collect();
        surplus.sort_unstable();
        match surplus.as_slice() {
            [] => Ok(()),
            [name] => Err(self.error(format!("tensor {name}: not part of this network"))),
            [name, others @ ..] => Err(self.error(format!(
                "tensor {name} (and {} more): not part of this network",
                others.len()
            ))),
        }
    }

    fn missing(&self, name: &str, count: usize) -> String {
        let more = match count {
            1 => String::new(),
            _ => format!(" (and {} more)", count - 1),
        };
        // A wrapper's prefix, such as "module.", is the usual reason where nothing fits.
        let suffix = ".layer1.0.conv1.weight";
        let hint = self
            .entries
            .keys()
            .find_map(|found| found.strip_suffix(suffix))
            .map_or(String::new(), |prefix| {
                format!(": the file's names start with {prefix:?}, which resnet-rs convert strips")
            });
        format!("tensor {name}{more}: expected in the file, not found{hint}")
    }

    /// Tensor `name`, whatever it holds.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'a>, Error> {
        let entry = self.entry(name)?;
        Ok(Tensor {
            origin: self.origin,
            name: name.to_owned(),
            dtype: entry.dtype,
            data: entry.data,
        })
    }

    /// All elements of tensor `name`, in the file's order, as f32.
    ///
    /// # Errors
    /// There is no such tensor, or an element is infinite or no number.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        let mut values = Vec::new();
        tensor.read(
            0..tensor.data.len() / (tensor.dtype.bitsize() / 8).max(1),
            &mut values,
        )?;
        Ok(values)
    }
}

impl Tensor<'_> {
    /// An error of this tensor.
    pub fn error(&self, message: &str) -> Error {
        self.origin
            .error(format!("tensor {}: {message}", self.name))
    }

    /// Takes the tensor's pages out of this process's memory; they are in the file and its cache
    /// still. Without this a network would be in memory twice while it is loaded.
    pub fn release(&self) {
        if let Some(file) = self.origin.file {
            file.release(self.data);
        }
    }

    /// Some elements, in the file's order, as f32. `values` is overwritten; its memory is used
    /// again.
    ///
    /// # Errors
    /// The type is none of f32, f16 and bf16, or an element is infinite or no number.
    ///
    /// # Panics
    /// Where the tensor has fewer elements.
    pub fn read(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<(), Error> {
        let name = &self.name;
        let size = self.dtype.bitsize() / 8;
        let data = &self.data[range.start * size..range.end * size];
        values.clear();
        match self.dtype {
            Dtype::F32 => extend(values, data, f32::from_le_bytes),
            Dtype::F16 => extend(values, data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => extend(values, data, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(self.origin.error(format!(
                    "tensor {name}: expected type F32, F16 or BF16, found {other:?}"
                )));
            }
        }
        if all_finite(values) {
            return Ok(());
        }
        let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        Err(self.origin.error(format!(
            "tensor {name}: expected finite values, found {} at element {}",
            values[at],
            range.start + at
        )))
    }
}

/// Whether no value is infinite or no number.
pub fn all_finite(values: &[f32]) -> bool {
    // Those have all bits of the exponent set: one pass without branches.
    let is_finite = |v: &f32| v.to_bits() & 0x7f80_0000 != 0x7f80_0000;
    values.iter().fold(true, |all, v| all & is_finite(v))
}

fn extend<const N: usize>(values: &mut Vec<f32>, data: &[u8], convert: impl Fn([u8; N]) -> f32) {
    values.extend(data.as_chunks::<N>().0.iter().map(|&b| convert(b)));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::tensor::TensorView;

    use super::*;

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
        let tensors = file.tensors()?;
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
    fn whatever_is_wrong_is_named() {
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
}
