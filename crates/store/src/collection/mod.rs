//! A collection on disk: one SQLite file with documents, chunks and vectors.
//!
//! `open` makes or opens the file, `write` replaces documents whole, `packed` keeps the
//! vectors side by side in memory, `index` makes a quicker way to the closest of a great many,
//! `background` keeps both up to date beside searches,
//! `search` finds the closest, `text` keeps and asks the full-text index, `hybrid` joins
//! what both found, `check` proves that the file agrees with itself, `repair` makes anew what does not,
//! `migrate` brings the chunks into another space, `portable` writes all of it as lines of JSON and
//! reads them.
//!
//! A handle has one connection that writes and one that reads, so a search never waits for a
//! write. Other handles and processes may read while one writes; writers take turns.

mod schema;
pub(crate) mod open;
mod write;
mod read;
mod text;
mod packed;
mod index;
mod background;
mod search;
mod hybrid;
mod check;
mod repair;
mod restore;
mod migrate;
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::Value;

use self::background::Background;
pub use self::check::CheckReport;
pub(crate) use self::check::{describe, quick_check};
pub use self::hybrid::Fusion;
pub(crate) use self::hybrid::{DEPTH, joined};
pub use self::index::{IndexInfo, SearchMethod};
pub use self::migrate::Migration;
pub(crate) use self::open::MAX_DIMENSIONS;
use self::packed::Reader;
pub use self::portable::{ImportReport, is_exported_collection};
pub(crate) use self::read::to_floats;
pub(crate) use self::schema::APPLICATION_ID;
use crate::{ErrorKind, Result};

/// How long an operation waits for another process before it gives up.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The space that a collection's vectors live in.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// What the caller needs to know a vector of the same space: the store keeps it as it is.
    pub fingerprint: Value,
    /// Width of the vectors.
    pub dimensions: usize,
}

/// What a new collection is made with.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionOptions {
    /// Its name, for messages.
    pub name: String,
    /// The space of its vectors.
    pub space: Space,
    /// How its documents are cut into chunks: the store keeps it as it is.
    pub chunking: Value,
}

/// What a collection was made with, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionInfo {
    /// Its name, for messages.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// The space of its vectors.
    pub space: Space,
    /// How its documents are cut into chunks.
    pub chunking: Value,
}

/// The size of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Documents.
    pub num_documents: u64,
    /// Chunks, each with a vector.
    pub num_chunks: u64,
    /// Tokens of all chunks.
    pub num_tokens: u64,
    /// Width of the vectors.
    pub dimensions: usize,
    /// Bytes on disk, the write-ahead log and the packed rows included.
    pub num_bytes: u64,
}

/// A collection of documents in one SQLite file.
pub struct Collection {
    path: PathBuf,
    info: CollectionInfo,
    // The writer is closed last: only a connection that may write can fold the log into the file.
    reader: Mutex<Reader>,
    writer: Option<Mutex<Connection>>,
    background: Background,
}

impl Collection {
    /// The collection's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the collection was made with.
    #[must_use]
    pub fn info(&self) -> &CollectionInfo {
        &self.info
    }

    /// True if this handle can only search.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Refuses a caller whose vectors live in another space, told by equal fingerprints and widths.
    ///
    /// A caller that knows which parts of a fingerprint matter compares [`Collection::info`]
    /// itself and reports with [`Collection::space_mismatch`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SpaceMismatch`].
    pub fn expect_space(&self, space: &Space) -> Result<()> {
        if self.info.space == *space {
            Ok(())
        } else {
            Err(self.space_mismatch(space))
        }
    }

    /// The error that says that `space` is not the collection's.
    #[must_use]
    pub fn space_mismatch(&self, space: &Space) -> crate::Error {
        ErrorKind::SpaceMismatch {
            collection: self.info.name.clone(),
            expected: self.info.space.fingerprint.to_string(),
            received: space.fingerprint.to_string(),
        }
        .into()
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        lock(&self.reader)
    }

    fn writer(&self) -> Result<MutexGuard<'_, Connection>> {
        let writer = self.writer.as_ref();
        let writer = writer.ok_or_else(|| ErrorKind::ReadOnly {
            path: self.path.clone(),
        })?;
        Ok(lock(writer))
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("path", &self.path)
            .field("info", &self.info)
            .field("read_only", &self.is_read_only())
            .finish_non_exhaustive()
    }
}

/// A thread that panicked has rolled its transaction back, so what it held is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
