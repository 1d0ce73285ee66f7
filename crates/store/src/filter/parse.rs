//! From JSON to [`Conditions`]; what is not understood is refused with its place.

use serde_json::{Map, Value};

use super::{Bounds, Condition, Conditions, Test};
use crate::text::wanted_terms;
use crate::{ErrorKind, Result};

/// Filters in filters: deeper than anybody writes, far from the end of the stack.
const MAX_DEPTH: usize = 32;

impl Conditions {
    /// Reads `{"must": […], "should": […], "must_not": […], "min_should": {…}}`.
    ///
    /// # Errors
    ///
    /// If there is a clause, condition or value that is not known; nothing is passed over.
    pub fn from_json(json: &Value) -> Result<Self> {
        filter(json, "filter", 0)
    }
}

fn filter(json: &Value, place: &str, depth: usize) -> Result<Conditions> {
    if depth > MAX_DEPTH {
        return Err(refused(place, "at most 32 filters in each other", json));
    }
    let fields = object(json, place)?;
    let mut conditions = Conditions {
        json: fields.clone(),
        ..Conditions::default()
    };
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        match name.as_str() {
            _ if value.is_null() => {}
            "must" => conditions.must = list(value, &place, depth)?,
            "should" => conditions.should = list(value, &place, depth)?,
            "must_not" => conditions.must_not = list(value, &place, depth)?,
            "min_should" => conditions.min_should = Some(min_should(value, &place, depth)?),
            _ => return Err(refused(&place, CLAUSES, value)),
        }
    }
    Ok(conditions)
}

const CLAUSES: &str = "`must`, `should`, `must_not` or `min_should`";
const CONDITIONS: &str = "a condition with `key`, `has_id`, `is_empty`, `is_null`, `nested`, or a \
                          filter (`has_vector` is not served)";

/// One condition, or an array of them.
fn list(json: &Value, place: &str, depth: usize) -> Result<Vec<Condition>> {
    match json {
        Value::Array(all) => (0..)
            .zip(all)
            .map(|(index, json): (usize, _)| condition(json, &format!("{place}[{index}]"), depth))
            .collect(),
        one => Ok(vec![condition(one, place, depth)?]),
    }
}

fn min_should(json: &Value, place: &str, depth: usize) -> Result<(usize, Vec<Condition>)> {
    only(object(json, place)?, &["conditions", "min_count"], place)?;
    let least = json["min_count"]
        .as_u64()
        .and_then(|least| usize::try_from(least).ok());
    let least = least.ok_or_else(|| refused(place, "a `min_count`", json))?;
    Ok((least, list(&json["conditions"], place, depth)?))
}

fn condition(json: &Value, place: &str, depth: usize) -> Result<Condition> {
    let fields = object(json, place)?;
    if fields.contains_key("key") {
        return field(fields, json, place);
    }
    let Some((name, value)) = fields.iter().next() else {
        return Err(refused(place, CONDITIONS, json));
    };
    if ["must", "should", "must_not", "min_should"].contains(&name.as_str()) {
        return Ok(Condition::Filter(filter(json, place, depth + 1)?));
    }
    only(fields, &[name], place)?;
    let place = format!("{place}.{name}");
    match name.as_str() {
        "has_id" => match value.as_array() {
            Some(ids) if ids.iter().all(|id| id.is_string() || id.is_number()) => {
                Ok(Condition::HasId(ids.clone()))
            }
            _ => Err(refused(&place, "an array of ids", value)),
        },
        "is_empty" => Ok(Condition::IsEmpty {
            key: key(value, &place)?,
        }),
        "is_null" => Ok(Condition::IsNull {
            key: key(value, &place)?,
        }),
        "nested" => {
            only(object(value, &place)?, &["key", "filter"], &place)?;
            Ok(Condition::Nested {
                key: key(value, &place)?,
                filter: filter(&value["filter"], &place, depth + 1)?,
            })
        }
        _ => Err(refused(&place, CONDITIONS, value)),
    }
}

fn field(fields: &Map<String, Value>, json: &Value, place: &str) -> Result<Condition> {
    let key = key(json, place)?;
    let tests = ["match", "range", "values_count", "is_empty", "is_null"];
    only(fields, &[&["key"][..], &tests].concat(), place)?;
    let given: Vec<_> = fields
        .iter()
        .filter(|(name, value)| *name != "key" && !value.is_null())
        .collect();
    let [(name, value)] = given[..] else {
        let expected =
            "one of `match`, `range`, `values_count`, `is_empty`, `is_null` beside `key`";
        return Err(refused(place, expected, json));
    };
    let place = format!("{place}.{name}");
    let test = match name.as_str() {
        "match" => matching(value, &place)?,
        "range" => Test::Range(bounds(value, &place)?),
        "values_count" => Test::Count(bounds(value, &place)?),
        _ => return flag(name, key, value, &place),
    };
    Ok(Condition::Field { key, test })
}

/// `{"key": "a", "is_empty": false}` asks for the opposite.
fn flag(name: &str, key: String, value: &Value, place: &str) -> Result<Condition> {
    let wanted = value.as_bool();
    let wanted = wanted.ok_or_else(|| refused(place, "true or false", value))?;
    let condition = match name {
        "is_empty" => Condition::IsEmpty { key },
        _ => Condition::IsNull { key },
    };
    if wanted {
        return Ok(condition);
    }
    Ok(Condition::Filter(Conditions {
        must_not: vec![condition],
        ..Conditions::default()
    }))
}

fn matching(json: &Value, place: &str) -> Result<Test> {
    let expected = "one of `value`, `any`, `except`, `text`, `text_any`, `phrase`";
    let fields = object(json, place)?;
    let (Some((name, value)), 1) = (fields.iter().next(), fields.len()) else {
        return Err(refused(place, expected, json));
    };
    let place = &format!("{place}.{name}");
    let text = || {
        value
            .as_str()
            .ok_or_else(|| refused(place, "a string", value))
    };
    Ok(match name.as_str() {
        "value" if value.is_string() || value.is_number() || value.is_boolean() => {
            Test::Any(vec![value.clone()])
        }
        "value" => return Err(refused(place, "a string, a number, true or false", value)),
        "any" => Test::Any(scalars(value, place)?),
        "except" => Test::Except(scalars(value, place)?),
        "text" => Test::Text(wanted_terms(text()?)),
        "text_any" => Test::TextAny(wanted_terms(text()?)),
        "phrase" => Test::Phrase(text()?.to_lowercase()),
        _ => return Err(refused(place, expected, value)),
    })
}

fn scalars(json: &Value, place: &str) -> Result<Vec<Value>> {
    let is_scalar = |value: &Value| !(value.is_array() || value.is_object() || value.is_null());
    match json.as_array() {
        Some(all) if all.iter().all(is_scalar) => Ok(all.clone()),
        _ => Err(refused(place, "an array of strings or numbers", json)),
    }
}

fn bounds(json: &Value, place: &str) -> Result<Bounds> {
    let mut bounds = Bounds::default();
    for (name, value) in object(json, place)? {
        let place = format!("{place}.{name}");
        let bound = match name.as_str() {
            "gt" => &mut bounds.gt,
            "gte" => &mut bounds.gte,
            "lt" => &mut bounds.lt,
            "lte" => &mut bounds.lte,
            _ => return Err(refused(&place, "`gt`, `gte`, `lt` or `lte`", value)),
        };
        *bound = match value {
            Value::Null => None,
            Value::Number(_) | Value::String(_) => Some(value.clone()),
            _ => return Err(refused(&place, "a number or a date", value)),
        };
    }
    Ok(bounds)
}

fn key(json: &Value, place: &str) -> Result<String> {
    let key = json["key"].as_str().filter(|key| !key.is_empty());
    key.map(str::to_owned)
        .ok_or_else(|| refused(place, "a `key`", json))
}

fn object<'a>(json: &'a Value, place: &str) -> Result<&'a Map<String, Value>> {
    json.as_object()
        .ok_or_else(|| refused(place, "an object", json))
}

fn only(fields: &Map<String, Value>, known: &[&str], place: &str) -> Result<()> {
    let unknown = fields
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, value)) => Err(refused(
            &format!("{place}.{name}"),
            &format!("nothing but `{}`", known.join("`, `")),
            value,
        )),
        None => Ok(()),
    }
}

fn refused(place: &str, expected: &str, received: &Value) -> crate::Error {
    const SHOWN: usize = 80;
    let received = received.to_string();
    let received = match received.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &received[..end]),
        None => received,
    };
    ErrorKind::Filter {
        place: place.into(),
        expected: expected.into(),
        received,
    }
    .into()
}
