//! A network's tensors by name, from a file or from the caller's memory; names and shapes checked.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use safetensors::Dtype;

use super::file::{Entry, WeightsFile};
use super::tensor::{Bytes, Origin, Tensor};
use crate::error::Error;

/// torchvision keeps this counter in its state dicts; inference does not use it.
const IGNORED_SUFFIX: &str = ".num_batches_tracked";

/// The types of real numbers.
const REAL: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16];

/// Tensors by name.
pub struct Tensors<'a> {
    origin: Origin<'a>,
    entries: HashMap<String, Entry<Bytes<'a>>>,
}

impl<'a> Tensors<'a> {
    /// The tensors of a file.
    ///
    /// # Errors
    /// As for [`WeightsFile::entries`].
    pub fn of_file(file: &'a WeightsFile) -> Result<Self, Error> {
        Ok(Self {
            origin: Origin { path: file.path() },
            entries: with_bytes(file.entries()?, |place| Bytes::File(file, place.start)),
        })
    }

    /// Tensors in the caller's memory; messages call them `path`.
    pub fn new(path: &'a Path, entries: HashMap<String, Entry<&'a [u8]>>) -> Self {
        Self {
            origin: Origin { path },
            entries: with_bytes(entries, Bytes::Memory),
        }
    }

    /// An error that names the tensors' origin.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.origin.error(message)
    }

    /// True if there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The names, in any order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn entry(&self, name: &str) -> Result<&Entry<Bytes<'a>>, Error> {
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

    /// Checks that there are the `expected` tensors (name and shape) and no others, except those whose
    /// names start with `ignored`.
    ///
    /// # Errors
    /// The first tensor that is missing, surplus, of another shape, or of a type other than f32,
    /// f16 and bf16.
    pub fn check(
        &self,
        expected: &[(String, Vec<usize>)],
        ignored: Option<&str>,
    ) -> Result<(), Error> {
        self.check_kinds(expected, &[], ignored)
    }

    /// The same with further tensors of I8, `whole`.
    ///
    /// # Errors
    /// As for [`Tensors::check`].
    pub fn check_kinds(
        &self,
        real: &[(String, Vec<usize>)],
        whole: &[(String, Vec<usize>)],
        ignored: Option<&str>,
    ) -> Result<(), Error> {
        let kinds = [(real, REAL), (whole, &[Dtype::I8][..])];
        let expected: Vec<_> = kinds
            .iter()
            .flat_map(|(tensors, types)| tensors.iter().map(|(name, shape)| (name, shape, *types)))
            .collect();
        let absent: Vec<_> = expected
            .iter()
            .filter(|(name, ..)| !self.contains(name))
            .collect();
        if let Some((name, ..)) = absent.first() {
            return Err(self.error(self.missing(name, absent.len())));
        }
        for &(name, shape, types) in &expected {
            let entry = self.entry(name)?;
            if entry.shape != *shape {
                return Err(self.error(format!(
                    "tensor {name}: expected shape {shape:?}, found {:?}",
                    entry.shape
                )));
            }
            if !types.contains(&entry.dtype) {
                let expected = match types {
                    [one] => format!("{one:?}"),
                    _ => "F32, F16 or BF16".into(),
                };
                return Err(self.error(format!(
                    "tensor {name}: expected type {expected}, found {:?}",
                    entry.dtype
                )));
            }
        }
        let known: HashSet<&str> = expected.iter().map(|(name, ..)| name.as_str()).collect();
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
        // The usual reason is a wrapper's prefix such as "module.".
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

    /// Tensor `name`, not read yet.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'a>, Error> {
        let entry = self.entry(name)?;
        Ok(Tensor {
            origin: self.origin,
            name: name.to_owned(),
            dtype: entry.dtype,
            bytes: entry.data,
        })
    }

    /// All elements of tensor `name`, in the file's order, as f32.
    ///
    /// # Errors
    /// There is no such tensor, or an element is infinite or NaN.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        let elements = self.shape(name)?.iter().product();
        let mut values = Vec::new();
        self.tensor(name)?.read(0..elements, &mut values)?;
        Ok(values)
    }
}

/// Entries with another kind of data.
fn with_bytes<'a, D>(
    entries: HashMap<String, Entry<D>>,
    bytes: impl Fn(D) -> Bytes<'a>,
) -> HashMap<String, Entry<Bytes<'a>>> {
    let entry = |Entry { dtype, shape, data }| Entry {
        dtype,
        shape,
        data: bytes(data),
    };
    let entries = entries.into_iter();
    entries.map(|(name, old)| (name, entry(old))).collect()
}
