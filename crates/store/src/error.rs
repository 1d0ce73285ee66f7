//! What can go wrong between a document and its hit, and what to do about it.

mod hint;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store: what came, what was expected, and where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing machine or a bug.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match &*self.0 {
            ErrorKind::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::PermissionDenied
            ),
            ErrorKind::Remote { is_user_error, .. } => *is_user_error,
            ErrorKind::Full { .. }
            | ErrorKind::Unreachable { .. }
            | ErrorKind::Locked { .. }
            | ErrorKind::Corrupt { .. }
            | ErrorKind::Export { .. }
            | ErrorKind::Stopped
            | ErrorKind::Database { .. } => false,
            _ => true,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// What SQLite said about the file at `path`, told apart by what the user can do.
    pub(crate) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let reason = source.to_string();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => ErrorKind::NotSqlite { path },
            Some(ErrorCode::ReadOnly) => ErrorKind::ReadOnly { path },
            Some(ErrorCode::DiskFull) => ErrorKind::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked {
                path,
                waited: crate::collection::BUSY_TIMEOUT,
            },
            // A constraint can only fail when the rows of the file disagree with each other: the
            // input was checked before it came here.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::ConstraintViolation) => {
                ErrorKind::Corrupt { path, reason }
            }
            _ => ErrorKind::Database {
                path,
                source: Box::new(source),
            },
        }
        .into()
    }

    /// A file whose contents disagree with themselves.
    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        ErrorKind::Corrupt {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
        .into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("cannot open `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// There is no such collection.
    #[error("there is no collection at `{}`", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A collection is to be made where there is one.
    #[error("there is a collection at `{}` already", path.display())]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },
    /// The file is not an SQLite database.
    #[error("`{}` is not a collection: it is not an SQLite file", path.display())]
    NotSqlite {
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database of another program.
    #[error(
        "`{}` is not a collection: it is another program's SQLite file \
         (application id {application_id:#010x}, expected {expected:#010x})",
        path.display()
    )]
    NotWenyi {
        /// The file.
        path: PathBuf,
        /// The application id in its header.
        application_id: u32,
        /// Ours.
        expected: u32,
    },
    /// The file is one of points, where a collection of documents was expected.
    #[error("`{}` is a file of points, expected a collection of documents", path.display())]
    PointsFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is a collection of documents, where one of points was expected.
    #[error("`{}` is a collection of documents, expected a file of points", path.display())]
    DocumentsFile {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error(
        "`{}` has schema version {received}, this build reads up to {supported}",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The newest version that this build knows.
        supported: u32,
        /// The file's version.
        received: u32,
    },
    /// The file, its folder or the handle cannot be written.
    #[error("collection `{}` is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file was written before there was a full-text index.
    #[error("collection `{}` has no full-text index yet", path.display())]
    NoTextIndex {
        /// The file.
        path: PathBuf,
    },
    /// Its latest changes lie in a log that cannot be read without writing beside the file.
    #[error("collection `{}` has changes in its `-wal` file that cannot be read", path.display())]
    UnreadableLog {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot grow; what was acknowledged before is intact.
    #[error("no space left for collection `{}`", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process kept the file to itself for too long.
    #[error("collection `{}` is locked by another process (waited {waited:?})", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The file is damaged.
    #[error("collection `{}` is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What disagrees.
        reason: String,
    },
    /// SQLite failed in another way.
    #[error("collection `{}`: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A vector is wider or narrower than those of the collection.
    #[error(
        "{subject} has {received} dimensions, but collection `{collection}` expects {expected}"
    )]
    Width {
        /// The collection's name.
        collection: String,
        /// Which vector: `the query`, `vector 3 of notes.md`.
        subject: String,
        /// The collection's width.
        expected: usize,
        /// The vector's width.
        received: usize,
    },
    /// A vector holds NaN or infinity.
    #[error("{subject} holds {value} at index {index}, expected finite numbers")]
    NotFinite {
        /// Which vector.
        subject: String,
        /// The index of the first bad value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A vector of zeros points nowhere, so no cosine can be told.
    #[error("{subject} is zero, which has no direction")]
    ZeroVector {
        /// Which vector.
        subject: String,
    },
    /// The chunks have been brought into another space since the collection was opened.
    #[error("collection `{collection}` has been embedded with another model since it was opened")]
    Migrated {
        /// Its name.
        collection: String,
    },
    /// There is nothing to migrate to.
    #[error("the vectors of collection `{collection}` are of this model already")]
    SameSpace {
        /// Its name.
        collection: String,
    },
    /// A migration is to be begun before it goes on.
    #[error("no migration of collection `{collection}` was begun")]
    NoMigration {
        /// Its name.
        collection: String,
    },
    /// A graph cannot have so few or so many links a row.
    #[error("a graph with {m} links a row was asked for, expected 2 to 256")]
    GraphOptions {
        /// As asked for.
        m: usize,
    },
    /// An index is made of packed rows, of which a small collection has none.
    #[error("collection `{collection}` has too few vectors for an index")]
    TooFewForIndex {
        /// Its name.
        collection: String,
    },
    /// The leading dimensions are to be some, not all.
    #[error("{received} leading dimensions of vectors with {dimensions}")]
    LeadingDimensions {
        /// As asked for.
        received: usize,
        /// Width of the vectors.
        dimensions: usize,
    },
    /// An index would miss too much.
    #[error("the index would find {recall:.3} of the ten closest, expected at least {floor}")]
    LowRecall {
        /// Measured on the collection's own vectors.
        recall: f64,
        /// The least that is kept.
        floor: f64,
    },
    /// What a collection is written to failed.
    #[error("cannot write the documents of `{}`: {source}", path.display())]
    Export {
        /// The collection.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A line of a file that should be an exported collection.
    #[error("line {line} is not one of an exported collection: {reason}")]
    ImportLine {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The work was stopped.
    #[error("stopped")]
    Stopped,
    /// A document's chunks and vectors differ in number.
    #[error("`{document}` has {chunks} chunks and {vectors} vectors")]
    VectorCount {
        /// The document's path, or `the call`.
        document: String,
        /// Its chunks or texts.
        chunks: usize,
        /// Its vectors.
        vectors: usize,
    },
    /// A chunk's span, or another fact about a document, cannot be.
    #[error("`{document}`: {reason}")]
    InvalidDocument {
        /// The document's path.
        document: String,
        /// What was expected and what came.
        reason: String,
    },
    /// The collection's vectors live in another space than the caller's.
    #[error("collection `{collection}` was made with {expected}, not with {received}")]
    SpaceMismatch {
        /// The collection's name.
        collection: String,
        /// The fingerprint that it was made with.
        expected: String,
        /// The caller's.
        received: String,
    },
    /// A point with this id is there already, or twice in one call.
    #[error("there is a point with id `{id}` already")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A point without an id.
    #[error("the id of a point is empty")]
    EmptyId,
    /// A store has no collection with this name.
    #[error("there is no collection `{name}` in `{store}`")]
    UnknownCollection {
        /// Where it was looked for: a file or a URL.
        store: String,
        /// The name.
        name: String,
    },
    /// A collection is to be made where there is one with its name.
    #[error("there is a collection `{name}` in `{store}` already")]
    CollectionExists {
        /// The file or URL.
        store: String,
        /// The name.
        name: String,
    },
    /// A name that no collection can have.
    #[error("`{name}` cannot be the name of a collection")]
    CollectionName {
        /// The name.
        name: String,
    },
    /// A store that is needed at once was made without a width.
    #[error("a new collection in `{store}` needs the width of its vectors")]
    NoWidth {
        /// The file or URL.
        store: String,
    },
    /// The URL of a store that cannot be understood.
    #[error("`{url}` is not the URL of a store: {reason}")]
    StoreUrl {
        /// What came, without its password.
        url: String,
        /// What was expected.
        reason: String,
    },
    /// A file that should be a dump of LangChain's `InMemoryVectorStore`.
    #[error("`{}` is not a dump of an InMemoryVectorStore: {reason}", path.display())]
    NotADump {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A store behind a network failed or refused.
    #[error("store `{store}`: {reason}")]
    Remote {
        /// Where it is, without its password.
        store: String,
        /// What it said.
        reason: String,
        /// True if other input cures it.
        is_user_error: bool,
    },
    /// A store behind a network cannot be reached.
    #[error("store `{store}` cannot be reached: {reason}")]
    Unreachable {
        /// Where it is, without its password.
        store: String,
        /// What went wrong on the way.
        reason: String,
    },
    /// A point that needs a vector has none.
    #[error("point `{id}` has no vector")]
    NoVector {
        /// The point's id.
        id: String,
    },
    /// There is no point with this id.
    #[error("there is no point with id `{id}`")]
    UnknownId {
        /// The id.
        id: String,
    },
    /// A collection's points have no vector of this name.
    #[error("there is no vector `{name}` here; there are {}", listed(known))]
    UnknownVector {
        /// The name; empty for the vector without one.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A vector is dense in a space of sparse ones, or the other way round.
    #[error("vector `{name}` must be {}", if *is_sparse { "sparse" } else { "dense" })]
    VectorKind {
        /// The name of its space.
        name: String,
        /// Whether the space has sparse vectors.
        is_sparse: bool,
    },
    /// A sparse vector that cannot be.
    #[error("a sparse vector has {reason}")]
    SparseVector {
        /// What is wrong with it.
        reason: String,
    },
    /// A change of vectors that cannot be.
    #[error("{reason}")]
    InvalidVectors {
        /// Why not.
        reason: String,
    },
    /// A filter that cannot be understood.
    #[error("`{place}` is {received}, expected {expected}")]
    Filter {
        /// Where in the filter: `filter.must[0].match`.
        place: String,
        /// What is possible there.
        expected: String,
        /// What came, cut to a line.
        received: String,
    },
    /// A collection of vectors without dimensions.
    #[error("a collection needs 1 to {max} dimensions, not {received}")]
    Dimensions {
        /// What came.
        received: usize,
        /// The most.
        max: usize,
    },
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
