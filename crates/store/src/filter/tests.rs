use serde_json::json;

use super::*;

fn holds(filter: &Value) -> bool {
    let metadata = json!({
        "lang": "zh", "year": 2024, "score": 0.5, "draft": false, "date": "2024-05-01T00:00:00Z",
        "tags": ["rust", "向量"], "empty": [], "null": null, "a.b": 1,
        "author": {"name": "Li Lei", "born": {"year": 1990}},
        "title": "Running the indexes offline",
        "parts": [{"kind": "x", "n": 1}, {"kind": "y", "n": 2}],
    });
    let filter = Conditions::from_json(filter).unwrap();
    filter.matches(&[json!(7), json!("notes.md")], &metadata)
}

#[track_caller]
fn must(condition: Value, expected: bool) {
    assert_eq!(
        holds(&json!({"must": [condition]})),
        expected,
        "{condition}"
    );
    assert_eq!(
        holds(&json!({"must_not": condition})),
        !expected,
        "not {condition}"
    );
    let nested = json!({"must": [{"should": [condition, {"has_id": []}]}]});
    assert_eq!(holds(&nested), expected, "nested {condition}");
    let two = json!({"min_should": {"conditions": [condition, {"has_id": [7]}], "min_count": 2}});
    assert_eq!(holds(&two), expected, "two of {condition}");
}

#[test]
fn values() {
    must(json!({"key": "lang", "match": {"value": "zh"}}), true);
    must(json!({"key": "lang", "match": {"value": "ZH"}}), false);
    must(json!({"key": "year", "match": {"value": 2024}}), true);
    must(json!({"key": "year", "match": {"value": 2024.0}}), true);
    must(json!({"key": "year", "match": {"value": "2024"}}), false);
    must(json!({"key": "draft", "match": {"value": false}}), true);
    must(json!({"key": "draft", "match": {"value": 0}}), false);
    must(json!({"key": "tags", "match": {"value": "rust"}}), true);
    must(
        json!({"key": "tags", "match": {"any": ["go", "向量"]}}),
        true,
    );
    must(json!({"key": "tags", "match": {"any": []}}), false);
    must(json!({"key": "lang", "match": {"except": ["en"]}}), true);
    must(
        json!({"key": "lang", "match": {"except": ["zh", "en"]}}),
        false,
    );
    must(
        json!({"key": "missing", "match": {"except": ["en"]}}),
        false,
    );
    must(
        json!({"key": "title", "match": {"text": "index run"}}),
        true,
    );
    must(
        json!({"key": "title", "match": {"text": "index online"}}),
        false,
    );
    must(
        json!({"key": "title", "match": {"text_any": "online index"}}),
        true,
    );
    must(
        json!({"key": "title", "match": {"text_any": "online now"}}),
        false,
    );
    must(
        json!({"key": "title", "match": {"phrase": "THE INDEXES"}}),
        true,
    );
    must(
        json!({"key": "title", "match": {"phrase": "indexes the"}}),
        false,
    );
}

#[test]
fn what_is_not_served_is_refused_by_its_name() {
    for (condition, place) in [
        (json!({"has_vector": "title"}), "filter.must[0].has_vector"),
        (
            json!({"key": "a", "match": {"like": "b"}}),
            "filter.must[0].match.like",
        ),
    ] {
        let error = Conditions::from_json(&json!({"must": [condition]})).unwrap_err();
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[test]
fn chinese_text_is_found_wherever_it_stands() {
    let metadata = json!({"title": "机器学习和数据库", "note": "数据库的向量检索, for the reader"});
    for (key, text, expected) in [
        ("title", "机器", true),
        ("title", "学习", true),
        ("title", "机器学习", true),
        ("title", "数据", true),
        ("title", "数据库", true),
        ("title", "库", true),
        ("title", "学", true),
        ("title", "学和", false),
        ("note", "向量", true),
        ("note", "向量 数据库", true),
        ("note", "向量 机器", false),
        ("note", "the reader", true),
        ("note", "the writer", false),
    ] {
        let filter = json!({"must": [{"key": key, "match": {"text": text}}]});
        let conditions = Conditions::from_json(&filter).unwrap();
        assert_eq!(conditions.matches(&[], &metadata), expected, "{key} {text}");
    }
}

#[test]
fn ranges_of_numbers_dates_and_counts() {
    must(
        json!({"key": "year", "range": {"gte": 2024, "lt": 2025.5}}),
        true,
    );
    must(json!({"key": "year", "range": {"gt": 2024}}), false);
    must(json!({"key": "score", "range": {"lte": 0.5}}), true);
    must(
        json!({"key": "date", "range": {"gte": "2024-01-01", "lt": "2025-01-01"}}),
        true,
    );
    must(json!({"key": "lang", "range": {"gt": 0}}), false);
    must(json!({"key": "missing", "range": {}}), false);
    must(json!({"key": "tags", "values_count": {"gte": 2}}), true);
    must(json!({"key": "missing", "values_count": {"lt": 1}}), true);
}

#[test]
fn keys_that_lead_inside_and_ids() {
    must(
        json!({"key": "author.name", "match": {"value": "Li Lei"}}),
        true,
    );
    must(
        json!({"key": "author.born.year", "range": {"lt": 2000}}),
        true,
    );
    must(
        json!({"key": "author.name.first", "match": {"value": "Li"}}),
        false,
    );
    must(json!({"key": "a.b", "match": {"value": 1}}), true);
    must(json!({"key": "parts[].n", "match": {"value": 2}}), true);
    must(
        json!({"nested": {"key": "parts", "filter": {"must": [
        {"key": "kind", "match": {"value": "x"}}, {"key": "n", "match": {"value": 1}}]}}}),
        true,
    );
    must(
        json!({"nested": {"key": "parts", "filter": {"must": [
        {"key": "kind", "match": {"value": "x"}}, {"key": "n", "match": {"value": 2}}]}}}),
        false,
    );
    must(json!({"has_id": [1, 7]}), true);
    must(json!({"has_id": ["notes.md"]}), true);
    must(json!({"has_id": ["7"]}), false);
}

#[test]
fn emptiness() {
    for (key, empty, null) in [
        ("missing", true, false),
        ("null", true, true),
        ("empty", true, false),
        ("lang", false, false),
        ("draft", false, false),
    ] {
        must(json!({"is_empty": {"key": key}}), empty);
        must(json!({"is_null": {"key": key}}), null);
        must(json!({"key": key, "is_empty": false}), !empty);
    }
}

#[test]
fn a_filter_without_conditions_lets_everything_through() {
    assert!(holds(&json!({})));
    assert!(holds(&json!({"must": [], "should": [], "must_not": null})));
    let none_of_two = json!({"should": [{"has_id": [1]}, {"has_id": [2]}]});
    assert!(!holds(&none_of_two));
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let mut deep = json!({"must": []});
    for _ in 0..40 {
        deep = json!({"must": [deep]});
    }
    for (filter, place) in [
        (json!([]), "filter"),
        (json!({"and": []}), "filter.and"),
        (json!({"must": [{"key": "a"}]}), "filter.must[0]"),
        (
            json!({"must": [{"key": "a", "match": {"value": [1]}}]}),
            "filter.must[0].match.value",
        ),
        (
            json!({"must": [{"key": "a", "match": {"like": "x"}}]}),
            "filter.must[0].match.like",
        ),
        (
            json!({"must": {"key": "a", "range": {"from": 1}}}),
            "filter.must.range.from",
        ),
        (
            json!({"must": [{"key": "a", "match": {"value": 1}, "x": 1}]}),
            "filter.must[0].x",
        ),
        (json!({"must": [{}]}), "filter.must[0]"),
        (json!({"must": [{"has_id": 7}]}), "filter.must[0].has_id"),
        (
            json!({"min_should": {"conditions": []}}),
            "filter.min_should",
        ),
        (deep, "filter.must[0]"),
    ] {
        let error = Conditions::from_json(&filter).unwrap_err();
        assert!(error.is_user_error());
        assert!(error.to_string().contains(&format!("`{place}")), "{error}");
    }
}
