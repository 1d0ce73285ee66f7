//! Conditions and closures.

use serde_json::json;
use wenyi_store::vector_store::{MmrRequest, Point, Scroll, SearchRequest, Selection, VectorStore};

use super::{X, conditions, filled, ids, top};

pub(super) fn filters_hold_in_every_call(store: &dyn VectorStore) {
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

pub(super) fn closures_filter_too(store: &dyn VectorStore) {
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
