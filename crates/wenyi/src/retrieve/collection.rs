//! Where a folder's collection lives, and whether a model may use it.

use std::fs;
use std::path::{Path, PathBuf};

use wenyi_store::{Collection, CollectionOptions, Space};

use super::chunk::ChunkOptions;
use super::load::hex_sha256;
use super::{Error, ErrorKind, Result};
use crate::embed::{Embedder, Fingerprint};

/// Where the collection of `root` (a folder or file) lives:
/// `<cache_dir>/collections/<name>-<hash>.db`, where `hash` is the first 16 hex digits of the
/// SHA-256 of the root's canonical path, so folders of the same name do not meet.
#[must_use]
pub fn collection_path(cache_dir: &Path, root: &Path) -> PathBuf {
    let canonical = fs::canonicalize(root)
        .or_else(|_| std::path::absolute(root))
        .unwrap_or_else(|_| root.to_path_buf());
    let name = canonical.file_name().unwrap_or_default().to_string_lossy();
    // 40 characters are at most 160 bytes; file systems allow 255.
    let name: String = name.chars().take(40).collect();
    let name = if name.is_empty() {
        "root"
    } else {
        name.as_str()
    };
    let hash = hex_sha256(canonical.as_os_str().as_encoded_bytes());
    cache_dir
        .join("collections")
        .join(format!("{name}-{}.db", &hash[..16]))
}

/// Opens the collection at `path` to index into it; makes it, and its folder, if there is none.
///
/// # Errors
///
/// [`ErrorKind::OtherModel`] if it was made with another model than `embedder`'s; or if the file
/// cannot be opened.
pub fn open_collection(
    path: &Path,
    embedder: &dyn Embedder,
    chunking: &ChunkOptions,
) -> Result<Collection> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    }
    let fingerprint = embedder.fingerprint();
    let options = CollectionOptions {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        space: Space {
            fingerprint: serde_json::to_value(fingerprint).unwrap_or_default(),
            dimensions: fingerprint.dimensions,
        },
        chunking: serde_json::json!({
            "chunk_size": chunking.chunk_size,
            "overlap": chunking.overlap,
        }),
    };
    let collection = Collection::open_or_create(path, &options)?;
    expect_same_space(&collection, fingerprint)?;
    Ok(collection)
}

/// Opens the collection at `path` to search it only; file and folder may be read-only.
///
/// # Errors
///
/// As [`open_collection`]; also if there is none.
pub fn open_to_search(path: &Path, embedder: &dyn Embedder) -> Result<Collection> {
    let collection = Collection::open_read_only(path)?;
    expect_same_space(&collection, embedder.fingerprint())?;
    Ok(collection)
}

/// Removes the collection at `path` with its logs, to embed everything again with another model.
/// Says whether there was one.
///
/// # Errors
///
/// If what is at `path` is not a collection, or it cannot be removed.
pub fn remove_collection(path: &Path) -> Result<bool> {
    match Collection::open_read_only(path) {
        Ok(collection) => drop(collection),
        Err(error) => match error.kind() {
            wenyi_store::ErrorKind::NotFound { .. } => return Ok(false),
            // A damaged or newer one is still one.
            wenyi_store::ErrorKind::Corrupt { .. } | wenyi_store::ErrorKind::NewerSchema { .. } => {
            }
            _ => return Err(error.into()),
        },
    }
    for suffix in ["", "-wal", "-shm", "-vectors", "-index"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(&file, source));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Refuses a model whose vectors cannot be compared with those of the collection.
pub(super) fn expect_same_space(collection: &Collection, received: &Fingerprint) -> Result<()> {
    let made_with = &collection.info().space.fingerprint;
    let expected: Option<Fingerprint> = serde_json::from_value(made_with.clone()).ok();
    if expected
        .as_ref()
        .is_some_and(|expected| expected.same_space(received))
    {
        return Ok(());
    }
    let digits = |hash: &str| hash.chars().take(8).collect();
    let (model, weights) = expected.map_or_else(
        || ("unknown".to_owned(), "unknown".to_owned()),
        |expected| (expected.model, digits(&expected.weights)),
    );
    Err(ErrorKind::OtherModel {
        path: collection.path().to_path_buf(),
        expected: model,
        expected_weights: weights,
        received: received.model.clone(),
        received_weights: digits(&received.weights),
    }
    .into())
}
