//! What the user can do about each error.

use std::io;
use std::path::Path;

use super::ErrorKind;

fn io_hint(path: &Path, kind: io::ErrorKind) -> Option<String> {
    let shown = path.display();
    Some(match kind {
        io::ErrorKind::IsADirectory => format!(
            "name a file, such as `{}`; `wenyi index {shown}` makes a collection of a folder's documents",
            path.join("notes.db").display()
        ),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "name a file in a folder that exists".into()
        }
        io::ErrorKind::PermissionDenied => "make the file and its folder readable".into(),
        _ => return None,
    })
}

fn unreachable_hint(store: &str) -> String {
    if store.starts_with("postgres") {
        return "start PostgreSQL there, or correct host and port: \
                `postgres://USER:PASSWORD@HOST:5432/DATABASE?collection=NAME`"
            .into();
    }
    "start Qdrant or `wenyi serve --store FOLDER` there, or correct host and port: \
     `qdrant://HOST:6333/NAME`, `qdrants://` through TLS"
        .into()
}

impl ErrorKind {
    /// What the user can do about it, where we know.
    pub(super) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "make it with `wenyi index FOLDER`".into(),
            Self::AlreadyExists { .. } => "open it, or choose another file".into(),
            Self::NotSqlite { .. } | Self::NotWenyi { .. } => {
                "give the file of a collection, or a new file for one".into()
            }
            Self::PointsFile { path } => format!(
                "name another file for documents; `wenyi store info {}` shows the points",
                path.display()
            ),
            Self::DocumentsFile { path } => format!(
                "name another file for points; `wenyi store copy {} sqlite:points.db` makes points of \
                 its passages",
                path.display()
            ),
            Self::Io { path, source } => return io_hint(path, source.kind()),
            Self::NotADump { .. } => {
                "give a file that LangChain's `InMemoryVectorStore.dump`, or `wenyi store copy`, wrote"
                    .into()
            }
            Self::Unreachable { store, .. } => unreachable_hint(store),
            Self::NewerSchema { .. } => "use a newer wenyi, or index into a new file".into(),
            Self::ReadOnly { .. } => {
                "searching works; to change it, make the file and its folder writable".into()
            }
            Self::NoTextIndex { .. } => {
                "open it once to write (`wenyi store repair FILE`), or search by meaning alone"
                    .into()
            }
            Self::UnreadableLog { .. } => "make its folder writable, or copy the file with its \
                                           `-wal` to a folder that is"
                .into(),
            Self::Full { .. } => "free some space and run the same command again; everything \
                                  acknowledged before is intact"
                .into(),
            Self::Locked { .. } => "wait for the other process, or end it".into(),
            Self::Corrupt { path, .. } => {
                let path = path.display();
                format!(
                    "`wenyi store check {path}` says what is wrong, `wenyi store repair {path}` makes \
                     anew what it can; else restore the file from a backup, or remove it together \
                     with its `-wal` and `-shm` files and index again"
                )
            }
            Self::Width { .. } | Self::SpaceMismatch { .. } => {
                "embed with the model that the collection was made with, or index into a new file"
                    .into()
            }
            Self::NotFinite { .. } | Self::ZeroVector { .. } => {
                "the vector comes from a broken model or reply; embed the text again".into()
            }
            Self::Migrated { .. } => "open it again, and search with its new model".into(),
            Self::SameSpace { .. } => "name another model".into(),
            Self::NoMigration { .. } => "begin with `wenyi store migrate`".into(),
            Self::GraphOptions { .. } => "take 16, or 32 for higher recall".into(),
            Self::TooFewForIndex { .. } => {
                "search it without: it is exact and quick until some 100,000 vectors".into()
            }
            Self::LeadingDimensions { dimensions, .. } => {
                format!("take fewer than {dimensions}, for example a quarter of them")
            }
            Self::Export { .. } => {
                "write where there is more room; the collection is as it was".into()
            }
            Self::ImportLine { .. } => "give what `wenyi store export COLLECTION.db` wrote".into(),
            Self::LowRecall { .. } => {
                "take a graph, more leading dimensions, or leave the search exact".into()
            }
            Self::Filter { .. } => "write for example `{\"must\": [{\"key\": \"lang\", \"match\": \
                                    {\"value\": \"zh\"}}]}`"
                .into(),
            Self::StoreUrl { .. } => "write `memory:`, `sqlite:notes.db`, \
                                      `postgres://user@host/database?collection=notes` or \
                                      `qdrant://host:6333/notes`"
                .into(),
            Self::CollectionName { .. } => {
                "use 1 to 255 characters other than `/`, `?`, `#` and control characters".into()
            }
            Self::DuplicateId { .. } => "replace a point with `upsert`".into(),
            _ => return None,
        })
    }
}
