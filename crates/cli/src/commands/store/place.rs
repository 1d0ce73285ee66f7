//! Which file a `STORE` argument means, and files that a command that failed must not leave behind.

use std::fs;
use std::path::{Path, PathBuf};

use wenyi::store::Collection;
use wenyi::store::vector_store::Selection;
use wenyi::vector_store::{SqliteDatabase, VectorStore, sqlite_file};

use super::points;
use crate::exit::UserError;

/// The file that is named by a path or a `sqlite:` URL, for verbs that look into files alone.
pub(super) fn file_of(store: &str, verb: &str) -> anyhow::Result<PathBuf> {
    match sqlite_file(store) {
        Some((path, _)) => Ok(path.to_owned()),
        None => {
            let (scheme, _) = store.split_once(':').unwrap_or((store, ""));
            let message = format!(
                "`wenyi store {verb}` looks into files, expected one instead of `{scheme}:`"
            );
            let hint = "name a file or `sqlite:FILE.db`; `wenyi store info` takes every store, and \
                        `wenyi store copy` brings it into a file";
            Err(UserError::new(message).with_hint(hint).into())
        }
    }
}

/// A file that is not there yet. Unless it is kept or something came into it, it goes again when this is
/// dropped: a command that failed leaves no empty store behind, which the next one would take for a real
/// one.
#[derive(Debug)]
pub(super) struct Fresh {
    path: Option<PathBuf>,
}

impl Fresh {
    /// Of the store at a URL, before it is opened.
    pub(super) fn of(url: &str) -> Self {
        let file = sqlite_file(url).map(|(path, _)| path.to_owned());
        Self {
            path: file.filter(|path| !path.exists()),
        }
    }

    /// Leaves the file where it is: the command has done its work, if only on nothing.
    pub(super) fn keep(&mut self) {
        self.path = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some(path) = self.path.take().filter(|path| path.exists()) else {
            return;
        };
        // What cannot be looked into is not ours to remove.
        if is_empty(&path).unwrap_or(false) {
            for suffix in ["", "-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(suffix);
                let _ = fs::remove_file(file);
            }
        }
    }
}

fn is_empty(path: &Path) -> wenyi::store::Result<bool> {
    if !points::is_points(path) {
        return Ok(Collection::open_read_only(path)?.documents()?.is_empty());
    }
    let database = SqliteDatabase::open(path)?;
    for name in database.collections()? {
        if database.collection(&name)?.count(&Selection::All)? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
