//! Which model answers to a name, and which of them are in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use wenyi::embed::EncoderOptions;
use wenyi::hub::{Hub, ModelKind};
use wenyi::progress::Silent;
use wenyi_engine::encoder::{Encoder, Output};

use super::worker::Worker;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::problem::Problem;

/// The served models in the order of the options.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: Vec<Arc<Entry>>,
    options: Arc<ServerOptions>,
    metrics: Arc<Metrics>,
    started: Instant,
}

/// A served model, in memory or not.
#[derive(Debug)]
pub(crate) struct Entry {
    served: ServedModel,
    hub: Hub,
    /// What it gives, as far as it is known: see [`kind_code`].
    kind: AtomicU8,
    /// Held while loading, so that requests that come meanwhile wait for one load.
    worker: Mutex<Option<Arc<Worker>>>,
    /// Milliseconds after the start of the registry.
    last_used: AtomicU64,
}

/// A served model for listings.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What clients call it.
    pub(crate) name: String,
    /// The model behind it if `name` is an alias.
    pub(crate) alias_of: Option<String>,
}

/// A model that answers a request, held in memory as long as this lives.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Its served name.
    pub(crate) name: String,
    pub(crate) worker: Arc<Worker>,
}

impl Registry {
    pub(super) fn new(
        options: Arc<ServerOptions>,
        metrics: Arc<Metrics>,
    ) -> wenyi::hub::Result<Self> {
        let hub = Hub::from_env()?;
        let hub = if options.offline {
            hub.offline(true)
        } else {
            hub
        };
        let entries = (options.models.iter())
            .map(|served| {
                let entry = hub.catalog().find(&served.source);
                let kind = entry.and_then(|entry| match entry.kind {
                    ModelKind::Embedding => Some(Output::Embedding),
                    ModelKind::Reranker => Some(Output::Relevance),
                    // What else it gives is known when it is open.
                    ModelKind::Chat => None,
                });
                Arc::new(Entry {
                    served: served.clone(),
                    hub: hub.clone(),
                    kind: AtomicU8::new(kind.map_or(0, kind_code)),
                    worker: Mutex::new(None),
                    last_used: AtomicU64::new(0),
                })
            })
            .collect();
        Ok(Self {
            entries,
            options,
            metrics,
            started: Instant::now(),
        })
    }

    /// All names that are answered, served models first.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let models = self.entries.iter().map(|entry| Listed {
            name: entry.served.name.clone(),
            alias_of: None,
        });
        let aliases = self.options.aliases.iter().map(|alias| Listed {
            name: alias.name.clone(),
            alias_of: Some(alias.model.clone()),
        });
        models.chain(aliases).collect()
    }

    /// The model called `name`, or the first that gives `wanted`; loaded if it is not in memory.
    pub(crate) async fn choose(
        &self,
        name: Option<&str>,
        wanted: Output,
    ) -> Result<Chosen, Problem> {
        if let Some(name) = name {
            let entry = self.find(name).ok_or_else(|| Problem::NoModel {
                model: name.to_owned(),
                served: self.list().into_iter().map(|listed| listed.name).collect(),
            })?;
            let chosen = self.load(entry).await?;
            let available = chosen.worker.encoder().description().output;
            if available != wanted {
                return Err(Problem::Kind {
                    model: name.to_owned(),
                    wanted: plural(wanted),
                    available: plural(available),
                });
            }
            return Ok(chosen);
        }
        for entry in &self.entries {
            let known = entry.kind.load(Ordering::Relaxed);
            if known != 0 && known != kind_code(wanted) {
                continue;
            }
            let chosen = self.load(entry).await?;
            if chosen.worker.encoder().description().output == wanted {
                return Ok(chosen);
            }
        }
        Err(Problem::NoModelFor {
            wanted: plural(wanted),
        })
    }

    /// The model called `name`, or the first, whatever it gives.
    pub(crate) async fn any(&self, name: Option<&str>) -> Result<Chosen, Problem> {
        let entry = match name {
            Some(name) => self.find(name),
            None => self.entries.first(),
        };
        let entry = entry.ok_or_else(|| Problem::NoModel {
            model: name.unwrap_or_default().to_owned(),
            served: self.list().into_iter().map(|listed| listed.name).collect(),
        })?;
        self.load(entry).await
    }

    /// Loads all models, or the first only.
    pub(crate) async fn preload(&self, all: bool) -> Result<(), Problem> {
        let count = if all { self.entries.len() } else { 1 };
        for entry in self.entries.iter().take(count) {
            self.load(entry).await?;
        }
        Ok(())
    }

    /// Tokens that wait for each model in memory that is not just being loaded.
    pub(crate) fn queued(&self) -> Vec<(String, usize)> {
        let queued = |entry: &Arc<Entry>| {
            let worker = entry.worker.try_lock().ok()?;
            Some((entry.served.name.clone(), worker.as_ref()?.queued()))
        };
        self.entries.iter().filter_map(queued).collect()
    }

    fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        let alias = self.options.aliases.iter().find(|alias| alias.name == name);
        let name = alias.map_or(name, |alias| &alias.model);
        self.entries.iter().find(|entry| entry.served.name == name)
    }

    async fn load(&self, entry: &Arc<Entry>) -> Result<Chosen, Problem> {
        entry.last_used.store(self.now(), Ordering::Relaxed);
        let name = entry.served.name.clone();
        if let Ok(worker) = entry.worker.try_lock()
            && let Some(worker) = &*worker
        {
            let worker = worker.clone();
            return Ok(Chosen { name, worker });
        }
        self.make_room(entry).await;
        let (task, options, metrics) = (entry.clone(), self.options.clone(), self.metrics.clone());
        // A task of its own: a client that goes away does not undo the load for the others.
        let task = tokio::spawn(async move { task.load(&options, metrics).await });
        let worker = task.await.map_err(|error| Problem::Internal {
            reason: error.to_string(),
        })??;
        Ok(Chosen { name, worker })
    }

    /// Unloads what was unused for longest while more models are in memory than may be.
    async fn make_room(&self, newcomer: &Arc<Entry>) {
        loop {
            let loaded: Vec<_> = (self.entries.iter())
                .filter(|entry| !Arc::ptr_eq(entry, newcomer) && entry.is_loaded())
                .collect();
            if loaded.len() < self.options.max_loaded.max(1) {
                return;
            }
            let mut idle: Vec<_> = loaded.into_iter().filter(|entry| entry.is_idle()).collect();
            idle.sort_by_key(|entry| entry.last_used.load(Ordering::Relaxed));
            let Some(oldest) = idle.first() else { return };
            if !oldest.unload().await {
                return;
            }
        }
    }

    /// Unloads the models that nobody has asked for since `idle`.
    pub(crate) async fn unload_idle(&self, idle: Duration) {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        for entry in &self.entries {
            let unused = self.now() - entry.last_used.load(Ordering::Relaxed);
            if unused >= idle && entry.is_idle() && entry.unload().await {
                tracing::info!(model = entry.served.name, "unloaded");
            }
        }
    }

    /// Unloads everything; requests that wait fail.
    pub(crate) async fn close(&self) {
        for entry in &self.entries {
            let worker = entry.worker.lock().await.take();
            // Joins the model's thread, which may be in a batch.
            let _ = spawn_blocking(move || drop(worker)).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Entry {
    async fn load(
        &self,
        options: &ServerOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Worker>, Problem> {
        let mut slot = self.worker.lock().await;
        if let Some(worker) = &*slot {
            return Ok(worker.clone());
        }
        let (hub, served) = (self.hub.clone(), self.served.clone());
        let (precision, threads) = (options.precision, options.threads);
        let started = Instant::now();
        let opened = spawn_blocking(move || {
            let local = hub
                .resolve(&served.source, &Silent)
                .map_err(|error| error.to_string())?;
            let options = EncoderOptions {
                precision,
                threads,
                name: Some(local.id),
                ..EncoderOptions::default()
            };
            let encoder =
                Encoder::open(&local.path, &options).map_err(|error| error.to_string())?;
            // Hashes the weights, which the first request should not wait for.
            encoder.fingerprint();
            Ok::<_, String>(encoder)
        });
        let opened = opened.await.unwrap_or_else(|error| Err(error.to_string()));
        let worker = opened.and_then(|encoder| {
            self.kind
                .store(kind_code(encoder.description().output), Ordering::Relaxed);
            let limit = options.max_queued_tokens;
            Worker::start(encoder, &self.served.name, limit, metrics).map_err(|e| e.to_string())
        });
        let worker = Arc::new(worker.map_err(|reason| {
            tracing::error!(model = self.served.name, reason, "cannot load");
            Problem::Load {
                model: self.served.name.clone(),
                reason,
            }
        })?);
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(model = self.served.name, milliseconds, "loaded");
        *slot = Some(worker.clone());
        Ok(worker)
    }

    fn is_loaded(&self) -> bool {
        self.worker.try_lock().is_ok_and(|worker| worker.is_some())
    }

    /// True if it is in memory and no request holds it.
    fn is_idle(&self) -> bool {
        let worker = self.worker.try_lock();
        worker.is_ok_and(|worker| worker.as_ref().is_some_and(|w| Arc::strong_count(w) == 1))
    }

    /// Takes it out of memory unless a request has come meanwhile.
    async fn unload(&self) -> bool {
        let Ok(mut slot) = self.worker.try_lock() else {
            return false;
        };
        if slot
            .as_ref()
            .is_some_and(|worker| Arc::strong_count(worker) > 1)
        {
            return false;
        }
        let worker = slot.take();
        drop(slot);
        spawn_blocking(move || drop(worker)).await.is_ok()
    }
}

/// For an atomic; 0 is unknown.
fn kind_code(kind: Output) -> u8 {
    match kind {
        Output::Embedding => 1,
        Output::Relevance => 2,
        Output::Sparse => 3,
    }
}

fn plural(output: Output) -> &'static str {
    match output {
        Output::Embedding => "embeddings",
        Output::Relevance => "relevance scores",
        Output::Sparse => "sparse vectors",
    }
}
