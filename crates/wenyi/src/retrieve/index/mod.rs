//! Brings a collection in step with folders: embeds what is new, keeps what is not, drops what is
//! gone.
//!
//! `plan` compares the folders with the collection by size and time of change; `prepare` reads and
//! cuts the files that may have changed, ahead of the model, on all cores; `batch` embeds the chunks
//! of many documents in one call, as many as `pace` says; `write` writes them in one transaction while
//! the model goes on.
//! What a transaction has acknowledged outlives `kill -9`, and the next run goes on behind it.

mod plan;
mod prepare;
mod pace;
mod batch;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use wenyi_store::Collection;

use self::batch::Batch;
use self::pace::Pace;
use self::plan::Plan;
use self::prepare::{Changed, Prepared, Reader};
use self::write::{Write, write_all};
use super::chunk::ChunkOptions;
use super::collection::expect_same_space;
use super::load::{LoadOptions, Skip, SkipReason};
use super::{ErrorKind, Result};
use crate::embed::Embedder;
use crate::progress::{Progress, Unit};

/// Text that is cut into chunks before the first is embedded, so that the total can be told: one
/// or two seconds of tokenizing.
const LOOK_AHEAD_BYTES: u64 = 4 << 20;

/// How to index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Which files are read.
    pub load: LoadOptions,
    /// How they are cut.
    pub chunk: ChunkOptions,
    /// Tokens that are embedded in one call and written in one transaction, at most (but a document is
    /// written whole).
    pub batch_tokens: usize,
    /// With a model on this machine, about how long it takes until what is embedded is written.
    pub batch_time: Duration,
    /// Compare every file's content, also where size and time of change are as before.
    pub compare_content: bool,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            load: LoadOptions::default(),
            chunk: ChunkOptions::default(),
            // 64 chunks of 256 tokens: a call that fills all cores.
            batch_tokens: 16_384,
            // The work that a kill or a power cut can undo.
            batch_time: Duration::from_secs(2),
            compare_content: false,
        }
    }
}

/// What indexing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IndexReport {
    /// Documents that were not in the collection.
    pub added: u64,
    /// Documents that have changed.
    pub updated: u64,
    /// Documents whose file is gone, or can no longer be read.
    pub removed: u64,
    /// Documents that are as they were.
    pub unchanged: u64,
    /// Documents that could not be read this time and are kept as they were.
    pub kept: u64,
    /// Chunks that were embedded.
    pub embedded_chunks: u64,
    /// Chunks of changed or moved documents whose vector was there already.
    pub reused_chunks: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Files that were not read, and why; other kinds of files are only counted.
    pub skipped: Vec<Skip>,
    /// Files that were read in part, and what of them was not.
    pub incomplete: Vec<Skip>,
    /// How many files of other kinds were passed over, by extension.
    pub other_kinds: BTreeMap<String, u64>,
    /// True if the caller asked to stop; what was done until then is kept.
    pub cancelled: bool,
    /// How long it took.
    pub seconds: f64,
}

impl IndexReport {
    /// The files that should have been read and could not be.
    pub fn failures(&self) -> impl Iterator<Item = &Skip> {
        self.skipped.iter().filter(|skip| skip.reason.is_failure())
    }
}

/// Brings `collection` in step with the files below `roots`. Documents elsewhere are left alone.
///
/// Files that cannot be read are noted and listed in the report; they do not end the work. When
/// the caller asks to stop, what has been embedded is kept and the report says so.
///
/// # Errors
///
/// If a root does not exist, the collection was made with another model, the model fails, or the
/// collection cannot be written.
pub fn index(
    embedder: &dyn Embedder,
    collection: &Collection,
    roots: &[PathBuf],
    options: &IndexOptions,
    progress: &dyn Progress,
) -> Result<IndexReport> {
    let started = Instant::now();
    expect_same_space(collection, embedder.fingerprint())?;
    let mut run = Run {
        embedder,
        collection,
        options,
        progress,
        report: IndexReport::default(),
    };
    match run.all(roots) {
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled) => run.report.cancelled = true,
        other => other?,
    }
    // Files are prepared by several threads, and come in any order.
    run.report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    run.report.incomplete.sort_by(|a, b| a.path.cmp(&b.path));
    run.report.seconds = started.elapsed().as_secs_f64();
    Ok(run.report)
}

struct Run<'a> {
    embedder: &'a dyn Embedder,
    collection: &'a Collection,
    options: &'a IndexOptions,
    progress: &'a dyn Progress,
    report: IndexReport,
}

impl Run<'_> {
    fn all(&mut self, roots: &[PathBuf]) -> Result<()> {
        let mut plan = Plan::make(self.collection, roots, self.options, self.progress)?;
        self.report.unchanged = plan.unchanged;
        self.report.kept = plan.kept;
        self.report.incomplete = std::mem::take(&mut plan.incomplete);
        for skip in std::mem::take(&mut plan.skipped) {
            self.skip(skip);
        }
        self.note_other_kinds();
        self.embed(&plan)?;
        // Last, because a moved file takes over the vectors of the path that is gone.
        if !plan.vanished.is_empty() {
            self.collection.remove_documents(&plan.vanished)?;
        }
        self.report.removed += plan.num_vanished;
        Ok(())
    }

    fn embed(&mut self, plan: &Plan) -> Result<()> {
        // Short queues: the readers stay ahead of the model, the model ahead of the writer, and
        // memory flat.
        let (prepared, to_embed) = mpsc::sync_channel(16);
        let (embedded, to_write) = mpsc::sync_channel(1);
        let collection = self.collection;
        let reader = Reader {
            plan,
            embedder: self.embedder,
            collection,
            options: self.options,
            progress: self.progress,
        };
        std::thread::scope(|scope| {
            scope.spawn(move || reader.prepare_all(&prepared));
            let writer = scope.spawn(move || write_all(collection, &to_write));
            let result = self.consume(plan, &to_embed, &embedded);
            // A reader that waits to send learns that nobody listens, the writer that all came.
            drop((to_embed, embedded));
            let (done, written) = writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.report.added += done.added;
            self.report.updated += done.updated;
            self.report.removed += done.removed;
            self.report.embedded_chunks += done.embedded_chunks;
            self.report.reused_chunks += done.reused_chunks;
            self.report.tokens += done.tokens;
            written.and(result)
        })
    }

    fn consume(
        &mut self,
        plan: &Plan,
        receiver: &mpsc::Receiver<Result<Prepared>>,
        writer: &mpsc::SyncSender<Write>,
    ) -> Result<()> {
        let (mut ahead, mut bytes, mut tokens) = (Vec::new(), 0, 0);
        while bytes < LOOK_AHEAD_BYTES
            && let Ok(prepared) = receiver.recv()
        {
            let prepared = prepared?;
            bytes += prepared.bytes();
            tokens += prepared.tokens();
            ahead.push(prepared);
        }
        if ahead.is_empty() {
            return Ok(());
        }
        // All of the files in most cases; else the rest is taken to be like the first.
        let total =
            u128::from(tokens) * u128::from(plan.bytes.max(bytes)) / u128::from(bytes.max(1));
        self.progress
            .start("embedding", u64::try_from(total).ok(), Unit::Tokens);
        let all = ahead.into_iter().map(Ok).chain(receiver.iter());
        let result = self.embed_batches(all, writer);
        self.progress.finish();
        result
    }

    fn embed_batches(
        &mut self,
        all: impl Iterator<Item = Result<Prepared>>,
        writer: &mpsc::SyncSender<Write>,
    ) -> Result<()> {
        let mut pace = Pace::new(self.options, self.embedder);
        let mut batch = Batch::default();
        let mut same = Vec::new();
        for prepared in all {
            match prepared? {
                Prepared::Skipped {
                    skip,
                    was_read,
                    document,
                    ..
                } => {
                    if let Some(document) = document {
                        hand_over(writer, Write::PassedOver { document, was_read })?;
                    }
                    self.skip(skip);
                }
                Prepared::Kept { skip, .. } => {
                    self.report.kept += 1;
                    self.skip(skip);
                }
                Prepared::Same {
                    path,
                    bytes,
                    modified_ns,
                } => {
                    self.report.unchanged += 1;
                    same.push((path, bytes, modified_ns));
                }
                Prepared::Changed(mut document) => {
                    self.note_gaps(&mut document);
                    batch.push(*document);
                }
            }
            if batch.tokens() >= pace.tokens() {
                self.flush(&mut batch, &mut pace, writer)?;
            }
        }
        self.flush(&mut batch, &mut pace, writer)?;
        if !same.is_empty() {
            hand_over(writer, Write::Touch(same))?;
        }
        Ok(())
    }

    fn flush(
        &self,
        batch: &mut Batch,
        pace: &mut Pace,
        writer: &mpsc::SyncSender<Write>,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(batch);
        let started = Instant::now();
        let (documents, done) = batch.embed(self.embedder, pace.tokens(), self.progress)?;
        pace.learn(done.tokens, started.elapsed());
        hand_over(writer, Write::Batch(documents, done))
    }

    fn skip(&mut self, skip: Skip) {
        if let SkipReason::OtherKind { extension } = skip.reason {
            *self.report.other_kinds.entry(extension).or_default() += 1;
        } else {
            self.report.skipped.push(skip);
        }
    }

    fn note_gaps(&mut self, document: &mut Changed) {
        for reason in document.gaps.drain(..) {
            self.report.incomplete.push(Skip {
                path: document.document.path.clone().into(),
                reason,
            });
        }
    }

    fn note_other_kinds(&self) {
        let others = &self.report.other_kinds;
        if !others.is_empty() {
            let list: Vec<String> = others
                .iter()
                .map(|(extension, count)| format!("{count} .{extension}"))
                .collect();
            let total: u64 = others.values().sum();
            self.progress.note(&format!(
                "passed over {total} files of kinds that are not read: {}",
                list.join(", ")
            ));
        }
    }
}

/// Waits until the writer takes it; a writer that is gone says itself why.
fn hand_over(writer: &mpsc::SyncSender<Write>, write: Write) -> Result<()> {
    let sent = writer.send(write);
    sent.map_err(|_| ErrorKind::Cancelled.into())
}

#[cfg(test)]
mod tests;
