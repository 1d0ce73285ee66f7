//! What a store keeps: an id, a vector, a text, and what the caller knows about them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The caller's own facts about a point (a JSON object).
pub type Payload = Map<String, Value>;

/// The name of a point in its store. Numbers come before texts, which are ordered byte by byte.
///
/// 1 and `"1"` are different ids. (Qdrant's ids are numbers and UUIDs; any other text is an id
/// here too.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PointId {
    /// A number.
    Number(u64),
    /// A UUID or another text, of at least one byte.
    Text(String),
}

impl PointId {
    /// The id as a filter's `has_id` has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }

    /// The id that a JSON number or string is; `None` for anything else.
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        match json {
            Value::Number(number) => number.as_u64().map(Self::Number),
            Value::String(text) => Some(text.as_str().into()),
            _ => None,
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for PointId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for PointId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for PointId {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A vector with its id, text and payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its name in the store.
    pub id: PointId,
    /// Its vector as the caller gave it, whatever length the search needs; empty where it was not
    /// asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vector: Vec<f32>,
    /// The text that the vector is of; may be empty.
    #[serde(default)]
    pub text: String,
    /// The caller's own facts.
    #[serde(default)]
    pub payload: Payload,
}

impl Point {
    /// A point without text and payload.
    #[must_use]
    pub fn new(id: impl Into<PointId>, vector: impl Into<Vec<f32>>) -> Self {
        Self {
            id: id.into(),
            vector: vector.into(),
            text: String::new(),
            payload: Payload::new(),
        }
    }

    /// The same with a text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..self
        }
    }

    /// The same with a payload.
    #[must_use]
    pub fn with_payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }
}

/// A point that a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredPoint {
    /// Greater is closer: the cosine, the dot product, or a distance with its sign turned.
    pub score: f32,
    /// The point; its vector only if it was asked for.
    #[serde(flatten)]
    pub point: Point,
}
