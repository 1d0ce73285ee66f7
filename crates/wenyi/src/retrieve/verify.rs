//! Proves of some passages that their vectors are those of their texts, by embedding them again.
//!
//! Nothing in a collection says that a vector belongs to its text: only the model can.

use serde::Serialize;
use wenyi_store::{Collection, Hit};

use super::chunk::kept;
use super::collection::expect_same_space;
use super::{ErrorKind, Result};
use crate::embed::Embedder;
use crate::progress::{Progress, Unit};

/// The cosine that two vectors of one text have at least. The same weights in other numbers (bf16, int8)
/// or on another machine stay above 0.995; a text without its headings, or another text, falls below.
pub const SAME_TEXT: f32 = 0.99;

/// Passages that are embedded in one call.
const BATCH: usize = 64;

/// What was found out about vectors and texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Passages that were embedded again.
    pub verified: u64,
    /// Those whose vector is another one, in no order.
    pub differing: Vec<Differing>,
    /// True if the caller asked to stop.
    pub cancelled: bool,
}

/// A passage whose vector is not that of its text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differing {
    /// Its document.
    pub path: String,
    /// Its first line, counted from 1.
    pub first_line: u64,
    /// Its last line.
    pub last_line: u64,
    /// Of the vector that is kept and that of the text.
    pub cosine: f32,
}

/// Embeds up to `limit` passages, chosen at random, and compares the vectors with those that are kept:
/// with a cosine of at least [`SAME_TEXT`] they are of the same text. Changes nothing.
///
/// # Errors
///
/// If the collection was made with another model, the model fails, or the collection cannot be read.
pub fn verify(
    embedder: &dyn Embedder,
    collection: &Collection,
    limit: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    expect_same_space(collection, embedder.fingerprint())?;
    let sample = collection.sample_chunks(limit)?;
    let mut report = VerifyReport::default();
    progress.start("embedding", Some(sample.len() as u64), Unit::Items);
    let result = sample.chunks(BATCH).try_for_each(|passages| -> Result<()> {
        if progress.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        report
            .differing
            .extend(differing(embedder, collection, passages)?);
        report.verified += passages.len() as u64;
        progress.advance(passages.len() as u64);
        Ok(())
    });
    progress.finish();
    match result {
        Err(error) if is_cancelled(&error) => report.cancelled = true,
        other => other?,
    }
    Ok(report)
}

fn is_cancelled(error: &super::Error) -> bool {
    matches!(error.kind(), ErrorKind::Cancelled)
}

fn differing(
    embedder: &dyn Embedder,
    collection: &Collection,
    passages: &[Hit],
) -> Result<Vec<Differing>> {
    let text = |hit: &Hit| kept::embedding_text(embedder, &hit.chunk.heading_path, &hit.chunk.text);
    let texts = passages.iter().map(text).collect::<Result<Vec<_>>>()?;
    let embeddings = kept::embed(embedder, &texts)?;
    let mut differing = Vec::new();
    for (hit, again) in passages.iter().zip(embeddings.iter()) {
        // A passage may have been replaced since it was chosen.
        let Some(vector) = collection.vector(hit.chunk_id)? else {
            continue;
        };
        let mut best = cosine(&vector, again);
        if best < SAME_TEXT {
            let chunk = &hit.chunk;
            let texts = kept::possible_embedding_texts(&chunk.heading_path, &chunk.text);
            let embeddings = kept::embed(embedder, &texts)?;
            best = (embeddings.iter()).fold(best, |best, again| best.max(cosine(&vector, again)));
        }
        if best < SAME_TEXT {
            differing.push(Differing {
                path: hit.document.document.path.clone(),
                first_line: hit.chunk.first_line,
                last_line: hit.chunk.last_line,
                cosine: best,
            });
        }
    }
    Ok(differing)
}

/// Of two vectors of unit length; that of a vector with NaN is less than any.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    if cosine.is_nan() { -1.0 } else { cosine }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::retrieve::bag_of_words::BagOfWords;
    use crate::retrieve::{ChunkOptions, IndexOptions, index, open_collection};

    #[test]
    fn a_vector_of_another_text_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let docs = folder.path().join("docs");
        std::fs::create_dir(&docs).unwrap();
        // `Go` seems to be shown by the first line of its text.
        let text = "# Go\n\nIntro.\n\n## Next\n\nGood morning, moon.\n\n# 夜\n\n床前明月光。\n";
        std::fs::write(docs.join("a.md"), text).unwrap();
        std::fs::write(docs.join("b.md"), "The sun is bright.\n").unwrap();
        let path = folder.path().join("notes.db");
        let embedder = BagOfWords::new(128);
        let collection = open_collection(&path, &embedder, &ChunkOptions::default()).unwrap();
        let options = IndexOptions::default();
        index(&embedder, &collection, &[docs], &options, &Silent).unwrap();

        let report = verify(&embedder, &collection, 100, &Silent).unwrap();
        let all = collection.statistics().unwrap().num_chunks;
        assert_eq!((report.verified, report.differing), (all, Vec::new()));
        assert_eq!(
            verify(&embedder, &collection, 2, &Silent).unwrap().verified,
            2
        );

        // Two vectors change places: each is finite, of unit length and belongs to a chunk.
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(
                "DROP TRIGGER vectors_never_change;
                 CREATE TABLE was AS SELECT * FROM vectors;
                 UPDATE vectors SET vector = (SELECT vector FROM was WHERE was.chunk =
                     CASE vectors.chunk WHEN 1 THEN 2 ELSE 1 END) WHERE chunk IN (1, 2);
                 DROP TABLE was",
            )
            .unwrap();
        assert!(collection.check().unwrap().is_clean());
        let report = verify(&embedder, &collection, 100, &Silent).unwrap();
        assert_eq!(report.differing.len(), 2, "{report:?}");

        let other = BagOfWords::new(128).retrained();
        let error = verify(&other, &collection, 1, &Silent).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OtherModel { .. }));
    }
}
