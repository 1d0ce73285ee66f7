//! Prompts that a model was trained with but does not carry: E5, BGE and Nomic tell them in their
//! documentation alone. They are written where sentence-transformers would have them, so that the
//! installed folder says everything about itself.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::cache::{FileRecord, Manifest, Trust, hash_file};
use super::catalog::Prompts;
use super::error::{Error, ErrorKind, Result};
use crate::progress::Silent;

const FILE: &str = "config_sentence_transformers.json";

/// Adds `prompts` to the model in `folder` unless its own files have some.
pub(crate) fn complete(folder: &Path, prompts: &Prompts, manifest: &mut Manifest) -> Result<()> {
    if *prompts == Prompts::default() || manifest.model != "." {
        return Ok(());
    }
    let path = folder.join(FILE);
    let mut config = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes).map_err(|error| {
            ErrorKind::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            }
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(Error::io(&path, error)),
    };
    let own = config.get("prompts").and_then(Value::as_object);
    if own.is_some_and(|own| {
        own.values()
            .any(|prompt| prompt.as_str().is_some_and(|prompt| !prompt.is_empty()))
    }) {
        return Ok(());
    }
    let added = json!({ "query": prompts.query, "document": prompts.document });
    config.insert("prompts".into(), added);
    let text = serde_json::to_string_pretty(&config).expect("JSON that was read can be written");
    fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
    let (size, sha256) = hash_file(&path, &Silent)?;
    manifest.files.retain(|file| file.path != FILE);
    manifest.files.push(FileRecord {
        path: FILE.into(),
        size,
        sha256,
        trust: Trust::Made,
    });
    Ok(())
}
