//! Finding the weights in a model's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::{Error, ErrorKind, Result};

use super::Weights;
use super::map::Map;
use super::sniff;

/// How the list of shards ends, as transformers writes it.
pub(super) const INDEX_SUFFIX: &str = ".safetensors.index.json";

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The largest index that is read; one of 1,000 tensors has some 100 KB.
const MAX_INDEX: u64 = 64 << 20;

/// Opens `model.safetensors`, or the shards of its index, or the one weights file there is.
pub(super) fn open(folder: &Path) -> Result<Weights> {
    let names = names_in(folder)?;
    if names.contains(SINGLE) {
        return open_file(folder, SINGLE);
    }
    if names.contains(INDEX) {
        return open_index(folder, &folder.join(INDEX));
    }
    let weights: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors") || name.ends_with(".gguf"))
        .collect();
    match weights[..] {
        [name] => open_file(folder, name),
        [] => Err(ErrorKind::NoWeights {
            path: folder.to_path_buf(),
            found: names.into_iter().collect(),
        }
        .into()),
        _ => {
            let reason = format!("the folder holds {weights:?}: give the path of one of them");
            Err(Error::invalid(folder, reason))
        }
    }
}

/// Opens the shards that the index file at `path` lists; they lie beside it.
pub(super) fn open_index(opened: &Path, path: &Path) -> Result<Weights> {
    let shards = shards_of(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let missing: Vec<&String> = shards
        .keys()
        .filter(|shard| !folder.join(shard).is_file())
        .collect();
    if !missing.is_empty() {
        let reason = format!(
            "it lists {} shards, but {missing:?} are missing",
            shards.len()
        );
        return Err(Error::invalid(path, reason));
    }
    let mut weights = Weights::empty(opened);
    for (shard, tensors) in &shards {
        let shard_path = folder.join(shard);
        weights.add(&shard_path, Map::open(&shard_path)?, |name| {
            tensors.contains(name)
        })?;
        if let Some(tensor) = tensors
            .iter()
            .find(|&name| !weights.tensors.contains_key(name))
        {
            return Err(ErrorKind::MissingTensor {
                path: shard_path,
                tensor: tensor.clone(),
            }
            .into());
        }
    }
    Ok(weights)
}

/// The tensors of each shard.
fn shards_of(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let length = fs::metadata(path)
        .map_err(|source| Error::io(path, source))?
        .len();
    if length > MAX_INDEX {
        return Err(Error::invalid(
            path,
            format!("{length} bytes are too many for an index"),
        ));
    }
    let text = fs::read(path).map_err(|source| Error::io(path, source))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| {
        let broken = || format!("the list of shards is broken: {error}");
        Error::invalid(
            path,
            sniff::describe(&text)
                .filter(|_| text.first() != Some(&b'{'))
                .unwrap_or_else(broken),
        )
    })?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in index.weight_map {
        // A name from a downloaded file must not lead out of the folder.
        let mut components = Path::new(&shard).components();
        let is_plain = matches!(
            (components.next(), components.next()),
            (Some(Component::Normal(_)), None)
        );
        if !is_plain {
            let reason = format!("shard `{shard}` is not a plain file name");
            return Err(Error::invalid(path, reason));
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    if shards.is_empty() {
        return Err(Error::invalid(path, "it lists no shards"));
    }
    Ok(shards)
}

fn open_file(folder: &Path, name: &str) -> Result<Weights> {
    let file = folder.join(name);
    let mut weights = Weights::empty(folder);
    weights.add(&file, Map::open(&file)?, |_| true)?;
    Ok(weights)
}

/// The names of the files in `folder`, those that are not UTF-8 with replacement characters.
fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()
        .map_err(|source| Error::io(folder, source))
}
