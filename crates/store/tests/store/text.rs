//! The full-text index: what it finds, that it stays in step, and that old files get one.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use wenyi_store::{Collection, ErrorKind, Filter, Fusion};

use crate::fixtures::{assert_clean, document, options, place};

const X: &[f32] = &[1.0, 0.0];
const Y: &[f32] = &[0.0, 1.0];

fn collection() -> (TempDir, Collection) {
    let (folder, path) = place();
    let collection = Collection::create(path, &options(2)).unwrap();
    collection
        .upsert_documents(&[
            document("a.md", &[("Indexes are built with read_to_string.", X)]),
            document(
                "b.md",
                &[
                    ("没有网络的机器上也能使用模型。", Y),
                    ("read the string to me", X),
                ],
            ),
            document(
                "c.md",
                &[("a HashMap of strings, E0382", Y), ("天气很好", Y)],
            ),
        ])
        .unwrap();
    (folder, collection)
}

fn found(collection: &Collection, query: &str) -> Vec<String> {
    let hits = collection
        .search_text(query, 10, &Filter::default())
        .unwrap();
    assert!(
        hits.iter()
            .all(|hit| hit.bm25 == Some(hit.score) && hit.cosine.is_none())
    );
    hits.into_iter()
        .map(|hit| format!("{}#{}", hit.document.document.path, hit.ordinal))
        .collect()
}

#[test]
fn words_identifiers_and_chinese_are_found() {
    let (_folder, collection) = collection();
    assert_eq!(found(&collection, "indexing"), ["a.md#0"]);
    assert_eq!(found(&collection, "read_to_string")[0], "a.md#0");
    assert_eq!(found(&collection, "hashmap"), ["c.md#0"]);
    assert_eq!(found(&collection, "what is e0382?"), ["c.md#0"]);
    assert_eq!(found(&collection, "网络"), ["b.md#0"]);
    assert_eq!(found(&collection, "好"), ["c.md#1"]);
    // In the headings, which every chunk of the fixture has.
    assert_eq!(found(&collection, "指南").len(), 5);
    assert_eq!(found(&collection, "\"; OR NEAR( * ^"), Vec::<String>::new());
    assert_eq!(found(&collection, ""), Vec::<String>::new());
}

#[test]
fn the_index_follows_every_change() {
    let (_folder, collection) = collection();
    collection
        .upsert_document(&document("a.md", &[("other words", X)]))
        .unwrap();
    collection.remove_documents(&["c.md"]).unwrap();
    assert_eq!(found(&collection, "indexing hashmap"), Vec::<String>::new());
    assert_eq!(found(&collection, "other"), ["a.md#0"]);
    assert_clean(&collection);
}

#[test]
fn a_filter_holds_for_words_too() {
    let (_folder, collection) = collection();
    let filter = Filter {
        path_prefix: Some("b".into()),
        ..Filter::default()
    };
    let hits = collection.search_text("read string", 10, &filter).unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].document.document.path, "b.md");
}

#[test]
fn the_only_chunk_is_the_best_one() {
    let (_folder, path) = place();
    let collection = Collection::create(path, &options(2)).unwrap();
    let only = document("a.md", &[("Cats sleep.", &[0.8, 0.6])]);
    collection.upsert_document(&only).unwrap();
    let fusion = Fusion::Weighted { text: 0.5 };
    let score = |text| {
        let hits = collection.search_hybrid(X, text, fusion, 1, &Filter::default());
        hits.unwrap()[0].score
    };
    // Its meaning's share at least; with its words it says more.
    assert!((score("dogs") - 0.5).abs() < 1e-6);
    assert!(score("cats") > 0.5);
}

#[test]
fn both_sides_count_in_a_hybrid_search() {
    let (_folder, collection) = collection();
    let fusions = [
        Fusion::ReciprocalRank {
            k: 60.0,
            text_weight: 1.0,
        },
        Fusion::Weighted { text: 0.5 },
    ];
    for fusion in fusions {
        let search = |vector, text, top_k| {
            collection
                .search_hybrid(vector, text, fusion, top_k, &Filter::default())
                .unwrap()
        };
        let hits = search(Y, "hashmap", 9);
        assert_eq!(hits.len(), 5);
        assert_eq!(
            (hits[0].document.document.path.as_str(), hits[0].ordinal),
            ("c.md", 0)
        );
        assert!(hits[0].bm25.is_some() && hits[0].cosine == Some(1.0));
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        // Equal in every respect: by path and place.
        assert_eq!(
            (hits[1].document.document.path.as_str(), hits[1].ordinal),
            ("b.md", 0)
        );
        assert_eq!(search(Y, "hashmap", 2), hits[..2]);
        // Words that nothing has leave the order to the vectors.
        assert_eq!(search(X, "zebra", 1)[0].document.document.path, "a.md");
        assert_eq!(search(X, "zebra", 0), []);
    }
}

#[test]
fn a_text_index_that_disagrees_is_told_and_repaired() {
    let (_folder, collection) = collection();
    let other = Connection::open(collection.path()).unwrap();
    for change in [
        "DELETE FROM chunk_terms WHERE rowid = 1",
        "INSERT INTO chunk_terms (rowid, terms) VALUES (77, 'stray')",
        "UPDATE chunks SET text = 'changed behind its back' WHERE id = 2",
    ] {
        other.execute_batch(change).unwrap();
        let report = collection.check().unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].contains("text index"), "{report:?}");
        assert!(collection.repair().unwrap().is_clean());
        assert_clean(&collection);
    }
    assert_eq!(found(&collection, "behind"), ["b.md#0"]);
}

/// `version-1.wenyi` was written by the version before the text index.
fn old_file(folder: &Path) -> std::path::PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1.wenyi");
    let path = folder.join("old.wenyi");
    fs::copy(fixture, &path).unwrap();
    path
}

#[test]
fn a_file_of_version_1_is_upgraded_when_it_is_opened_to_write() {
    let folder = TempDir::new().unwrap();
    let path = old_file(folder.path());
    let query = [1.0, 0.0, 0.0, 0.0];
    let old = Collection::open_read_only(&path).unwrap();
    let before = old.search(&query, 9, &Filter::default()).unwrap();
    assert_eq!(before.len(), 4);
    let error = old
        .search_text("ownership", 3, &Filter::default())
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NoTextIndex { .. }),
        "{error:?}"
    );
    assert!(error.hint().is_some());
    assert_clean(&old);
    assert!(!old.has_text_index().unwrap());

    let new = Collection::open(&path).unwrap();
    assert!(new.has_text_index().unwrap());
    assert_eq!(new.info(), old.info());
    assert_eq!(new.search(&query, 9, &Filter::default()).unwrap(), before);
    assert_eq!(found(&new, "ownership"), ["ownership.md#0"]);
    assert_eq!(found(&new, "read_to_string"), ["ownership.md#1"]);
    assert_eq!(found(&new, "网络"), ["所有权.md#1"]);
    assert_clean(&new);
    // The handle that was open all along finds by words now.
    assert_eq!(found(&old, "网络"), ["所有权.md#1"]);
    drop((new, old));
    assert_clean(&Collection::open(&path).unwrap());
}

#[test]
fn conditions_hold_for_vectors_and_words() {
    let (_folder, collection) = collection();
    let mut zh = document("zh.md", &[("read the strings", X)]);
    zh.document.metadata = serde_json::json!({"lang": "zh", "n": 3});
    collection.upsert_document(&zh).unwrap();
    let paths = |json: serde_json::Value| -> Vec<Vec<String>> {
        let filter = Filter {
            conditions: Some(wenyi_store::Conditions::from_json(&json).unwrap()),
            ..Filter::default()
        };
        let fusion = Fusion::default();
        let sides = [
            collection.search(X, 9, &filter),
            collection.search_text("read the strings", 9, &filter),
            collection.search_hybrid(X, "read strings", fusion, 9, &filter),
        ];
        let path = |hit: wenyi_store::Hit| hit.document.document.path;
        sides
            .map(|hits| hits.unwrap().into_iter().map(path).collect())
            .into()
    };
    for found in paths(serde_json::json!({"must": {"key": "n", "range": {"gt": 2}}})) {
        assert_eq!(found, ["zh.md"]);
    }
    for found in paths(serde_json::json!({"must": {"key": "path", "match": {"any": ["b.md"]}}})) {
        assert!(
            !found.is_empty() && found.iter().all(|path| path == "b.md"),
            "{found:?}"
        );
    }
    for found in paths(serde_json::json!({"must": {"key": "tags", "is_empty": true}})) {
        assert_eq!(found, ["zh.md"]);
    }
    for found in paths(serde_json::json!({"must": {"has_id": ["no such"]}})) {
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn vacuum_gives_room_back_and_loses_nothing() {
    let (_folder, collection) = collection();
    let long = "many words in a row ".repeat(5000);
    collection
        .upsert_document(&document("long.md", &[(&long, X)]))
        .unwrap();
    collection.remove_documents(&["long.md"]).unwrap();
    let before = collection.statistics().unwrap().num_bytes;
    collection.vacuum().unwrap();
    assert!(collection.statistics().unwrap().num_bytes < before);
    assert_eq!(found(&collection, "hashmap"), ["c.md#0"]);
    assert_eq!(
        collection.search(X, 9, &Filter::default()).unwrap().len(),
        5
    );
    collection
        .upsert_document(&document("new.md", &[("zebra", X)]))
        .unwrap();
    assert_eq!(found(&collection, "zebra"), ["new.md#0"]);
    assert_clean(&collection);
}
