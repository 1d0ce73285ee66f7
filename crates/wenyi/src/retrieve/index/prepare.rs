//! Reads files and cuts them, ahead of the model.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use wenyi_store::{Collection, Document as StoredDocument, DocumentInfo};

use super::IndexOptions;
use super::plan::{GAPS, PASSED_OVER, Plan, chunking_mark, remembered_reason};
use crate::embed::Embedder;
use crate::progress::Progress;
use crate::retrieve::chunk::{Chunk, chunk};
use crate::retrieve::load::{
    Document, Skip, SkipReason, SourceFile, decode_hashed, hex_sha256, read_bytes,
};
use crate::retrieve::{Error, ErrorKind, Result};

/// A file changed this recently may change again without a new time: file systems count in steps
/// of up to two seconds.
const SETTLED_NANOSECONDS: i64 = 2_000_000_000;

/// Parsers go deep into files that are deeply nested.
const STACK: usize = 16 << 20;

/// Remembered as the time of such a file; no file has it.
const STILL_CHANGING: i64 = -1;

/// A file that was looked at.
pub(super) enum Prepared {
    /// It holds no text; the passages that were there go.
    Skipped {
        skip: Skip,
        /// True if it had been read before.
        was_read: bool,
        bytes: u64,
        /// What is kept in its place, to know it the next time.
        document: Option<Box<StoredDocument>>,
    },
    /// It cannot be read now; the document that was there stays.
    Kept { skip: Skip, bytes: u64 },
    /// Only its time of change is new.
    Same {
        path: String,
        bytes: u64,
        modified_ns: i64,
    },
    /// It is to be embedded.
    Changed(Box<Changed>),
}

/// A document that is new or has changed.
pub(super) struct Changed {
    pub(super) document: StoredDocument,
    pub(super) chunks: Vec<Chunk>,
    /// For each chunk the vector that it had before, if its text is the same.
    pub(super) vectors: Vec<Option<Vec<f32>>>,
    /// True if there was a document at its path.
    pub(super) is_update: bool,
    /// What of the file could not be read.
    pub(super) gaps: Vec<SkipReason>,
}

impl Prepared {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Skipped { bytes, .. } | Self::Kept { bytes, .. } | Self::Same { bytes, .. } => {
                *bytes
            }
            Self::Changed(changed) => changed.document.size,
        }
    }

    /// Tokens of its chunks, those with a vector included.
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Changed(changed) => changed.chunks.iter().map(|chunk| chunk.tokens as u64).sum(),
            _ => 0,
        }
    }
}

/// Reads and cuts the files of a plan.
pub(super) struct Reader<'a> {
    pub(super) plan: &'a Plan,
    pub(super) embedder: &'a dyn Embedder,
    pub(super) collection: &'a Collection,
    pub(super) options: &'a IndexOptions,
    pub(super) progress: &'a dyn Progress,
}

impl Reader<'_> {
    /// Sends every file of the plan's work, prepared by as many threads as there are cores, as soon
    /// as each is ready, until nobody listens.
    pub(super) fn prepare_all(&self, sender: &SyncSender<Result<Prepared>>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..cores.min(self.plan.work.len()) {
                let thread = std::thread::Builder::new().stack_size(STACK);
                let spawned = thread.spawn_scoped(scope, || self.prepare_next(&next, sender));
                if let Err(source) = spawned {
                    // Whoever listens ends the work with the first error.
                    let _ = sender.send(Err(Error::io(Path::new("thread"), source)));
                }
            }
        });
    }

    fn prepare_next(&self, next: &AtomicUsize, sender: &SyncSender<Result<Prepared>>) {
        while let Some((file, info)) = self.plan.work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let prepared = if self.progress.is_cancelled() {
                Err(ErrorKind::Cancelled.into())
            } else {
                self.prepare(file, info.as_ref())
            };
            let failed = prepared.is_err();
            if sender.send(prepared).is_err() || failed {
                return;
            }
        }
    }

    fn prepare(&self, file: &SourceFile, info: Option<&DocumentInfo>) -> Result<Prepared> {
        let path = file.path.to_string_lossy().into_owned();
        let bytes = match read_bytes(&file.path, self.options.load.max_bytes) {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(self.pass_over(file, info, reason, String::new())),
        };
        let chunking = chunking_mark(&self.options.chunk);
        let modified_ns = settled(file.modified);
        let hash = hex_sha256(&bytes);
        if let Some(info) = info
            && info.document.metadata["chunking"] == chunking
            && remembered_reason(info).is_none()
            && info.document.content_hash == hash
        {
            return Ok(Prepared::Same {
                path,
                bytes: bytes.len() as u64,
                modified_ns,
            });
        }
        let document = match decode_hashed(file, bytes, hash.clone()) {
            Ok(document) => document,
            Err(reason) => return Ok(self.pass_over(file, info, reason, hash)),
        };
        let chunks = chunk(self.embedder, &document, &self.options.chunk)?;
        let earlier = info.or_else(|| self.plan.moved_from.get(&document.hash));
        let vectors = match earlier {
            Some(earlier) => self.known_vectors(earlier.id, &chunks)?,
            None => vec![None; chunks.len()],
        };
        let gaps = document.gaps.clone();
        let document = stored(path, &document, modified_ns, &chunking);
        Ok(Prepared::Changed(Box::new(Changed {
            document,
            chunks,
            vectors,
            is_update: info.is_some_and(|info| remembered_reason(info).is_none()),
            gaps,
        })))
    }

    fn pass_over(
        &self,
        file: &SourceFile,
        info: Option<&DocumentInfo>,
        reason: SkipReason,
        content_hash: String,
    ) -> Prepared {
        let is_out_of_reach = matches!(reason, SkipReason::Unreadable { .. });
        let skip = Skip {
            path: file.path.clone(),
            reason,
        };
        let bytes = file.bytes;
        if info.is_some() && is_out_of_reach {
            return Prepared::Kept { skip, bytes };
        }
        // What is out of reach is tried again every time.
        let document = (!is_out_of_reach).then(|| {
            let mut metadata = serde_json::json!({
                "chunking": chunking_mark(&self.options.chunk),
            });
            metadata[PASSED_OVER] = serde_json::json!(skip.reason);
            Box::new(StoredDocument {
                path: file.path.to_string_lossy().into_owned(),
                content_hash,
                size: bytes,
                modified_ns: settled(file.modified),
                title: None,
                metadata,
            })
        });
        Prepared::Skipped {
            skip,
            was_read: info.is_some_and(|info| remembered_reason(info).is_none()),
            bytes,
            document,
        }
    }

    /// The vectors of an earlier document for the chunks that it had too, told by headings and
    /// text, which are all that is embedded.
    fn known_vectors(&self, document_id: i64, chunks: &[Chunk]) -> Result<Vec<Option<Vec<f32>>>> {
        let earlier = self.collection.document_passages(document_id)?;
        let known: HashMap<(&[String], &str), &[f32]> = earlier
            .iter()
            .filter_map(|(chunk, vector)| {
                let key = (chunk.heading_path.as_slice(), chunk.text.as_str());
                Some((key, vector.as_deref()?))
            })
            .collect();
        let find = |chunk: &Chunk| {
            let key = (chunk.heading_path.as_slice(), chunk.text.as_str());
            known.get(&key).map(|vector| vector.to_vec())
        };
        Ok(chunks.iter().map(find).collect())
    }
}

fn stored(path: String, document: &Document, modified_ns: i64, chunking: &str) -> StoredDocument {
    let mut metadata = serde_json::json!({
        "kind": document.kind,
        "encoding": document.encoding,
        "chunking": chunking,
    });
    if let Some(places) = document.places() {
        metadata["places"] = serde_json::json!(places);
    }
    if !document.gaps.is_empty() {
        metadata[GAPS] = serde_json::json!(document.gaps);
    }
    StoredDocument {
        path,
        content_hash: document.hash.clone(),
        size: document.bytes,
        modified_ns,
        title: document.title().map(str::to_owned),
        metadata,
    }
}

/// The time of change to remember: none for a file that may still be changing, so that the next
/// run compares its content.
fn settled(modified: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    if now.saturating_sub(modified) < SETTLED_NANOSECONDS {
        STILL_CHANGING
    } else {
        modified
    }
}
