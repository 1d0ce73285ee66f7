//! What every `VectorStore` must do. Other crates include this folder for their own stores.

mod points;
mod search;
mod filters;

use serde_json::{Value, json};
use wenyi_store::Conditions;
use wenyi_store::vector_store::{
    Distance, Payload, Point, PointId, ScoredPoint, Scroll, SearchRequest, StoreOptions,
    VectorStore,
};

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
        search::nothing_is_found_in_nothing as fn(&dyn VectorStore),
        search::the_closest_come_first,
        points::points_come_back_as_they_went,
        points::ids_are_numbers_and_texts,
        points::upserting_replaces_and_adding_refuses,
        points::what_is_bad_is_refused_before_anything_changes,
        points::points_are_deleted_by_id_and_by_filter,
        points::pages_follow_the_ids,
        filters::filters_hold_in_every_call,
        search::offsets_and_thresholds_cut,
        points::payloads_change,
        search::batches_find_what_each_query_finds,
        search::marginal_relevance_prefers_what_differs,
        filters::closures_filter_too,
        search::many_points_agree_with_sorting,
    ] {
        with(Distance::Cosine, test);
    }
    with(Distance::Dot, search::dot_products_are_not_normalised);
    with(
        Distance::Euclidean,
        search::euclidean_distances_are_negative,
    );
    with(
        Distance::Manhattan,
        search::manhattan_distances_are_negative,
    );
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
