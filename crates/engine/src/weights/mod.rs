//! Weights, memory-mapped: a safetensors folder or a GGUF file.
//!
//! The first step on the data's way. Opening reads names, types and shapes and proves that every
//! tensor lies inside its file and on no other; the numbers stay on disk until a layer asks.

mod dtype;
mod tensor;
mod map;
mod blocks;
mod safetensors;
mod folder;
mod sniff;
pub mod gguf;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

pub use dtype::Dtype;
pub use tensor::Tensor;

use map::Map;

/// Bytes of each end of a tensor that [`Weights::sampled_hash`] reads.
const SAMPLE: usize = 4096;

/// The tensors of a model, mapped from one file or several.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    maps: Vec<Arc<Map>>,
    tensors: BTreeMap<String, Entry>,
    metadata: Option<gguf::Metadata>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    map: usize,
    range: Range<usize>,
}

/// A tensor as a file's header describes it; the range is inside the file.
#[derive(Debug)]
struct Listed {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Weights {
    /// Opens a folder with `model.safetensors` or its shards, a `.safetensors` file, or a `.gguf`
    /// file.
    ///
    /// # Errors
    ///
    /// If there are no weights, a shard is missing, or a file is cut off, malformed or of another
    /// kind.
    pub fn open(path: &Path) -> Result<Self> {
        let is_folder = std::fs::metadata(path)
            .map_err(|source| Error::io(path, source))?
            .is_dir();
        if is_folder {
            return folder::open(path);
        }
        if path.to_string_lossy().ends_with(folder::INDEX_SUFFIX) {
            return folder::open_index(path, path);
        }
        Self::read(path, Map::open(path)?)
    }

    /// Reads weights that are already in memory; safetensors or GGUF, told by their first bytes.
    ///
    /// # Errors
    ///
    /// As [`Weights::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::read(Path::new("memory"), Map::Memory(bytes))
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the memory of what was read from files; it is read again when it is asked for.
    pub(crate) fn release(&self) {
        self.maps.iter().for_each(|map| map.release());
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, entry) = self.tensors.get_key_value(name)?;
        Some(self.tensor(name, entry))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.tensors
            .iter()
            .map(|(name, entry)| self.tensor(name, entry))
    }

    /// What a GGUF file says about its model; `None` for safetensors.
    #[must_use]
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        self.metadata.as_ref()
    }

    /// SHA-256, in hex, of all names, types and shapes and of both ends of each tensor.
    ///
    /// It tells models apart at the cost of a few pages of each tensor; it does not prove that a
    /// file is whole, for which the hub has the hash of all its bytes.
    #[must_use]
    pub fn sampled_hash(&self) -> String {
        let mut hash = Sha256::new();
        for tensor in self.tensors() {
            hash.update((tensor.name.len() as u64).to_le_bytes());
            hash.update(tensor.name);
            hash.update((tensor.dtype.name().len() as u64).to_le_bytes());
            hash.update(tensor.dtype.name());
            hash.update((tensor.shape.len() as u64).to_le_bytes());
            for &size in tensor.shape {
                hash.update((size as u64).to_le_bytes());
            }
            let length = tensor.bytes.len();
            hash.update(&tensor.bytes[..length.min(SAMPLE)]);
            hash.update(&tensor.bytes[length.saturating_sub(SAMPLE)..]);
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn read(path: &Path, map: Map) -> Result<Self> {
        let mut weights = Self::empty(path);
        weights.add(path, map, |_| true)?;
        Ok(weights)
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            maps: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: None,
        }
    }

    /// Adds those tensors of one file that `wanted` names. The first GGUF file gives the metadata.
    fn add(&mut self, path: &Path, map: Map, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let map = Arc::new(map);
        let listed = if map.starts_with(gguf::MAGIC) {
            let (metadata, listed) = gguf::read::read(path, &map)?;
            self.metadata.get_or_insert(metadata);
            listed
        } else {
            safetensors::read(path, &map)?
        };
        let index = self.maps.len();
        self.maps.push(map);
        for Listed {
            name,
            dtype,
            shape,
            range,
        } in listed
        {
            if !wanted(&name) {
                continue;
            }
            match self.tensors.entry(name) {
                MapEntry::Vacant(vacant) => {
                    vacant.insert(Entry {
                        dtype,
                        shape,
                        map: index,
                        range,
                    });
                }
                MapEntry::Occupied(occupied) => {
                    let reason = format!("tensor `{}` is there twice", occupied.key());
                    return Err(Error::invalid(path, reason));
                }
            }
        }
        Ok(())
    }

    fn tensor<'a>(&'a self, name: &'a str, entry: &'a Entry) -> Tensor<'a> {
        Tensor {
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: &self.maps[entry.map][entry.range.clone()],
        }
    }
}

/// Fails if two tensors share a byte.
fn refuse_overlaps(path: &Path, listed: &[Listed]) -> Result<()> {
    let mut order: Vec<&Listed> = listed
        .iter()
        .filter(|tensor| !tensor.range.is_empty())
        .collect();
    order.sort_unstable_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            let reason = format!(
                "tensors `{}` and `{}` overlap in the file",
                pair[0].name, pair[1].name
            );
            return Err(Error::invalid(path, reason));
        }
    }
    Ok(())
}

/// The number of weights of `shape`; `None` if it overflows.
fn num_weights(shape: &[usize]) -> Option<usize> {
    // Every factor counts, even beside a 0: `Tensor::rows` multiplies all sizes but the last.
    let with_zeros_as_ones = shape
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size.max(1)))?;
    Some(if shape.contains(&0) {
        0
    } else {
        with_zeros_as_ones
    })
}

#[cfg(test)]
mod tests;
