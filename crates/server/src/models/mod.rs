//! The models served: by name, loaded when first asked for, unloaded when nobody asks any more.
//!
//! [`queue`] says who is next, [`worker`] runs a model, [`cache`] remembers vectors, [`registry`]
//! finds the model for a name, of which each is an [`entry`]; [`speaker`] talks and [`remote`] asks
//! a provider, on the threads of [`blocking`], once its embedder is there ([`opening`]); [`Models`]
//! answers whole requests with them.

mod queue;
mod cache;
mod worker;
mod speaker;
mod blocking;
mod opening;
mod remote;
mod entry;
mod registry;
mod read;
mod there;
mod served;

use std::sync::Arc;

pub(crate) use blocking::{answered, start};
pub(crate) use registry::{Choice, Chosen, Registry};
pub(crate) use remote::Remote;
pub(crate) use served::Served;
pub(crate) use speaker::{Prompt, Speaker, Spoken};

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
