//! The folder that models live in, and how they appear there all at once.
//!
//! ```text
//! <cache>/models/<id>/<revision>/          a model, complete, with its manifest.json
//! <cache>/models/<id>/.staging-<revision>/ one that is on its way; what has come is kept
//! <cache>/locks/<id>.lock                  held while one is on its way
//! ```
//!
//! A revision's folder exists only complete: it is made by one rename. So a reader needs no lock,
//! and a process that dies leaves at most a staging folder, which the next one continues.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, ErrorKind, Result};
use crate::progress::Progress;

/// The manifest's name in a model's folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The form of the manifest that this version writes.
const FORMAT: u32 = 1;

/// How often a waiting process looks whether the lock is free or the user wants to stop.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What an installed model consists of and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this file.
    pub format: u32,
    /// The model's id: of the catalog, or `org/name`.
    pub id: String,
    /// The name of the folder it is installed in.
    pub revision: String,
    /// Where it came from, for people.
    pub source: String,
    /// The hub's commit, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The model's licence, where the catalog knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// When it was installed, UTC, as `2026-01-31T12:00:00Z`.
    pub installed: String,
    /// What the engine opens, relative to the folder: `.` or a `.gguf` file.
    pub model: String,
    /// Its files, sorted by path.
    pub files: Vec<FileRecord>,
}

/// A file of an installed model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its path, `/` between parts.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, hex.
    pub sha256: String,
    /// How the hash was checked when it came.
    pub trust: Trust,
}

/// On whose word a file's hash stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// The catalog of this program pins it.
    Pinned,
    /// The hub that sent the file announced it.
    Announced,
    /// Nobody said beforehand; it is what came.
    Unpinned,
    /// Made on this machine: a conversion, or prompts that the original lacks.
    Made,
}

impl Manifest {
    pub(crate) fn new(id: &str, revision: &str, source: String, model: String) -> Self {
        Self {
            format: FORMAT,
            id: id.into(),
            revision: revision.into(),
            source,
            commit: None,
            licence: None,
            installed: timestamp(SystemTime::now()),
            model,
            files: Vec::new(),
        }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|error| ErrorKind::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if manifest.format > FORMAT {
            let reason = format!("form {}, this version knows {FORMAT}", manifest.format);
            return Err(ErrorKind::Damaged { path, reason }.into());
        }
        Ok(manifest)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(self).expect("a manifest is plain data");
        fs::write(&path, text).map_err(|error| Error::io(&path, error))
    }
}

/// The cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held while a model changes; released when dropped, by the system even if the process dies.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "dropping it releases the lock")] File);

impl Cache {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the revision is, or will be.
    pub(crate) fn revision(&self, id: &str, revision: &str) -> PathBuf {
        self.model(id).join(file_name(revision))
    }

    /// A folder for what is on its way, on the same file system; kept until it is installed.
    pub(crate) fn staging(&self, id: &str, revision: &str) -> Result<PathBuf> {
        let folder = self
            .model(id)
            .join(format!(".staging-{}", file_name(revision)));
        create_folder(&folder)?;
        Ok(folder)
    }

    /// The manifest of an installed revision; `None` if it is not there.
    pub(crate) fn manifest(&self, id: &str, revision: &str) -> Result<Option<Manifest>> {
        let folder = self.revision(id, revision);
        if folder.join(MANIFEST).is_file() {
            Manifest::read(&folder).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Every installed revision of every model, newest first.
    pub(crate) fn installed(&self) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        for model in entries(&self.root.join("models"))? {
            for folder in entries(&model)? {
                if folder.join(MANIFEST).is_file() {
                    manifests.push(Manifest::read(&folder)?);
                }
            }
        }
        manifests.sort_by(|a, b| (&b.installed, &b.revision).cmp(&(&a.installed, &a.revision)));
        Ok(manifests)
    }

    /// Takes the model's lock, waiting for another process if need be.
    pub(crate) fn lock(&self, id: &str, progress: &dyn Progress) -> Result<Lock> {
        let folder = self.root.join("locks");
        create_folder(&folder)?;
        let path = folder.join(format!("{}.lock", file_name(id)));
        let file = (OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path))
        .map_err(|error| Error::io(&path, error))?;
        let mut waiting = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::Error(error)) => return Err(Error::io(&path, error)),
                Err(TryLockError::WouldBlock) => {
                    if !waiting {
                        waiting = true;
                        progress.note(&format!(
                            "another process is fetching `{id}`, waiting for it"
                        ));
                    }
                    check_cancelled(progress)?;
                    std::thread::sleep(LOCK_POLL);
                }
            }
        }
    }

    /// Makes what is in `staging` the installed revision, in one step.
    pub(crate) fn install(&self, staging: &Path, manifest: &mut Manifest) -> Result<PathBuf> {
        manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        manifest.write(staging)?;
        let target = self.revision(&manifest.id, &manifest.revision);
        let old = target.with_file_name(format!(".old-{}", file_name(&manifest.revision)));
        remove_folder(&old)?;
        if target.exists() {
            fs::rename(&target, &old).map_err(|error| Error::io(&target, error))?;
        }
        fs::rename(staging, &target).map_err(|error| Error::io(&target, error))?;
        remove_folder(&old)?;
        Ok(target)
    }

    /// Removes everything of a model, unfinished downloads too; the bytes that it took, `None` if
    /// there was nothing. Reads no manifest: a damaged model must be removable.
    pub(crate) fn remove(&self, id: &str) -> Result<Option<u64>> {
        let folder = self.model(id);
        if !folder.is_dir() {
            return Ok(None);
        }
        let bytes = bytes_in(&folder);
        remove_folder(&folder)?;
        Ok(Some(bytes))
    }

    /// Removes what is on its way to this revision, and the model's folder if nothing else is in it.
    pub(crate) fn forget(&self, id: &str, revision: &str) -> Result<()> {
        let model = self.model(id);
        remove_folder(&model.join(format!(".staging-{}", file_name(revision))))?;
        // One that holds something stays, and does so by failing here.
        let _ = fs::remove_dir(model);
        Ok(())
    }

    fn model(&self, id: &str) -> PathBuf {
        self.root.join("models").join(file_name(id))
    }
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path, progress: &dyn Progress) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut hasher = Sha256::new();
    let size = hash_into(&mut file, &mut hasher, path, progress)?;
    Ok((size, hex(&hasher.finalize())))
}

/// Feeds the rest of `file` to `hasher`; the bytes fed.
pub(crate) fn hash_into(
    file: &mut File,
    hasher: &mut Sha256,
    path: &Path,
    progress: &dyn Progress,
) -> Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        check_cancelled(progress)?;
        match file
            .read(&mut buffer)
            .map_err(|error| Error::io(path, error))?
        {
            0 => return Ok(size),
            length => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn check_cancelled(progress: &dyn Progress) -> Result<()> {
    if progress.is_cancelled() {
        Err(ErrorKind::Cancelled.into())
    } else {
        Ok(())
    }
}

pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io(path, error))
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Bytes under `folder`; what vanishes while we look does not count.
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    (entries.flatten())
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
            Ok(_) => entry.metadata().map_or(0, |metadata| metadata.len()),
            Err(_) => 0,
        })
        .sum()
}

/// An id or revision as one part of a path: `org/name` becomes `org--name`.
fn file_name(name: &str) -> String {
    let name = name.replace('/', "--");
    let safe = |c: char| {
        if c.is_alphanumeric() || "._-+@".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(safe).collect();
    // A leading dot would hide it, or climb out as `..`.
    if name.starts_with('.') {
        format!("_{name}")
    } else {
        name
    }
}

/// The visible entries of a folder, sorted; none if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| Error::io(folder, error))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// `time` in UTC, by the proleptic Gregorian calendar.
fn timestamp(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last; eras have 400 years,
    // 146,097 days (H. Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_follow_the_calendar() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn names_stay_inside_the_cache() {
        let cache = Cache::new("/cache".into());
        let folder = cache.revision("../../etc", "../x");
        assert!(
            folder.components().all(|part| part.as_os_str() != ".."),
            "{}",
            folder.display()
        );
        assert_eq!(
            cache.revision("BAAI/bge-m3", "refs/pr/1"),
            Path::new("/cache/models/BAAI--bge-m3/refs--pr--1")
        );
    }
}
