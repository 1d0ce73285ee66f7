//! Points, ids and filters as Qdrant has them.

use serde_json::{Value, json};
use uuid::Uuid;
use wenyi_store::vector_store::{Payload, Point, PointId, Selection};

/// Where a point's text lies in its payload; LangChain's name for it.
const TEXT_KEY: &str = "page_content";

/// Where an id lies that Qdrant cannot take.
const ID_KEY: &str = "wenyi_id";

/// The namespace of the UUIDs that are made of other ids (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x9f1c_7a52_6a0e_4b7b_9d0e_5e57_ac0e_57a1);

/// The id as a number or a UUID.
pub(super) fn id_to_qdrant(id: &PointId) -> Value {
    match id {
        PointId::Number(number) => (*number).into(),
        PointId::Text(text) if is_uuid(text) => text.as_str().into(),
        PointId::Text(text) => {
            let uuid = Uuid::new_v5(&NAMESPACE, text.as_bytes());
            uuid.to_string().into()
        }
    }
}

/// True for a UUID in the form in which a server gives it back.
fn is_uuid(text: &str) -> bool {
    Uuid::parse_str(text).is_ok_and(|uuid| uuid.to_string() == *text)
}

/// The point as it is sent; a payload that uses our own keys is refused.
pub(super) fn to_qdrant(point: &Point) -> Result<Value, String> {
    let mut payload = point.payload.clone();
    if let Some(key) = [TEXT_KEY, ID_KEY]
        .into_iter()
        .find(|key| payload.contains_key(*key))
    {
        return Err(format!(
            "the payload of `{}` has the key `{key}`, which is the store's own",
            point.id
        ));
    }
    if !point.text.is_empty() {
        payload.insert(TEXT_KEY.into(), point.text.as_str().into());
    }
    if let PointId::Text(text) = &point.id
        && !is_uuid(text)
    {
        payload.insert(ID_KEY.into(), text.as_str().into());
    }
    let id = id_to_qdrant(&point.id);
    Ok(json!({"id": id, "vector": point.vector, "payload": payload}))
}

/// The point that was answered; `None` if it is none.
pub(super) fn from_qdrant(json: &Value) -> Option<Point> {
    let mut payload = match &json["payload"] {
        Value::Object(payload) => payload.clone(),
        _ => Payload::new(),
    };
    let text = match payload.remove(TEXT_KEY) {
        Some(Value::String(text)) => text,
        Some(other) => {
            payload.insert(TEXT_KEY.into(), other);
            String::new()
        }
        None => String::new(),
    };
    let id = match payload.remove(ID_KEY) {
        Some(Value::String(text)) => text.into(),
        _ => PointId::from_json(&json["id"])?,
    };
    let vector = match &json["vector"] {
        Value::Array(numbers) => {
            let numbers = numbers.iter().map(|number| Some(number.as_f64()? as f32));
            numbers.collect::<Option<Vec<f32>>>()?
        }
        _ => Vec::new(),
    };
    Some(Point {
        id,
        vector,
        text,
        payload,
    })
}

/// The filter that selects the points.
pub(super) fn selection_filter(selection: &Selection) -> Value {
    match selection {
        Selection::All => json!({}),
        Selection::Ids(ids) => {
            let ids: Vec<Value> = ids.iter().map(id_to_qdrant).collect();
            json!({"must": [{"has_id": ids}]})
        }
        Selection::Filter(filter) => with_ids(filter.to_json()),
    }
}

/// The filter with its ids as Qdrant has them.
fn with_ids(filter: Value) -> Value {
    match filter {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match (name.as_str(), value) {
                ("has_id", Value::Array(ids)) => {
                    let ids = ids.iter().filter_map(PointId::from_json);
                    let ids: Vec<Value> = ids.map(|id| id_to_qdrant(&id)).collect();
                    (name, ids.into())
                }
                // What a value is matched with is no condition.
                ("match" | "range", value) => (name, value),
                (_, value) => (name, with_ids(value)),
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(all) => all.into_iter().map(with_ids).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_qdrant_cannot_take_come_back() {
        let uuid = "8c6d5e0e-12f3-4d0a-9f3e-2b1c5a7d9e01";
        assert_eq!(id_to_qdrant(&uuid.into()), uuid);
        assert_eq!(id_to_qdrant(&7u64.into()), 7);
        for id in ["7", "编号", "8C6D5E0E-12F3-4D0A-9F3E-2B1C5A7D9E01"] {
            let point = Point::new(id, [1.0]).with_text("文");
            let sent = to_qdrant(&point).unwrap();
            assert!(is_uuid(sent["id"].as_str().unwrap()));
            assert_eq!(sent["payload"]["page_content"], "文");
            assert_eq!(from_qdrant(&sent).unwrap(), point);
        }
        let filter = json!({"must": [{"has_id": [1, "a"]}], "must_not": {"key": "has_id", "match": {"any": ["a"]}}});
        let changed = with_ids(filter.clone());
        assert_eq!(
            changed["must"][0]["has_id"],
            json!([1, id_to_qdrant(&"a".into())])
        );
        assert_eq!(changed["must_not"], filter["must_not"]);
    }
}
