//! Reads files and cuts them, ahead of the model.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use wenyi_store::{Collection, Document as StoredDocument, DocumentInfo};

use super::IndexOptions;
use super::plan::{Plan, chunking_mark};
use crate::embed::Embedder;
use crate::progress::Progress;
use crate::retrieve::chunk::{Chunk, chunk};
use crate::retrieve::load::{
    Document, Skip, SkipReason, SourceFile, decode_document, hex_sha256, read_bytes,
};
use crate::retrieve::{ErrorKind, Result};

/// A file changed this recently may change again without a new time: file systems count in steps
/// of up to two seconds.
const SETTLED_NANOSECONDS: i64 = 2_000_000_000;

/// Remembered as the time of such a file; no file has it.
const STILL_CHANGING: i64 = -1;

/// A file that was looked at.
pub(super) enum Prepared {
    /// It holds no text; the document that was there goes.
    Skipped {
        skip: Skip,
        replaces: Option<String>,
        bytes: u64,
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

/// Sends every file of the plan's work, prepared, until nobody listens.
pub(super) fn prepare_all(
    plan: &Plan,
    embedder: &dyn Embedder,
    collection: &Collection,
    options: &IndexOptions,
    progress: &dyn Progress,
    sender: &SyncSender<Result<Prepared>>,
) {
    let reader = Reader {
        plan,
        embedder,
        collection,
        options,
    };
    for (file, info) in &plan.work {
        let prepared = if progress.is_cancelled() {
            Err(ErrorKind::Cancelled.into())
        } else {
            reader.prepare(file, info.as_ref())
        };
        let failed = prepared.is_err();
        if sender.send(prepared).is_err() || failed {
            return;
        }
    }
}

struct Reader<'a> {
    plan: &'a Plan,
    embedder: &'a dyn Embedder,
    collection: &'a Collection,
    options: &'a IndexOptions,
}

impl Reader<'_> {
    fn prepare(&self, file: &SourceFile, info: Option<&DocumentInfo>) -> Result<Prepared> {
        let path = file.path.to_string_lossy().into_owned();
        let bytes = match read_bytes(&file.path, self.options.load.max_bytes) {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(self.pass_over(file, info, reason)),
        };
        let chunking = chunking_mark(&self.options.chunk);
        let modified_ns = settled(file.modified);
        if let Some(info) = info
            && info.document.metadata["chunking"] == chunking
            && info.document.content_hash == hex_sha256(&bytes)
        {
            return Ok(Prepared::Same {
                path,
                bytes: bytes.len() as u64,
                modified_ns,
            });
        }
        let document = match decode_document(file, bytes) {
            Ok(document) => document,
            Err(reason) => return Ok(self.pass_over(file, info, reason)),
        };
        let chunks = chunk(self.embedder, &document, &self.options.chunk)?;
        let earlier = info.or_else(|| self.plan.moved_from.get(&document.hash));
        let vectors = match earlier {
            Some(earlier) => self.known_vectors(earlier.id, &chunks)?,
            None => vec![None; chunks.len()],
        };
        let document = stored(path, &document, modified_ns, &chunking);
        Ok(Prepared::Changed(Box::new(Changed {
            document,
            chunks,
            vectors,
            is_update: info.is_some(),
        })))
    }

    fn pass_over(
        &self,
        file: &SourceFile,
        info: Option<&DocumentInfo>,
        reason: SkipReason,
    ) -> Prepared {
        let keep = info.is_some() && matches!(reason, SkipReason::Unreadable { .. });
        let skip = Skip {
            path: file.path.clone(),
            reason,
        };
        let bytes = file.bytes;
        if keep {
            return Prepared::Kept { skip, bytes };
        }
        Prepared::Skipped {
            skip,
            replaces: info.map(|info| info.document.path.clone()),
            bytes,
        }
    }

    /// The vectors of an earlier document for the chunks that it had too, told by headings and
    /// text, which are all that is embedded.
    fn known_vectors(&self, document_id: i64, chunks: &[Chunk]) -> Result<Vec<Option<Vec<f32>>>> {
        let earlier = self.collection.document_chunks(document_id)?;
        let values = self.collection.document_vectors(document_id)?;
        let rows = values.chunks_exact(self.embedder.dimensions().max(1));
        let known: HashMap<(&[String], &str), &[f32]> = earlier
            .iter()
            .map(|chunk| (chunk.heading_path.as_slice(), chunk.text.as_str()))
            .zip(rows)
            .collect();
        let find = |chunk: &Chunk| {
            let key = (chunk.heading_path.as_slice(), chunk.text.as_str());
            known.get(&key).map(|vector| vector.to_vec())
        };
        Ok(chunks.iter().map(find).collect())
    }
}

fn stored(path: String, document: &Document, modified_ns: i64, chunking: &str) -> StoredDocument {
    StoredDocument {
        path,
        content_hash: document.hash.clone(),
        size: document.bytes,
        modified_ns,
        title: document.title().map(str::to_owned),
        metadata: serde_json::json!({
            "kind": document.kind,
            "encoding": document.encoding,
            "chunking": chunking,
        }),
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
