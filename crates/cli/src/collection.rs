//! From a folder or a `.db` file to the collection that holds its vectors.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use wenyi::hub::Hub;
use wenyi::retrieve::collection_path;
use wenyi_store::Collection;

/// What a user points at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Documents, and the collection that is kept for them.
    Documents { root: PathBuf, collection: PathBuf },
    /// A collection as it is; where its documents are is not known.
    Collection(PathBuf),
}

impl Target {
    /// Understands `path`; `collection` is the file that the user chose, if any.
    pub(crate) fn new(path: &Path, collection: Option<&Path>, hub: &Hub) -> Self {
        if collection.is_none() && is_sqlite(path) {
            return Self::Collection(path.to_owned());
        }
        let default = || collection_path(hub.cache_folder(), path);
        let collection = collection.map_or_else(default, Path::to_owned);
        Self::Documents {
            root: path.to_owned(),
            collection,
        }
    }

    /// The collection's file.
    pub(crate) fn collection(&self) -> &Path {
        match self {
            Self::Documents { collection, .. } | Self::Collection(collection) => collection,
        }
    }
}

/// True if the file says of itself that it is an SQLite database (sqlite.org/fileformat.html).
fn is_sqlite(path: &Path) -> bool {
    let mut magic = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"SQLite format 3\0"
}

/// The model that made the collection, where it has a name that leads back to it: a collection of
/// another model than the default one is then searched without naming its model each time.
pub(crate) fn remembered_model(collection: &Path, hub: &Hub) -> Option<String> {
    let collection = Collection::open_read_only(collection).ok()?;
    let model = collection
        .info()
        .space
        .fingerprint
        .get("model")?
        .as_str()?
        .to_owned();
    // A model at a path is remembered by its last part, which leads nowhere.
    let leads_back = hub.path(&model).is_ok() || crate::model::is_remote(&model);
    leads_back.then_some(model)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn collections_are_known_by_their_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (text, database) = (
            folder.path().join("文.db"),
            folder.path().join("collection"),
        );
        fs::write(&text, "just a text that is called .db").unwrap();
        fs::write(&database, b"SQLite format 3\0 and so on").unwrap();
        let hub = Hub::from_env().unwrap().with_cache(folder.path());
        assert_eq!(
            Target::new(&database, None, &hub),
            Target::Collection(database.clone())
        );
        assert!(matches!(
            Target::new(&text, None, &hub),
            Target::Documents { .. }
        ));
        assert!(matches!(
            Target::new(folder.path(), None, &hub),
            Target::Documents { .. }
        ));
    }

    #[test]
    fn a_chosen_collection_is_used_for_documents() {
        let hub = Hub::from_env().unwrap();
        let target = Target::new(Path::new("docs"), Some(Path::new("notes.db")), &hub);
        assert_eq!(target.collection(), Path::new("notes.db"));
    }
}
