//! The store in memory answers as LangChain's `InMemoryVectorStore` does. `fixtures/memory.json` has
//! its answers; `tests/clients/test_memory_store.py` made them and holds LangChain itself to them.

use serde_json::Value;
use wenyi_store::Conditions;
use wenyi_store::vector_store::{
    MemoryStore, MmrRequest, Point, PointId, SearchRequest, Selection, VectorStore,
};

fn points(json: &Value) -> Vec<Point> {
    serde_json::from_value(json.clone()).unwrap()
}

fn ids(json: &Value) -> Vec<PointId> {
    let ids = json.as_array().unwrap().iter();
    ids.map(|id| PointId::from_json(id).unwrap()).collect()
}

fn store(fixture: &Value) -> MemoryStore {
    let store = MemoryStore::new();
    store.add(&points(&fixture["points"])).unwrap();
    store.upsert(&points(&fixture["changed"])).unwrap();
    let removed = Selection::Ids(ids(&fixture["removed"]));
    assert_eq!(store.delete(&removed).unwrap(), 2);
    assert_eq!(store.delete(&Selection::Ids(Vec::new())).unwrap(), 0);
    store
}

fn check(store: &MemoryStore, case: &Value) {
    let query: Vec<f32> = serde_json::from_value(case["query"].clone()).unwrap();
    let number = |key: &str| case[key].as_u64().map(|number| number as usize);
    let filter = &case["filter"];
    let filter = (!filter.is_null()).then(|| Conditions::from_json(filter).unwrap());
    let top_k = number("top_k").unwrap();
    if let Some(fetch_k) = number("fetch_k") {
        let request = MmrRequest {
            top_k,
            fetch_k,
            lambda_mult: case["lambda_mult"].as_f64().unwrap() as f32,
            filter,
            with_vector: false,
        };
        let found = store
            .max_marginal_relevance_search(&query, &request)
            .unwrap();
        let found: Vec<PointId> = found.into_iter().map(|found| found.point.id).collect();
        assert_eq!(found, ids(&case["found"]), "{case}");
        return;
    }
    let request = SearchRequest {
        top_k,
        filter,
        ..SearchRequest::default()
    };
    let found = store.search(&query, &request).unwrap();
    let expected = case["found"].as_array().unwrap();
    assert_eq!(found.len(), expected.len(), "{case}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            found.point.id.to_string(),
            expected[0].as_str().unwrap(),
            "{case}"
        );
        let score = expected[1].as_f64().unwrap();
        assert!((f64::from(found.score) - score).abs() < 1e-6, "{case}");
    }
}

#[test]
fn memory_answers_as_langchain_does() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/memory.json")).unwrap();
    let store = store(&fixture);
    let points = store.points();
    let order = points.iter().map(|point| point.id.clone());
    assert_eq!(order.collect::<Vec<_>>(), ids(&fixture["order"]));
    let got = store.get_by_ids(&ids(&fixture["wanted"])).unwrap();
    let expected = fixture["got"].as_array().unwrap();
    assert_eq!(got.len(), expected.len());
    for (point, expected) in got.iter().zip(expected) {
        let payload = Value::Object(point.payload.clone());
        let point = serde_json::json!([point.id, point.text, payload]);
        assert_eq!(&point, expected);
    }
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 108);
    cases.iter().for_each(|case| check(&store, case));
}
