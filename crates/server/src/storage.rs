//! What the server keeps for its clients, in a folder that the one who starts it names: collections of
//! points, and files with the stores in which they are searched.

use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::collections::Collections;
use crate::problem::Problem;
use crate::vector_stores::{Shared, VectorStores};

/// The file of points in the folder, which the library opens as `sqlite:FOLDER/points.db`.
const POINTS: &str = "points.db";

/// The folder, opened; none if the server was started without one.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Option<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    collections: Arc<Collections>,
    vector_stores: Shared,
}

impl Storage {
    /// Opens what is in the folder, and makes what is not.
    pub(crate) fn open(folder: Option<&Path>) -> wenyi::store::Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self(None));
        };
        std::fs::create_dir_all(folder).map_err(|source| wenyi::store::ErrorKind::Io {
            path: folder.to_path_buf(),
            source,
        })?;
        Ok(Self(Some(Kept {
            collections: Arc::new(Collections::open(&folder.join(POINTS))?),
            vector_stores: Arc::new(VectorStores::open(folder)?),
        })))
    }

    /// Runs `work` on the collections, on a thread that may wait for the disk. It runs to its end even
    /// if nobody waits for it any more.
    pub(crate) async fn on_collections<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Collections) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let kept = self.0.clone().ok_or(Problem::NoStorage)?;
        waiting(move || work(&kept.collections)).await
    }

    /// The same on files and the stores of files.
    pub(crate) async fn on_vector_stores<T: Send + 'static>(
        &self,
        work: impl FnOnce(&VectorStores) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let kept = self.0.clone().ok_or(Problem::NoStorage)?;
        waiting(move || work(&kept.vector_stores)).await
    }

    pub(crate) fn vector_stores(&self) -> Option<Shared> {
        self.0.as_ref().map(|kept| kept.vector_stores.clone())
    }
}

/// Runs `work` on a thread that may wait for the disk.
pub(crate) async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Problem::Internal {
            reason: error.to_string(),
        })
    })
}
