//! `OpenAI`'s filters on attributes, as conditions of the store.

use serde_json::{Value, json};
use wenyi::store::Conditions;

use crate::problem::Problem;
use crate::vector_stores::attribute_key;

/// Filters in filters: deeper than anybody writes, far from the end of the stack.
const MAX_DEPTH: usize = 16;

/// `{"type": "eq", "key": …, "value": …}`, or `{"type": "and", "filters": […]}`.
pub(super) fn conditions(filter: &Value) -> Result<Conditions, Problem> {
    let condition = condition(filter, 0)?;
    let conditions = Conditions::from_json(&json!({"must": [condition]}));
    conditions.map_err(|error| Problem::of_store(&error))
}

fn condition(filter: &Value, depth: usize) -> Result<Value, Problem> {
    if depth > MAX_DEPTH {
        return Err(refused("is nested more than 16 times"));
    }
    let kind = filter["type"].as_str().unwrap_or_default();
    if let "and" | "or" = kind {
        let filters = filter["filters"].as_array();
        let filters = filters.ok_or_else(|| refused("has no `filters` to combine"))?;
        let all = filters.iter().map(|filter| condition(filter, depth + 1));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        // Of no filters none holds, and all do.
        return Ok(match (kind, all.is_empty()) {
            ("and", _) => json!({"must": all}),
            (_, true) => json!({"must": [{"has_id": []}]}),
            (_, false) => json!({"should": all}),
        });
    }
    let key = filter["key"].as_str().filter(|key| !key.is_empty());
    let key = attribute_key(key.ok_or_else(|| refused("has no `key`"))?);
    let value = &filter["value"];
    let is_scalar = value.is_string() || value.is_number() || value.is_boolean();
    let is_ordered = value.is_string() || value.is_number();
    Ok(match kind {
        "eq" if is_scalar => json!({"key": key, "match": {"value": value}}),
        "ne" if is_scalar => json!({"must_not": [{"key": key, "match": {"value": value}}]}),
        "in" if value.is_array() => json!({"key": key, "match": {"any": value}}),
        "nin" if value.is_array() => json!({"must_not": [{"key": key, "match": {"any": value}}]}),
        "gt" | "gte" | "lt" | "lte" if is_ordered => json!({"key": key, "range": {kind: value}}),
        "eq" | "ne" | "in" | "nin" | "gt" | "gte" | "lt" | "lte" => {
            return Err(refused(&format!(
                "has the value {value}, which `{kind}` does not take"
            )));
        }
        other => {
            let expected =
                "expected `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `nin`, `and` or `or`";
            return Err(refused(&format!("has the type `{other}`, {expected}")));
        }
    })
}

fn refused(reason: &str) -> Problem {
    Problem::field("filters", reason)
}
