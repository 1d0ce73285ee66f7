//! Chunks brought into another space.

use serde_json::json;
use wenyi_store::{Collection, ErrorKind, Filter, Space};

use crate::fixtures::{assert_clean, document, found, options, place};

fn space(dimensions: usize) -> Space {
    Space {
        fingerprint: json!({"model": "new"}),
        dimensions,
    }
}

/// The new vector of a text: of three values, where the old ones have two.
fn new_vector(text: &str) -> Vec<f32> {
    match text {
        "one" => vec![1.0, 0.0, 0.0],
        "two" => vec![0.0, 3.0, 0.0],
        _ => vec![0.0, 0.0, 1.0],
    }
}

fn migrate_some(collection: &Collection, limit: usize) -> usize {
    let pending = collection.pending_chunks(limit).unwrap();
    let vectors: Vec<_> = pending
        .iter()
        .map(|hit| (hit.chunk_id, new_vector(&hit.chunk.text)))
        .collect();
    collection.write_migrated(&vectors).unwrap();
    vectors.len()
}

#[test]
fn the_old_space_is_searched_until_the_new_one_is_whole() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let a = document("a", &[("one", &[1.0, 0.0]), ("two", &[0.0, 1.0])]);
    let b = document("b", &[("three", &[0.6, 0.8])]);
    collection.upsert_documents(&[a, b]).unwrap();
    let nearest = |collection: &Collection, query: &[f32]| {
        found(collection, query, 1, &Filter::default()).remove(0)
    };
    assert_eq!(collection.migration().unwrap(), None);
    assert!(collection.pending_chunks(9).unwrap().is_empty());
    collection.begin_migration(&space(3)).unwrap();
    assert_eq!(migrate_some(&collection, 2), 2);
    assert!(!collection.finish_migration().unwrap());
    assert_eq!(nearest(&collection, &[0.0, 1.0]), ("a".into(), 1));
    drop(collection);

    // Gone on later, after documents have come and gone.
    let collection = Collection::open(&path).unwrap();
    collection.begin_migration(&space(3)).unwrap();
    let begun = collection.migration().unwrap().unwrap();
    assert_eq!((begun.num_done, begun.num_pending), (2, 1));
    let c = document("c", &[("four", &[0.8, 0.6])]);
    collection.upsert_document(&c).unwrap();
    collection.remove_documents(&["b"]).unwrap();
    let other = Collection::open_read_only(&path).unwrap();
    assert_eq!(nearest(&other, &[0.8, 0.6]), ("c".into(), 0));
    assert_eq!(migrate_some(&collection, 9), 1);
    assert_clean(&collection);
    assert!(collection.finish_migration().unwrap());

    // Handles of the old space say so, new ones have the new one.
    for handle in [&collection, &other] {
        let error = handle
            .search(&[1.0, 0.0], 1, &Filter::default())
            .unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Migrated { .. }),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
    drop((collection, other));
    let collection = Collection::open(&path).unwrap();
    assert_eq!(collection.info().space, space(3));
    assert_clean(&collection);
    assert_eq!(nearest(&collection, &[0.1, 1.0, 0.0]), ("a".into(), 1));
    assert_eq!(nearest(&collection, &[0.0, 0.0, 2.0]), ("c".into(), 0));
    let d = document("d", &[("five", &[1.0, 1.0, 0.0])]);
    collection.upsert_document(&d).unwrap();
    assert_eq!(nearest(&collection, &[1.0, 1.0, 0.0]), ("d".into(), 0));
    assert_eq!(collection.migration().unwrap(), None);
    assert_clean(&collection);
}

#[test]
fn what_cannot_be_migrated_is_refused() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    collection
        .upsert_document(&document("a", &[("one", &[1.0, 0.0])]))
        .unwrap();
    let own = collection.info().space.clone();
    let error = collection.begin_migration(&own).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::SameSpace { .. }),
        "{error}"
    );
    assert!(collection.begin_migration(&space(0)).is_err());
    let vector: [(i64, Vec<f32>); 1] = [(1, vec![1.0, 0.0, 0.0])];
    for error in [
        collection.write_migrated(&vector).unwrap_err(),
        collection.finish_migration().unwrap_err(),
    ] {
        assert!(
            matches!(error.kind(), ErrorKind::NoMigration { .. }),
            "{error}"
        );
    }
    collection.begin_migration(&space(3)).unwrap();
    let error = collection.write_migrated(&[(1, [1.0, 0.0])]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Width { .. }), "{error}");
    collection.write_migrated(&vector).unwrap();
    // Another model: begun anew.
    collection.begin_migration(&space(4)).unwrap();
    assert_eq!(collection.migration().unwrap().unwrap().num_done, 0);
    assert!(collection.abandon_migration().unwrap() && !collection.abandon_migration().unwrap());
    assert_eq!(collection.migration().unwrap(), None);
    assert_clean(&collection);
}
