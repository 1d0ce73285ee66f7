//! The same promises of every place that keeps vectors.

use serde_json::Value;
use tempfile::TempDir;
use wenyi_store::{
    Chunk, Collection, Document, ErrorKind, Filter, MemoryCollection, NewDocument, Point, Result,
};

use crate::fixtures::{options, place};

/// Ids with vectors: what memory and disk have in common.
trait Subject {
    fn upsert(&mut self, points: &[(&str, &[f32])]) -> Result<()>;
    fn delete(&mut self, ids: &[&str]) -> usize;
    fn len(&self) -> usize;
    fn search_batch(&self, queries: &[&[f32]], top_k: usize) -> Result<Vec<Vec<(String, f32)>>>;

    fn search(&self, query: &[f32], top_k: usize) -> Result<Vec<(String, f32)>> {
        Ok(self.search_batch(&[query], top_k)?.remove(0))
    }
}

impl Subject for MemoryCollection {
    fn upsert(&mut self, points: &[(&str, &[f32])]) -> Result<()> {
        let point = |(id, vector): &(&str, &[f32])| Point {
            id: Some((*id).into()),
            vector: vector.to_vec(),
            ..Point::default()
        };
        MemoryCollection::upsert(self, points.iter().map(point).collect()).map(drop)
    }

    fn delete(&mut self, ids: &[&str]) -> usize {
        MemoryCollection::delete(self, ids)
    }

    fn len(&self) -> usize {
        MemoryCollection::len(self)
    }

    fn search_batch(&self, queries: &[&[f32]], top_k: usize) -> Result<Vec<Vec<(String, f32)>>> {
        let found = MemoryCollection::search_batch(self, queries, top_k)?;
        let pair = |point: &wenyi_store::ScoredPoint<'_>| (point.id.to_owned(), point.score);
        Ok(found
            .iter()
            .map(|points| points.iter().map(pair).collect())
            .collect())
    }
}

/// A collection of documents with one chunk each; an id is a path.
struct Disk {
    collection: Collection,
    _folder: TempDir,
}

impl Subject for Disk {
    fn upsert(&mut self, points: &[(&str, &[f32])]) -> Result<()> {
        let document = |(id, vector): &(&str, &[f32])| NewDocument {
            document: Document {
                path: (*id).into(),
                metadata: Value::Null,
                ..Document::default()
            },
            chunks: vec![Chunk::default()],
            vectors: vector.to_vec(),
        };
        self.collection
            .upsert_documents(&points.iter().map(document).collect::<Vec<_>>())
    }

    fn delete(&mut self, ids: &[&str]) -> usize {
        self.collection.remove_documents(ids).unwrap()
    }

    fn len(&self) -> usize {
        self.collection.documents().unwrap().len()
    }

    fn search_batch(&self, queries: &[&[f32]], top_k: usize) -> Result<Vec<Vec<(String, f32)>>> {
        let found = self
            .collection
            .search_batch(queries, top_k, &Filter::default())?;
        let pair = |hit: wenyi_store::Hit| (hit.document.document.path, hit.score);
        Ok(found
            .into_iter()
            .map(|hits| hits.into_iter().map(pair).collect())
            .collect())
    }
}

/// Runs `test` on an empty collection of width 3 of each kind.
fn for_each(test: fn(&mut dyn Subject)) {
    test(&mut MemoryCollection::new());
    let (folder, path) = place();
    let collection = Collection::create(path, &options(3)).unwrap();
    test(&mut Disk {
        collection,
        _folder: folder,
    });
}

const X: &[f32] = &[1.0, 0.0, 0.0];
const Y: &[f32] = &[0.0, 1.0, 0.0];
const XY: &[f32] = &[0.6, 0.8, 0.0];

fn ids(found: &[(String, f32)]) -> Vec<&str> {
    found.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn nothing_is_found_in_nothing() {
    for_each(|subject| {
        assert_eq!(subject.search(X, 5).unwrap(), []);
        subject.upsert(&[]).unwrap();
        assert_eq!(subject.search_batch(&[X, Y], 5).unwrap(), [[], []]);
        assert_eq!(subject.search_batch(&[], 5).unwrap(), Vec::<Vec<_>>::new());
        assert_eq!(subject.delete(&["a"]), 0);
        assert_eq!(subject.len(), 0);
    });
}

#[test]
fn the_closest_come_first_with_their_cosine() {
    for_each(|subject| {
        subject
            .upsert(&[
                ("a", X),
                ("b", &[0.0, 5.0, 0.0]),
                ("c", XY),
                ("d", &[0.0, -1.0, 0.0]),
            ])
            .unwrap();
        let found = subject.search(&[0.0, 2.0, 0.0], 10).unwrap();
        assert_eq!(ids(&found), ["b", "c", "a", "d"]);
        assert_eq!(
            found.iter().map(|(_, score)| *score).collect::<Vec<_>>(),
            [1.0, 0.8, 0.0, -1.0]
        );
        assert_eq!(subject.search(Y, 2).unwrap(), found[..2]);
        assert_eq!(subject.search(Y, 0).unwrap(), []);
    });
}

#[test]
fn equal_scores_keep_one_order() {
    for_each(|subject| {
        subject
            .upsert(&[("a", X), ("b", X), ("c", X), ("d", X)])
            .unwrap();
        subject.upsert(&[("b", X)]).unwrap();
        assert_eq!(ids(&subject.search(X, 3).unwrap()), ["a", "b", "c"]);
        assert_eq!(subject.delete(&["b"]), 1);
        assert_eq!(ids(&subject.search(X, 3).unwrap()), ["a", "c", "d"]);
    });
}

#[test]
fn upserting_replaces_and_deleting_removes() {
    for_each(|subject| {
        subject.upsert(&[("a", X), ("b", Y)]).unwrap();
        subject.upsert(&[("a", Y), ("c", X)]).unwrap();
        assert_eq!(subject.len(), 3);
        assert_eq!(ids(&subject.search(X, 1).unwrap()), ["c"]);
        assert_eq!(subject.delete(&["a", "a", "no such"]), 1);
        assert_eq!(ids(&subject.search(Y, 9).unwrap()), ["b", "c"]);
        subject.upsert(&[("d", Y)]).unwrap();
        assert_eq!(ids(&subject.search(Y, 2).unwrap()), ["b", "d"]);
    });
}

#[test]
fn a_batch_of_queries_finds_what_each_finds_alone() {
    for_each(|subject| {
        subject
            .upsert(&[("a", X), ("b", Y), ("c", XY), ("d", &[0.3, 0.2, -0.7])])
            .unwrap();
        let queries: [&[f32]; 6] = [X, Y, XY, &[0.1, -0.5, 3.0], &[9.0, 9.0, 9.0], X];
        let together = subject.search_batch(&queries, 3).unwrap();
        for (query, found) in queries.iter().zip(together) {
            assert_eq!(subject.search(query, 3).unwrap(), found);
        }
    });
}

#[test]
fn bad_vectors_are_refused_before_anything_changes() {
    for_each(|subject| {
        subject.upsert(&[("a", X)]).unwrap();
        let bad: [&[f32]; 6] = [
            &[1.0, 0.0],
            &[1.0, 0.0, 0.0, 0.0],
            &[],
            &[0.0, f32::NAN, 1.0],
            &[f32::NEG_INFINITY, 0.0, 1.0],
            &[0.0, -0.0, 0.0],
        ];
        for vector in bad {
            for error in [
                subject.upsert(&[("b", Y), ("c", vector)]).unwrap_err(),
                subject.search(vector, 3).unwrap_err(),
                subject.search_batch(&[X, vector], 0).unwrap_err(),
            ] {
                assert!(error.is_user_error(), "{error}");
                assert!(error.hint().is_some() || vector.is_empty(), "{error}");
            }
        }
        assert_eq!(subject.search(X, 9).unwrap(), [("a".into(), 1.0)]);
    });
}

#[test]
fn errors_about_vectors_carry_their_numbers() {
    for_each(|subject| {
        subject.upsert(&[("a", X)]).unwrap();
        match subject.search(&[1.0, 0.0], 3).unwrap_err().kind() {
            ErrorKind::Width {
                expected: 3,
                received: 2,
                ..
            } => {}
            other => panic!("{other:?}"),
        }
        match subject.upsert(&[("b", &[1.0])]).unwrap_err().kind() {
            ErrorKind::Width {
                expected: 3,
                received: 1,
                ..
            } => {}
            other => panic!("{other:?}"),
        }
        match subject
            .upsert(&[("b", &[0.0, f32::INFINITY, 0.0])])
            .unwrap_err()
            .kind()
        {
            ErrorKind::NotFinite {
                index: 1, value, ..
            } => assert_eq!(*value, f32::INFINITY),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn memory_gives_ids_and_takes_each_once() {
    let mut memory = MemoryCollection::new();
    let named = |id: &str| Point {
        id: Some(id.into()),
        vector: X.to_vec(),
        ..Point::default()
    };
    memory.add(vec![named("0")]).unwrap();
    let given = memory.add_texts(&["晨", "夜"], &[X, Y]).unwrap();
    assert_eq!(given.len(), 2);
    assert!(!given.contains(&"0".into()) && given[0] != given[1]);
    let found = memory.search(Y, 1).unwrap();
    assert_eq!((found[0].text, found[0].id), ("夜", given[1].as_str()));

    for twice in [vec![named("0")], vec![named("x"), named("x")]] {
        let error = memory.add(twice).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::DuplicateId { .. }),
            "{error}"
        );
    }
    let error = memory.add_texts(&["one"], &[X, Y]).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::VectorCount {
            chunks: 1,
            vectors: 2,
            ..
        }
    ));
    assert_eq!(memory.len(), 3);
    let points = memory.get_by_ids(&[given[1].as_str(), "no such", "0"]);
    assert_eq!(points.len(), 2);
    assert_eq!(
        (points[0].text.as_str(), points[0].vector.as_slice()),
        ("夜", Y)
    );
    assert_eq!(points[1], named("0"));
}
