//! The suite of all stores on those behind a URL; `qdrant:` is tested against our own server, in its crate.
#![cfg(test)]

#[path = "../../../store/tests/vector_store/suite/mod.rs"]
mod suite;

use std::env;

use serde_json::json;
use wenyi::store::Conditions;
use wenyi::vector_store::{
    Point, SearchRequest, Selection, StoreOptions, VectorStore, open_or_create_store, open_store,
};

fn options(dimensions: usize) -> StoreOptions {
    StoreOptions {
        dimensions: Some(dimensions),
        ..StoreOptions::default()
    }
}

/// Runs the suite on the stores at the URLs that `url` makes of numbers.
fn conforms(url: impl Fn(usize) -> String) {
    let mut number = 0;
    suite::run(&mut |options| {
        number += 1;
        Box::new(open_or_create_store(&url(number), options).unwrap())
    });
    assert!(number > 10);
    // Opened again, a store is what it was made with.
    let info = open_store(&url(2)).unwrap().info().unwrap();
    assert_eq!((info.dimensions, info.num_points), (Some(3), 4));
    let error = open_store(&url(999)).unwrap_err();
    assert!(error.is_user_error(), "{error}");
}

#[test]
fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.db");
    conforms(|number| format!("sqlite:{}?collection=c{number}", path.display()));
}

#[test]
#[ignore = "needs a PostgreSQL, which `tests/stores/run` starts"]
fn postgres_conforms() {
    let url = env::var("WENYI_TEST_POSTGRES").unwrap();
    conforms(|number| format!("{url}?collection=c%20{number}"));
}

#[test]
#[ignore = "needs a PostgreSQL, which `tests/stores/run` starts"]
fn postgres_searches_its_graph_index() {
    let url = env::var("WENYI_TEST_POSTGRES").unwrap() + "?collection=graph&index=hnsw";
    let store = open_or_create_store(&url, &options(2)).unwrap();
    let points: Vec<Point> = (0..2000u64)
        .map(|n| {
            let angle = n as f32 / 2000.0;
            let payload = json!({"n": n % 100});
            Point::new(n, [angle.cos(), angle.sin()])
                .with_payload(payload.as_object().unwrap().clone())
        })
        .collect();
    store.upsert(&points).unwrap();
    let filter = json!({"must": [{"key": "n", "match": {"value": 7}}]});
    let request = SearchRequest {
        filter: Some(Conditions::from_json(&filter).unwrap()),
        ..SearchRequest::default()
    };
    // One of a hundred passes the filter: the search goes on until it has found enough.
    let found = store.search(&[1.0, 0.0], &request).unwrap();
    assert_eq!(found.len(), 10);
    assert_eq!(found[0].point.id, 7u64.into());
    assert_eq!(store.delete(&Selection::All).unwrap(), 2000);
}

#[test]
fn urls_that_cannot_be_are_refused_without_their_passwords() {
    for url in [
        "",
        "sqlite:",
        "sqlite:x.db?table=a",
        "ftp://host/x",
        "qdrant://host",
        "qdrant:///x",
        "postgres://user:secret@host/db?index=flat",
        "qdrant://secret@host/a/b",
    ] {
        let error = open_or_create_store(url, &options(2)).unwrap_err();
        assert!(
            error.is_user_error() && error.hint().is_some(),
            "{url}: {error}"
        );
        assert!(
            !error.to_string().contains("secret") || url.starts_with("qdrant"),
            "{error}"
        );
    }
    assert!(open_store("memory:no/such.json").is_err());
    assert!(open_store("sqlite:no/such.db").is_err());
    assert_eq!(open_store("memory:").unwrap().info().unwrap().num_points, 0);
    let memory = open_or_create_store("memory:", &options(2)).unwrap();
    assert_eq!(memory.info().unwrap().dimensions, Some(2));
    // Nobody listens there.
    let error = open_store("qdrant://127.0.0.1:1/x").unwrap_err();
    assert!(!error.is_user_error(), "{error}");
}
