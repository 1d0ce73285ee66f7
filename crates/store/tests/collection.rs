//! What a collection on disk promises, seen from outside.

use serde_json::json;
use tempfile::TempDir;
use wenyi_store::{Chunk, Collection, CollectionOptions, Document, Filter, NewDocument, Space};

fn options(dimensions: usize) -> CollectionOptions {
    CollectionOptions {
        name: "notes".into(),
        space: Space {
            fingerprint: json!({"model": "test", "dimensions": dimensions}),
            dimensions,
        },
        chunking: json!({"chunk_size": 256}),
    }
}

fn document(path: &str, texts_and_vectors: &[(&str, &[f32])]) -> NewDocument {
    let chunk = |(index, (text, _)): (usize, &(&str, &[f32]))| Chunk {
        span: index as u64 * 100..index as u64 * 100 + text.len() as u64,
        first_line: index as u64 * 10 + 1,
        last_line: index as u64 * 10 + 3,
        heading_path: vec!["标题".into(), "Part \"two\"".into()],
        text: (*text).into(),
        num_tokens: 7,
    };
    NewDocument {
        document: Document {
            path: path.into(),
            content_hash: "abc".into(),
            size: 17,
            modified_ns: 1_700_000_000_123_456_789,
            title: Some("A title".into()),
            metadata: json!({"tags": ["a", "中"]}),
        },
        chunks: texts_and_vectors.iter().enumerate().map(chunk).collect(),
        vectors: texts_and_vectors
            .iter()
            .flat_map(|(_, vector)| vector.iter().copied())
            .collect(),
    }
}

#[test]
fn what_is_kept_comes_back_after_reopening() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.wenyi");
    let new = document(
        "文档/a.md",
        &[("first", &[1.0, 0.0]), ("second", &[0.6, 0.8])],
    );
    let collection = Collection::create(&path, &options(2)).unwrap();
    collection.upsert_document(&new).unwrap();
    drop(collection);

    let collection = Collection::open(&path).unwrap();
    assert_eq!(collection.info().space, options(2).space);
    assert_eq!(collection.info().chunking, options(2).chunking);
    let hits = collection
        .search(&[0.0, 1.0], 5, &Filter::default())
        .unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!((hits[0].score, hits[0].ordinal), (0.8, 1));
    assert_eq!(hits[0].chunk, new.chunks[1]);
    assert_eq!(hits[0].document.document, new.document);
    assert_eq!(hits[0].document.num_chunks, 2);
    assert!(collection.check().unwrap().is_clean());
}
