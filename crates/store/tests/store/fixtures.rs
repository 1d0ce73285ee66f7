//! Small collections to test with.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use wenyi_store::{Chunk, Collection, CollectionOptions, Document, Filter, NewDocument, Space};

/// A folder that is removed at the end of the test, and a collection's path in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.wenyi");
    (folder, path)
}

pub(crate) fn options(dimensions: usize) -> CollectionOptions {
    CollectionOptions {
        name: "notes".into(),
        space: Space {
            fingerprint: json!({"model": "test", "width": dimensions}),
            dimensions,
        },
        chunking: json!({"chunk_size": 256}),
    }
}

/// A document with a chunk for each text and its vector.
pub(crate) fn document(path: &str, chunks: &[(&str, &[f32])]) -> NewDocument {
    NewDocument {
        document: Document {
            path: path.into(),
            content_hash: format!("hash of {path}"),
            size: 17,
            modified_ns: 1_700_000_000_123_456_789,
            title: Some("标题".into()),
            metadata: json!({"tags": ["a", "中"]}),
        },
        chunks: chunks
            .iter()
            .zip(0..)
            .map(|((text, _), index)| chunk(index, text))
            .collect(),
        vectors: chunks
            .iter()
            .flat_map(|(_, vector)| vector.iter().copied())
            .collect(),
    }
}

fn chunk(index: u64, text: &str) -> Chunk {
    Chunk {
        span: index * 100..index * 100 + text.len() as u64,
        first_line: index * 10 + 1,
        last_line: index * 10 + 3,
        heading_path: vec!["指南".into(), "Part \"two\"".into()],
        text: text.into(),
        num_tokens: 7,
    }
}

/// `(path, ordinal)` of what a search finds.
pub(crate) fn found(
    collection: &Collection,
    query: &[f32],
    top_k: usize,
    filter: &Filter,
) -> Vec<(String, u64)> {
    let hits = collection.search(query, top_k, filter).unwrap();
    hits.into_iter()
        .map(|hit| (hit.document.document.path, hit.ordinal))
        .collect()
}

pub(crate) fn assert_clean(collection: &Collection) {
    assert_eq!(collection.check().unwrap().problems, Vec::<String>::new());
}
