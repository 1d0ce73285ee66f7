//! What every `VectorStore` must do. Other crates include this file for their own stores.

use serde_json::{Value, json};
use wenyi_store::vector_store::{
    Distance, MmrRequest, Payload, PayloadChange, Point, PointId, ScoredPoint, Scroll,
    SearchRequest, Selection, StoreOptions, VectorStore,
};
use wenyi_store::{Conditions, Error, ErrorKind};

/// Makes an empty store.
pub(crate) type Make<'a> = &'a mut dyn FnMut(&StoreOptions) -> Box<dyn VectorStore>;

/// Runs everything on stores that `make` gives.
pub(crate) fn run(make: Make<'_>) {
    let mut with = |distance, test: fn(&dyn VectorStore)| {
        let options = StoreOptions {
            dimensions: Some(3),
            distance,
            metadata: json!({"model": "模型"}),
        };
        test(&*make(&options));
    };
    for test in [
        nothing_is_found_in_nothing as fn(&dyn VectorStore),
        the_closest_come_first,
        points_come_back_as_they_went,
        ids_are_numbers_and_texts,
        upserting_replaces_and_adding_refuses,
        what_is_bad_is_refused_before_anything_changes,
        points_are_deleted_by_id_and_by_filter,
        pages_follow_the_ids,
        filters_hold_in_every_call,
        offsets_and_thresholds_cut,
        payloads_change,
        batches_find_what_each_query_finds,
        marginal_relevance_prefers_what_differs,
        closures_filter_too,
        many_points_agree_with_sorting,
    ] {
        with(Distance::Cosine, test);
    }
    with(Distance::Dot, dot_products_are_not_normalised);
    with(Distance::Euclidean, euclidean_distances_are_negative);
    with(Distance::Manhattan, manhattan_distances_are_negative);
}

const X: [f32; 3] = [1.0, 0.0, 0.0];
const Y: [f32; 3] = [0.0, 1.0, 0.0];
const XY: [f32; 3] = [0.6, 0.8, 0.0];

fn payload(json: Value) -> Payload {
    json.as_object().unwrap().clone()
}

fn conditions(json: Value) -> Conditions {
    Conditions::from_json(&json).unwrap()
}

fn ids(found: &[ScoredPoint]) -> Vec<String> {
    found.iter().map(|f| f.point.id.to_string()).collect()
}

fn top(top_k: usize) -> SearchRequest {
    SearchRequest {
        top_k,
        ..SearchRequest::default()
    }
}

fn scores_are(found: &[ScoredPoint], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.score - expected).abs() < 1e-4, "{found:?}");
    }
}

fn all_ids(store: &dyn VectorStore) -> Vec<PointId> {
    let scroll = Scroll {
        limit: 1000,
        ..Scroll::default()
    };
    let page = store.scroll(&scroll).unwrap();
    page.points.into_iter().map(|point| point.id).collect()
}

fn nothing_is_found_in_nothing(store: &dyn VectorStore) {
    assert_eq!(store.search(&X, &top(5)).unwrap(), []);
    assert_eq!(store.search_batch(&[], &top(5)).unwrap().len(), 0);
    store.upsert(&[]).unwrap();
    assert_eq!(store.count(&Selection::All).unwrap(), 0);
    assert_eq!(store.scroll(&Scroll::default()).unwrap().points, []);
    assert_eq!(store.get_by_ids(&["a".into()]).unwrap(), []);
    assert_eq!(store.delete(&Selection::All).unwrap(), 0);
    assert_eq!(store.delete(&Selection::Ids(Vec::new())).unwrap(), 0);
    let info = store.info().unwrap();
    assert_eq!((info.num_points, info.distance), (0, Distance::Cosine));
}

fn the_closest_come_first(store: &dyn VectorStore) {
    let points = [
        Point::new("a", X),
        Point::new("b", [0.0, 5.0, 0.0]).with_text("春眠不觉晓"),
        Point::new("c", XY),
        Point::new("d", [0.0, -1.0, 0.0]),
    ];
    store.upsert(&points).unwrap();
    let found = store.search(&[0.0, 2.0, 0.0], &top(10)).unwrap();
    assert_eq!(ids(&found), ["b", "c", "a", "d"]);
    scores_are(&found, &[1.0, 0.8, 0.0, -1.0]);
    assert_eq!(found[0].point.text, "春眠不觉晓");
    assert!(found[0].point.vector.is_empty());
    assert_eq!(store.search(&Y, &top(2)).unwrap(), found[..2]);
    assert_eq!(store.search(&Y, &top(0)).unwrap(), []);
    let info = store.info().unwrap();
    assert_eq!((info.num_points, info.dimensions), (4, Some(3)));
}

fn points_come_back_as_they_went(store: &dyn VectorStore) {
    let facts = json!({
        "text": "a key of this name", "lang": "zh", "year": 2020, "ratio": 0.1, "draft": false,
        "tags": ["a", "b"], "author": {"name": "杜甫", "born": {"year": 712}}, "none": null, "空": [],
    });
    let point = Point::new("8c6d5e0e-12f3-4d0a-9f3e-2b1c5a7d9e01", [0.25, -2.0, 0.125])
        .with_text("国破山河在\n城春草木深 🌸 \"quoted\" \\ \u{0}nul-free".replace('\0', ""))
        .with_payload(payload(facts));
    store
        .upsert(&[point.clone(), Point::new("plain", X)])
        .unwrap();
    let got = store
        .get_by_ids(&[
            "plain".into(),
            "no such".into(),
            point.id.clone(),
            "plain".into(),
        ])
        .unwrap();
    assert_eq!(got.len(), 3);
    assert_eq!(got[0], Point::new("plain", X));
    assert_eq!(got[2], got[0]);
    let same = Point {
        vector: got[1].vector.clone(),
        ..point.clone()
    };
    assert_eq!(got[1], same);
    // A store may keep vectors at unit length where the distance is the cosine.
    let direction = |vector: &[f32]| vector[0] / vector[1];
    assert!((direction(&got[1].vector) - direction(&point.vector)).abs() < 1e-6);
    let with_vector = SearchRequest {
        with_vector: true,
        ..top(1)
    };
    let found = store.search(&X, &with_vector).unwrap();
    assert_eq!(found[0].point, got[0]);
}

fn ids_are_numbers_and_texts(store: &dyn VectorStore) {
    let ids: Vec<PointId> = vec![
        0u64.into(),
        1u64.into(),
        9u64.into(),
        10u64.into(),
        u64::MAX.into(),
        "1".into(),
        "A".into(),
        "a/b c?d#e".into(),
        "编号".into(),
    ];
    let points: Vec<Point> = ids
        .iter()
        .rev()
        .map(|id| Point::new(id.clone(), XY))
        .collect();
    store.upsert(&points).unwrap();
    let mut listed = all_ids(store);
    listed.sort();
    assert_eq!(listed, ids);
    for id in &ids {
        assert_eq!(
            store.get_by_ids(std::slice::from_ref(id)).unwrap()[0].id,
            *id
        );
    }
    let has_id = conditions(json!({"must": [{"has_id": [1, "A"]}]}));
    assert_eq!(store.count(&Selection::Filter(has_id)).unwrap(), 2);
    assert_eq!(
        store
            .delete(&Selection::Ids(vec![1u64.into(), "A".into(), "A".into()]))
            .unwrap(),
        2
    );
    assert_eq!(
        store.get_by_ids(&["1".into(), 1u64.into()]).unwrap().len(),
        1
    );
}

fn upserting_replaces_and_adding_refuses(store: &dyn VectorStore) {
    let named = |id: &str, vector| Point::new(id, vector);
    store.add(&[named("a", X), named("b", Y)]).unwrap();
    let new = named("a", Y)
        .with_text("new")
        .with_payload(payload(json!({"n": 1})));
    store.upsert(&[new.clone(), named("c", X)]).unwrap();
    assert_eq!(store.count(&Selection::All).unwrap(), 3);
    assert_eq!(store.get_by_ids(&["a".into()]).unwrap(), [new]);
    assert_eq!(ids(&store.search(&X, &top(1)).unwrap()), ["c"]);
    for twice in [
        vec![named("d", X), named("b", X)],
        vec![named("d", X), named("d", X)],
    ] {
        let error = store.add(&twice).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::DuplicateId { .. }),
            "{error}"
        );
    }
    assert_eq!(store.count(&Selection::All).unwrap(), 3);
    store.upsert(&[named("e", X), named("e", Y)]).unwrap();
    assert_eq!(store.get_by_ids(&["e".into()]).unwrap()[0].vector, Y);
}

fn what_is_bad_is_refused_before_anything_changes(store: &dyn VectorStore) {
    store.upsert(&[Point::new("a", X)]).unwrap();
    let bad: [&[f32]; 6] = [
        &[1.0, 0.0],
        &[1.0, 0.0, 0.0, 0.0],
        &[],
        &[0.0, f32::NAN, 1.0],
        &[f32::NEG_INFINITY, 0.0, 1.0],
        &[0.0, -0.0, 0.0],
    ];
    let refused = |error: Error| assert!(error.is_user_error(), "{error}");
    for vector in bad {
        refused(
            store
                .upsert(&[Point::new("b", Y), Point::new("c", vector)])
                .unwrap_err(),
        );
        refused(store.search(vector, &top(3)).unwrap_err());
        refused(store.search_batch(&[&X, vector], &top(0)).unwrap_err());
    }
    refused(
        store
            .upsert(&[Point::new("b", Y), Point::new("", Y)])
            .unwrap_err(),
    );
    assert_eq!(ids(&store.search(&X, &top(9)).unwrap()), ["a"]);
    match store.search(&[1.0], &top(1)).unwrap_err().kind() {
        ErrorKind::Width {
            expected: 3,
            received: 1,
            ..
        } => {}
        other => panic!("{other:?}"),
    }
}

/// Ten points with numbers, languages and nested facts.
fn filled(store: &dyn VectorStore) {
    let points: Vec<Point> = (0..10u64)
        .map(|number| {
            let lang = if number % 2 == 0 { "zh" } else { "en" };
            let facts = json!({
                "n": number, "lang": lang, "tags": [format!("t{}", number % 3)],
                "author": {"name": format!("author {}", number / 5)},
            });
            Point::new(number, [1.0, number as f32 / 10.0, 0.0])
                .with_text(format!("text {number}"))
                .with_payload(payload(facts))
        })
        .collect();
    store.upsert(&points).unwrap();
}

fn points_are_deleted_by_id_and_by_filter(store: &dyn VectorStore) {
    filled(store);
    let small = conditions(json!({"must": [{"key": "n", "range": {"lt": 3}}]}));
    assert_eq!(store.delete(&Selection::Filter(small)).unwrap(), 3);
    let some = Selection::Ids(vec![3u64.into(), 2u64.into(), "no such".into()]);
    assert_eq!(store.delete(&some).unwrap(), 1);
    assert_eq!(
        all_ids(store),
        (4..10u64).map(PointId::from).collect::<Vec<_>>()
    );
    assert_eq!(ids(&store.search(&X, &top(2)).unwrap()), ["4", "5"]);
    store.upsert(&[Point::new(2u64, X)]).unwrap();
    assert_eq!(ids(&store.search(&X, &top(1)).unwrap()), ["2"]);
    assert_eq!(store.delete(&Selection::All).unwrap(), 7);
    assert_eq!(store.count(&Selection::All).unwrap(), 0);
    assert_eq!(store.search(&X, &top(1)).unwrap(), []);
}

fn pages_follow_the_ids(store: &dyn VectorStore) {
    filled(store);
    store.delete(&Selection::Ids(vec![4u64.into()])).unwrap();
    let mut scroll = Scroll {
        limit: 4,
        with_vector: true,
        ..Scroll::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = store.scroll(&scroll).unwrap();
        pages.push(
            page.points
                .iter()
                .map(|p| p.id.to_string())
                .collect::<Vec<_>>()
                .concat(),
        );
        assert!(page.points.iter().all(|point| point.vector.len() == 3));
        let Some(next) = page.next else { break };
        scroll.from = Some(next);
    }
    assert_eq!(pages, ["0123", "5678", "9"]);
    let even = conditions(json!({"must": [{"key": "lang", "match": {"value": "zh"}}]}));
    let scroll = Scroll {
        filter: Some(even),
        from: Some(1u64.into()),
        limit: 2,
        ..Scroll::default()
    };
    let page = store.scroll(&scroll).unwrap();
    let listed: Vec<_> = page.points.iter().map(|p| p.id.clone()).collect();
    assert_eq!(listed, [2u64.into(), 6u64.into()]);
    assert_eq!(page.next, Some(8u64.into()));
    assert!(page.points[0].vector.is_empty());
    let exactly = Scroll {
        from: Some(6u64.into()),
        limit: 4,
        ..Scroll::default()
    };
    assert_eq!(store.scroll(&exactly).unwrap().next, None);
}

fn filters_hold_in_every_call(store: &dyn VectorStore) {
    filled(store);
    let cases = [
        (json!({}), 10),
        (
            json!({"must": [{"key": "lang", "match": {"value": "zh"}}]}),
            5,
        ),
        (
            json!({"must_not": [{"key": "lang", "match": {"value": "zh"}}]}),
            5,
        ),
        (
            json!({"must": [{"key": "n", "range": {"gte": 2, "lt": 5}}]}),
            3,
        ),
        (
            json!({"should": [{"key": "n", "match": {"value": 1}}, {"key": "n", "match": {"value": 2}}]}),
            2,
        ),
        (
            json!({"must": [{"key": "tags", "match": {"any": ["t1", "t2"]}}]}),
            6,
        ),
        (
            json!({"must": [{"key": "tags", "match": {"except": ["t1"]}}]}),
            7,
        ),
        (
            json!({"must": [{"key": "author.name", "match": {"value": "author 1"}}]}),
            5,
        ),
        (
            json!({"must": [{"has_id": [1, 2, 77]}, {"key": "lang", "match": {"value": "en"}}]}),
            1,
        ),
        (json!({"must": [{"key": "n", "match": {"value": "1"}}]}), 0),
        (json!({"must": [{"is_empty": {"key": "no.such"}}]}), 10),
        (
            json!({"must": [{"should": [{"key": "n", "match": {"value": 3}}]},
                         {"must_not": [{"key": "lang", "match": {"value": "zh"}}]}]}),
            1,
        ),
        (
            json!({"min_should": {"min_count": 2, "conditions": [
            {"key": "n", "range": {"gt": 5}}, {"key": "lang", "match": {"value": "zh"}},
            {"key": "n", "range": {"lte": 1}}]}}),
            3,
        ),
    ];
    for (json, expected) in cases {
        let filter = conditions(json.clone());
        let count = store.count(&Selection::Filter(filter.clone())).unwrap();
        assert_eq!(count, expected, "{json}");
        let request = SearchRequest {
            filter: Some(filter.clone()),
            ..top(100)
        };
        let found = store.search(&X, &request).unwrap();
        assert_eq!(found.len() as u64, expected, "{json}");
        // Closest to X are the smallest numbers.
        let order: Vec<u64> = found
            .iter()
            .map(|f| f.point.payload["n"].as_u64().unwrap())
            .collect();
        assert!(order.is_sorted(), "{json}: {order:?}");
        let request = SearchRequest {
            filter: Some(filter.clone()),
            ..top(2)
        };
        assert_eq!(
            store.search(&X, &request).unwrap(),
            found[..found.len().min(2)],
            "{json}"
        );
        let scroll = Scroll {
            filter: Some(filter),
            limit: 100,
            ..Scroll::default()
        };
        assert_eq!(
            store.scroll(&scroll).unwrap().points.len() as u64,
            expected,
            "{json}"
        );
    }
}

fn offsets_and_thresholds_cut(store: &dyn VectorStore) {
    filled(store);
    let offset = |offset| SearchRequest { offset, ..top(3) };
    assert_eq!(ids(&store.search(&X, &offset(0)).unwrap()), ["0", "1", "2"]);
    assert_eq!(ids(&store.search(&X, &offset(8)).unwrap()), ["8", "9"]);
    assert_eq!(store.search(&X, &offset(50)).unwrap(), []);
    let least = |score| SearchRequest {
        score_threshold: Some(score),
        ..top(10)
    };
    // The cosine of X and (1, 0.2) is 0.9806, of X and (1, 0.3) 0.9578.
    assert_eq!(
        ids(&store.search(&X, &least(0.97)).unwrap()),
        ["0", "1", "2"]
    );
    assert_eq!(store.search(&X, &least(1.5)).unwrap(), []);
    assert_eq!(store.search(&X, &least(-1.0)).unwrap().len(), 10);
}

fn payloads_change(store: &dyn VectorStore) {
    filled(store);
    let of = |id: u64| Value::from(store.get_by_ids(&[id.into()]).unwrap()[0].payload.clone());
    let set = |key: Option<&str>, json| PayloadChange::Set {
        key: key.map(Into::into),
        payload: payload(json),
    };
    let one = Selection::Ids(vec![1u64.into()]);
    assert_eq!(
        store
            .change_payload(&one, &set(None, json!({"lang": "ja", "new": [1]})))
            .unwrap(),
        1
    );
    let expected =
        json!({"n": 1, "lang": "ja", "new": [1], "tags": ["t1"], "author": {"name": "author 0"}});
    assert_eq!(of(1), expected);
    store
        .change_payload(&one, &set(Some("author"), json!({"born": 712})))
        .unwrap();
    assert_eq!(of(1)["author"], json!({"name": "author 0", "born": 712}));
    let delete = PayloadChange::Delete(vec!["author.name".into(), "tags".into(), "no.such".into()]);
    store.change_payload(&one, &delete).unwrap();
    assert_eq!(
        of(1),
        json!({"n": 1, "lang": "ja", "new": [1], "author": {"born": 712}})
    );
    let even = Selection::Filter(conditions(
        json!({"must": [{"key": "lang", "match": {"value": "zh"}}]}),
    ));
    assert_eq!(
        store
            .change_payload(&even, &PayloadChange::Overwrite(payload(json!({"a": 1}))))
            .unwrap(),
        5
    );
    assert_eq!(of(4), json!({"a": 1}));
    assert_eq!(store.count(&even).unwrap(), 0);
    assert_eq!(
        store
            .change_payload(&Selection::All, &PayloadChange::Clear)
            .unwrap(),
        10
    );
    assert_eq!(of(5), json!({}));
    // Texts and vectors stay.
    assert_eq!(store.get_by_ids(&[5u64.into()]).unwrap()[0].text, "text 5");
    assert_eq!(ids(&store.search(&X, &top(1)).unwrap()), ["0"]);
}

fn batches_find_what_each_query_finds(store: &dyn VectorStore) {
    filled(store);
    let queries: [&[f32]; 4] = [&X, &Y, &XY, &[9.0, 9.0, 9.0]];
    let together = store.search_batch(&queries, &top(4)).unwrap();
    for (query, found) in queries.iter().zip(together) {
        assert_eq!(store.search(query, &top(4)).unwrap(), found);
    }
}

fn marginal_relevance_prefers_what_differs(store: &dyn VectorStore) {
    let points = [
        Point::new("near", [0.9, 0.1, 0.0]).with_payload(payload(json!({"k": 1}))),
        Point::new("same", [1.8, 0.2, 0.0]).with_payload(payload(json!({"k": 1}))),
        Point::new("far", [0.5, -0.9, 0.0]),
    ];
    store.upsert(&points).unwrap();
    let mmr = |top_k, fetch_k, lambda_mult| MmrRequest {
        top_k,
        fetch_k,
        lambda_mult,
        ..MmrRequest::default()
    };
    let chosen = |request| ids(&store.max_marginal_relevance_search(&X, &request).unwrap());
    assert_eq!(chosen(mmr(2, 20, 0.5))[1], "far");
    assert_ne!(chosen(mmr(2, 20, 1.0))[1], "far");
    assert_eq!(chosen(mmr(5, 2, 0.5)).len(), 2);
    assert_eq!(chosen(mmr(0, 20, 0.5)).len(), 0);
    let only = conditions(json!({"must": [{"key": "k", "match": {"value": 1}}]}));
    let request = MmrRequest {
        filter: Some(only),
        with_vector: true,
        ..mmr(3, 20, 0.5)
    };
    let found = store.max_marginal_relevance_search(&X, &request).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].point.vector.len(), 3);
}

fn closures_filter_too(store: &dyn VectorStore) {
    filled(store);
    let odd = |point: &Point| point.payload["n"].as_u64().is_some_and(|n| n % 2 == 1);
    let found = store.search_where(&X, &top(3), &odd).unwrap();
    assert_eq!(ids(&found), ["1", "3", "5"]);
    let request = SearchRequest {
        offset: 4,
        ..top(3)
    };
    assert_eq!(ids(&store.search_where(&X, &request, &odd).unwrap()), ["9"]);
    assert_eq!(store.search_where(&X, &top(3), &|_| false).unwrap(), []);
    let request = MmrRequest {
        top_k: 3,
        fetch_k: 4,
        lambda_mult: 1.0,
        ..MmrRequest::default()
    };
    let found = store.max_marginal_relevance_search_where(&X, &request, &odd);
    assert_eq!(ids(&found.unwrap()), ["1", "3", "5"]);
}

/// A xorshift generator (Marsaglia 2003), -1 to 1.
fn random(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn many_points_agree_with_sorting(store: &dyn VectorStore) {
    let mut state = 42;
    let vectors: Vec<[f32; 3]> = (0..500)
        .map(|_| std::array::from_fn(|_| random(&mut state)))
        .collect();
    let points: Vec<Point> = (0u64..)
        .zip(&vectors)
        .map(|(id, vector)| Point::new(id, *vector).with_payload(payload(json!({"n": id % 7}))))
        .collect();
    for points in points.chunks(170) {
        store.upsert(points).unwrap();
    }
    let cosine = |a: &[f32; 3], b: &[f32; 3]| {
        let dot = |a: &[f32; 3], b: &[f32; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    for seventh in [None, Some(3)] {
        let query: [f32; 3] = std::array::from_fn(|_| random(&mut state));
        let mut expected: Vec<(f32, u64)> = (0u64..)
            .zip(&vectors)
            .filter(|(id, _)| seventh.is_none_or(|n| id % 7 == n))
            .map(|(id, vector)| (cosine(&query, vector), id))
            .collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        let filter =
            seventh.map(|n| conditions(json!({"must": [{"key": "n", "match": {"value": n}}]})));
        let found = store
            .search(&query, &SearchRequest { filter, ..top(20) })
            .unwrap();
        assert_eq!(found.len(), 20);
        for (found, (score, _)) in found.iter().zip(&expected) {
            assert!((found.score - score).abs() < 1e-4);
        }
        let right = found.iter().filter(|f| {
            expected[..20]
                .iter()
                .any(|(_, id)| f.point.id == (*id).into())
        });
        assert!(right.count() >= 19);
    }
}

fn dot_products_are_not_normalised(store: &dyn VectorStore) {
    store
        .upsert(&[
            Point::new("a", [2.0, 0.0, 0.0]),
            Point::new("b", X),
            Point::new("zero", [0.0; 3]),
        ])
        .unwrap();
    let found = store.search(&[3.0, 1.0, 0.0], &top(3)).unwrap();
    assert_eq!(ids(&found), ["a", "b", "zero"]);
    scores_are(&found, &[6.0, 3.0, 0.0]);
    assert_eq!(
        store.get_by_ids(&["a".into()]).unwrap()[0].vector,
        [2.0, 0.0, 0.0]
    );
}

fn euclidean_distances_are_negative(store: &dyn VectorStore) {
    store
        .upsert(&[Point::new("a", [3.0, 4.0, 0.0]), Point::new("b", X)])
        .unwrap();
    let found = store.search(&[0.0; 3], &top(3)).unwrap();
    assert_eq!(ids(&found), ["b", "a"]);
    scores_are(&found, &[-1.0, -5.0]);
    let near = SearchRequest {
        score_threshold: Some(-2.0),
        ..top(3)
    };
    assert_eq!(ids(&store.search(&[0.0; 3], &near).unwrap()), ["b"]);
}

fn manhattan_distances_are_negative(store: &dyn VectorStore) {
    store
        .upsert(&[Point::new("a", [3.0, -4.0, 0.5]), Point::new("b", X)])
        .unwrap();
    let found = store.search(&[0.0; 3], &top(3)).unwrap();
    assert_eq!(ids(&found), ["b", "a"]);
    scores_are(&found, &[-1.0, -7.5]);
}
