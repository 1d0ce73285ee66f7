//! What only the inside can provoke: a full disk, a lock that is not given back.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Collection, CollectionOptions, Space};
use crate::{Chunk, Document, ErrorKind, Filter, NewDocument, Result};

fn new_collection(folder: &TempDir) -> Collection {
    let options = CollectionOptions {
        name: "notes".into(),
        space: Space {
            fingerprint: Value::Null,
            dimensions: 2,
        },
        chunking: Value::Null,
    };
    Collection::create(folder.path().join("notes"), &options).unwrap()
}

fn document(path: &str, text: &str) -> NewDocument {
    NewDocument {
        document: Document {
            path: path.into(),
            ..Document::default()
        },
        chunks: vec![
            Chunk {
                text: text.into(),
                ..Chunk::default()
            };
            3
        ],
        vectors: [0.6, 0.8].repeat(3),
    }
}

fn limit_pages(collection: &Collection, pages: i64) {
    let writer = collection.writer().unwrap();
    let set = format!("PRAGMA max_page_count = {pages}");
    writer.query_row(&set, [], |_| Ok(())).unwrap();
}

/// Every text of the collection, by way of a search.
fn texts(collection: &Collection) -> Vec<String> {
    let hits = collection
        .search(&[1.0, 0.0], 1000, &Filter::default())
        .unwrap();
    hits.into_iter().map(|hit| hit.chunk.text).collect()
}

#[test]
fn a_full_disk_leaves_the_earlier_state() {
    let folder = TempDir::new().unwrap();
    let collection = new_collection(&folder);
    let text = "words ".repeat(2000);
    collection.upsert_document(&document("a", &text)).unwrap();
    let before = texts(&collection);
    let pages: i64 = {
        let writer = collection.writer().unwrap();
        writer
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap()
    };
    for room in 0..6 {
        limit_pages(&collection, pages + room);
        let replacement = [document("a", &text.repeat(9)), document("b", "b")];
        let error = collection.upsert_documents(&replacement).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Full { .. }), "{error:?}");
        assert!(!error.is_user_error() && error.hint().is_some());
        assert_eq!(texts(&collection), before);
        assert!(collection.check().unwrap().is_clean());
    }
    limit_pages(&collection, 1 << 30);
    collection.upsert_document(&document("b", "after")).unwrap();
    assert_eq!(texts(&collection).len(), 6);
    assert!(collection.check().unwrap().is_clean());
}

#[test]
fn a_lock_that_is_not_given_back_is_an_error_and_searching_goes_on() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let collection = new_collection(&folder);
    collection.upsert_document(&document("a", "text"))?;
    let other = Collection::open(collection.path())?;
    let guard = other.writer()?;
    guard.execute_batch("BEGIN IMMEDIATE").unwrap();
    collection
        .writer()?
        .busy_timeout(Duration::from_millis(20))
        .unwrap();
    let error = collection
        .upsert_document(&document("b", "text"))
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Locked { .. }),
        "{error:?}"
    );
    assert!(!error.is_user_error() && error.hint().is_some());
    assert_eq!(texts(&collection).len(), 3);
    guard.execute_batch("ROLLBACK").unwrap();
    collection.upsert_document(&document("b", "text"))?;
    assert_eq!(texts(&collection).len(), 6);
    Ok(())
}

#[test]
fn what_is_acknowledged_is_synced() {
    let folder = TempDir::new().unwrap();
    let collection = new_collection(&folder);
    let writer = collection.writer().unwrap();
    let setting = |name: &str| {
        writer.query_row(&format!("PRAGMA {name}"), [], |row| {
            row.get::<_, rusqlite::types::Value>(0)
        })
    };
    assert_eq!(setting("synchronous").unwrap(), 2.into(), "FULL");
    assert_eq!(setting("journal_mode").unwrap(), "wal".to_owned().into());
    assert_eq!(setting("foreign_keys").unwrap(), 1.into());
    assert_eq!(setting("page_size").unwrap(), 8192.into());
}
