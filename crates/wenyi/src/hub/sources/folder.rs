//! A folder on this machine as a source: a clone of a repository, a memory stick.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Delivery, Job, check_pin};
use crate::hub::cache::{FileRecord, MANIFEST, Trust, create_folder, hash_file};
use crate::hub::catalog::{PinnedFile, Source};
use crate::hub::error::{Error, ErrorKind, Result};
use crate::hub::stage::Stage;

/// Modules of sentence-transformers lie one level deep; nothing lies deeper.
const MAX_DEPTH: usize = 3;

/// Copies a model's folder into the staging folder; the catalog's hashes hold here too.
pub(crate) fn fetch(folder: &Path, sources: &[Source], job: &Job<'_>) -> Result<Delivery> {
    let model = super::super::name::at_path(folder)?.path;
    let opened = if model.is_dir() {
        ".".into()
    } else {
        name_in(folder, &model)?
    };
    let mut paths = Vec::new();
    if model.is_dir() {
        collect(folder, folder, 0, &mut paths)?;
    } else {
        paths.push(opened.clone());
    }
    paths.sort();
    let sizes = paths
        .iter()
        .map(|path| fs::metadata(folder.join(path)).map_or(0, |m| m.len()));
    let _stage = Stage::bytes(
        job.progress,
        &format!("copying {}", job.id),
        Some(sizes.sum()),
    );
    let mut files = Vec::new();
    for path in paths {
        files.push(copy(folder, path, sources, job)?);
    }
    Ok(Delivery {
        commit: None,
        model: opened,
        files,
    })
}

fn copy(folder: &Path, path: String, sources: &[Source], job: &Job<'_>) -> Result<FileRecord> {
    let (from, to) = (folder.join(&path), job.staging.join(&path));
    if let Some(parent) = to.parent() {
        create_folder(parent)?;
    }
    fs::copy(&from, &to).map_err(|error| Error::io(&to, error))?;
    let (size, sha256) = hash_file(&to, job.progress)?;
    job.progress.advance(size);
    let mut record = FileRecord {
        path,
        size,
        sha256,
        trust: Trust::Unpinned,
    };
    let pins: Vec<&PinnedFile> = (sources.iter().flat_map(Source::files))
        .filter(|pin| pin.path == record.path && pin.sha256.is_some())
        .collect();
    // A file may differ between sources; it must be one that some source is known to have.
    if let Some(first) = pins.first() {
        let origin = folder.display().to_string();
        let known = pins
            .iter()
            .find_map(|pin| check_pin(&record, pin, &origin).ok());
        record.trust = match known {
            Some(trust) => trust,
            None => {
                fs::remove_file(&to).map_err(|error| Error::io(&to, error))?;
                check_pin(&record, first, &origin)?
            }
        };
    }
    Ok(record)
}

/// The files of a model's folder, relative to it; hidden ones and other formats left out.
fn collect(root: &Path, folder: &Path, depth: usize, paths: &mut Vec<String>) -> Result<()> {
    let listing = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    for entry in listing {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || matches!(&*name, MANIFEST | "onnx" | "openvino") {
            continue;
        }
        if path.is_dir() {
            if depth + 1 < MAX_DEPTH {
                collect(root, &path, depth + 1, paths)?;
            }
        } else if wanted(&name) {
            paths.push(name_in(root, &path)?);
        }
    }
    Ok(())
}

fn wanted(name: &str) -> bool {
    [".json", ".txt", ".safetensors", ".jinja", ".model"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// `path` relative to `root`, with `/` between its parts.
fn name_in(root: &Path, path: &Path) -> Result<String> {
    let relative: Option<PathBuf> = path.strip_prefix(root).ok().map(Path::to_path_buf);
    let parts = relative.as_ref().map(|path| {
        path.components()
            .map(|part| part.as_os_str().to_str())
            .collect::<Option<Vec<_>>>()
    });
    match parts {
        Some(Some(parts)) if !parts.is_empty() => Ok(parts.join("/")),
        _ => {
            let reason = "its name is not UTF-8".into();
            Err(ErrorKind::NotAModel {
                path: path.to_path_buf(),
                reason,
            }
            .into())
        }
    }
}
