//! What only this store does: other handles, other collections, old states.

use std::sync::Arc;

use super::{SqliteDatabase, SqliteStore};
use crate::vector_store::{Point, SearchRequest, Selection, StoreOptions, VectorStore};

fn options(dimensions: usize) -> StoreOptions {
    StoreOptions {
        dimensions: Some(dimensions),
        ..StoreOptions::default()
    }
}

fn found(store: &SqliteStore, query: &[f32]) -> Vec<String> {
    let found = store.search(query, &SearchRequest::default()).unwrap();
    found
        .iter()
        .map(|found| found.point.id.to_string())
        .collect()
}

#[test]
fn another_handle_sees_what_is_written_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("点.db");
    let a = SqliteDatabase::open(&path).unwrap();
    let b = SqliteDatabase::open(&path).unwrap();
    let writer = a.create_collection("notes", &options(2)).unwrap();
    let reader = b.collection("notes").unwrap();
    for number in 0..20u64 {
        writer
            .upsert(&[Point::new(number, [1.0, number as f32])])
            .unwrap();
        assert_eq!(found(&reader, &[0.0, 1.0])[0], number.to_string());
    }
    writer
        .delete(&Selection::Ids(vec![19u64.into(), 3u64.into()]))
        .unwrap();
    writer
        .upsert(&[Point::new(0u64, [0.0, 1.0]), Point::new("新", [0.01, 1.0])])
        .unwrap();
    assert_eq!(found(&reader, &[0.0, 1.0])[..3], ["0", "新", "18"]);
    assert_eq!(found(&reader, &[0.0, 1.0]), found(&writer, &[0.0, 1.0]));
    assert_eq!(reader.count(&Selection::All).unwrap(), 19);
}

#[test]
fn collections_in_one_file_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.db");
    let database = SqliteDatabase::open(&path).unwrap();
    let one = database.create_collection("一", &options(2)).unwrap();
    let two = database.create_collection("two", &options(3)).unwrap();
    one.upsert(&[Point::new("a", [1.0, 0.0])]).unwrap();
    two.upsert(&[
        Point::new("a", [1.0, 0.0, 0.0]),
        Point::new("b", [0.0, 1.0, 0.0]),
    ])
    .unwrap();
    assert_eq!(database.collections().unwrap(), ["two", "一"]);
    assert!(Arc::ptr_eq(&one, &database.collection("一").unwrap()));
    assert_eq!(found(&one, &[1.0, 1.0]), ["a"]);
    assert!(database.create_collection("two", &options(3)).is_err());
    assert!(database.create_collection("", &options(3)).is_err());
    assert!(
        database
            .create_collection("x", &StoreOptions::default())
            .is_err()
    );
    assert!(database.delete_collection("two").unwrap());
    assert!(!database.delete_collection("two").unwrap());
    assert!(two.count(&Selection::All).is_err());
    assert!(
        two.search(&[1.0, 0.0, 0.0], &SearchRequest::default())
            .is_err()
    );
    assert_eq!(found(&one, &[1.0, 1.0]), ["a"]);
    let again = database.collection_or_create("two", &options(1)).unwrap();
    assert_eq!(again.count(&Selection::All).unwrap(), 0);
    drop((one, two, again, database));
    let database = SqliteDatabase::open(&path).unwrap();
    assert_eq!(
        found(&database.collection("一").unwrap(), &[1.0, 1.0]),
        ["a"]
    );
}

#[test]
fn other_files_are_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    let error = SqliteDatabase::open(&path).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// Many points, all different, the first closest to `[1, 0]`.
fn many(numbers: std::ops::Range<u64>) -> Vec<Point> {
    let point = |number| Point::new(number, [1.0, number as f32 / 10.0]);
    numbers.map(point).collect()
}

fn packed_files(folder: &std::path::Path) -> Vec<String> {
    let files = folder.read_dir().unwrap();
    let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("-vectors")).collect()
}

#[test]
fn a_large_collection_is_packed_and_follows_the_points() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.db");
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.create_collection("notes", &options(2)).unwrap();
    store.upsert(&many(0..5000)).unwrap();
    let first = |store: &SqliteStore| found(store, &[1.0, 0.0])[..3].to_vec();
    assert_eq!(first(&store), ["0", "1", "2"]);
    assert_eq!(packed_files(folder.path()), ["points.db-vectors-1"]);
    assert_eq!(first(&store), ["0", "1", "2"]);
    // Whole blocks of rows lie in the file; the others are read from the points.
    let all = SearchRequest {
        top_k: 6000,
        ..SearchRequest::default()
    };
    assert_eq!(store.search(&[1.0, 0.0], &all).unwrap().len(), 5000);

    // What comes, changes and goes afterwards, for this handle and a new one.
    store.delete(&Selection::Ids(vec![0u64.into()])).unwrap();
    store
        .upsert(&[
            Point::new(2u64, [0.0, 1.0]),
            Point::new(9000u64, [1.0, 0.05]),
            Point::new(4999u64, [1.0, 0.0]),
        ])
        .unwrap();
    let expected = ["4999", "9000", "1"];
    assert_eq!(first(&store), expected);
    let other_database = SqliteDatabase::open(&path).unwrap();
    let other = other_database.collection("notes").unwrap();
    assert_eq!(first(&other), expected);
    assert_eq!(store.pack().unwrap(), 4992);
    assert_eq!(first(&store), expected);
    assert_eq!(first(&other), expected);
    drop((other, other_database));

    // A copy of before, put back, is not taken for the points of now, nor now's file for its own.
    let copy = folder.path().join("copy.db");
    drop((store, database));
    std::fs::copy(&path, &copy).unwrap();
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.collection("notes").unwrap();
    store.delete(&Selection::All).unwrap();
    store.upsert(&many(5000..10_000)).unwrap();
    assert_eq!(first(&store)[0], "5000");
    store.pack().unwrap();
    drop((store, database));
    std::fs::copy(&copy, &path).unwrap();
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.collection("notes").unwrap();
    assert_eq!(first(&store), expected);
    assert!(database.check().unwrap().is_clean());
    assert!(database.delete_collection("notes").unwrap());
    assert!(packed_files(folder.path()).is_empty());
}

#[test]
fn check_finds_what_disagrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.db");
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.create_collection("notes", &options(2)).unwrap();
    store.upsert(&many(0..40)).unwrap();
    store.pack().unwrap();
    store.upsert(&many(30..50)).unwrap();
    database.vacuum().unwrap();
    assert!(database.check().unwrap().is_clean());
    let packed = folder.path().join("points.db-vectors-1");
    let mut changed = std::fs::read(&packed).unwrap();
    changed[2 * 4096] ^= 1;
    std::fs::write(&packed, changed).unwrap();
    let problems = database.check().unwrap().problems;
    assert!(problems[0].contains("-vectors-1"), "{problems:?}");
    assert!(database.repair().unwrap().is_clean());
    assert_eq!(store.count(&Selection::All).unwrap(), 50);
    assert_eq!(found(&store, &[0.0, 1.0]).len(), 10);
    store.pack().unwrap();
    assert!(database.check().unwrap().is_clean());

    let other = rusqlite::Connection::open(&path).unwrap();
    let break_it = |sql: &str, expected: &str| {
        other.execute_batch(sql).unwrap();
        let problems = database.check().unwrap().problems;
        let found = problems.iter().any(|problem| problem.contains(expected));
        assert!(found, "{expected}: {problems:?}");
    };
    let packed = "packed vectors that are not those of their points";
    break_it(
        "UPDATE vectors SET vector = x'0000803f0000803f' WHERE row = 3",
        packed,
    );
    break_it(
        "UPDATE vectors SET vector = x'00' WHERE row = 4",
        "wrong width",
    );
    break_it(
        "UPDATE vectors SET version = 99 WHERE row = 5",
        "a version to come",
    );
    break_it(
        "DELETE FROM vectors WHERE row = 6",
        "points without a vector",
    );
}
