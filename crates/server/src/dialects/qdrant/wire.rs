//! Ids, vectors, filters and points as they are written on the wire.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use wenyi::store::Conditions;
use wenyi::store::vector_store::{
    NamedVector, Payload, Point, PointId, Selection, SparseVector, UNNAMED, Vectors,
};

use crate::collections::Collections;
use crate::problem::Problem;

/// Where a text that the library wrote is shown in the payload: LangChain's name for it.
const TEXT_KEY: &str = "page_content";

/// An id: a number, a UUID in whatever spelling, or another text.
#[derive(Clone, Debug)]
pub(super) struct Id(pub(super) PointId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        id(&json).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "value {json} is not a valid point ID, valid values are either an unsigned integer or a UUID"
            ))
        })
    }
}

/// The id that a number or a string is.
pub(super) fn id(json: &Value) -> Option<PointId> {
    match PointId::from_json(json)? {
        PointId::Text(text) if text.is_empty() => None,
        PointId::Text(text) => Some(match Uuid::parse_str(&text) {
            Ok(uuid) => uuid.to_string().into(),
            Err(_) => text.into(),
        }),
        number => Some(number),
    }
}

pub(super) fn ids(ids: Vec<Id>) -> Vec<PointId> {
    ids.into_iter().map(|id| id.0).collect()
}

/// The vectors of a point: one without a name, or several by their names.
#[derive(Debug)]
pub(super) struct VectorsField(pub(super) Vectors);

impl<'de> Deserialize<'de> for VectorsField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VectorsField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector (an array of numbers), or an object of vectors by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, numbers: A) -> Result<Self::Value, A::Error> {
                let vector = NamedVector::Dense(floats(numbers)?);
                Ok(VectorsField(Vectors::from([(UNNAMED.into(), vector)])))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut vectors = Vectors::new();
                while let Some((name, VectorField(vector))) = map.next_entry()? {
                    vectors.insert(name, vector);
                }
                Ok(VectorsField(vectors))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A vector, dense or sparse.
#[derive(Debug)]
pub(super) struct VectorField(pub(super) NamedVector);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sparse {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl<'de> Deserialize<'de> for VectorField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VectorField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers, or `indices` and `values`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, numbers: A) -> Result<Self::Value, A::Error> {
                floats(numbers).map(NamedVector::Dense).map(VectorField)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let sparse = Sparse::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let vector = SparseVector::new(sparse.indices, sparse.values);
                let vector = vector.map_err(de::Error::custom)?;
                Ok(VectorField(NamedVector::Sparse(vector)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

fn floats<'de, A: SeqAccess<'de>>(mut numbers: A) -> Result<Vec<f32>, A::Error> {
    let mut all = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(1 << 16));
    while let Some(number) = numbers.next_element()? {
        all.push(number);
    }
    Ok(all)
}

/// The conditions of a filter; none if it is null.
pub(super) fn filter(json: Option<Value>) -> Result<Option<Conditions>, Problem> {
    let Some(json) = json.filter(|json| !json.is_null()) else {
        return Ok(None);
    };
    let conditions = Conditions::from_json(&with_ids(json));
    conditions
        .map(Some)
        .map_err(|error| Problem::of_store(&error))
}

/// The filter with its ids in one spelling.
fn with_ids(filter: Value) -> Value {
    match filter {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match (name.as_str(), value) {
                ("has_id", Value::Array(all)) => {
                    let all = all.into_iter().map(|json| match id(&json) {
                        Some(id) => id.to_json(),
                        None => json,
                    });
                    (name, all.collect())
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

/// Points by their ids or by a filter, as the body of a change names them.
pub(super) fn selection(
    points: Option<Vec<Id>>,
    filter: Option<Value>,
) -> Result<Selection, Problem> {
    match (points, self::filter(filter)?) {
        (Some(points), None) => Ok(Selection::Ids(ids(points))),
        (None, Some(filter)) => Ok(Selection::Filter(filter)),
        (Some(_), Some(_)) => Err(Problem::field(
            "points",
            "came with a `filter`, expected one of them",
        )),
        (None, None) => Err(Problem::field("points", "is missing, and so is `filter`")),
    }
}

/// Which part of the payload is wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum WithPayload {
    #[default]
    #[serde(skip)]
    Default,
    All(bool),
    Keys(Vec<String>),
    Include {
        include: Vec<String>,
    },
    Exclude {
        exclude: Vec<String>,
    },
}

/// Which vectors are wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum WithVectors {
    All(bool),
    Names(Vec<String>),
}

impl Default for WithVectors {
    fn default() -> Self {
        Self::All(false)
    }
}

/// What of each point is printed.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    payload: WithPayload,
    vectors: WithVectors,
    /// What an unsaid `with_payload` means.
    payload_by_default: bool,
}

impl Shown {
    pub(super) fn new(
        payload: Option<WithPayload>,
        vectors: Option<WithVectors>,
        payload_by_default: bool,
    ) -> Self {
        Self {
            payload: payload.unwrap_or_default(),
            vectors: vectors.unwrap_or_default(),
            payload_by_default,
        }
    }

    /// The points with the vectors that are wanted, as clients read them.
    pub(super) fn records(
        &self,
        collections: &Collections,
        name: &str,
        points: Vec<Point>,
    ) -> Result<Vec<Record>, Problem> {
        let vectors = self.vectors(collections, name, &points)?;
        let records = points.into_iter().zip(vectors);
        let records = records.map(|(point, vector)| Record {
            payload: self.payload(payload(&point)),
            id: point.id,
            vector,
            order_value: None,
        });
        Ok(records.collect())
    }

    fn vectors(
        &self,
        collections: &Collections,
        name: &str,
        points: &[Point],
    ) -> Result<Vec<Option<Value>>, Problem> {
        if matches!(self.vectors, WithVectors::All(false)) {
            return Ok(vec![None; points.len()]);
        }
        let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
        let vectors = collections.vectors_of(name, &ids)?;
        Ok(vectors
            .into_iter()
            .map(|all| Some(self.printed(all)))
            .collect())
    }

    fn printed(&self, mut vectors: Vectors) -> Value {
        if let WithVectors::Names(names) = &self.vectors {
            vectors.retain(|name, _| names.contains(name));
        }
        match (vectors.len(), vectors.get(UNNAMED)) {
            (1, Some(vector)) => printed(vector),
            _ => {
                let named = vectors
                    .iter()
                    .map(|(name, vector)| (name.clone(), printed(vector)));
                Value::Object(named.collect())
            }
        }
    }

    fn payload(&self, payload: Payload) -> Option<Payload> {
        let keys = match &self.payload {
            WithPayload::Default => return self.payload_by_default.then_some(payload),
            WithPayload::All(all) => return all.then_some(payload),
            WithPayload::Keys(keys) | WithPayload::Include { include: keys } => keys,
            WithPayload::Exclude { exclude } => {
                let mut payload = payload;
                let exclude = exclude.clone();
                wenyi::store::vector_store::PayloadChange::Delete(exclude).apply(&mut payload);
                return Some(payload);
            }
        };
        let mut kept = Payload::new();
        for key in keys {
            keep(&payload, key, &mut kept);
        }
        Some(kept)
    }
}

/// Takes what lies at a path over into `kept`.
fn keep(payload: &Payload, key: &str, kept: &mut Payload) {
    if let Some(value) = payload.get(key) {
        kept.insert(key.into(), value.clone());
        return;
    }
    let Some((first, rest)) = key.split_once('.') else {
        return;
    };
    if let Some(Value::Object(below)) = payload.get(first) {
        let here = kept.entry(first).or_insert_with(|| json!({}));
        if let Value::Object(here) = here {
            keep(below, rest, here);
        }
    }
}

/// The payload with the text, if the library keeps one apart from it.
fn payload(point: &Point) -> Payload {
    let mut payload = point.payload.clone();
    if !point.text.is_empty() && !payload.contains_key(TEXT_KEY) {
        payload.insert(TEXT_KEY.into(), point.text.as_str().into());
    }
    payload
}

fn printed(vector: &NamedVector) -> Value {
    match vector {
        NamedVector::Dense(values) => json!(values),
        NamedVector::Sparse(sparse) => {
            json!({"indices": sparse.indices(), "values": sparse.values()})
        }
    }
}

/// A point as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) id: PointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order_value: Option<Value>,
}

/// Columns of points: ids, vectors and payloads apart.
#[derive(Debug, Deserialize)]
pub(super) struct Columns {
    pub(super) ids: Vec<Id>,
    pub(super) vectors: VectorColumns,
    #[serde(default)]
    pub(super) payloads: Option<Vec<Option<Map<String, Value>>>>,
}

/// Vectors without a name, or columns of them by name.
#[derive(Debug)]
pub(super) struct VectorColumns(pub(super) BTreeMap<String, Vec<NamedVector>>);

impl<'de> Deserialize<'de> for VectorColumns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VectorColumns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of vectors, or an object of such arrays by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut column = Vec::new();
                while let Some(VectorField(vector)) = all.next_element()? {
                    column.push(vector);
                }
                Ok(VectorColumns(BTreeMap::from([(UNNAMED.into(), column)])))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = BTreeMap::new();
                while let Some((name, column)) = map.next_entry::<String, Vec<VectorField>>()? {
                    columns.insert(name, column.into_iter().map(|field| field.0).collect());
                }
                Ok(VectorColumns(columns))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
