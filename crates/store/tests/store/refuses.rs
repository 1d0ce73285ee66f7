//! Files and calls that are refused, each with its own words and nothing changed.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;
use wenyi_store::{Collection, Error, ErrorKind, Filter, Space};

use crate::fixtures::{assert_clean, document, found, options, place};
use crate::random::Random;

const X: &[f32] = &[1.0, 0.0];

/// What each way of opening says.
fn open_errors(path: &Path) -> [Error; 3] {
    [
        Collection::open(path).unwrap_err(),
        Collection::open_read_only(path).unwrap_err(),
        Collection::open_or_create(path, &options(2)).unwrap_err(),
    ]
}

fn made(path: &Path) -> Collection {
    let collection = Collection::create(path, &options(2)).unwrap();
    collection
        .upsert_document(&document("a", &[("text", X)]))
        .unwrap();
    collection
}

#[test]
fn a_file_that_is_not_sqlite() {
    let (_folder, path) = place();
    for contents in ["x", "只是一段文字", &"not a database ".repeat(1000)] {
        fs::write(&path, contents).unwrap();
        for error in open_errors(&path) {
            assert!(
                matches!(error.kind(), ErrorKind::NotSqlite { .. }),
                "{error:?}"
            );
            assert!(error.is_user_error() && error.hint().is_some());
            assert!(error.to_string().contains("notes.wenyi"));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), contents);
    }
}

#[test]
fn another_programs_database() {
    let (_folder, path) = place();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE mail (subject TEXT)")
        .unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    for error in open_errors(&path) {
        assert!(
            matches!(
                error.kind(),
                ErrorKind::NotWenyi {
                    application_id: 0,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.is_user_error() && error.hint().is_some());
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_schema() {
    let (_folder, path) = place();
    drop(made(&path));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA user_version = 4").unwrap();
    drop(other);
    for error in open_errors(&path) {
        match error.kind() {
            ErrorKind::NewerSchema {
                supported: 3,
                received: 4,
                ..
            } => {}
            other => panic!("{other:?}"),
        }
        assert!(error.is_user_error() && error.hint().unwrap().contains("newer"));
    }
}

#[test]
fn no_file_no_folder_a_folder_an_empty_file() {
    let (folder, path) = place();
    for error in [
        Collection::open(&path).unwrap_err(),
        Collection::open_read_only(&path).unwrap_err(),
    ] {
        assert!(
            matches!(error.kind(), ErrorKind::NotFound { .. }),
            "{error:?}"
        );
        assert!(error.is_user_error() && error.hint().is_some());
    }
    assert!(!path.exists());
    let error = Collection::create(path.join("deeper/notes"), &options(2)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Io { .. }) && error.is_user_error(),
        "{error:?}"
    );
    for error in open_errors(folder.path()) {
        assert!(
            matches!(error.kind(), ErrorKind::Io { .. }) && error.is_user_error(),
            "{error:?}"
        );
    }
    fs::write(&path, "").unwrap();
    for error in [
        Collection::open(&path).unwrap_err(),
        Collection::open_read_only(&path).unwrap_err(),
    ] {
        assert!(
            matches!(error.kind(), ErrorKind::NotFound { .. }),
            "{error:?}"
        );
    }
    made(&path);
}

#[test]
fn names_that_mean_something_to_sqlite_are_only_names() {
    let (folder, _) = place();
    for name in [
        ":memory:",
        "file:a?mode=memory",
        "100% #1?.wenyi",
        "笔记 本",
    ] {
        let path = folder.path().join(name);
        drop(made(&path));
        assert!(path.is_file(), "{name}");
        assert_eq!(
            Collection::open_read_only(&path)
                .unwrap()
                .documents()
                .unwrap()
                .len(),
            1
        );
    }
}

#[test]
fn a_second_collection_at_the_same_place_or_an_impossible_one() {
    let (_folder, path) = place();
    for received in [0, 65_537] {
        let error = Collection::create(&path, &options(received)).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Dimensions { .. }),
            "{error:?}"
        );
    }
    drop(made(&path));
    let error = Collection::create(&path, &options(3)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::AlreadyExists { .. }),
        "{error:?}"
    );
    let collection = Collection::open_or_create(&path, &options(3)).unwrap();
    assert_eq!(collection.info().space.dimensions, 2);
    assert_eq!(collection.documents().unwrap().len(), 1);
}

#[test]
fn another_space() {
    let (_folder, path) = place();
    let collection = made(&path);
    collection.expect_space(&options(2).space).unwrap();
    let other = Space {
        fingerprint: "other model".into(),
        dimensions: 2,
    };
    let error = collection.expect_space(&other).unwrap_err();
    assert!(error.is_user_error() && error.hint().is_some());
    let message = error.to_string();
    assert!(
        message.contains("`notes`") && message.contains("other model"),
        "{message}"
    );
}

#[test]
fn documents_that_do_not_hold_together() {
    let (_folder, path) = place();
    let collection = made(&path);
    let good = document("good", &[("", X)]);
    let mut without_vector = document("bad", &[("", X), ("", X)]);
    without_vector.vectors.truncate(2);
    let mut wide = document("bad", &[("", X), ("", X)]);
    wide.vectors = vec![0.5; 6];
    let mut backwards = document("bad", &[("", X)]);
    backwards.chunks[0].first_line = 9;
    let mut huge = document("bad", &[("", X)]);
    huge.document.size = u64::MAX;
    for bad in [without_vector, wide, backwards, huge] {
        let error = collection
            .upsert_documents(&[good.clone(), bad])
            .unwrap_err();
        assert!(error.is_user_error(), "{error:?}");
    }
    let mut wide = document("文.md", &[("", X)]);
    wide.vectors = vec![0.5; 3];
    let message = collection.upsert_document(&wide).unwrap_err().to_string();
    assert_eq!(
        message,
        "a vector of `文.md` has 3 dimensions, but collection `notes` expects 2"
    );
    assert_eq!(collection.documents().unwrap().len(), 1);
    assert_clean(&collection);
}

#[test]
fn the_file_itself_refuses_a_chunk_without_its_vector() {
    let (_folder, path) = place();
    let collection = made(&path);
    let other = Connection::open(&path).unwrap();
    for statement in [
        "INSERT INTO chunks SELECT id + 1, document, 1, 0, 0, 1, 1, '[]', 0, '' FROM chunks",
        "INSERT INTO chunks SELECT NULL, document, 1, 0, 0, 1, 1, '[]', 0, '' FROM chunks",
        "DELETE FROM vectors",
        "UPDATE vectors SET vector = x'0000803f0000803f'",
        "INSERT INTO vectors (vector) VALUES (x'0000803f')",
    ] {
        let error = other.execute_batch(statement).unwrap_err();
        assert_eq!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::ConstraintViolation)
        );
    }
    assert_clean(&collection);
}

#[test]
fn disagreements_are_found_by_search_and_check() {
    let (_folder, path) = place();
    let collection = made(&path);
    collection
        .upsert_document(&document("b", &[("", X), ("", X)]))
        .unwrap();
    let other = Connection::open(&path).unwrap();
    let damage = "DROP TRIGGER vectors_outlive_chunks; DROP TRIGGER vectors_never_change;
                  PRAGMA foreign_keys = OFF; DELETE FROM vectors WHERE chunk = 2;
                  UPDATE vectors SET vector = x'0000C07F00000000' WHERE chunk = 3;
                  UPDATE documents SET num_chunks = 9 WHERE path = 'a'";
    other.execute_batch(damage).unwrap();
    let problems = collection.check().unwrap().problems;
    assert_eq!(problems.len(), 3, "{problems:?}");
    let error = collection.search(X, 5, &Filter::default()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Corrupt { .. }),
        "{error:?}"
    );
    assert!(!error.is_user_error() && error.hint().is_some());
    let again = collection.search(X, 5, &Filter::default());
    assert!(
        again.is_err(),
        "a failed reading must not be taken for a finished one"
    );

    let repair = "INSERT INTO vectors VALUES (2, x'0000803F00000000');
                  UPDATE vectors SET vector = x'0000803F00000000' WHERE chunk = 3;
                  UPDATE documents SET num_chunks = 1 WHERE path = 'a'";
    other.execute_batch(repair).unwrap();
    let hits = found(&collection, X, 5, &Filter::default());
    assert_eq!(hits, [("a".into(), 0), ("b".into(), 0), ("b".into(), 1)]);
    assert_clean(&collection);
}

#[test]
fn repair_takes_away_what_lost_its_other_half_and_marks_the_document() {
    let (_folder, path) = place();
    let collection = made(&path);
    let second: &[f32] = &[0.0, 1.0];
    for path in ["b", "c"] {
        collection
            .upsert_document(&document(path, &[("one", X), ("two", second)]))
            .unwrap();
    }
    let other = Connection::open(&path).unwrap();
    // Of `b` a vector is gone, of `c` one is NaN, and a vector belongs to nothing.
    let damage = "DROP TRIGGER vectors_outlive_chunks; DROP TRIGGER vectors_never_change;
                  PRAGMA foreign_keys = OFF; DELETE FROM vectors WHERE chunk = 2;
                  UPDATE vectors SET vector = x'0000C07F00000000' WHERE chunk = 5;
                  INSERT INTO vectors VALUES (9, x'0000803F00000000')";
    other.execute_batch(damage).unwrap();
    assert!(collection.search(X, 5, &Filter::default()).is_err());
    assert_eq!(collection.check().unwrap().incomplete_documents, ["b", "c"]);

    let report = collection.repair().unwrap();
    assert_eq!(report.incomplete_documents, ["b", "c"]);
    let hits = found(&collection, X, 5, &Filter::default());
    assert_eq!(hits, [("a".into(), 0), ("c".into(), 0), ("b".into(), 1)]);
    for info in collection.documents().unwrap() {
        let is_marked = info.document.content_hash.is_empty() && info.document.modified_ns == -1;
        assert_eq!(is_marked, info.document.path != "a", "{info:?}");
    }
    // The file refuses such damage again.
    let error = other.execute_batch("DELETE FROM vectors WHERE chunk = 1");
    assert!(error.is_err());
    for path in ["b", "c"] {
        collection
            .upsert_document(&document(path, &[("one", X), ("two", second)]))
            .unwrap();
    }
    assert_clean(&collection);
}

#[test]
fn a_file_cut_off_is_reported() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    let text = "words ".repeat(5000);
    for index in 0..20 {
        let name = index.to_string();
        collection
            .upsert_document(&document(&name, &[(text.as_str(), X), ("", X)]))
            .unwrap();
    }
    drop(collection);
    let whole = fs::read(&path).unwrap();
    for keep in [whole.len() / 2, 8192 * 3, 8192, 5000, 100] {
        fs::write(&path, &whole[..keep]).unwrap();
        let checked = Collection::open(&path).and_then(|collection| collection.check());
        match checked {
            Ok(report) => assert!(!report.is_clean(), "{keep} bytes pass for sound"),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Corrupt { .. } | ErrorKind::NotSqlite { .. }
                ),
                "{keep} bytes: {error:?}"
            ),
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let (_folder, path) = place();
    let collection = Collection::create(&path, &options(2)).unwrap();
    for index in 0..20 {
        let text = format!("text {index}");
        collection
            .upsert_document(&document(&text, &[(&text, X), ("", X)]))
            .unwrap();
    }
    drop(collection);
    let whole = fs::read(&path).unwrap();
    let mut random = Random::new(3);
    for _ in 0..100 {
        fs::write(&path, &whole).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(random.below(whole.len() - 8) as u64))
            .unwrap();
        file.write_all(&[random.below(256) as u8; 8]).unwrap();
        // Whatever it says, it must say it: text may have changed unseen, structure may not.
        if let Ok(collection) = Collection::open_read_only(&path) {
            drop(collection.search(X, 5, &Filter::default()));
            drop(collection.documents());
            drop(collection.check());
        }
    }
}
