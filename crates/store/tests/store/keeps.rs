//! What is put in comes out again.

use serde_json::json;
use wenyi_store::{Collection, Filter, NewDocument};

use crate::fixtures::{assert_clean, document, found, options, place};

#[test]
fn a_document_comes_back_whole_after_reopening() {
    let (_folder, path) = place();
    let new = document(
        "文档/a.md",
        &[("first", &[1.0, 0.0]), ("第二", &[0.6, 0.8])],
    );
    let collection = Collection::create(&path, &options(2)).unwrap();
    collection.upsert_document(&new).unwrap();
    drop(collection);

    let collection = Collection::open(&path).unwrap();
    assert_eq!(collection.info().name, "notes");
    assert_eq!(collection.info().space, options(2).space);
    assert_eq!(collection.info().chunking, options(2).chunking);
    assert!(collection.info().created.elapsed().unwrap().as_secs() < 3600);
    let hits = collection
        .search(&[0.0, 1.0], 5, &Filter::default())
        .unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!((hits[0].score, hits[0].ordinal), (0.8, 1));
    assert_eq!(hits[0].chunk, new.chunks[1]);
    assert_eq!(hits[0].document.document, new.document);
    assert_eq!(hits[0].document.num_chunks, 2);
    assert_eq!(
        collection.vector(hits[0].chunk_id).unwrap().unwrap(),
        [0.6, 0.8]
    );
    assert_eq!(
        collection.document_chunks(hits[0].document.id).unwrap(),
        new.chunks
    );
    assert_clean(&collection);
}

#[test]
fn unit_vectors_are_kept_bit_for_bit_and_others_at_unit_length() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let nearly = [0.600_000_1, 0.799_999_9];
    collection
        .upsert_document(&document("a", &[("", &nearly), ("", &[30.0, 40.0])]))
        .unwrap();
    let mut hits = collection
        .search(&[1.0, 0.0], 5, &Filter::default())
        .unwrap();
    hits.sort_by_key(|hit| hit.ordinal);
    assert_eq!(
        collection.vector(hits[0].chunk_id).unwrap().unwrap(),
        nearly
    );
    assert_eq!(
        collection.vector(hits[1].chunk_id).unwrap().unwrap(),
        [0.6, 0.8]
    );
}

#[test]
fn replacing_keeps_the_id_and_nothing_else() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    collection
        .upsert_document(&document(
            "a",
            &[("old", &[1.0, 0.0]), ("old", &[0.0, 1.0])],
        ))
        .unwrap();
    let old = collection.document("a").unwrap().unwrap();
    let mut new = document("a", &[("new", &[0.0, 1.0])]);
    new.document.content_hash = "other".into();
    new.document.title = None;
    new.document.metadata = json!(null);
    collection.upsert_document(&new).unwrap();

    let info = collection.document("a").unwrap().unwrap();
    assert_eq!(
        (info.id, &info.document, info.num_chunks),
        (old.id, &new.document, 1)
    );
    let hits = collection
        .search(&[1.0, 0.0], 5, &Filter::default())
        .unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!((hits[0].score, hits[0].chunk.text.as_str()), (0.0, "new"));
    assert_clean(&collection);
}

#[test]
fn empty_documents_and_the_last_of_equal_paths_are_kept() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let first = document("b", &[("first", &[1.0, 0.0])]);
    let last = document("b", &[("last", &[1.0, 0.0])]);
    collection
        .upsert_documents(&[document("empty", &[]), first, last])
        .unwrap();
    let documents = collection.documents().unwrap();
    let kept: Vec<_> = documents
        .iter()
        .map(|info| (info.document.path.as_str(), info.num_chunks))
        .collect();
    assert_eq!(kept, [("b", 1), ("empty", 0)]);
    let hits = collection
        .search(&[1.0, 0.0], 5, &Filter::default())
        .unwrap();
    assert_eq!(hits[0].chunk.text, "last");
    assert_clean(&collection);
}

#[test]
fn removing_takes_chunks_and_vectors_along() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let documents: Vec<NewDocument> = ["a", "b", "c"]
        .iter()
        .map(|path| document(path, &[("", &[1.0, 0.0])]))
        .collect();
    collection.upsert_documents(&documents).unwrap();
    assert_eq!(
        collection.remove_documents(&["a", "no such", "c"]).unwrap(),
        2
    );
    assert_eq!(
        found(&collection, &[1.0, 0.0], 9, &Filter::default()),
        [("b".into(), 0)]
    );
    let statistics = collection.statistics().unwrap();
    assert_eq!(
        (
            statistics.num_documents,
            statistics.num_chunks,
            statistics.num_tokens
        ),
        (1, 1, 7)
    );
    assert!(statistics.num_bytes > 0);
    assert_clean(&collection);
}

#[test]
fn touching_changes_size_and_date_only() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let mut new = document("a", &[("", &[1.0, 0.0])]);
    collection.upsert_document(&new).unwrap();
    assert!(collection.touch_document("a", 99, -5).unwrap());
    assert!(!collection.touch_document("b", 99, -5).unwrap());
    (new.document.size, new.document.modified_ns) = (99, -5);
    assert_eq!(
        collection.document("a").unwrap().unwrap().document,
        new.document
    );
}

#[test]
fn ties_are_ordered_by_path_then_place_whatever_the_order_of_writing() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    for path in ["c", "a", "b", "a/b", "文"] {
        let same: &[f32] = &[1.0, 0.0];
        collection
            .upsert_document(&document(path, &[("", same), ("", same)]))
            .unwrap();
    }
    collection
        .upsert_document(&document("a", &[("", &[1.0, 0.0])]))
        .unwrap();
    let expected = [
        ("a", 0),
        ("a/b", 0),
        ("a/b", 1),
        ("b", 0),
        ("b", 1),
        ("c", 0),
        ("c", 1),
        ("文", 0),
        ("文", 1),
    ];
    for top_k in 0..=9 {
        let hits = found(&collection, &[1.0, 0.0], top_k, &Filter::default());
        let hits: Vec<_> = hits
            .iter()
            .map(|(path, ordinal)| (path.as_str(), *ordinal))
            .collect();
        assert_eq!(hits, expected[..top_k]);
    }
}

#[test]
fn filters_by_path_and_document() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    for path in ["a/1", "a/2", "ab", "b/1", "a"] {
        collection
            .upsert_document(&document(path, &[("", &[1.0, 0.0])]))
            .unwrap();
    }
    let paths = |path_prefix: Option<&str>, document_ids: Option<Vec<i64>>| {
        let filter = Filter {
            path_prefix: path_prefix.map(Into::into),
            document_ids,
            ..Filter::default()
        };
        let hits = found(&collection, &[1.0, 0.0], 9, &filter);
        hits.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let id = |path: &str| collection.document(path).unwrap().unwrap().id;
    assert_eq!(paths(Some("a/"), None), ["a/1", "a/2"]);
    assert_eq!(paths(Some("a"), None), ["a", "a/1", "a/2", "ab"]);
    assert_eq!(paths(Some("c"), None), Vec::<String>::new());
    assert_eq!(
        paths(None, Some(vec![id("b/1"), id("a/2"), 999])),
        ["a/2", "b/1"]
    );
    assert_eq!(paths(Some("a"), Some(vec![id("b/1"), id("ab")])), ["ab"]);
    assert_eq!(paths(None, Some(Vec::new())), Vec::<String>::new());
}
