//! Models in one file, for machines without a network: `bundle` writes it, `import` installs it.
//!
//! A bundle is a tar archive that any tool can list: `wenyi-bundle.json` first, with the manifest
//! of each model, then the files as `models/<index>/<path>`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::{Cache, FileRecord, Lock, Manifest, Trust, check_cancelled, create_folder, hex};
use super::catalog::PinnedFile;
use super::error::{Error, ErrorKind, Result};
use super::sources::{check_paths, check_pin};
use super::stage::Stage;
use super::{Hub, LocalModel};
use crate::progress::Progress;

const INDEX: &str = "wenyi-bundle.json";

/// The form of a bundle that this version writes.
const FORMAT: u32 = 1;

/// Far above any index: a model has tens of files.
const MAX_INDEX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    models: Vec<Manifest>,
}

/// A model while it is being unpacked; what has come is removed unless it is installed, since another
/// attempt begins anew.
struct Arrival<'a> {
    manifest: Manifest,
    staging: PathBuf,
    missing: HashSet<String>,
    cache: &'a Cache,
    _lock: Lock,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        // The import's own error is the one to tell.
        let _ = self
            .cache
            .forget(&self.manifest.id, &self.manifest.revision);
    }
}

impl Hub {
    /// Writes the installed `models` into one file; its length.
    ///
    /// # Errors
    ///
    /// If a model is not installed, has lost a file, or the file cannot be written.
    pub fn bundle(&self, models: &[&str], output: &Path, progress: &dyn Progress) -> Result<u64> {
        let mut index = Index {
            format: FORMAT,
            models: Vec::new(),
        };
        for model in models {
            let local = self.path(model)?;
            let Some(manifest) = local.manifest else {
                let reason = "only models of the cache go into a bundle".into();
                return Err(ErrorKind::NotAModel {
                    path: local.path,
                    reason,
                }
                .into());
            };
            if !index.models.contains(&manifest) {
                index.models.push(manifest);
            }
        }
        if let Some(parent) = output
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            create_folder(parent)?;
        }
        let mut unfinished = output.as_os_str().to_os_string();
        unfinished.push(".partial");
        let unfinished = PathBuf::from(unfinished);
        let written = self.write_bundle(&index, &unfinished, progress);
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        fs::rename(&unfinished, output).map_err(|error| Error::io(output, error))?;
        fs::metadata(output)
            .map(|metadata| metadata.len())
            .map_err(|e| Error::io(output, e))
    }

    /// Installs every model of a bundle; nothing of one that is not complete and right.
    ///
    /// # Errors
    ///
    /// If the file is no bundle, is cut off, or a file in it is not the one promised.
    pub fn import(&self, bundle: &Path, progress: &dyn Progress) -> Result<Vec<LocalModel>> {
        let refuse = |reason: String| {
            Error::from(ErrorKind::Bundle {
                path: bundle.to_path_buf(),
                reason,
            })
        };
        let file = File::open(bundle).map_err(|error| Error::io(bundle, error))?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 18, file));
        let mut entries = archive
            .entries()
            .map_err(|error| refuse(error.to_string()))?;
        let Some(Ok(first)) = entries.next() else {
            return Err(refuse("it is not a bundle of models".into()));
        };
        let index = read_index(first).map_err(&refuse)?;
        let total = index.models.iter().map(Manifest::size).sum();
        let mut arrivals = Vec::new();
        for manifest in index.models {
            check_paths(manifest.files.iter().map(|file| file.path.as_str()), INDEX)
                .and_then(|()| {
                    check_paths(
                        [manifest.model.as_str()].into_iter().filter(|m| *m != "."),
                        INDEX,
                    )
                })
                .map_err(|error| refuse(error.to_string()))?;
            arrivals.push(self.expect(manifest, progress)?);
        }
        let stage = Stage::bytes(progress, "unpacking", Some(total));
        for entry in entries {
            let mut entry = entry.map_err(|error| refuse(error.to_string()))?;
            let name = entry.path().map_err(|error| refuse(error.to_string()))?;
            let name = name.to_string_lossy().into_owned();
            let Some((arrival, record)) = place(&mut arrivals, &name) else {
                return Err(refuse(format!("unexpected file `{name}`")));
            };
            let received = receive(&mut entry, &arrival.staging, &record, progress, &refuse)?;
            check_record(&received, &record, &refuse)?;
            check_catalog(&arrival.manifest, &received, self.catalog(), bundle)?;
            arrival.missing.remove(&record.path);
        }
        drop(stage);
        if let Some(lost) = arrivals.iter().flat_map(|arrival| &arrival.missing).next() {
            return Err(refuse(format!("it is cut off: `{lost}` is missing")));
        }
        let mut models = Vec::new();
        for arrival in &mut arrivals {
            self.cache
                .install(&arrival.staging, &mut arrival.manifest)?;
            let manifest = arrival.manifest.clone();
            models.push(self.local(self.catalog().find(&manifest.id), manifest));
        }
        Ok(models)
    }

    fn write_bundle(&self, index: &Index, path: &Path, progress: &dyn Progress) -> Result<()> {
        let fail = |error| Error::io(path, error);
        let file = File::create(path).map_err(fail)?;
        let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 18, file));
        let text = serde_json::to_vec_pretty(index).expect("manifests are plain data");
        append(&mut archive, INDEX, text.len() as u64, &text[..]).map_err(fail)?;
        let total = index.models.iter().map(Manifest::size).sum();
        let _stage = Stage::bytes(progress, "bundling", Some(total));
        for (number, manifest) in index.models.iter().enumerate() {
            let folder = self.cache.revision(&manifest.id, &manifest.revision);
            for record in &manifest.files {
                check_cancelled(progress)?;
                let source = folder.join(&record.path);
                let file = File::open(&source).map_err(|error| Error::io(&source, error))?;
                let length = file
                    .metadata()
                    .map_err(|error| Error::io(&source, error))?
                    .len();
                if length != record.size {
                    let reason = format!("{length} bytes, expected {}", record.size);
                    return Err(ErrorKind::Damaged {
                        path: source,
                        reason,
                    }
                    .into());
                }
                let name = format!("models/{number}/{}", record.path);
                let counted = Counted {
                    inner: file,
                    progress,
                };
                append(&mut archive, &name, record.size, counted).map_err(fail)?;
            }
        }
        let mut writer = archive.into_inner().map_err(fail)?;
        writer.flush().map_err(fail)?;
        writer.get_ref().sync_all().map_err(fail)?;
        Ok(())
    }

    fn expect(&self, manifest: Manifest, progress: &dyn Progress) -> Result<Arrival<'_>> {
        let lock = self.cache.lock(&manifest.id, progress)?;
        let staging = self.cache.staging(&manifest.id, &manifest.revision)?;
        let missing = manifest
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect();
        Ok(Arrival {
            manifest,
            staging,
            missing,
            cache: &self.cache,
            _lock: lock,
        })
    }
}

fn read_index(entry: tar::Entry<'_, impl Read>) -> Result<Index, String> {
    let is_index = entry.path().is_ok_and(|path| path == Path::new(INDEX));
    if !is_index {
        return Err("it is not a bundle of models".into());
    }
    let mut text = Vec::new();
    (entry.take(MAX_INDEX_BYTES).read_to_end(&mut text)).map_err(|error| error.to_string())?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if index.format > FORMAT {
        return Err(format!(
            "its form is {}, this version knows {FORMAT}",
            index.format
        ));
    }
    Ok(index)
}

/// Where the archive's file `models/<index>/<path>` belongs.
fn place<'a, 'hub>(
    arrivals: &'a mut [Arrival<'hub>],
    name: &str,
) -> Option<(&'a mut Arrival<'hub>, FileRecord)> {
    let (number, path) = name.strip_prefix("models/")?.split_once('/')?;
    let arrival = arrivals.get_mut(number.parse::<usize>().ok()?)?;
    let record = arrival
        .manifest
        .files
        .iter()
        .find(|record| record.path == path)?
        .clone();
    Some((arrival, record))
}

fn receive(
    entry: &mut impl Read,
    staging: &Path,
    record: &FileRecord,
    progress: &dyn Progress,
    refuse: &impl Fn(String) -> Error,
) -> Result<FileRecord> {
    let target = staging.join(&record.path);
    if let Some(parent) = target.parent() {
        create_folder(parent)?;
    }
    let fail = |error| Error::io(&target, error);
    let mut file = File::create(&target).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        check_cancelled(progress)?;
        let length = entry
            .read(&mut buffer)
            .map_err(|error| refuse(error.to_string()))?;
        if length == 0 {
            break;
        }
        size += length as u64;
        hasher.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(fail)?;
        progress.advance(length as u64);
    }
    file.sync_all().map_err(fail)?;
    Ok(FileRecord {
        size,
        sha256: hex(&hasher.finalize()),
        ..record.clone()
    })
}

fn check_record(
    received: &FileRecord,
    promised: &FileRecord,
    refuse: &impl Fn(String) -> Error,
) -> Result<()> {
    if received.sha256 == promised.sha256 {
        return Ok(());
    }
    let FileRecord { path, size, .. } = received;
    Err(refuse(format!(
        "`{path}` is damaged: {size} bytes, SHA-256 {}",
        received.sha256
    )))
}

/// What this program pins holds for bundles too, whoever made them.
fn check_catalog(
    manifest: &Manifest,
    received: &FileRecord,
    catalog: &super::Catalog,
    bundle: &Path,
) -> Result<()> {
    let Some(entry) = catalog.find(&manifest.id) else {
        return Ok(());
    };
    let pin: Option<&PinnedFile> = (entry.sources.iter())
        .filter(|source| source.revision() == manifest.revision)
        .flat_map(|source| source.files())
        .find(|pin| pin.path == received.path);
    match pin {
        // Prompts may have been added to the configuration, never anything to the weights.
        Some(pin) if received.trust != Trust::Made || !pin.path.ends_with(".json") => {
            check_pin(received, pin, &bundle.display().to_string()).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    data: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, data)
}

/// Reads and reports.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}
