//! Points found by vector and words together, and files from before that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use wenyi_store::vector_store::{
    Point, PointId, SearchRequest, Selection, SqliteDatabase, SqliteStore, StoreOptions,
    VectorStore,
};
use wenyi_store::{Conditions, ErrorKind, Fusion};

const ABSOLUTE: Fusion = Fusion::Absolute {
    vector: 1.0,
    text: 1.0,
};

/// A file that the version before text indexes wrote, with three points in `notes`.
fn old_file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-2.points");
    std::fs::copy(old, &path).unwrap();
    (folder, path)
}

fn ask(store: &SqliteStore, vector: &[f32], text: &str) -> Vec<(String, f32)> {
    let request = SearchRequest::default();
    let found = store.search_hybrid(vector, text, ABSOLUTE, &request);
    let found = found.unwrap().into_iter();
    found
        .map(|found| (found.point.id.to_string(), found.score))
        .collect()
}

fn ids(store: &SqliteStore, vector: &[f32], text: &str) -> Vec<String> {
    let found = ask(store, vector, text).into_iter();
    found.map(|(id, _)| id).collect()
}

fn assert_clean(database: &SqliteDatabase) {
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
}

fn indexed(database: &SqliteDatabase, name: &str) -> Arc<SqliteStore> {
    let options = StoreOptions {
        dimensions: Some(2),
        ..StoreOptions::default()
    };
    let store = database.collection_or_create(name, &options).unwrap();
    store.keep_text_index().unwrap();
    store
}

#[test]
fn an_older_file_gets_its_index_when_it_is_asked_for() {
    let (_folder, path) = old_file();
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.collection("notes").unwrap();
    assert!(!store.has_text_index().unwrap());
    let refused = store.search_hybrid(&[1.0, 0.0], "moon", ABSOLUTE, &SearchRequest::default());
    let error = refused.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NoTextIndex { .. }),
        "{error:?}"
    );
    store.keep_text_index().unwrap();
    assert!(store.has_text_index().unwrap());
    // No vector is close to this one: the words decide, and without any the order of coming.
    let far = [-1.0, 0.0];
    assert_eq!(ids(&store, &far, "E4711"), ["c", "1", "b"]);
    assert_eq!(ids(&store, &far, "明月"), ["b", "1", "c"]);
    assert_eq!(ids(&store, &far, "nothing of it"), ["1", "b", "c"]);
    assert_clean(&database);
    drop((store, database));
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.collection("notes").unwrap();
    assert!(store.has_text_index().unwrap());
    assert_eq!(ids(&store, &far, "明月")[0], "b");
}

#[test]
fn the_index_follows_the_points() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    let (store, other) = (indexed(&database, "a"), indexed(&database, "b"));
    let east = |id: &str, text: &str| Point::new(id, [1.0, 0.0]).with_text(text);
    let rest = (0..40).map(|n| east(&format!("z{n}"), "Nothing of interest."));
    store.upsert(&rest.collect::<Vec<_>>()).unwrap();
    store
        .upsert(&[east("1", "red apples"), east("2", "green pears")])
        .unwrap();
    other.upsert(&[east("1", "green pears")]).unwrap();
    assert_eq!(ids(&store, &[0.0, 1.0], "pears")[0], "2");
    store
        .upsert(&[east("1", "green pears"), east("2", "red apples")])
        .unwrap();
    assert_eq!(ids(&store, &[0.0, 1.0], "pears")[0], "1");
    store
        .delete(&Selection::Ids(vec![PointId::from("1")]))
        .unwrap();
    let without: Vec<f32> = ask(&store, &[0.0, 1.0], "pears")
        .into_iter()
        .map(|(_, score)| score)
        .collect();
    assert!(without.iter().all(|score| *score == 0.0), "{without:?}");
    assert_clean(&database);
    assert!(database.delete_collection("a").unwrap());
    assert_eq!(ids(&other, &[0.0, 1.0], "pears"), ["1"]);
    assert_clean(&database);
    assert!(database.repair().unwrap().is_clean());
    assert_eq!(ids(&other, &[0.0, 1.0], "pears"), ["1"]);
}

#[test]
fn scores_lie_between_0_and_1_and_are_those_of_the_point_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    let store = indexed(&database, "a");
    let point = |id: &str, vector: &[f32], text: &str, lang: &str| {
        let payload = json!({"lang": lang});
        let payload = payload.as_object().unwrap().clone();
        Point::new(id, vector).with_text(text).with_payload(payload)
    };
    let points = [
        point("near", &[0.8, 0.6], "the sun", "en"),
        point("both", &[0.8, 0.6], "the moon and the night", "en"),
        point("word", &[-1.0, 0.0], "the moon", "en"),
        point("away", &[-1.0, 0.1], "the sea", "de"),
        point("five", &[-0.9, 0.5], "a lake", "de"),
    ];
    store.upsert(&points).unwrap();
    let found = ask(&store, &[1.0, 0.0], "moon");
    let score = |id: &str| {
        found
            .iter()
            .find(|(other, _)| other == id)
            .map(|(_, score)| *score)
            .unwrap()
    };
    // A cosine below 0 is none; words raise what the cosine leaves.
    assert!((score("near") - 0.8).abs() < 1e-6 && score("away") == 0.0);
    assert!(score("both") > 0.85 && score("both") < 1.0, "{found:?}");
    assert!(score("word") > 0.2 && score("word") < 0.8, "{found:?}");
    let only = |lang: &str, threshold: Option<f32>| {
        let filter = json!({"must": [{"key": "lang", "match": {"value": lang}}]});
        let request = SearchRequest {
            filter: Some(Conditions::from_json(&filter).unwrap()),
            score_threshold: threshold,
            top_k: 2,
            ..SearchRequest::default()
        };
        let found = store.search_hybrid(&[1.0, 0.0], "moon", ABSOLUTE, &request);
        let found = found.unwrap().into_iter();
        found
            .map(|found| (found.point.id.to_string(), found.score))
            .collect::<Vec<_>>()
    };
    let both = ("both".to_owned(), score("both"));
    assert_eq!(
        only("en", None),
        [both.clone(), ("near".into(), score("near"))]
    );
    assert_eq!(only("en", Some(0.81)), [both]);
    assert_eq!(only("de", Some(0.1)), []);
}
