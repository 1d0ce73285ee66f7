//! Collections of points with vectors, as Qdrant has them, over the embedded store.
//!
//! [`config`] says what a collection is, [`update`] changes its points, [`query`] finds them and
//! [`score`] has the arithmetic of it; [`listing`] goes through them all. All of it waits for the disk:
//! [`crate::storage`] calls it on threads of its own.

mod config;
mod update;
mod query;
mod score;
mod listing;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wenyi::store::vector_store::{SqliteDatabase, SqliteStore};
use wenyi::store::{Error, ErrorKind};

pub(crate) use config::{CollectionConfig, Description};
pub(crate) use listing::OrderBy;
pub(crate) use query::{Found, Input, Lookup, Query, Strategy, What};
pub(crate) use score::Fusion;
pub(crate) use update::{Mode, Upsert};

use crate::problem::Problem;

/// All collections of a file.
#[derive(Debug)]
pub(crate) struct Collections {
    database: SqliteDatabase,
    /// Changes that look before they write take turns.
    turn: Mutex<()>,
}

impl Collections {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> wenyi::store::Result<Self> {
        Ok(Self {
            database: SqliteDatabase::open(path)?,
            turn: Mutex::new(()),
        })
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, Problem> {
        self.database
            .collections()
            .map_err(|error| Problem::of_store(&error))
    }

    pub(crate) fn has(&self, name: &str) -> Result<bool, Problem> {
        match self.database.collection(name) {
            Ok(_) => Ok(true),
            Err(error) if is_unknown(&error) => Ok(false),
            Err(error) => Err(Problem::of_store(&error)),
        }
    }

    /// Removes a collection; false if there was none.
    pub(crate) fn delete(&self, name: &str) -> Result<bool, Problem> {
        self.database
            .delete_collection(name)
            .map_err(|error| Problem::of_store(&error))
    }

    /// The collection with this name.
    pub(crate) fn collection(&self, name: &str) -> Result<Arc<SqliteStore>, Problem> {
        self.database
            .collection(name)
            .map_err(|error| Problem::of_store(&error))
    }

    /// The number of the collection's last change.
    pub(crate) fn last_change(&self, name: &str) -> Result<u64, Problem> {
        let change = self.collection(name)?.last_change();
        change.map_err(|error| Problem::of_store(&error))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnknownCollection { .. })
}
