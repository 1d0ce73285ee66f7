//! The models served: by name, loaded when first asked for, unloaded when nobody asks any more.
//!
//! [`queue`] says who is next, [`worker`] runs a model, [`cache`] remembers vectors, [`registry`]
//! finds the model for a name; [`Models`] answers whole requests with them.

mod queue;
mod cache;
mod worker;
mod registry;
mod read;

use std::sync::Arc;

pub(crate) use registry::Registry;

use crate::metrics::Metrics;
use crate::options::ServerOptions;
use cache::Cache;

/// Everything that answers requests.
#[derive(Debug)]
pub(crate) struct Models {
    pub(crate) registry: Registry,
    cache: Cache,
    options: Arc<ServerOptions>,
    metrics: Arc<Metrics>,
}

impl Models {
    pub(crate) fn new(
        options: Arc<ServerOptions>,
        metrics: Arc<Metrics>,
    ) -> wenyi::hub::Result<Self> {
        Ok(Self {
            registry: Registry::new(options.clone(), metrics.clone())?,
            cache: Cache::new(options.cache),
            options,
            metrics,
        })
    }
}
