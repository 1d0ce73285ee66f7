//! The URL of a store: changing it is changing the store.

use std::path::Path;
use std::sync::Arc;

use wenyi_store::vector_store::{
    DocumentPoints, MemoryStore, SqliteDatabase, StoreOptions, VectorStore,
};
use wenyi_store::{Error, ErrorKind, Result};

use super::postgres::PostgresStore;
use super::qdrant::QdrantStore;

/// The collection of a file whose URL names none.
const DEFAULT_COLLECTION: &str = "default";

/// What to do where there is no collection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missing<'a> {
    Refuse,
    Make(&'a StoreOptions),
}

/// Opens the collection at a URL.
///
/// - `memory:`, empty, or `memory:FILE` with the points of a dump file of LangChain's
///   `InMemoryVectorStore`;
/// - `sqlite:FILE`, or `sqlite:FILE?collection=NAME`; a collection made by `wenyi index` opens too, to
///   be read;
/// - `postgres://USER:PASSWORD@HOST:PORT/DATABASE?collection=NAME`, PostgreSQL with pgvector, on its
///   own or under Citus; `&index=hnsw` for a graph index;
/// - `qdrant://HOST:6333/NAME`, `qdrants://` through TLS; the key comes from `QDRANT_API_KEY`.
///
/// # Errors
///
/// If the URL cannot be understood, there is no such collection, or it cannot be reached.
pub fn open_store(url: &str) -> Result<Arc<dyn VectorStore>> {
    open(url, Missing::Refuse)
}

/// [`open_store`] that makes the collection with `options` if there is none.
///
/// # Errors
///
/// As [`open_store`]; also if `options` have no width and the store needs one.
pub fn open_or_create_store(url: &str, options: &StoreOptions) -> Result<Arc<dyn VectorStore>> {
    open(url, Missing::Make(options))
}

fn open(url: &str, missing: Missing<'_>) -> Result<Arc<dyn VectorStore>> {
    let Some((scheme, rest)) = scheme_of(url) else {
        return open_sqlite(url, missing);
    };
    match scheme {
        "memory" => open_memory(rest, missing),
        "sqlite" => open_sqlite(rest, missing),
        "postgres" | "postgresql" => Ok(Arc::new(PostgresStore::open(url, missing)?)),
        "qdrant" | "qdrants" => Ok(Arc::new(QdrantStore::open(url, missing)?)),
        _ => Err(refused(
            url,
            "expected `memory:`, `sqlite:`, `postgres:` or `qdrant:`",
        )),
    }
}

fn open_memory(path: &str, missing: Missing<'_>) -> Result<Arc<dyn VectorStore>> {
    let options = match missing {
        Missing::Make(options) => options.clone(),
        Missing::Refuse => StoreOptions::default(),
    };
    let is_there = !path.is_empty() && Path::new(path).exists();
    Ok(match (is_there, missing) {
        (false, Missing::Refuse) if !path.is_empty() => {
            let path = path.into();
            return Err(ErrorKind::NotFound { path }.into());
        }
        (true, _) => Arc::new(MemoryStore::load_dump(path)?),
        (false, _) => Arc::new(MemoryStore::with_options(options)?),
    })
}

fn open_sqlite(rest: &str, missing: Missing<'_>) -> Result<Arc<dyn VectorStore>> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // `sqlite:///absolute/path` as others write it, and `sqlite://relative`.
    let path = path.strip_prefix("//").unwrap_or(path);
    let mut name = DEFAULT_COLLECTION.to_owned();
    for (key, value) in parameters(query) {
        match key.as_str() {
            "collection" => name = value,
            _ => {
                return Err(refused(
                    rest,
                    format!("`{key}` is not known, `collection` is"),
                ));
            }
        }
    }
    if path.is_empty() {
        return Err(refused(rest, "expected a file after `sqlite:`"));
    }
    match missing {
        Missing::Refuse => {
            if !Path::new(path).exists() {
                let path = path.into();
                return Err(ErrorKind::NotFound { path }.into());
            }
            match SqliteDatabase::open(path) {
                Ok(database) => Ok(database.collection(&name)?),
                Err(error) if is_of_documents(&error) => Ok(Arc::new(DocumentPoints::open(path)?)),
                Err(error) => Err(error),
            }
        }
        Missing::Make(options) => {
            Ok(SqliteDatabase::open(path)?.collection_or_create(&name, options)?)
        }
    }
}

fn is_of_documents(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DocumentsFile { .. })
}

/// The file that a store's URL names, if it is one of SQLite, and the collection in it, if it names
/// one. A path without a scheme is such a URL.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<(&Path, Option<String>)> {
    let rest = match scheme_of(url) {
        Some(("sqlite", rest)) => rest,
        Some(_) => return None,
        None => url,
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    let mut parameters = parameters(query).into_iter();
    let name = parameters.find(|(key, _)| key == "collection");
    Some((Path::new(path), name.map(|(_, name)| name)))
}

/// The scheme of a URL and what stands behind it; none for a path.
fn scheme_of(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    // One letter is a drive of Windows; and a path may have a colon in it.
    let is_known = SCHEMES.contains(&scheme);
    let is_path =
        scheme.len() == 1 || !is_known && !rest.starts_with("//") && Path::new(url).exists();
    (!is_path).then_some((scheme, rest))
}

const SCHEMES: [&str; 6] = [
    "memory",
    "sqlite",
    "postgres",
    "postgresql",
    "qdrant",
    "qdrants",
];

/// The pairs of a query, decoded.
pub(super) fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// The text with its percent signs resolved; bytes that are no UTF-8 become replacement characters.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = text.get(index + 1..index + 3);
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[index], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                index += 3;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The text with everything but letters, digits and a few marks as percent signs.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The URL without its password.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{}", &rest[end..])
        }
        None => url.into(),
    }
}

pub(super) fn refused(url: &str, reason: impl Into<String>) -> Error {
    ErrorKind::StoreUrl {
        url: without_password(url),
        reason: reason.into(),
    }
    .into()
}
