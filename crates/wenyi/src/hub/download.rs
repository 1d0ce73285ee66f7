//! One file over HTTP: continued where it broke off, checked, and renamed only when whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::{FileRecord, Trust, check_cancelled, create_folder, hash_file, hash_into, hex};
use super::catalog::PinnedFile;
use super::error::{Error, ErrorKind, Result};
use super::http::{Answer, Backoff, Client, Request, header, html_title, page_error};
use super::sources::check_pin;
use crate::progress::Progress;

/// A file to fetch and what is known of it.
pub(crate) struct Download<'a> {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    /// Where it goes, relative to the folder, and what it must be.
    pub(crate) pin: PinnedFile,
    /// Whether the catalog says so; otherwise the hub's listing does.
    pub(crate) trust: Trust,
    pub(crate) client: &'a Client,
    pub(crate) progress: &'a dyn Progress,
}

/// What stands beside a `.partial`, so that another process can continue it.
#[derive(Default, Serialize, Deserialize)]
struct Continuation {
    url: String,
    etag: Option<String>,
}

/// The file while it grows.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    continuation: Continuation,
    /// Bytes that the progress bar has seen; a file begun again is not counted twice.
    reported: u64,
    /// Whether the beginning came by another request than the rest.
    patched: bool,
}

impl Download<'_> {
    /// Fetches the file into `folder`; nothing is left under its name unless it is right.
    pub(crate) fn fetch(mut self, folder: &Path) -> Result<FileRecord> {
        let target = folder.join(&self.pin.path);
        if let Some(parent) = target.parent() {
            create_folder(parent)?;
        }
        if target.is_file() {
            // Whole already: an earlier attempt ended at a later file.
            if let Ok(record) = self.check(hash_file(&target, self.progress)?) {
                self.progress.advance(record.size);
                return Ok(record);
            }
            fs::remove_file(&target).map_err(|error| Error::io(&target, error))?;
        }
        loop {
            let mut partial = Partial::open(&target, &self.url, self.progress)?;
            self.progress.advance(partial.length);
            self.transfer(&mut partial)?;
            partial
                .file
                .sync_all()
                .map_err(|error| Error::io(&partial.path, error))?;
            let Partial {
                path,
                length,
                patched,
                hasher,
                ..
            } = partial;
            match self.check((length, hex(&hasher.finalize()))) {
                Ok(record) => {
                    fs::rename(&path, &target).map_err(|error| Error::io(&target, error))?;
                    remove_continuation(&path)?;
                    return Ok(record);
                }
                Err(error) => {
                    fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
                    remove_continuation(&path)?;
                    // Two halves of different files: the whole, from one request, may be right.
                    if !patched {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn check(&self, (size, sha256): (u64, String)) -> Result<FileRecord> {
        let path = self.pin.path.clone();
        let mut record = FileRecord {
            path,
            size,
            sha256,
            trust: Trust::Unpinned,
        };
        if check_pin(&record, &self.pin, &self.url)? == Trust::Pinned {
            record.trust = self.trust;
        }
        Ok(record)
    }

    /// Brings the rest of the file, in as many requests as it takes.
    fn transfer(&mut self, partial: &mut Partial) -> Result<()> {
        let mut backoff = Backoff::new(*self.client.patience());
        loop {
            if partial.length > 0 && self.pin.size == Some(partial.length) {
                return Ok(());
            }
            let before = partial.length;
            match self.request(partial) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if partial.length.saturating_sub(before) >= self.worthwhile(before) {
                        backoff.reset();
                    }
                    backoff.pause(error, self.progress)?;
                }
            }
        }
    }

    /// Bytes that an attempt must bring, `done` of them being here, to count as one that got on: with
    /// less, a large file would take thousands of requests.
    fn worthwhile(&self, done: u64) -> u64 {
        /// Some seconds of a slow line.
        const USUAL: u64 = 1 << 18;
        /// So many attempts that each bring their share bring a file that is smaller.
        const ATTEMPTS: u64 = 16;
        let left = self.pin.size.map(|size| size.saturating_sub(done));
        left.map_or(USUAL, |left| (left / ATTEMPTS).clamp(1, USUAL))
    }

    /// One request for what is missing.
    fn request(&mut self, partial: &mut Partial) -> Result<()> {
        check_cancelled(self.progress)?;
        // Without a tag only a known hash can tell that the two halves belong together.
        let blind = partial.continuation.etag.is_none() && self.pin.sha256.is_none();
        if blind || self.pin.size.is_some_and(|size| partial.length > size) {
            partial.restart()?;
        }
        let request = Request {
            url: self.url.clone(),
            token: self.token.clone(),
            start: partial.length,
            etag: partial.continuation.etag.clone(),
        };
        let answer = self.client.get(&request)?;
        self.learn(&answer);
        match answer.status {
            206 if begins_at(&answer, partial.length) => partial.patched |= partial.length > 0,
            200 => partial.restart()?,
            // The part is longer than the file, or not of it.
            _ => {
                partial.restart()?;
                let (url, reason) = (self.url.clone(), "it does not continue".into());
                return Err(ErrorKind::Interrupted {
                    url,
                    received: 0,
                    reason,
                }
                .into());
            }
        }
        let length = header(&answer.headers, "content-length").and_then(|text| text.parse().ok());
        let expected: Option<u64> = length.map(|length: u64| partial.length + length);
        if let Err(error) = self.expect_size(expected) {
            // A page that stands in for the file betrays itself by its length too.
            return Err(page_error(answer.body, &self.url).unwrap_or(error));
        }
        partial.remember(&answer, &self.url)?;
        self.copy(answer.body, partial)?;
        match expected {
            Some(expected) if partial.length < expected => {
                let (url, received) = (self.url.clone(), partial.length);
                let reason = format!("{expected} bytes were announced");
                Err(ErrorKind::Interrupted {
                    url,
                    received,
                    reason,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// Takes the hub's word for what the catalog does not pin.
    fn learn(&mut self, answer: &Answer) {
        if self.pin.sha256.is_none() && answer.announced.sha256.is_some() {
            self.pin.sha256.clone_from(&answer.announced.sha256);
            self.trust = Trust::Announced;
        }
        self.pin.size = self.pin.size.or(answer.announced.size);
    }

    /// Refuses a file of the wrong length before it is fetched.
    fn expect_size(&self, announced: Option<u64>) -> Result<()> {
        match (self.pin.size, announced) {
            (Some(expected), Some(received)) if expected != received => {
                let (file, origin) = (self.pin.path.clone(), self.url.clone());
                Err(ErrorKind::WrongSize {
                    file,
                    origin,
                    expected,
                    received,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    fn copy(&self, mut body: Box<dyn Read>, partial: &mut Partial) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            check_cancelled(self.progress)?;
            let length = (body.read(&mut buffer))
                .map_err(|error| self.client.read_error(&self.url, partial.length, error))?;
            if length == 0 {
                return Ok(());
            }
            let bytes = &buffer[..length];
            if partial.length == 0
                && !self.pin.path.ends_with(".html")
                && let Some(title) = html_title(bytes)
            {
                return Err(ErrorKind::HtmlPage {
                    url: self.url.clone(),
                    title,
                }
                .into());
            }
            let total = partial.length + length as u64;
            if self.pin.size.is_some_and(|limit| total > limit) {
                self.expect_size(Some(total))?;
            }
            partial.append(bytes, self.progress)?;
        }
    }
}

impl Partial {
    /// Opens what an earlier attempt left, or begins.
    fn open(target: &Path, url: &str, progress: &dyn Progress) -> Result<Self> {
        let path = with_suffix(target, ".partial");
        let continuation = (fs::read(with_suffix(&path, ".json")).ok())
            .and_then(|bytes| serde_json::from_slice::<Continuation>(&bytes).ok())
            .filter(|continuation| continuation.url == url)
            .unwrap_or_default();
        let mut file = (OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true))
        .open(&path)
        .map_err(|error| Error::io(&path, error))?;
        let mut hasher = Sha256::new();
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let length = if is_file {
            hash_into(&mut file, &mut hasher, &path, progress)?
        } else {
            0
        };
        let patched = length > 0;
        Ok(Self {
            path,
            file,
            hasher,
            length,
            continuation,
            reported: length,
            patched,
        })
    }

    fn restart(&mut self) -> Result<()> {
        if self.length > 0 {
            self.file
                .set_len(0)
                .map_err(|error| Error::io(&self.path, error))?;
        }
        self.hasher = Sha256::new();
        self.length = 0;
        self.patched = false;
        self.continuation = Continuation::default();
        Ok(())
    }

    /// Writes down which file this is the beginning of.
    fn remember(&mut self, answer: &Answer, url: &str) -> Result<()> {
        // A weak tag does not promise the same bytes.
        let etag = header(&answer.headers, "etag").filter(|tag| !tag.starts_with("W/"));
        self.continuation = Continuation {
            url: url.into(),
            etag: etag.map(String::from),
        };
        let path = with_suffix(&self.path, ".json");
        let text = serde_json::to_vec(&self.continuation).expect("two strings are plain data");
        fs::write(&path, text).map_err(|error| Error::io(&path, error))
    }

    fn append(&mut self, bytes: &[u8], progress: &dyn Progress) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io(&self.path, error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        progress.advance(self.length.saturating_sub(self.reported));
        self.reported = self.reported.max(self.length);
        Ok(())
    }
}

fn begins_at(answer: &Answer, start: u64) -> bool {
    header(&answer.headers, "content-range")
        .and_then(|range| range.trim().strip_prefix("bytes "))
        .and_then(|range| range.split('-').next()?.trim().parse().ok())
        == Some(start)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_continuation(partial: &Path) -> Result<()> {
    let path = with_suffix(partial, ".json");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, error)),
        _ => Ok(()),
    }
}
