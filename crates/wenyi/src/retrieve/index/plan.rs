//! Which files may have changed, and which documents are gone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wenyi_store::{Collection, DocumentInfo};

use super::IndexOptions;
use crate::progress::Progress;
use crate::retrieve::Result;
use crate::retrieve::chunk::ChunkOptions;
use crate::retrieve::load::{Skip, SkipReason, SourceFile, walk};

/// Raised when the same file is read or cut otherwise by a newer version, so that documents are read
/// and cut again.
const CHUNKING_VERSION: u32 = 3;

pub(super) struct Plan {
    /// Files to read, with the document that they replace.
    pub(super) work: Vec<(SourceFile, Option<DocumentInfo>)>,
    /// Bytes of those files.
    pub(super) bytes: u64,
    /// Documents whose file is gone.
    pub(super) vanished: Vec<String>,
    /// How many of them had been read.
    pub(super) num_vanished: u64,
    /// Those documents by their content, for files that only moved.
    pub(super) moved_from: HashMap<String, DocumentInfo>,
    pub(super) unchanged: u64,
    pub(super) kept: u64,
    pub(super) skipped: Vec<Skip>,
    /// Files that were read in part.
    pub(super) incomplete: Vec<Skip>,
}

impl Plan {
    pub(super) fn make(
        collection: &Collection,
        roots: &[PathBuf],
        options: &IndexOptions,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let listing = walk(roots, &options.load, progress)?;
        let below = |path: &str| {
            listing
                .roots
                .iter()
                .any(|root| Path::new(path).starts_with(root))
        };
        let mut known: HashMap<String, DocumentInfo> = collection
            .documents()?
            .into_iter()
            .filter(|info| below(&info.document.path))
            .map(|info| (info.document.path.clone(), info))
            .collect();
        let mut plan = Self {
            work: Vec::new(),
            bytes: 0,
            vanished: Vec::new(),
            num_vanished: 0,
            moved_from: HashMap::new(),
            unchanged: 0,
            kept: 0,
            skipped: listing.skipped,
            incomplete: Vec::new(),
        };
        let chunking = chunking_mark(&options.chunk);
        for file in listing.files {
            let info = file.path.to_str().and_then(|path| known.remove(path));
            let unchanged = info
                .as_ref()
                .is_some_and(|info| is_unchanged(info, &file, &chunking));
            let passed_over = info.as_ref().and_then(remembered_reason);
            if let (true, Some(reason)) = (unchanged, passed_over) {
                let path = file.path;
                plan.skipped.push(Skip { path, reason });
            } else if unchanged && !options.compare_content {
                plan.unchanged += 1;
                let gaps = info.map(|info| info.document.metadata[GAPS].clone());
                let gaps = gaps.and_then(|gaps| Vec::<SkipReason>::deserialize(gaps).ok());
                for reason in gaps.unwrap_or_default() {
                    let path = file.path.clone();
                    plan.incomplete.push(Skip { path, reason });
                }
            } else {
                plan.bytes += file.bytes;
                plan.work.push((file, info));
            }
        }
        plan.drop_vanished(known);
        Ok(plan)
    }

    /// What is left of the known documents is gone, unless it lies where nothing could be read.
    fn drop_vanished(&mut self, known: HashMap<String, DocumentInfo>) {
        let unreadable: HashSet<&Path> = self
            .skipped
            .iter()
            .filter(|skip| matches!(skip.reason, SkipReason::Unreadable { .. }))
            .map(|skip| skip.path.as_path())
            .collect();
        for (path, info) in known {
            if Path::new(&path)
                .ancestors()
                .any(|above| unreadable.contains(above))
            {
                self.kept += 1;
                continue;
            }
            self.num_vanished += u64::from(remembered_reason(&info).is_none());
            self.moved_from
                .insert(info.document.content_hash.clone(), info);
            self.vanished.push(path);
        }
        self.vanished.sort();
    }
}

fn is_unchanged(info: &DocumentInfo, file: &SourceFile, chunking: &str) -> bool {
    info.document.size == file.bytes
        && info.document.modified_ns == file.modified
        && info.document.metadata["chunking"] == chunking
}

/// Why a file was passed over the last time, if it was: a document without passages stands for it, so
/// that a damaged file is not read at every search.
pub(super) fn remembered_reason(info: &DocumentInfo) -> Option<SkipReason> {
    SkipReason::deserialize(&info.document.metadata[PASSED_OVER]).ok()
}

/// The metadata that say so.
pub(super) const PASSED_OVER: &str = "passed_over";

/// The metadata that say what of a file could not be read.
pub(super) const GAPS: &str = "gaps";

/// Stands for how a document was cut; kept with every document.
pub(super) fn chunking_mark(options: &ChunkOptions) -> String {
    format!(
        "{CHUNKING_VERSION}/{}/{}",
        options.chunk_size, options.overlap
    )
}
