//! Changes of points.

use std::collections::HashMap;

use wenyi::store::Conditions;
use wenyi::store::vector_store::{
    NamedPoint, PayloadChange, PointId, Selection, SqliteStore, VectorStore, Vectors,
};

use super::Collections;
use crate::problem::Problem;

/// Points to write.
#[derive(Debug)]
pub(crate) struct Upsert {
    pub(crate) points: Vec<NamedPoint>,
    pub(crate) mode: Mode,
    /// Points that are there are written only if they meet this.
    pub(crate) filter: Option<Conditions>,
}

/// Which of the points are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Upsert,
    /// Those whose ids are new.
    Insert,
    /// Those whose ids are there.
    Update,
}

impl Collections {
    /// Writes points; the number of the change.
    pub(crate) fn upsert(&self, name: &str, upsert: Upsert) -> Result<u64, Problem> {
        let store = self.collection(name)?;
        let of_store = |error| Problem::of_store(&error);
        if upsert.mode == Mode::Upsert && upsert.filter.is_none() {
            store.put_named(&upsert.points).map_err(of_store)?;
        } else {
            let _turn = self.turn();
            let points = wanted(&store, upsert)?;
            store.put_named(&points).map_err(of_store)?;
        }
        store.last_change().map_err(of_store)
    }

    pub(crate) fn delete_points(&self, name: &str, selection: &Selection) -> Result<u64, Problem> {
        let store = self.collection(name)?;
        let deleted = store.delete(selection).and_then(|_| store.last_change());
        deleted.map_err(|error| Problem::of_store(&error))
    }

    pub(crate) fn change_payload(
        &self,
        name: &str,
        selection: &Selection,
        change: &PayloadChange,
    ) -> Result<u64, Problem> {
        let store = self.collection(name)?;
        let changed = store.change_payload(selection, change);
        let changed = changed.and_then(|_| store.last_change());
        changed.map_err(|error| Problem::of_store(&error))
    }

    /// Sets vectors of points; of those that meet the filter only, if there is one.
    pub(crate) fn set_vectors(
        &self,
        name: &str,
        mut changes: Vec<(PointId, Vectors)>,
        filter: Option<&Conditions>,
    ) -> Result<u64, Problem> {
        let store = self.collection(name)?;
        let of_store = |error| Problem::of_store(&error);
        let _turn = filter.map(|_| self.turn());
        if let Some(filter) = filter {
            let ids: Vec<PointId> = changes.iter().map(|(id, _)| id.clone()).collect();
            let meets = meeting(&store, &ids, filter)?;
            changes.retain(|(id, _)| meets.get(id).copied().unwrap_or(true));
        }
        store.set_vectors(&changes).map_err(of_store)?;
        store.last_change().map_err(of_store)
    }

    pub(crate) fn delete_vectors(
        &self,
        name: &str,
        selection: &Selection,
        names: &[String],
    ) -> Result<u64, Problem> {
        let store = self.collection(name)?;
        let deleted = store.delete_vectors(selection, names);
        let deleted = deleted.and_then(|_| store.last_change());
        deleted.map_err(|error| Problem::of_store(&error))
    }
}

/// The points of a conditional upsert that are to be written.
fn wanted(store: &SqliteStore, upsert: Upsert) -> Result<Vec<NamedPoint>, Problem> {
    let ids: Vec<PointId> = upsert.points.iter().map(|point| point.id.clone()).collect();
    let all = Conditions::default();
    let meets = meeting(store, &ids, upsert.filter.as_ref().unwrap_or(&all))?;
    let is_wanted = |point: &NamedPoint| match (upsert.mode, meets.get(&point.id)) {
        (Mode::Insert, there) => there.is_none(),
        (Mode::Upsert, there) => there.copied().unwrap_or(true),
        (Mode::Update, there) => there.copied().unwrap_or(false),
    };
    Ok(upsert.points.into_iter().filter(is_wanted).collect())
}

/// For each of the points that is there, whether it meets the filter.
fn meeting(
    store: &SqliteStore,
    ids: &[PointId],
    filter: &Conditions,
) -> Result<HashMap<PointId, bool>, Problem> {
    let there = store.get_by_ids(ids);
    let there = there.map_err(|error| Problem::of_store(&error))?;
    let meets = there.into_iter().map(|point| {
        let meets = filter.matches(&[point.id.to_json()], &point.payload.into());
        (point.id, meets)
    });
    Ok(meets.collect())
}
