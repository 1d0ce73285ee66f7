//! Makes and opens files of points, and the collections in them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior};
use serde_json::Value;

use super::search::Packed;
use super::{File, SqliteDatabase, SqliteStore, lock, packed, schema, text};
use crate::collection::open::{
    PAGE_SIZE, absolute, cannot_read, cannot_write, configure, existing, use_wal,
};
use crate::vector_store::named::{Space, UNNAMED};
use crate::vector_store::request::{Distance, StoreOptions};
use crate::{Error, ErrorKind, MAX_DIMENSIONS, Result};

/// Characters of the longest name.
const MAX_NAME: usize = 255;

impl SqliteDatabase {
    /// Opens the file at `path`, or makes it if there is none. Its folder must exist.
    ///
    /// # Errors
    ///
    /// If there is something else at `path`, or it cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = match path.as_ref().exists() {
            true => existing(path.as_ref())?,
            false => absolute(path.as_ref())?,
        };
        let writer = open_writer(&path)?;
        let reader = open_reader(&path)?;
        Ok(Self {
            file: Arc::new(File {
                path,
                reader: Mutex::new(reader),
                writer: Mutex::new(writer),
            }),
            stores: Mutex::new(HashMap::new()),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The names of the collections, in order.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn collections(&self) -> Result<Vec<String>> {
        self.file.read(|state| {
            let read = || -> rusqlite::Result<Vec<String>> {
                let mut select = state.prepare("SELECT name FROM collections ORDER BY name")?;
                select.query_map([], |row| row.get(0))?.collect()
            };
            read().map_err(|error| self.file.at(error))
        })
    }

    /// Makes a collection.
    ///
    /// # Errors
    ///
    /// If there is one with this name, the options have no width or an impossible one, or the file
    /// cannot be written.
    pub fn create_collection(
        &self,
        name: &str,
        options: &StoreOptions,
    ) -> Result<Arc<SqliteStore>> {
        let dimensions = self.check_options(name, options)?;
        self.create(name, dimensions, options, &BTreeMap::new())
    }

    /// Makes a collection whose points have a vector in each of these spaces, or in some of them. Of
    /// the options only the metadata say anything then.
    ///
    /// # Errors
    ///
    /// As [`SqliteDatabase::create_collection`].
    pub fn create_collection_of_spaces(
        &self,
        name: &str,
        options: &StoreOptions,
        spaces: &BTreeMap<String, Space>,
    ) -> Result<Arc<SqliteStore>> {
        check_name(name)?;
        spaces.values().try_for_each(Space::check)?;
        if spaces.is_empty() {
            let store = self.file.path.display().to_string();
            return Err(ErrorKind::NoWidth { store }.into());
        }
        self.create(name, 0, options, spaces)
    }

    fn create(
        &self,
        name: &str,
        dimensions: usize,
        options: &StoreOptions,
        spaces: &BTreeMap<String, Space>,
    ) -> Result<Arc<SqliteStore>> {
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.file.write(|connection| {
            let insert =
                "INSERT INTO collections (name, dimensions, distance, metadata, created_ms)
                          VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO NOTHING";
            let values = (
                name,
                dimensions as i64,
                distance_name(options.distance),
                options.metadata.to_string(),
                i64::try_from(created.as_millis()).unwrap_or(i64::MAX),
            );
            match connection.execute(insert, values) {
                Ok(0) => Err(ErrorKind::CollectionExists {
                    store: self.file.path.display().to_string(),
                    name: name.into(),
                }
                .into()),
                Ok(_) => write_spaces(connection, connection.last_insert_rowid(), spaces)
                    .map_err(|error| self.file.at(error)),
                Err(error) => Err(self.file.at(error)),
            }
        })?;
        self.collection(name)
    }

    /// The collection with this name. All callers share one handle, and its packed rows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownCollection`] if there is none; or if the file cannot be read.
    pub fn collection(&self, name: &str) -> Result<Arc<SqliteStore>> {
        let mut stores = lock(&self.stores);
        let found = self
            .file
            .read(|state| read_collection(&self.file, state, name))?;
        let Some((id, options, spaces)) = found else {
            stores.remove(name);
            return Err(unknown(&self.file, name));
        };
        // Another process may have removed it and made one of the same name.
        if let Some(store) = stores.get(name).filter(|store| store.id == id) {
            return Ok(Arc::clone(store));
        }
        let dimensions = options.dimensions.unwrap_or_default();
        let store = Arc::new(SqliteStore {
            file: Arc::clone(&self.file),
            id,
            name: name.into(),
            dimensions,
            packed: Mutex::new(Packed::new(dimensions)),
            spaces,
            packed_spaces: Mutex::default(),
            options,
        });
        stores.insert(name.into(), Arc::clone(&store));
        Ok(store)
    }

    /// The collection with this name, made with `options` if there is none.
    ///
    /// # Errors
    ///
    /// As [`SqliteDatabase::create_collection`].
    pub fn collection_or_create(
        &self,
        name: &str,
        options: &StoreOptions,
    ) -> Result<Arc<SqliteStore>> {
        let is = |error: &Error, kind: fn(&ErrorKind) -> bool| kind(error.kind());
        match self.collection(name) {
            Err(error)
                if is(&error, |kind| {
                    matches!(kind, ErrorKind::UnknownCollection { .. })
                }) => {}
            other => return other,
        }
        match self.create_collection(name, options) {
            // Another process was quicker.
            Err(error)
                if is(&error, |kind| {
                    matches!(kind, ErrorKind::CollectionExists { .. })
                }) =>
            {
                self.collection(name)
            }
            other => other,
        }
    }

    /// Removes a collection with all its points; says whether there was one.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; nothing is removed then.
    pub fn delete_collection(&self, name: &str) -> Result<bool> {
        lock(&self.stores).remove(name);
        let removed = self.file.write(|connection| {
            let run = || -> rusqlite::Result<Option<i64>> {
                let select = "SELECT id FROM collections WHERE name = ?1";
                let id = connection.query_row(select, [name], |row| row.get::<_, i64>(0));
                let Some(id) = id.optional()? else {
                    return Ok(None);
                };
                // First, so that it does not follow point by point.
                text::remove(connection, id)?;
                for delete in [
                    "DELETE FROM points WHERE collection = ?1",
                    "DELETE FROM removed WHERE collection = ?1",
                    "DELETE FROM spaces WHERE collection = ?1",
                    "DELETE FROM collections WHERE id = ?1",
                ] {
                    connection.execute(delete, [id])?;
                }
                Ok(Some(id))
            };
            run().map_err(|error| self.file.at(error))
        })?;
        if let Some(id) = removed {
            packed::remove(&self.file, id);
        }
        Ok(removed.is_some())
    }

    fn check_options(&self, name: &str, options: &StoreOptions) -> Result<usize> {
        check_name(name)?;
        match options.dimensions {
            None => Err(ErrorKind::NoWidth {
                store: self.file.path.display().to_string(),
            }
            .into()),
            Some(received) if !(1..=MAX_DIMENSIONS).contains(&received) => {
                let max = MAX_DIMENSIONS;
                Err(ErrorKind::Dimensions { received, max }.into())
            }
            Some(dimensions) => Ok(dimensions),
        }
    }
}

/// Refuses names that do not fit into a URL or a line.
fn check_name(name: &str) -> Result<()> {
    let is_bad = |c: char| c.is_control() || matches!(c, '/' | '?' | '#');
    if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(is_bad) {
        return Err(ErrorKind::CollectionName { name: name.into() }.into());
    }
    Ok(())
}

pub(super) fn unknown(file: &File, name: &str) -> Error {
    ErrorKind::UnknownCollection {
        store: file.path.display().to_string(),
        name: name.into(),
    }
    .into()
}

fn open_writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_CREATE;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(connection)
    };
    let mut connection = open().map_err(|error| cannot_write(path, error))?;
    // Tells a foreign file before anything is written to it.
    let is_empty = schema::is_empty(&connection, path)?;
    if connection.is_readonly("main").unwrap_or(false) {
        let path = path.to_path_buf();
        return Err(ErrorKind::ReadOnly { path }.into());
    }
    let at = |error| Error::sqlite(path, error);
    if is_empty {
        let page_size = connection.pragma_update(None, "page_size", PAGE_SIZE);
        page_size.map_err(at)?;
    }
    use_wal(&connection).map_err(|error| cannot_write(path, error))?;
    // FULL: what is acknowledged outlives a power cut too.
    let settings = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
    connection.execute_batch(settings).map_err(at)?;
    if is_empty {
        // With the write lock held, of two processes that make the same file one finds it made.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(at)?;
        if schema::is_empty(&transaction, path)? {
            schema::make(&transaction).map_err(at)?;
        }
        transaction.commit().map_err(at)?;
    }
    schema::upgrade(&mut connection, path)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(connection)
    };
    open().map_err(|error| cannot_read(path, error))
}

fn write_spaces(
    connection: &Connection,
    collection: i64,
    spaces: &BTreeMap<String, Space>,
) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare("INSERT INTO spaces (collection, name, space) VALUES (?1, ?2, ?3)")?;
    for (name, space) in spaces {
        let space = serde_json::to_string(space)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute((collection, name, space))?;
    }
    Ok(())
}

/// The spaces of a collection; the one without a name if it was made without.
fn read_spaces(
    file: &File,
    state: &Connection,
    collection: i64,
    options: &StoreOptions,
) -> Result<BTreeMap<String, Space>> {
    if let Some(dimensions) = options.dimensions {
        let distance = options.distance;
        let space = Space::Dense {
            dimensions,
            distance,
        };
        return Ok(BTreeMap::from([(UNNAMED.into(), space)]));
    }
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        let mut select = state.prepare("SELECT name, space FROM spaces WHERE collection = ?1")?;
        select
            .query_map([collection], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    let spaces = read().map_err(|error| file.at(error))?;
    let space = |(name, space): (String, String)| {
        let space = serde_json::from_str(&space)
            .map_err(|_| Error::corrupt(&file.path, "a space of a collection is unknown"))?;
        Ok((name, space))
    };
    spaces.into_iter().map(space).collect()
}

/// What the file knows of a collection: its number, its options and its spaces.
pub(super) type Known = (i64, StoreOptions, BTreeMap<String, Space>);

/// The number, the options and the spaces of a collection.
pub(super) fn read_collection(
    file: &File,
    state: &Connection,
    name: &str,
) -> Result<Option<Known>> {
    let select = "SELECT id, dimensions, distance, metadata FROM collections WHERE name = ?1";
    let read = |row: &Row<'_>| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
        ))
    };
    let found = state
        .prepare_cached(select)
        .and_then(|mut select| select.query_row([name], read).optional())
        .map_err(|error| file.at(error))?;
    let Some((id, dimensions, distance, metadata)) = found else {
        return Ok(None);
    };
    let dimensions = usize::try_from(dimensions).unwrap_or_default();
    if dimensions > MAX_DIMENSIONS {
        return Err(Error::corrupt(
            &file.path,
            "a collection's width is impossible",
        ));
    }
    let distance = serde_json::from_value(Value::String(distance))
        .map_err(|_| Error::corrupt(&file.path, "a collection's distance is unknown"))?;
    let metadata = serde_json::from_str(&metadata)
        .map_err(|_| Error::corrupt(&file.path, "a collection's metadata are not JSON"))?;
    let options = StoreOptions {
        // Collections of spaces have none.
        dimensions: (dimensions > 0).then_some(dimensions),
        distance,
        metadata,
    };
    let spaces = read_spaces(file, state, id, &options)?;
    Ok(Some((id, options, spaces)))
}

fn distance_name(distance: Distance) -> &'static str {
    match distance {
        Distance::Cosine => "Cosine",
        Distance::Dot => "Dot",
        Distance::Euclidean => "Euclid",
        Distance::Manhattan => "Manhattan",
    }
}
