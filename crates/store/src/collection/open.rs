//! Makes and opens collection files.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior};
use serde_json::Value;

use super::background::Background;
use super::packed::Reader;
use super::schema::{self, Contents};
use super::{BUSY_TIMEOUT, Collection, CollectionInfo, CollectionOptions, Space, text};
use crate::{Error, ErrorKind, Result};

/// The widest vectors: SQLite allows a blob of 10⁹ bytes, and no model comes near.
pub(crate) const MAX_DIMENSIONS: usize = 65_536;

/// Bytes of the smallest database: one page of the smallest size.
const SMALLEST_DATABASE: u64 = 512;

/// Bytes of a page: five vectors of 384 dimensions fill 94 % of it, where a page of 4 KiB (the
/// default) holds two and wastes a quarter.
pub(crate) const PAGE_SIZE: u32 = 8192;

/// Room for the pages that a connection keeps, in KiB. The vectors pass through it once, so more
/// would not help.
const CACHE_KIB: u32 = 8 << 10;

impl Collection {
    /// Makes a new collection at `path`. Its folder must exist; an empty file is taken over.
    ///
    /// # Errors
    ///
    /// If there is something else at `path`, or it cannot be written.
    pub fn create(path: impl AsRef<Path>, options: &CollectionOptions) -> Result<Self> {
        let (mut writer, path) = open_writer(path.as_ref(), true)?;
        if make(&mut writer, &path, options)? {
            Self::with_writer(writer, path)
        } else {
            Err(ErrorKind::AlreadyExists { path }.into())
        }
    }

    /// Opens the collection at `path` to read and write.
    ///
    /// # Errors
    ///
    /// If there is none, it is of another program or a newer version, or it cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (writer, path) = open_writer(path.as_ref(), false)?;
        Self::with_writer(writer, path)
    }

    /// Opens the collection at `path`, or makes it with `options` if there is none. What an
    /// existing one was made with is in [`Collection::info`], and may differ from `options`.
    ///
    /// # Errors
    ///
    /// As [`Collection::create`] and [`Collection::open`].
    pub fn open_or_create(path: impl AsRef<Path>, options: &CollectionOptions) -> Result<Self> {
        let (mut writer, path) = open_writer(path.as_ref(), true)?;
        make(&mut writer, &path, options)?;
        Self::with_writer(writer, path)
    }

    /// Opens the collection at `path` to search only; the file and its folder may be read-only.
    ///
    /// # Errors
    ///
    /// If there is none, or it is of another program or a newer version.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = existing(path.as_ref())?;
        let reader = open_reader(&path)?;
        let info = read_info(&reader, &path)?;
        let reader = Mutex::new(Reader::new(reader, info.space.dimensions));
        Ok(Self {
            path,
            info,
            reader,
            writer: None,
            background: Background::default(),
        })
    }

    fn with_writer(mut writer: Connection, path: PathBuf) -> Result<Self> {
        bring_up_to_date(&mut writer, &path)?;
        let reader = open_reader(&path)?;
        let info = read_info(&reader, &path)?;
        let reader = Mutex::new(Reader::new(reader, info.space.dimensions));
        Ok(Self {
            path,
            info,
            reader,
            writer: Some(Mutex::new(writer)),
            background: Background::default(),
        })
    }
}

/// The absolute path of a file that exists. (Relative names such as `:memory:` mean something to
/// SQLite; absolute ones never do.)
///
/// The file itself is left to SQLite: to open and close it here would drop the locks that other
/// handles of this process hold on it (POSIX locks belong to the process, not to the handle).
pub(crate) fn existing(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(refused(path, io::ErrorKind::IsADirectory)),
        // SQLite takes a file of one byte for an empty one, and would write over it.
        Ok(metadata) if !metadata.is_file() || (1..SMALLEST_DATABASE).contains(&metadata.len()) => {
            Err(ErrorKind::NotSqlite { path }.into())
        }
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ErrorKind::NotFound { path }.into())
        }
        Err(source) => Err(ErrorKind::Io { path, source }.into()),
    }
}

fn refused(path: PathBuf, kind: io::ErrorKind) -> Error {
    ErrorKind::Io {
        path,
        source: kind.into(),
    }
    .into()
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| {
        ErrorKind::Io {
            path: path.to_path_buf(),
            source,
        }
        .into()
    })
}

fn open_writer(path: &Path, create: bool) -> Result<(Connection, PathBuf)> {
    let path = if create && !path.exists() {
        absolute(path)?
    } else {
        existing(path)?
    };
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let open = || {
        let connection = Connection::open_with_flags(&path, flags)?;
        configure(&connection)?;
        Ok(connection)
    };
    let connection = open().map_err(|error| cannot_write(&path, error))?;
    // Tells a foreign file before anything is written to it.
    let contents = schema::identify(&connection, &path)?;
    if connection.is_readonly("main").unwrap_or(false) {
        return Err(ErrorKind::ReadOnly { path }.into());
    }
    match (contents, create) {
        (Contents::Nothing, false) => return Err(ErrorKind::NotFound { path }.into()),
        (Contents::Nothing, true) => {
            let page_size = connection.pragma_update(None, "page_size", PAGE_SIZE);
            page_size.map_err(|error| Error::sqlite(&path, error))?;
        }
        (Contents::Collection { .. }, _) => {}
    }
    use_wal(&connection).map_err(|error| cannot_write(&path, error))?;
    // FULL syncs the log at every commit: what is acknowledged outlives kill -9 (as it would with
    // NORMAL) and a power cut too. The price is one sync a batch, see `upsert_documents`.
    let settings = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
    connection
        .execute_batch(settings)
        .map_err(|error| Error::sqlite(&path, error))?;
    Ok((connection, path))
}

/// Sets what every connection needs, without reading the file.
pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))
}

/// Switches to the write-ahead log, so that readers and a writer do not wait for each other.
///
/// A file system without shared memory refuses and keeps its rollback journal, which loses nothing
/// either. SQLite does not wait when two processes switch at once, so we do.
pub(crate) fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        match mode {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn open_reader(path: &Path) -> Result<Connection> {
    let connection = match connect_reader(path, false) {
        Err(error) if needs_immutable(path, &error) => connect_reader(path, true),
        other => other,
    };
    let connection = connection.map_err(|error| cannot_read(path, error))?;
    match schema::identify(&connection, path)? {
        Contents::Collection { .. } => Ok(connection),
        Contents::Nothing => Err(ErrorKind::NotFound {
            path: path.to_path_buf(),
        }
        .into()),
    }
}

fn connect_reader(path: &Path, immutable: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if immutable {
        let flags = flags | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable_uri(path), flags)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    configure(&connection)?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    Ok(connection)
}

/// A file with a write-ahead log needs a writable folder, unless SQLite is told that nobody
/// writes. That is only true when no log with commits lies beside the file.
fn needs_immutable(path: &Path, error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) && !has_log(path)
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(byte));
            }
            _ => write!(uri, "%{byte:02X}").expect("a string takes any text; this is a bug"),
        }
    }
    uri + "?immutable=1"
}

/// SQLite says no more than "unable to open"; what lies around the file says why.
pub(crate) fn cannot_write(path: &Path, error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return Error::sqlite(path, error);
    }
    let path = path.to_path_buf();
    match path.parent().map(Path::metadata) {
        Some(Err(source)) => ErrorKind::Io { path, source }.into(),
        _ if path.exists() => ErrorKind::ReadOnly { path }.into(),
        _ => refused(path, io::ErrorKind::PermissionDenied),
    }
}

/// As [`cannot_write`], for a file that exists.
pub(crate) fn cannot_read(path: &Path, error: rusqlite::Error) -> Error {
    if !matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    ) {
        return Error::sqlite(path, error);
    }
    let path = path.to_path_buf();
    if has_log(&path) {
        return ErrorKind::UnreadableLog { path }.into();
    }
    refused(path, io::ErrorKind::PermissionDenied)
}

/// The file of the write-ahead log of the collection at `path`.
pub(super) fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// True if commits may lie in the log that are not in the file yet.
fn has_log(path: &Path) -> bool {
    log_path(path).metadata().is_ok_and(|log| log.len() > 0)
}

/// Makes the tables if the file has none; false if it has.
fn make(writer: &mut Connection, path: &Path, options: &CollectionOptions) -> Result<bool> {
    let received = options.space.dimensions;
    if !(1..=MAX_DIMENSIONS).contains(&received) {
        return Err(ErrorKind::Dimensions {
            received,
            max: MAX_DIMENSIONS,
        }
        .into());
    }
    // With the write lock held, of two processes that make the same file one finds it made.
    let at = |error| Error::sqlite(path, error);
    let transaction = writer
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(at)?;
    if schema::identify(&transaction, path)? != Contents::Nothing {
        return Ok(false);
    }
    transaction
        .execute_batch(&schema::tables(&options.space))
        .map_err(at)?;
    schema::upgrade(&transaction, 1).map_err(at)?;
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let values = (
        &options.name,
        i64::try_from(created.as_millis()).unwrap_or(i64::MAX),
        options.space.fingerprint.to_string(),
        i64::try_from(received).unwrap_or(i64::MAX),
        options.chunking.to_string(),
    );
    let insert = "INSERT INTO collection (id, name, created_ms, fingerprint, dimensions, chunking)
                  VALUES (1, ?1, ?2, ?3, ?4, ?5)";
    transaction.execute(insert, values).map_err(at)?;
    text::mark_analysed(&transaction).map_err(at)?;
    transaction.commit().map_err(at)?;
    Ok(true)
}

/// Brings an older file to this version's tables and text analysis, whole or not at all.
fn bring_up_to_date(writer: &mut Connection, path: &Path) -> Result<()> {
    let at = |error| Error::sqlite(path, error);
    if is_up_to_date(writer, path)? {
        return Ok(());
    }
    let transaction = writer
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(at)?;
    // Another process may have done it while this one waited for the lock.
    if let Contents::Collection { version } = schema::identify(&transaction, path)? {
        schema::upgrade(&transaction, version).map_err(at)?;
        if !text::is_analysed(&transaction).map_err(at)? {
            text::rebuild(&transaction).map_err(at)?;
        }
    }
    transaction.commit().map_err(at)
}

fn is_up_to_date(connection: &Connection, path: &Path) -> Result<bool> {
    let current = Contents::Collection {
        version: schema::SCHEMA_VERSION,
    };
    Ok(schema::identify(connection, path)? == current
        && text::is_analysed(connection).map_err(|error| Error::sqlite(path, error))?)
}

fn read_info(connection: &Connection, path: &Path) -> Result<CollectionInfo> {
    let select = "SELECT name, created_ms, fingerprint, dimensions, chunking FROM collection";
    let read = |row: &Row<'_>| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get::<_, String>(2)?,
            row.get(3)?,
            row.get::<_, String>(4)?,
        ))
    };
    let (name, created_ms, fingerprint, dimensions, chunking): (_, i64, _, i64, _) = connection
        .query_row(select, [], read)
        .map_err(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => {
                Error::corrupt(path, "its description is missing")
            }
            other => Error::sqlite(path, other),
        })?;
    let dimensions = usize::try_from(dimensions)
        .ok()
        .filter(|n| (1..=MAX_DIMENSIONS).contains(n));
    let dimensions = dimensions.ok_or_else(|| Error::corrupt(path, "its width is impossible"))?;
    let json = |text: &str, what| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| Error::corrupt(path, format!("its {what} is not JSON: {error}")))
    };
    let space = Space {
        fingerprint: json(&fingerprint, "fingerprint")?,
        dimensions,
    };
    let created = UNIX_EPOCH + Duration::from_millis(u64::try_from(created_ms).unwrap_or(0));
    Ok(CollectionInfo {
        name,
        created,
        space,
        chunking: json(&chunking, "chunking")?,
    })
}
