//! Embeds passages again whose vectors were lost: the collection has their texts.

use wenyi_store::Collection;

use super::chunk::kept;
use super::collection::expect_same_space;
use super::{ErrorKind, Result};
use crate::embed::Embedder;
use crate::progress::{Progress, Unit};

/// Passages that are embedded and written together.
const BATCH: usize = 64;

/// Gives the passages of `collection` that have lost their vector another one, made from their text;
/// returns how many there were. What was written stays if the rest is stopped.
///
/// # Errors
///
/// If the collection was made with another model, the model fails, the collection cannot be read or
/// written, or the caller asked to stop.
pub fn restore(
    embedder: &dyn Embedder,
    collection: &Collection,
    progress: &dyn Progress,
) -> Result<u64> {
    expect_same_space(collection, embedder.fingerprint())?;
    let lost = collection.chunks_without_vector()?;
    let total = lost.len() as u64;
    progress.start("embedding", Some(total), Unit::Items);
    let result = lost.chunks(BATCH).try_for_each(|passages| -> Result<()> {
        if progress.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        let text = |hit: &wenyi_store::Hit| {
            kept::embedding_text(embedder, &hit.chunk.heading_path, &hit.chunk.text)
        };
        let texts = passages.iter().map(text).collect::<Result<Vec<_>>>()?;
        let embeddings = kept::embed(embedder, &texts)?;
        let ids = passages.iter().map(|hit| hit.chunk_id);
        let vectors: Vec<(i64, &[f32])> = ids.zip(embeddings.iter()).collect();
        collection.restore_vectors(&vectors)?;
        progress.advance(passages.len() as u64);
        Ok(())
    });
    progress.finish();
    result.map(|()| total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::retrieve::bag_of_words::BagOfWords;
    use crate::retrieve::{ChunkOptions, IndexOptions, index, open_collection};

    #[test]
    fn lost_and_damaged_vectors_come_back_though_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let docs = folder.path().join("docs");
        std::fs::create_dir(&docs).unwrap();
        let text =
            "# Go\n\nFirst words.\n\n# Next\n\nGood morning, moon.\n\n# 夜\n\n床前明月光。\n";
        std::fs::write(docs.join("a.md"), text).unwrap();
        let path = folder.path().join("notes.db");
        let embedder = BagOfWords::new(128);
        let collection = open_collection(&path, &embedder, &ChunkOptions::default()).unwrap();
        let options = IndexOptions::default();
        index(
            &embedder,
            &collection,
            std::slice::from_ref(&docs),
            &options,
            &Silent,
        )
        .unwrap();
        std::fs::remove_dir_all(&docs).unwrap();
        let vectors = |collection: &Collection| {
            let ids = [1, 2, 3].map(|id| collection.vector(id).unwrap());
            ids.map(Option::unwrap)
        };
        let before = vectors(&collection);
        assert_eq!(restore(&embedder, &collection, &Silent).unwrap(), 0);

        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(
                "DROP TRIGGER vectors_outlive_chunks; DROP TRIGGER vectors_never_change;
                 PRAGMA foreign_keys = OFF; DELETE FROM vectors WHERE chunk = 1;
                 UPDATE vectors SET vector = zeroblob(length(vector)) WHERE chunk = 3",
            )
            .unwrap();
        assert!(!collection.check().unwrap().is_clean());
        let other = BagOfWords::new(128).retrained();
        let error = restore(&other, &collection, &Silent).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OtherModel { .. }));
        assert_eq!(restore(&embedder, &collection, &Silent).unwrap(), 2);
        let report = collection.check().unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(vectors(&collection), before);
    }
}
