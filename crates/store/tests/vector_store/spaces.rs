//! Points with several vectors, against a plain definition of what they must find; and files from
//! before there were any.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use wenyi_store::vector_store::{
    Distance, NamedPoint, NamedVector, PayloadChange, Point, PointId, SearchRequest, Selection,
    Space, SpaceQuery, SparseVector, SqliteDatabase, SqliteStore, StoreOptions, UNNAMED,
    VectorStore, Vectors,
};
use wenyi_store::{Conditions, ErrorKind};

fn spaces() -> BTreeMap<String, Space> {
    let dense = |dimensions, distance| Space::Dense {
        dimensions,
        distance,
    };
    BTreeMap::from([
        ("标题".into(), dense(2, Distance::Cosine)),
        ("body".into(), dense(3, Distance::Euclidean)),
        ("words".into(), Space::Sparse { idf: false }),
        ("rare".into(), Space::Sparse { idf: true }),
    ])
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn vector(&mut self, space: &Space) -> NamedVector {
        match space {
            Space::Dense { dimensions, .. } => {
                let mut value = || self.below(19) as f32 - 9.5;
                NamedVector::Dense((0..*dimensions).map(|_| value()).collect())
            }
            Space::Sparse { .. } => {
                let terms: BTreeMap<u32, f32> = (0..4)
                    .map(|_| (self.below(12) as u32, self.below(9) as f32 + 1.0))
                    .collect();
                let (indices, values) = terms.into_iter().unzip();
                NamedVector::Sparse(SparseVector::new(indices, values).unwrap())
            }
        }
    }

    /// Some of the vectors that a point may have.
    fn vectors(&mut self) -> Vectors {
        let mut vectors = Vectors::new();
        for (name, space) in spaces() {
            if self.below(4) > 0 {
                vectors.insert(name, self.vector(&space));
            }
        }
        vectors
    }
}

type Model = BTreeMap<u64, Vectors>;

#[test]
fn random_changes_are_found_in_every_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.db");
    let database = SqliteDatabase::open(&path).unwrap();
    let made = database.create_collection_of_spaces("多", &StoreOptions::default(), &spaces());
    let store = made.unwrap();
    let other = SqliteDatabase::open(&path).unwrap();
    let other = other.collection("多").unwrap();
    let (mut random, mut model) = (Random(3), Model::new());
    for step in 0..60 {
        change(&store, &mut random, &mut model);
        // The other handle looks rarely, and must follow several changes at once.
        let reader = if step % 5 == 0 { &other } else { &store };
        for (name, space) in spaces() {
            let query = random.vector(&space);
            let filter = random.below(2) == 0;
            assert_eq!(
                found(reader, &name, &query, filter),
                expected(&model, &name, &space, &query, filter),
                "step {step}, {name}"
            );
        }
    }
    let ids: Vec<PointId> = model.keys().map(|id| (*id).into()).collect();
    let vectors = store.vectors_of(&ids).unwrap();
    assert_eq!(vectors, model.into_values().collect::<Vec<_>>());
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
    assert!(database.delete_collection("多").unwrap());
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
}

fn change(store: &SqliteStore, random: &mut Random, model: &mut Model) {
    let id = random.below(30);
    match random.below(6) {
        0 => {
            store.delete(&Selection::Ids(vec![id.into()])).unwrap();
            model.remove(&id);
        }
        1 if model.contains_key(&id) => {
            let vectors = random.vectors();
            store.set_vectors(&[(id.into(), vectors.clone())]).unwrap();
            model.entry(id).or_default().extend(vectors);
        }
        2 => {
            let names = ["words".to_owned(), "标题".to_owned()];
            store
                .delete_vectors(&Selection::Ids(vec![id.into()]), &names)
                .unwrap();
            if let Some(vectors) = model.get_mut(&id) {
                vectors.retain(|name, _| !names.contains(name));
            }
        }
        _ => {
            let ids = [id, (id + 7) % 30, (id + 13) % 30];
            let points: Vec<NamedPoint> = (ids.iter())
                .map(|id| NamedPoint {
                    id: (*id).into(),
                    vectors: random.vectors(),
                    text: String::new(),
                    payload: json!({"even": id % 2 == 0}).as_object().unwrap().clone(),
                })
                .collect();
            store.put_named(&points).unwrap();
            for (id, point) in ids.into_iter().zip(points) {
                model.insert(id, point.vectors);
            }
        }
    }
}

fn even(filter: bool) -> SearchRequest {
    let conditions = json!({"must": [{"key": "even", "match": {"value": true}}]});
    SearchRequest {
        top_k: 100,
        filter: filter.then(|| Conditions::from_json(&conditions).unwrap()),
        ..SearchRequest::default()
    }
}

fn by_id(scores: impl IntoIterator<Item = (u64, f32)>) -> BTreeMap<u64, i64> {
    let rounded = |score: f32| (f64::from(score) * 1000.0).round() as i64;
    scores
        .into_iter()
        .map(|(id, score)| (id, rounded(score)))
        .collect()
}

fn found(store: &SqliteStore, name: &str, query: &NamedVector, filter: bool) -> BTreeMap<u64, i64> {
    let query = SpaceQuery {
        examples: std::slice::from_ref(query),
        combine: None,
        within: None,
    };
    let found = store.search_space(name, query, &even(filter)).unwrap();
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    by_id(
        found
            .iter()
            .map(|found| (found.point.id.to_string().parse().unwrap(), found.score)),
    )
}

fn expected(
    model: &Model,
    name: &str,
    space: &Space,
    query: &NamedVector,
    filter: bool,
) -> BTreeMap<u64, i64> {
    let with_vector = || model.values().filter_map(|vectors| vectors.get(name));
    let weight = |term: u32| match space {
        Space::Sparse { idf: true } => {
            let has = |vector: &&NamedVector| matches!(vector, NamedVector::Sparse(sparse) if sparse.indices().contains(&term));
            let (n, df) = (
                with_vector().count() as f32,
                with_vector().filter(has).count() as f32,
            );
            ((n - df + 0.5) / (df + 0.5) + 1.0).ln()
        }
        _ => 1.0,
    };
    let score = |vector: &NamedVector| match (query, vector, space) {
        (NamedVector::Sparse(a), NamedVector::Sparse(b), _) => {
            let b: BTreeMap<u32, f32> = b.iter().collect();
            let common = a
                .iter()
                .filter_map(|(term, value)| Some(weight(term) * value * b.get(&term)?));
            common.reduce(|a, b| a + b)
        }
        (NamedVector::Dense(a), NamedVector::Dense(b), Space::Dense { distance, .. }) => {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            Some(match distance {
                Distance::Euclidean => -squares.sqrt(),
                _ => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            })
        }
        _ => None,
    };
    let scores = model.iter().filter_map(|(id, vectors)| {
        let is_wanted = !filter || id % 2 == 0;
        Some((*id, score(vectors.get(name)?)?)).filter(|_| is_wanted)
    });
    by_id(scores)
}

#[test]
fn what_does_not_fit_a_space_is_refused_before_anything_changes() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    let store = database
        .create_collection_of_spaces("c", &StoreOptions::default(), &spaces())
        .unwrap();
    let point = |id: u64, name: &str, vector: NamedVector| NamedPoint {
        id: id.into(),
        vectors: Vectors::from([(name.into(), vector)]),
        text: String::new(),
        payload: serde_json::Map::new(),
    };
    let dense = |values: &[f32]| NamedVector::Dense(values.to_vec());
    let good = point(1, "标题", dense(&[1.0, 2.0]));
    for (bad, is_expected) in [
        (
            point(2, "标题", dense(&[1.0])),
            (|kind| matches!(kind, ErrorKind::Width { .. })) as fn(&ErrorKind) -> bool,
        ),
        (point(2, "标题", dense(&[0.0, 0.0])), |kind| {
            matches!(kind, ErrorKind::ZeroVector { .. })
        }),
        (point(2, "body", dense(&[1.0, f32::NAN, 1.0])), |kind| {
            matches!(kind, ErrorKind::NotFinite { .. })
        }),
        (point(2, "words", dense(&[1.0])), |kind| {
            matches!(kind, ErrorKind::VectorKind { .. })
        }),
        (point(2, "none", dense(&[1.0])), |kind| {
            matches!(kind, ErrorKind::UnknownVector { .. })
        }),
        (point(2, UNNAMED, dense(&[1.0])), |kind| {
            matches!(kind, ErrorKind::UnknownVector { .. })
        }),
    ] {
        let error = store.put_named(&[good.clone(), bad]).unwrap_err();
        assert!(
            is_expected(error.kind()) && error.is_user_error(),
            "{error}"
        );
    }
    let unknown = store
        .set_vectors(&[(9u64.into(), good.vectors.clone())])
        .unwrap_err();
    assert!(
        matches!(unknown.kind(), ErrorKind::UnknownId { .. }),
        "{unknown}"
    );
    assert_eq!(store.count(&Selection::All).unwrap(), 0);
    assert!(SparseVector::new(vec![1, 1], vec![1.0, 2.0]).is_err());
    assert!(SparseVector::new(vec![1], vec![]).is_err());
    assert!(SparseVector::new(vec![1], vec![f32::INFINITY]).is_err());
    // Without a name there is nothing to search.
    assert!(
        store
            .search(&[1.0, 2.0], &SearchRequest::default())
            .is_err()
    );
}

#[test]
fn several_examples_are_combined_and_points_chosen_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    let options = StoreOptions {
        dimensions: Some(2),
        ..StoreOptions::default()
    };
    let store = database.create_collection("simple", &options).unwrap();
    let points = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]];
    let points: Vec<Point> = (0..4u64)
        .zip(points)
        .map(|(id, vector)| Point::new(id, vector))
        .collect();
    store.upsert(&points).unwrap();
    let examples = [[1.0, 0.0], [0.0, 1.0]].map(|vector| NamedVector::Dense(vector.to_vec()));
    let least = |scores: &[f32]| scores.iter().copied().fold(f32::INFINITY, f32::min);
    let within: Vec<PointId> = vec![0u64.into(), 2u64.into(), 3u64.into(), 77u64.into()];
    let ask = |query: SpaceQuery<'_>, request: &SearchRequest| -> Vec<String> {
        let found = store.search_space(UNNAMED, query, request).unwrap();
        found
            .iter()
            .map(|found| found.point.id.to_string())
            .collect()
    };
    let query = SpaceQuery {
        examples: &examples,
        combine: Some(&least),
        within: None,
    };
    assert_eq!(ask(query, &SearchRequest::default()), ["2", "0", "1", "3"]);
    let query = SpaceQuery {
        within: Some(&within),
        ..query
    };
    let request = SearchRequest {
        offset: 1,
        score_threshold: Some(-0.5),
        ..SearchRequest::default()
    };
    assert_eq!(ask(query, &request), ["0"]);
    let query = SpaceQuery {
        examples: &examples[..1],
        combine: None,
        within: Some(&within),
    };
    assert_eq!(ask(query, &SearchRequest::default()), ["0", "2", "3"]);
}

#[test]
fn files_of_the_first_version_are_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1.points");
    std::fs::copy(old, &path).unwrap();
    let database = SqliteDatabase::open(&path).unwrap();
    let store = database.collection("notes").unwrap();
    let found = store
        .search(&[1.0, 0.0], &SearchRequest::default())
        .unwrap();
    let ids: Vec<String> = found
        .iter()
        .map(|found| found.point.id.to_string())
        .collect();
    assert_eq!(ids, ["1", "b", "8c6d5e0e-12f3-4d0a-9f3e-2b1c5a7d9e01"]);
    assert_eq!(found[0].point.text, "春眠不觉晓");
    let change = PayloadChange::Delete(vec!["lang".into()]);
    assert_eq!(store.change_payload(&Selection::All, &change).unwrap(), 3);
    let made = database.create_collection_of_spaces("new", &StoreOptions::default(), &spaces());
    assert_eq!(made.unwrap().spaces(), &spaces());
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
}
