//! The way in and out: [`listen`] takes connections ([`patient`] with their writes), [`routes`] is the table of what is served,
//! [`guard`] checks who asks and bounds the work, [`body`] reads bodies, [`stream`] sends those that
//! grow, [`path`] reads what a path names, [`answer`] prints
//! problems, counts and logs.

mod body;
mod path;
mod stream;
mod guard;
mod answer;
mod operate;
mod routes;
mod patient;
mod listen;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

pub(crate) use answer::{MODEL, RequestId, named};
pub(crate) use body::Payload;
pub(crate) use listen::serve;
pub(crate) use path::Path;
pub(crate) use routes::router;
pub(crate) use stream::streamed;

use crate::documents::Documents;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::ServerOptions;
use crate::server::StartError;
use crate::storage::Storage;

/// What every handler sees.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) models: Models,
    pub(crate) documents: Documents,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) storage: Storage,
    guard: guard::Guard,
    places: Arc<Semaphore>,
    is_ready: AtomicBool,
    #[cfg(feature = "otlp")]
    pub(crate) exporter: Option<crate::otlp::Exporter>,
}

impl App {
    pub(crate) fn new(options: Arc<ServerOptions>) -> Result<Arc<Self>, StartError> {
        let metrics = Arc::new(Metrics::new());
        Ok(Arc::new(Self {
            models: Models::new(options.clone(), metrics.clone())?,
            documents: Documents::new(&options),
            storage: Storage::open(options.storage.as_deref())?,
            guard: guard::Guard::new(&options),
            places: Arc::new(Semaphore::new(
                options.max_requests.clamp(1, Semaphore::MAX_PERMITS),
            )),
            is_ready: AtomicBool::new(false),
            #[cfg(feature = "otlp")]
            exporter: exporter(&options),
            metrics,
            options,
        }))
    }

    /// Sends what must not be lost at the end.
    #[cfg(feature = "otlp")]
    pub(crate) async fn flush(self: &Arc<Self>) {
        let app = self.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            if let Some(exporter) = &app.exporter {
                exporter.close();
            }
        });
        let _ = flushed.await;
    }

    /// Whether `/ready` says so: after the first load, and no longer once the server stops.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "otlp")]
fn exporter(options: &ServerOptions) -> Option<crate::otlp::Exporter> {
    let started = crate::otlp::Exporter::start(options.otlp.clone()?);
    let failed = |error: &std::io::Error| tracing::error!(%error, "no thread for spans");
    started.inspect_err(failed).ok()
}
