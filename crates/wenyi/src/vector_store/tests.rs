//! The layer of texts over a store, with an embedder of hashed words.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::retrieve::bag_of_words::BagOfWords;

const POEMS: [&str; 3] = [
    "春眠不觉晓",
    "the moon over the mountain",
    "the moon over the river",
];

fn store() -> (TextStore, Arc<BagOfWords>) {
    let embedder = Arc::new(BagOfWords::new(512));
    let store = Arc::new(MemoryStore::new());
    (TextStore::new(store, embedder.clone()).unwrap(), embedder)
}

fn metadata(json: Value) -> Payload {
    json.as_object().unwrap().clone()
}

fn texts(found: &[ScoredPoint]) -> Vec<&str> {
    found
        .iter()
        .map(|found| found.point.text.as_str())
        .collect()
}

#[test]
fn texts_are_kept_and_found_by_meaning() {
    let (store, _) = store();
    let languages = ["zh", "en", "en"].map(|lang| metadata(json!({"lang": lang})));
    let ids = store.add_texts(&POEMS, &languages, &[]).unwrap();
    assert_eq!(ids.len(), 3);
    assert!(
        ids.iter()
            .all(|id| matches!(id, PointId::Text(id) if id.len() == 36))
    );
    let found = store
        .similarity_search_with_score("moon over the river", 2, None)
        .unwrap();
    assert_eq!(texts(&found), [POEMS[2], POEMS[1]]);
    assert!(found[0].score > found[1].score);
    let zh = json!({"must": [{"key": "lang", "match": {"value": "zh"}}]});
    let zh = crate::store::Conditions::from_json(&zh).unwrap();
    let found = store.similarity_search("moon", 4, Some(&zh)).unwrap();
    assert_eq!(found[0].text, POEMS[0]);
    let is_zh = |point: &Point| point.payload["lang"] == "zh";
    assert_eq!(
        store
            .similarity_search_where("moon", 4, &is_zh)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(store.get_by_ids(&ids[1..2]).unwrap()[0].text, POEMS[1]);
    assert_eq!(store.delete(&ids[..2]).unwrap(), 2);
    assert_eq!(store.similarity_search("moon", 4, None).unwrap().len(), 1);
}

#[test]
fn counts_are_checked_before_anything_is_embedded() {
    let (store, embedder) = store();
    for (metadatas, ids) in [(vec![Payload::new()], vec![]), (vec![], vec!["a".into()])] {
        assert!(store.add_texts(&POEMS, &metadatas, &ids).is_err());
    }
    assert_eq!(embedder.take_embedded(), Vec::<String>::new());
    assert_eq!(store.add_texts(&[], &[], &[]).unwrap(), []);
    let ids: Vec<PointId> = vec!["a".into(), "b".into(), "a".into()];
    assert_eq!(store.add_texts(&POEMS, &[], &ids).unwrap(), ids);
    assert_eq!(store.store().info().unwrap().num_points, 2);
    assert_eq!(store.get_by_ids(&["a".into()]).unwrap()[0].text, POEMS[2]);
}

#[test]
fn a_retriever_searches_as_it_was_told() {
    let (store, _) = store();
    store.add_texts(&POEMS, &[], &[]).unwrap();
    let found = |search_type, top_k| {
        let options = RetrieverOptions {
            search_type,
            top_k,
            filter: None,
        };
        store
            .as_retriever(options)
            .invoke("the moon over the river")
            .unwrap()
    };
    assert_eq!(texts(&found(SearchType::Similarity, 1)), [POEMS[2]]);
    assert_eq!(
        texts(&found(SearchType::SimilarityScoreThreshold(0.99), 4)),
        [POEMS[2]]
    );
    let different = SearchType::MaxMarginalRelevance {
        fetch_k: 3,
        lambda_mult: 0.0,
    };
    assert_eq!(texts(&found(different, 2)), [POEMS[2], POEMS[0]]);
    assert_eq!(RetrieverOptions::default().top_k, 4);
}

#[test]
fn an_embedder_of_another_width_is_refused() {
    let options = StoreOptions {
        dimensions: Some(3),
        ..StoreOptions::default()
    };
    let store = Arc::new(MemoryStore::with_options(options).unwrap());
    let error = TextStore::new(store, Arc::new(BagOfWords::new(512))).unwrap_err();
    assert!(error.to_string().contains("expects 3"), "{error}");
}
