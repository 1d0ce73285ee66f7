//! What a collection is: its spaces, what its maker wants to know again, and the keys that are said to be
//! indexed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wenyi::store::Conditions;
use wenyi::store::vector_store::{Distance, Selection, Space, StoreOptions, UNNAMED, VectorStore};

use super::Collections;
use crate::problem::Problem;

/// Where, in the metadata of a collection, our own notes are.
const NOTES: &str = "qdrant";

/// What a collection is made with.
#[derive(Debug, Default)]
pub(crate) struct CollectionConfig {
    pub(crate) spaces: BTreeMap<String, Space>,
    pub(crate) metadata: Map<String, Value>,
}

/// What a collection is.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) spaces: BTreeMap<String, Space>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) num_points: u64,
    /// The keys said to be indexed.
    pub(crate) indexes: BTreeMap<String, FieldIndex>,
}

/// A key that clients want indexed. Filters read the payloads themselves, whether they say so or not.
#[derive(Debug)]
pub(crate) struct FieldIndex {
    /// As it came: a type, or an object with one.
    pub(crate) schema: Value,
    /// How many points have the key.
    pub(crate) num_points: u64,
}

impl Collections {
    /// Makes a collection.
    pub(crate) fn create(&self, name: &str, config: &CollectionConfig) -> Result<(), Problem> {
        if config.metadata.contains_key(NOTES) {
            return Err(Problem::field(
                "metadata",
                "has the key `qdrant`, which is the store's own",
            ));
        }
        let metadata = match config.metadata.is_empty() {
            true => Value::Null,
            false => config.metadata.clone().into(),
        };
        let made = match simple(&config.spaces) {
            Some((dimensions, distance)) => self.database.create_collection(
                name,
                &StoreOptions {
                    dimensions: Some(dimensions),
                    distance,
                    metadata,
                },
            ),
            None => self.database.create_collection_of_spaces(
                name,
                &StoreOptions {
                    metadata,
                    ..StoreOptions::default()
                },
                &config.spaces,
            ),
        };
        made.map(drop).map_err(|error| Problem::of_store(&error))
    }

    pub(crate) fn describe(&self, name: &str) -> Result<Description, Problem> {
        let store = self.collection(name)?;
        let of_store = |error| Problem::of_store(&error);
        let info = store.info().map_err(of_store)?;
        let (metadata, notes) = apart(info.metadata);
        let mut indexes = BTreeMap::new();
        for (key, schema) in notes {
            let has_key = json!({"must_not": [{"is_empty": {"key": &key}}]});
            let has_key = Conditions::from_json(&has_key).map_err(of_store)?;
            let num_points = store.count(&Selection::Filter(has_key)).map_err(of_store)?;
            indexes.insert(key, FieldIndex { schema, num_points });
        }
        Ok(Description {
            spaces: store.spaces().clone(),
            metadata,
            num_points: info.num_points,
            indexes,
        })
    }

    /// Merges `changes` into the metadata: null takes a key away.
    pub(crate) fn change_metadata(
        &self,
        name: &str,
        changes: Map<String, Value>,
    ) -> Result<(), Problem> {
        self.change_notes(name, |metadata, _| {
            for (key, value) in changes {
                match value {
                    Value::Null => metadata.remove(&key),
                    value => metadata.insert(key, value),
                };
            }
        })
    }

    /// Notes that a key is to be indexed, or no longer.
    pub(crate) fn set_index(
        &self,
        name: &str,
        key: String,
        schema: Option<Value>,
    ) -> Result<(), Problem> {
        self.change_notes(name, |_, notes| {
            match schema {
                Some(schema) => notes.insert(key, schema),
                None => notes.remove(&key),
            };
        })
    }

    fn change_notes(
        &self,
        name: &str,
        change: impl FnOnce(&mut Map<String, Value>, &mut Map<String, Value>),
    ) -> Result<(), Problem> {
        let _turn = self.turn();
        let store = self.collection(name)?;
        let of_store = |error| Problem::of_store(&error);
        let info = store.info().map_err(of_store)?;
        let (mut metadata, mut notes) = apart(info.metadata);
        change(&mut metadata, &mut notes);
        if !notes.is_empty() {
            metadata.insert(NOTES.into(), json!({"payload_schema": notes}));
        }
        let metadata = match metadata.is_empty() {
            true => Value::Null,
            false => metadata.into(),
        };
        store.set_metadata(&metadata).map_err(of_store)
    }
}

/// The width and distance of a collection whose points have one vector without a name.
fn simple(spaces: &BTreeMap<String, Space>) -> Option<(usize, Distance)> {
    match (spaces.len(), spaces.get(UNNAMED)) {
        (
            1,
            Some(Space::Dense {
                dimensions,
                distance,
            }),
        ) => Some((*dimensions, *distance)),
        _ => None,
    }
}

/// The maker's metadata and our notes.
fn apart(metadata: Value) -> (Map<String, Value>, Map<String, Value>) {
    let mut metadata = match metadata {
        Value::Object(metadata) => metadata,
        Value::Null => Map::new(),
        // A collection that the library made may have any.
        other => Map::from_iter([("metadata".into(), other)]),
    };
    let notes = metadata
        .remove(NOTES)
        .map(|mut notes| notes["payload_schema"].take());
    let notes = match notes {
        Some(Value::Object(notes)) => notes,
        _ => Map::new(),
    };
    (metadata, notes)
}
