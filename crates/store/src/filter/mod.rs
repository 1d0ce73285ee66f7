//! Conditions on metadata, as data: the filter language that Qdrant made known.
//!
//! ```json
//! {"must": [{"key": "lang", "match": {"value": "zh"}}, {"key": "year", "range": {"gte": 2020}}],
//!  "must_not": [{"key": "tags", "match": {"any": ["draft"]}}]}
//! ```
//!
//! `parse` reads it and refuses what it does not know, [`Conditions::matches`] asks it of one
//! document. A key is a path (`author.name`); where it leads through an array, one element that
//! fits is enough, and `nested` asks several conditions of the same element.

mod parse;

use serde_json::{Map, Value};

use crate::text::{QueryTerm, terms};

/// Clauses that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    must: Vec<Condition>,
    /// At least one holds, unless there are none.
    should: Vec<Condition>,
    must_not: Vec<Condition>,
    /// At least so many hold.
    min_should: Option<(usize, Vec<Condition>)>,
    /// What it was read from, for stores that want it as data.
    json: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    /// One of the key's values passes the test.
    Field {
        key: String,
        test: Test,
    },
    /// The key is missing, null or an empty array.
    IsEmpty {
        key: String,
    },
    /// The key is there and null.
    IsNull {
        key: String,
    },
    /// The subject has one of these ids: numbers or strings.
    HasId(Vec<Value>),
    /// One element of the array at the key meets all of the filter.
    Nested {
        key: String,
        filter: Conditions,
    },
    Filter(Conditions),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Any(Vec<Value>),
    Except(Vec<Value>),
    /// All of these terms, in any order.
    Text(Vec<QueryTerm>),
    /// One of these terms at least.
    TextAny(Vec<QueryTerm>),
    /// This text as it stands, whatever its case.
    Phrase(String),
    Range(Bounds),
    /// How many values the key has.
    Count(Bounds),
}

/// Numbers with numbers, strings with strings (dates in ISO 8601 order so).
#[derive(Clone, Debug, Default, PartialEq)]
struct Bounds {
    gt: Option<Value>,
    gte: Option<Value>,
    lt: Option<Value>,
    lte: Option<Value>,
}

impl Conditions {
    /// The conditions as the JSON that they were read from.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.json.clone().into()
    }

    /// True if a subject with one of `ids` and this metadata meets the conditions.
    #[must_use]
    pub fn matches(&self, ids: &[Value], metadata: &Value) -> bool {
        let holds = |condition: &Condition| condition.holds(ids, metadata);
        self.must.iter().all(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && !self.must_not.iter().any(holds)
            && self.min_should.as_ref().is_none_or(|(least, conditions)| {
                conditions
                    .iter()
                    .filter(|condition| holds(condition))
                    .count()
                    >= *least
            })
    }
}

impl Condition {
    fn holds(&self, ids: &[Value], metadata: &Value) -> bool {
        match self {
            Self::Field { key, test } => test.passes(&values_at(metadata, key)),
            Self::IsEmpty { key } => values_at(metadata, key).iter().all(|value| value.is_null()),
            Self::IsNull { key } => at(metadata, key).iter().any(|value| value.is_null()),
            Self::HasId(wanted) => wanted.iter().any(|id| ids.contains(id)),
            Self::Nested { key, filter } => {
                let elements = values_at(metadata, key);
                elements.iter().any(|element| filter.matches(ids, element))
            }
            Self::Filter(filter) => filter.matches(ids, metadata),
        }
    }
}

impl Test {
    fn passes(&self, values: &[&Value]) -> bool {
        match self {
            Self::Any(wanted) => values.iter().any(|value| is_one_of(value, wanted)),
            Self::Except(unwanted) => values
                .iter()
                .any(|value| !value.is_null() && !is_one_of(value, unwanted)),
            Self::Text(wanted) => {
                any_text(values, |has| wanted.iter().all(|term| term.is_among(has)))
            }
            Self::TextAny(wanted) => {
                any_text(values, |has| wanted.iter().any(|term| term.is_among(has)))
            }
            Self::Phrase(phrase) => values
                .iter()
                .filter_map(|value| value.as_str())
                .any(|text| text.to_lowercase().contains(phrase)),
            Self::Range(bounds) => values.iter().any(|value| bounds.contain(value)),
            Self::Count(bounds) => bounds.contain(&values.len().into()),
        }
    }
}

/// True if one of the values is a text whose terms pass.
fn any_text(values: &[&Value], passes: impl Fn(&[String]) -> bool) -> bool {
    let texts = values.iter().filter_map(|value| value.as_str());
    texts.map(terms).any(|has| passes(&has))
}

impl Bounds {
    fn contain(&self, value: &Value) -> bool {
        let is = |bound: &Option<Value>, wanted: fn(std::cmp::Ordering) -> bool| {
            bound
                .as_ref()
                .is_none_or(|bound| compare(value, bound).is_some_and(wanted))
        };
        compare(value, value).is_some()
            && is(&self.gt, std::cmp::Ordering::is_gt)
            && is(&self.gte, std::cmp::Ordering::is_ge)
            && is(&self.lt, std::cmp::Ordering::is_lt)
            && is(&self.lte, std::cmp::Ordering::is_le)
    }
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// 1 and 1.0 are the same; 1 and `"1"`, or 1 and true, are not.
fn is_one_of(value: &Value, wanted: &[Value]) -> bool {
    wanted
        .iter()
        .any(|wanted| value == wanted || compare(value, wanted).is_some_and(|order| order.is_eq()))
}

/// The values at a key, the elements of arrays one by one.
fn values_at<'a>(metadata: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut values = Vec::new();
    for value in at(metadata, key) {
        match value {
            Value::Array(elements) => values.extend(elements),
            other => values.push(other),
        }
    }
    values
}

/// What lies at a key: nothing, one value, or several if the path leads through arrays.
fn at<'a>(metadata: &'a Value, key: &str) -> Vec<&'a Value> {
    // A key with a dot in its name comes before a path.
    if let Some(value) = metadata.get(key) {
        return vec![value];
    }
    let mut here = vec![metadata];
    for name in key.split('.') {
        let name = name.strip_suffix("[]").unwrap_or(name);
        let step = |value: &'a Value| -> Vec<&'a Value> {
            match value {
                Value::Array(elements) => elements.iter().filter_map(|e| e.get(name)).collect(),
                other => other.get(name).into_iter().collect(),
            }
        };
        here = here.into_iter().flat_map(step).collect();
    }
    here
}

#[cfg(test)]
mod tests;
