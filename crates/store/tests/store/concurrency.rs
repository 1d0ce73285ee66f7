//! Many readers and writers of one file at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use wenyi_store::{Collection, ErrorKind, Filter, NewDocument};

use crate::fixtures::{assert_clean, document, options, place};

const X: &[f32] = &[1.0, 0.0];

/// Three documents whose five chunks all say `version`.
fn documents(version: u64) -> Vec<NewDocument> {
    let text = version.to_string();
    let chunk = (text.as_str(), X);
    vec![
        document("a", &[chunk, chunk]),
        document("b", &[chunk]),
        document("c", &[chunk, chunk]),
    ]
}

#[test]
fn searches_see_one_state_while_it_is_replaced() {
    let (_folder, path) = place();
    let writer = Collection::create(&path, &options(2)).unwrap();
    writer.upsert_documents(&documents(0)).unwrap();
    let other = Collection::open_read_only(&path).unwrap();
    let done = AtomicBool::new(false);
    let watch = |collection: &Collection| {
        let (mut last, mut searches) = (0, 0);
        while !done.load(Ordering::Relaxed) || searches == 0 {
            let hits = collection.search(X, 10, &Filter::default()).unwrap();
            let versions: Vec<u64> = hits
                .iter()
                .map(|hit| hit.chunk.text.parse().unwrap())
                .collect();
            assert_eq!(versions, [versions[0]; 5], "half of a write was seen");
            assert!(versions[0] >= last, "an older state came back");
            last = versions[0];
            searches += 1;
        }
        let hits = collection.search(X, 1, &Filter::default()).unwrap();
        assert_eq!(hits[0].chunk.text, "60");
    };
    thread::scope(|scope| {
        scope.spawn(|| watch(&writer));
        scope.spawn(|| watch(&other));
        for version in 1..=60 {
            writer.upsert_documents(&documents(version)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_clean(&other);
}

#[test]
fn writers_take_turns_and_one_makes_the_file() {
    let (_folder, path) = place();
    thread::scope(|scope| {
        for writer in 0..6 {
            let path = &path;
            scope.spawn(move || {
                let collection = Collection::open_or_create(path, &options(2)).unwrap();
                for index in 0..5 {
                    let name = format!("{writer}/{index}");
                    collection
                        .upsert_document(&document(&name, &[("", X)]))
                        .unwrap();
                }
            });
        }
    });
    let collection = Collection::open(&path).unwrap();
    assert_eq!(collection.documents().unwrap().len(), 30);
    assert_clean(&collection);
}

#[test]
fn of_many_creators_one_succeeds() {
    let (_folder, path) = place();
    let made = thread::scope(|scope| {
        let create = || Collection::create(&path, &options(2));
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    for error in made.iter().filter_map(|made| made.as_ref().err()) {
        assert!(
            matches!(error.kind(), ErrorKind::AlreadyExists { .. }),
            "{error}"
        );
    }
}
