//! A collection's passages embedded again with another model, while searches go on with the old one.

use serde::Serialize;
use wenyi_store::{Collection, Hit, Space};

use super::chunk::kept;
use super::{ErrorKind, Result};
use crate::embed::Embedder;
use crate::progress::{Progress, Unit};

/// Passages that are embedded in one call and written in one transaction: a second or two of work
/// that an interruption can undo.
const BATCH: usize = 64;

/// What a migration did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MigrateReport {
    /// Passages that were embedded now.
    pub embedded: u64,
    /// Passages that had been embedded before an interruption.
    pub resumed: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// True if the caller asked to stop; what was done until then is kept.
    pub cancelled: bool,
}

/// Embeds all passages of `collection` with `embedder` and puts the new vectors in the place of the
/// old ones, all at once and at the end. Passages keep their sizes; one that is too long for the
/// model counts whole (the mean of its parts).
///
/// The same call after an interruption goes on from there. The collection is to be opened anew
/// afterwards.
///
/// # Errors
///
/// If the collection is of this model already, the model fails, or the collection cannot be written.
pub fn migrate(
    embedder: &dyn Embedder,
    collection: &Collection,
    progress: &dyn Progress,
) -> Result<MigrateReport> {
    let fingerprint = embedder.fingerprint();
    collection.begin_migration(&Space {
        fingerprint: serde_json::to_value(fingerprint).unwrap_or_default(),
        dimensions: fingerprint.dimensions,
    })?;
    let mut report = MigrateReport::default();
    if let Some(begun) = collection.migration()? {
        report.resumed = begun.num_done;
        progress.start("embedding", Some(begun.num_pending), Unit::Items);
    }
    let result = run(embedder, collection, progress, &mut report);
    progress.finish();
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled) => report.cancelled = true,
        other => other?,
    }
    Ok(report)
}

fn run(
    embedder: &dyn Embedder,
    collection: &Collection,
    progress: &dyn Progress,
    report: &mut MigrateReport,
) -> Result<()> {
    loop {
        let pending = collection.pending_chunks(BATCH)?;
        // Passages may come until the very last moment.
        if pending.is_empty() && collection.finish_migration()? {
            return Ok(());
        }
        if progress.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        report.tokens += embed(embedder, collection, &pending)?;
        report.embedded += pending.len() as u64;
        progress.advance(pending.len() as u64);
    }
}

/// Embeds and keeps the vectors of some passages; returns the tokens that it took.
fn embed(embedder: &dyn Embedder, collection: &Collection, pending: &[Hit]) -> Result<u64> {
    if pending.is_empty() {
        return Ok(0);
    }
    let text = |hit: &Hit| kept::embedding_text(embedder, &hit.chunk.heading_path, &hit.chunk.text);
    let texts = pending.iter().map(text).collect::<Result<Vec<_>>>()?;
    let embeddings = kept::embed(embedder, &texts)?;
    let ids = pending.iter().map(|hit| hit.chunk_id);
    let vectors: Vec<(i64, &[f32])> = ids.zip(embeddings.iter()).collect();
    collection.write_migrated(&vectors)?;
    Ok(embeddings.usage.iter().map(|usage| usage.kept as u64).sum())
}
