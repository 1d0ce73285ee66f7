//! Points come, change and go.

use serde_json::{Value, json};
use wenyi_store::vector_store::{
    PayloadChange, Point, PointId, Scroll, SearchRequest, Selection, VectorStore,
};
use wenyi_store::{Error, ErrorKind};

use super::{X, XY, Y, all_ids, conditions, filled, ids, payload, top};

pub(super) fn points_come_back_as_they_went(store: &dyn VectorStore) {
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

pub(super) fn ids_are_numbers_and_texts(store: &dyn VectorStore) {
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

pub(super) fn upserting_replaces_and_adding_refuses(store: &dyn VectorStore) {
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

pub(super) fn what_is_bad_is_refused_before_anything_changes(store: &dyn VectorStore) {
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

pub(super) fn points_are_deleted_by_id_and_by_filter(store: &dyn VectorStore) {
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

pub(super) fn pages_follow_the_ids(store: &dyn VectorStore) {
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

pub(super) fn payloads_change(store: &dyn VectorStore) {
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
