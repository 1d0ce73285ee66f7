//! Proof that a model is the one it claims to be, and that this machine computes with it rightly.
//!
//! The files are compared with their hashes, and golden texts are embedded and compared with the
//! vectors of the reference implementation, which lie in `golden/`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cache::{FileRecord, Manifest, Trust, hash_file};
use super::error::{Error, ErrorKind, Result};
use super::sources::check_pin;
use super::stage::Stage;
use super::{CatalogEntry, Hub};
use crate::embed::{EmbedOptions, Embedder, Overflow, Role};
use crate::progress::Progress;

/// Golden vectors by model id.
const GOLDEN: [(&str, &str); 2] = [
    (
        "all-MiniLM-L6-v2",
        include_str!("golden/all-MiniLM-L6-v2.json"),
    ),
    (
        "multilingual-e5-small",
        include_str!("golden/multilingual-e5-small.json"),
    ),
];

/// What a check of a model found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The model's id.
    pub id: String,
    /// One entry a file; none for a model outside the cache.
    pub files: Vec<FileCheck>,
    /// The comparison with reference vectors; none without an embedder, or where we have none.
    pub golden: Option<GoldenCheck>,
}

impl Verification {
    /// True if nothing that was checked is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.files.iter().all(|file| file.state == FileState::Right)
            && self.golden.as_ref().is_none_or(GoldenCheck::is_ok)
    }
}

/// A file of the model and its state.
#[derive(Clone, Debug)]
pub struct FileCheck {
    /// Its path in the model's folder.
    pub path: String,
    /// Its length, as it should be.
    pub size: u64,
    /// On whose word its hash stands.
    pub trust: Trust,
    /// What was found.
    pub state: FileState,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is the file it should be.
    Right,
    /// It is not there.
    Missing,
    /// It is another one.
    Changed {
        /// The hash it should have.
        expected: String,
        /// The hash it has.
        received: String,
    },
}

/// How far this machine's vectors are from the reference's.
#[derive(Clone, Debug)]
pub struct GoldenCheck {
    /// Texts compared.
    pub texts: usize,
    /// The precision that was computed in.
    pub precision: String,
    /// The lowest cosine of any text.
    pub lowest_cosine: f64,
    /// The mean cosine.
    pub mean_cosine: f64,
    /// What every text must reach in this precision.
    pub required_cosine: f64,
    /// The text with the lowest cosine.
    pub worst_text: String,
}

impl GoldenCheck {
    /// True if every text reaches what is required.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.lowest_cosine >= self.required_cosine
    }
}

/// Texts and what the reference implementation makes of them.
#[derive(Deserialize)]
struct Golden {
    /// What each precision must reach, the cosine of every text.
    required_cosine: BTreeMap<String, f64>,
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    #[serde(default)]
    role: GoldenRole,
    embedding: Vec<f32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GoldenRole {
    #[default]
    Plain,
    Query,
    Document,
}

impl Hub {
    /// Checks the installed `model`: its files, and with an `embedder` that has opened it, what it
    /// computes. A model at a path has no known hashes; only its vectors are checked, if its id is
    /// one that we have reference vectors of.
    ///
    /// # Errors
    ///
    /// If the model is not installed, a file cannot be read or the embedder fails. A wrong file or
    /// a wrong vector is no error: it stands in the result.
    pub fn verify(
        &self,
        model: &str,
        embedder: Option<&dyn Embedder>,
        progress: &dyn Progress,
    ) -> Result<Verification> {
        let local = self.path(model)?;
        let files = match &local.manifest {
            Some(manifest) => self.check_files(manifest, local.entry, progress)?,
            None => Vec::new(),
        };
        let intact = files.iter().all(|file| file.state == FileState::Right);
        // What damaged files compute says nothing about the machine.
        let golden = match embedder {
            Some(embedder) if intact => check_golden(&local.id, embedder)?,
            _ => None,
        };
        Ok(Verification {
            id: local.id,
            files,
            golden,
        })
    }

    /// True if we have reference vectors of this model.
    #[must_use]
    pub fn has_golden_vectors(&self, id: &str) -> bool {
        GOLDEN.iter().any(|(known, _)| *known == id)
    }

    fn check_files(
        &self,
        manifest: &Manifest,
        entry: Option<&CatalogEntry>,
        progress: &dyn Progress,
    ) -> Result<Vec<FileCheck>> {
        let folder = self.cache.revision(&manifest.id, &manifest.revision);
        let stage = format!("checking {}", manifest.id);
        let _stage = Stage::bytes(progress, &stage, Some(manifest.size()));
        let mut checks = Vec::new();
        for record in &manifest.files {
            let path = folder.join(&record.path);
            let state = if path.is_file() {
                let (size, sha256) = hash_file(&path, progress)?;
                let found = FileRecord {
                    size,
                    sha256,
                    ..record.clone()
                };
                compare(&found, record, manifest, entry)
            } else {
                FileState::Missing
            };
            progress.advance(record.size);
            let (path, size, trust) = (record.path.clone(), record.size, record.trust);
            checks.push(FileCheck {
                path,
                size,
                trust,
                state,
            });
        }
        Ok(checks)
    }
}

/// Compares with what was installed, and with what the catalog pins today.
fn compare(
    found: &FileRecord,
    record: &FileRecord,
    manifest: &Manifest,
    entry: Option<&CatalogEntry>,
) -> FileState {
    let changed = |expected: &str| FileState::Changed {
        expected: expected.into(),
        received: found.sha256.clone(),
    };
    if found.sha256 != record.sha256 {
        return changed(&record.sha256);
    }
    let pin = (entry.into_iter().flat_map(|entry| &entry.sources))
        .filter(|source| source.revision() == manifest.revision)
        .flat_map(|source| source.files())
        .find(|pin| pin.path == found.path && record.trust == Trust::Pinned);
    match pin.map(|pin| (pin, check_pin(found, pin, &manifest.source))) {
        Some((pin, Err(_))) => changed(pin.sha256.as_deref().unwrap_or("another length")),
        _ => FileState::Right,
    }
}

/// Compares `embedder` with the reference; `None` if we have no reference for this model.
fn check_golden(id: &str, embedder: &dyn Embedder) -> Result<Option<GoldenCheck>> {
    let Some((_, text)) = GOLDEN.iter().find(|(known, _)| *known == id) else {
        return Ok(None);
    };
    let golden: Golden = serde_json::from_str(text)
        .expect("golden vectors are valid, a test reads them: this is a bug");
    let precision = embedder.fingerprint().precision.clone();
    let required_cosine = golden
        .required_cosine
        .get(&precision)
        .copied()
        .ok_or_else(|| {
            let expected = "a precision that reference vectors are known for";
            Error::from(ErrorKind::Setting {
                name: "precision",
                value: precision.clone(),
                expected,
            })
        })?;
    let mut cosines = Vec::new();
    for item in &golden.texts {
        let options = EmbedOptions {
            role: item.role.into(),
            overflow: Overflow::Truncate,
            ..EmbedOptions::default()
        };
        let vectors = embedder
            .embed(&[&item.text], &options)
            .map_err(ErrorKind::Embed)?;
        cosines.push(cosine(&vectors.values, &item.embedding));
    }
    // A vector that is not a number is as wrong as can be, and must not pass as the largest.
    let order = |cosine: f64| {
        if cosine.is_nan() {
            f64::NEG_INFINITY
        } else {
            cosine
        }
    };
    let worst = (0..cosines.len())
        .min_by(|a, b| order(cosines[*a]).total_cmp(&order(cosines[*b])))
        .unwrap_or_default();
    Ok(Some(GoldenCheck {
        texts: cosines.len(),
        precision,
        lowest_cosine: order(cosines[worst]),
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len() as f64,
        required_cosine,
        worst_text: golden.texts[worst].text.clone(),
    }))
}

/// The cosine of two vectors, 0 if their widths differ.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

impl From<GoldenRole> for Role {
    fn from(role: GoldenRole) -> Self {
        match role {
            GoldenRole::Plain => Self::Plain,
            GoldenRole::Query => Self::Query,
            GoldenRole::Document => Self::Document,
        }
    }
}

#[cfg(test)]
mod tests;
