//! What is found: order, scores, cuts, batches, relevance, distances.

use serde_json::json;
use wenyi_store::vector_store::{
    Distance, MmrRequest, Point, Scroll, SearchRequest, Selection, VectorStore,
};

use super::{X, XY, Y, conditions, filled, ids, payload, scores_are, top};

pub(super) fn nothing_is_found_in_nothing(store: &dyn VectorStore) {
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

pub(super) fn the_closest_come_first(store: &dyn VectorStore) {
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

pub(super) fn offsets_and_thresholds_cut(store: &dyn VectorStore) {
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

pub(super) fn batches_find_what_each_query_finds(store: &dyn VectorStore) {
    filled(store);
    let queries: [&[f32]; 4] = [&X, &Y, &XY, &[9.0, 9.0, 9.0]];
    let together = store.search_batch(&queries, &top(4)).unwrap();
    for (query, found) in queries.iter().zip(together) {
        assert_eq!(store.search(query, &top(4)).unwrap(), found);
    }
}

pub(super) fn marginal_relevance_prefers_what_differs(store: &dyn VectorStore) {
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

/// A xorshift generator (Marsaglia 2003), -1 to 1.
fn random(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

pub(super) fn many_points_agree_with_sorting(store: &dyn VectorStore) {
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

pub(super) fn dot_products_are_not_normalised(store: &dyn VectorStore) {
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

pub(super) fn euclidean_distances_are_negative(store: &dyn VectorStore) {
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

pub(super) fn manhattan_distances_are_negative(store: &dyn VectorStore) {
    store
        .upsert(&[Point::new("a", [3.0, -4.0, 0.5]), Point::new("b", X)])
        .unwrap();
    let found = store.search(&[0.0; 3], &top(3)).unwrap();
    assert_eq!(ids(&found), ["b", "a"]);
    scores_are(&found, &[-1.0, -7.5]);
}
