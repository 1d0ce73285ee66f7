//! Records of one kind: points that have a payload and no vector.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wenyi::store::Conditions;
use wenyi::store::vector_store::{
    NamedPoint, Point, PointId, Scroll, Selection, Space, SqliteDatabase, SqliteStore,
    StoreOptions, VectorStore, Vectors,
};

use super::of_store;
use crate::problem::Problem;

#[derive(Debug)]
pub(super) struct Records<T> {
    store: Arc<SqliteStore>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    /// The records in the collection `name`, which is made if there is none.
    pub(super) fn open(database: &SqliteDatabase, name: &str) -> wenyi::store::Result<Self> {
        let store = if database.collections()?.iter().any(|known| known == name) {
            database.collection(name)?
        } else {
            // A collection has a space at least; nothing is ever in this one.
            let spaces = BTreeMap::from([("none".into(), Space::Sparse { idf: false })]);
            database.create_collection_of_spaces(name, &StoreOptions::default(), &spaces)?
        };
        Ok(Self {
            store,
            kind: PhantomData,
        })
    }

    pub(super) fn put(&self, id: &str, record: &T) -> Result<(), Problem> {
        self.put_all(&[(id.to_owned(), record)])
    }

    /// Writes all of them or none.
    pub(super) fn put_all(&self, records: &[(String, &T)]) -> Result<(), Problem> {
        let point = |(id, record): &(String, &T)| {
            let json = serde_json::to_value(record).map_err(internal)?;
            let Value::Object(payload) = json else {
                return Err(internal("a record is no object; this is a bug"));
            };
            Ok(NamedPoint {
                id: PointId::Text(id.clone()),
                vectors: Vectors::new(),
                text: String::new(),
                payload,
            })
        };
        let points = records.iter().map(point).collect::<Result<Vec<_>, _>>()?;
        self.store.put_named(&points).map_err(of_store)
    }

    pub(super) fn get(&self, id: &str) -> Result<Option<T>, Problem> {
        let found = self.store.get_by_ids(&[id.into()]).map_err(of_store)?;
        found.into_iter().next().map(record).transpose()
    }

    /// Those whose field `key` is `value`, in the order of ids; all if nothing is asked.
    pub(super) fn list(&self, wanted: Option<(&str, &str)>) -> Result<Vec<(String, T)>, Problem> {
        let filter = wanted.map(|(key, value)| {
            let filter = json!({"must": [{"key": key, "match": {"value": value}}]});
            Conditions::from_json(&filter)
        });
        let scroll = Scroll {
            filter: filter.transpose().map_err(of_store)?,
            limit: usize::MAX,
            ..Scroll::default()
        };
        let page = self.store.scroll(&scroll).map_err(of_store)?;
        let pair = |point: Point| Ok((point.id.to_string(), record(point)?));
        page.points.into_iter().map(pair).collect()
    }

    /// Removes a record; false if there was none.
    pub(super) fn remove(&self, id: &str) -> Result<bool, Problem> {
        let selection = Selection::Ids(vec![id.into()]);
        Ok(self.store.delete(&selection).map_err(of_store)? > 0)
    }
}

fn record<T: DeserializeOwned>(point: Point) -> Result<T, Problem> {
    serde_json::from_value(point.payload.into()).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::Internal {
        reason: error.to_string(),
    }
}
