//! Changes of payloads.

use serde_json::Value;

use super::point::Payload;
use super::request::PayloadChange;

impl PayloadChange {
    /// Makes the change.
    pub fn apply(&self, payload: &mut Payload) {
        match self {
            Self::Set {
                key: None,
                payload: new,
            } => payload.extend(new.clone()),
            Self::Set {
                key: Some(key),
                payload: new,
            } => {
                let object = object_at(payload, key);
                object.extend(new.clone());
            }
            Self::Overwrite(new) => payload.clone_from(new),
            Self::Delete(keys) => keys.iter().for_each(|key| delete(payload, key)),
            Self::Clear => payload.clear(),
        }
    }
}

/// The object at a path, made where there is none: what stood in its way is replaced.
fn object_at<'a>(payload: &'a mut Payload, key: &str) -> &'a mut Payload {
    let mut here = payload;
    for name in key.split('.') {
        let value = here.entry(name).or_insert(Value::Null);
        if !value.is_object() {
            *value = Value::Object(Payload::new());
        }
        here = value
            .as_object_mut()
            .expect("it was made an object; this is a bug");
    }
    here
}

fn delete(payload: &mut Payload, key: &str) {
    // A key with a dot in its name comes before a path, as in filters.
    if payload.remove(key).is_some() {
        return;
    }
    let Some((parents, last)) = key.rsplit_once('.') else {
        return;
    };
    let mut here = payload;
    for name in parents.split('.') {
        match here.get_mut(name) {
            Some(Value::Object(object)) => here = object,
            _ => return,
        }
    }
    here.remove(last);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(change: &PayloadChange, before: &Value) -> Value {
        let mut payload = before.as_object().unwrap().clone();
        change.apply(&mut payload);
        payload.into()
    }

    #[test]
    fn keys_are_set_and_deleted_at_paths() {
        let set = |key: Option<&str>, value: Value| PayloadChange::Set {
            key: key.map(Into::into),
            payload: value.as_object().unwrap().clone(),
        };
        let before = json!({"a": 1, "b": {"c": 2, "d": 3}, "e.f": 4});
        assert_eq!(
            changed(&set(None, json!({"a": [5]})), &before),
            json!({"a": [5], "b": {"c": 2, "d": 3}, "e.f": 4})
        );
        assert_eq!(
            changed(&set(Some("b.g"), json!({"h": 6})), &before)["b"],
            json!({"c": 2, "d": 3, "g": {"h": 6}})
        );
        let delete = PayloadChange::Delete(vec!["b.c".into(), "e.f".into(), "no.such".into()]);
        assert_eq!(changed(&delete, &before), json!({"a": 1, "b": {"d": 3}}));
        assert_eq!(changed(&PayloadChange::Clear, &before), json!({}));
    }
}
