//! Collections of documents that questions are answered from.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use wenyi::embed::Embedder;
use wenyi::retrieve::open_to_search;
use wenyi::store::Collection;

use crate::models::Models;
use crate::options::{ServedCollection, ServerOptions};
use crate::problem::Problem;

/// The collections in the order of the options.
#[derive(Debug)]
pub(crate) struct Documents {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    served: ServedCollection,
    /// Held while opening, so that requests that come meanwhile wait for one opening.
    opened: Mutex<Option<Arc<Collection>>>,
}

/// A collection and the model that made it.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) collection: Arc<Collection>,
    pub(crate) embedder: Arc<dyn Embedder>,
}

impl Documents {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let entries = options.collections.iter().map(|served| Entry {
            served: served.clone(),
            opened: Mutex::new(None),
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// The collection called `name`, or the first.
    pub(crate) async fn open(
        &self,
        models: &Models,
        name: Option<&str>,
    ) -> Result<Opened, Problem> {
        let wanted = |entry: &&Entry| name.is_none_or(|name| entry.served.name == name);
        let entry = self.entries.iter().find(wanted).ok_or_else(|| {
            let served = self.entries.iter().map(|entry| entry.served.name.clone());
            Problem::NoCollection {
                collection: name.unwrap_or_default().to_owned(),
                served: served.collect(),
            }
        })?;
        let mut slot = entry.opened.lock().await;
        let served = &entry.served;
        if let Some(collection) = &*slot {
            let embedder = embedder(models, collection).await?;
            return Ok(Opened {
                name: served.name.clone(),
                collection: collection.clone(),
                embedder,
            });
        }
        let failed = |reason: String| Problem::Load {
            model: served.name.clone(),
            reason,
            is_permanent: false,
        };
        let path = served.path.clone();
        let collection = blocking(move || Collection::open_read_only(&path)).await?;
        let collection = collection.map_err(|error| failed(error.to_string()))?;
        let embedder = embedder(models, &collection).await?;
        drop(collection);
        let (path, own) = (served.path.clone(), embedder.clone());
        let collection = blocking(move || open_to_search(&path, own.as_ref())).await?;
        let collection = Arc::new(collection.map_err(|error| failed(error.to_string()))?);
        *slot = Some(collection.clone());
        Ok(Opened {
            name: served.name.clone(),
            collection,
            embedder,
        })
    }
}

/// The model that made the collection, if it is served; else the first that gives vectors, which may
/// be the same under another name.
async fn embedder(models: &Models, collection: &Collection) -> Result<Arc<dyn Embedder>, Problem> {
    let fingerprint = &collection.info().space.fingerprint;
    let made_with = fingerprint.get("model").and_then(|name| name.as_str());
    let served = match models.served(made_with).await {
        Err(Problem::NoModel { .. }) => models.served(None).await?,
        other => other?,
    };
    Ok(served.embedder)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work)
        .await
        .map_err(|error| Problem::Internal {
            reason: error.to_string(),
        })
}
