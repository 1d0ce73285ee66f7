//! Files that clients upload, and stores in which they are searched, as OpenAI has them.
//!
//! A file's bytes lie in a folder; what is known of files, stores and their connection are [`records`];
//! [`files`], [`stores`] and [`attached`] keep them. [`ingest`] reads the files of a store one after the
//! other, cuts them into chunks and embeds these; [`search`] finds the chunks again. The chunks of a
//! store are a collection of points with its name.
//!
//! A file is searched when its record says `completed`, which is written after its chunks; what a
//! stopped server left half-way is done again from the start.

mod records;
mod files;
mod stores;
mod attached;
mod ingest;
mod search;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use wenyi::store::vector_store::SqliteDatabase;

pub(crate) use attached::{Batch, NewAttachment};
pub(crate) use ingest::ingest;
pub(crate) use search::{Ranking, Search, attribute_key, search};
pub(crate) use stores::{Change, Counts, Description};

use crate::problem::Problem;
use records::Records;

/// All that is kept.
#[derive(Debug)]
pub(crate) struct VectorStores {
    database: SqliteDatabase,
    /// The folder of the files' bytes.
    folder: PathBuf,
    files: Records<File>,
    stores: Records<Store>,
    attachments: Records<Attachment>,
    batches: Records<BatchRecord>,
    /// Changes that look before they write take turns.
    turn: Mutex<()>,
    /// Rung when there is something to ingest.
    bell: Notify,
}

/// A file that was uploaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) filename: String,
    pub(crate) purpose: String,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) created_at: u64,
}

/// A store of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    /// Days after its last use.
    pub(crate) expires_after_days: Option<u64>,
    pub(crate) created_at: u64,
    pub(crate) last_active_at: u64,
}

/// A file in a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) store: String,
    pub(crate) file: String,
    pub(crate) batch: Option<String>,
    pub(crate) created_at: u64,
    pub(crate) status: Status,
    pub(crate) last_error: Option<LastError>,
    /// Of the chunks' texts and vectors.
    pub(crate) usage_bytes: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) chunking: Chunking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    InProgress,
    Completed,
    Cancelled,
    Failed,
}

/// Why a file cannot be searched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastError {
    /// `unsupported_file`, `invalid_file` or `server_error`.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// How a file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunking {
    pub(crate) max_chunk_size_tokens: usize,
    pub(crate) chunk_overlap_tokens: usize,
}

impl Default for Chunking {
    /// `OpenAI`'s.
    fn default() -> Self {
        Self {
            max_chunk_size_tokens: 800,
            chunk_overlap_tokens: 400,
        }
    }
}

/// Files that were attached together.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BatchRecord {
    store: String,
    created_at: u64,
    cancelled: bool,
}

impl VectorStores {
    /// Opens what is in the folder, and makes what is not.
    pub(crate) fn open(folder: &Path) -> wenyi::store::Result<Self> {
        let files = folder.join("files");
        std::fs::create_dir_all(&files).map_err(|source| wenyi::store::ErrorKind::Io {
            path: files.clone(),
            source,
        })?;
        let database = SqliteDatabase::open(folder.join("vector_stores.db"))?;
        Ok(Self {
            files: Records::open(&database, "files")?,
            stores: Records::open(&database, "vector stores")?,
            attachments: Records::open(&database, "files of vector stores")?,
            batches: Records::open(&database, "batches")?,
            database,
            folder: files,
            turn: Mutex::new(()),
            bell: Notify::new(),
        })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new id: those made later are greater.
fn new_id(prefix: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = now.unwrap_or_default().as_nanos();
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    format!("{prefix}{nanoseconds:016x}{random:08x}")
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Where in a list a page begins and how long it is.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    pub(crate) limit: usize,
    pub(crate) ascending: bool,
    pub(crate) after: Option<String>,
    pub(crate) before: Option<String>,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<(String, T)>,
    pub(crate) has_more: bool,
}

impl Paging {
    /// The page of `all`, which is in the order of ids.
    fn page<T>(&self, mut all: Vec<(String, T)>) -> Page<T> {
        if !self.ascending {
            all.reverse();
        }
        // An id that is gone still has its place in the order.
        let is_behind = |id: &str, other: &str| match self.ascending {
            true => id > other,
            false => id < other,
        };
        if let Some(after) = &self.after {
            all.retain(|(id, _)| is_behind(id, after));
        }
        if let Some(before) = &self.before {
            all.retain(|(id, _)| is_behind(before, id));
        }
        let has_more = all.len() > self.limit;
        all.truncate(self.limit);
        Page {
            data: all,
            has_more,
        }
    }
}

fn of_store(error: wenyi::store::Error) -> Problem {
    Problem::of_store(&error)
}

fn no_file(id: &str) -> Problem {
    Problem::NotFound {
        what: "file",
        id: id.to_owned(),
    }
}

fn no_store(id: &str) -> Problem {
    Problem::NotFound {
        what: "vector store",
        id: id.to_owned(),
    }
}

/// The stores, where there is a folder for them.
pub(crate) type Shared = Arc<VectorStores>;
