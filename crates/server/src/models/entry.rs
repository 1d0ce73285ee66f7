//! One served model, in memory or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;
use wenyi::chat::{ChatModel, DecoderOptions, LocalChatModel};
use wenyi::embed::{EncoderOptions, Precision};
use wenyi::hub::{Hub, LocalModel};
use wenyi::progress::Silent;
use wenyi::providers::ModelName;
use wenyi_engine::encoder::{Encoder, Output};

use super::registry::local_source;
use super::remote::Remote;
use super::speaker::Speaker;
use super::worker::Worker;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::problem::Problem;

/// A served model.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) served: ServedModel,
    pub(super) place: Place,
    /// It has only been given a name, so it does not answer requests that name no model.
    pub(super) is_named_only: bool,
    hub: Hub,
    /// What it gives, as far as it is known; 0 is unknown.
    gives: AtomicU8,
    /// Held while loading, so that requests that come meanwhile wait for one load.
    loaded: Mutex<Option<Loaded>>,
    /// Milliseconds after the start of the registry.
    pub(super) last_used: AtomicU64,
}

/// Where a model is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Here, giving vectors or scores.
    Encoder,
    /// Here, to talk with.
    Chat,
    Remote(ModelName),
}

/// A model ready to answer; in memory as long as any clone lives.
#[derive(Clone, Debug)]
pub(super) enum Loaded {
    Encoder(Arc<Worker>),
    /// One model, to talk with and for vectors.
    Chat(Arc<Speaker>, Arc<Worker>),
    Remote(Arc<Remote>),
}

impl Loaded {
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    fn is_in_use(&self) -> bool {
        let count = match self {
            Self::Encoder(worker) => Arc::strong_count(worker),
            Self::Chat(speaker, worker) => {
                Arc::strong_count(speaker).max(Arc::strong_count(worker))
            }
            Self::Remote(remote) => Arc::strong_count(remote),
        };
        count > 1
    }
}

/// What a request wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Embedding = 1,
    Relevance,
    Sparse,
    Chat,
}

impl From<Output> for Wanted {
    fn from(output: Output) -> Self {
        match output {
            Output::Embedding => Self::Embedding,
            Output::Relevance => Self::Relevance,
            Output::Sparse => Self::Sparse,
        }
    }
}

impl Wanted {
    const ALL: [Self; 4] = [Self::Embedding, Self::Relevance, Self::Sparse, Self::Chat];

    /// True if a model that gives `self` gives `wanted` too.
    pub(super) fn includes(self, wanted: Self) -> bool {
        self == wanted || (self, wanted) == (Self::Chat, Self::Embedding)
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Embedding => "embeddings",
            Self::Relevance => "relevance scores",
            Self::Sparse => "sparse vectors",
            Self::Chat => "conversations",
        }
    }
}

impl Entry {
    pub(super) fn new(served: ServedModel, place: Place, hub: Hub, gives: Option<Wanted>) -> Self {
        Self {
            served,
            place,
            is_named_only: false,
            hub,
            gives: AtomicU8::new(gives.map_or(0, |gives| gives as u8)),
            loaded: Mutex::new(None),
            last_used: AtomicU64::new(0),
        }
    }

    /// What it gives, if that is known before it was ever loaded, or since.
    pub(super) fn gives(&self) -> Option<Wanted> {
        let code = self.gives.load(Ordering::Relaxed);
        Wanted::ALL.into_iter().find(|wanted| *wanted as u8 == code)
    }

    /// False if the catalog says that it does not know the language with this code.
    pub(super) fn knows(&self, language: &str) -> bool {
        let entry = self.hub.catalog().find(local_source(&self.served.source));
        entry.is_none_or(|entry| entry.knows(language))
    }

    /// What it is for, in Ollama's words; empty while it is not known.
    pub(super) fn capabilities(&self) -> &'static [&'static str] {
        match (self.gives(), &self.place) {
            (Some(Wanted::Chat), Place::Chat) => &["completion", "tools", "embedding"],
            (Some(Wanted::Chat), _) => &["completion"],
            (Some(Wanted::Embedding), _) => &["embedding"],
            (Some(Wanted::Relevance), _) => &["rerank"],
            (Some(Wanted::Sparse), _) => &["sparse-embedding"],
            (None, _) => &[],
        }
    }

    /// The model, if it is in memory.
    pub(super) fn peek(&self) -> Option<Loaded> {
        self.loaded.try_lock().ok()?.clone()
    }

    pub(super) async fn load(
        &self,
        options: &Arc<ServerOptions>,
        metrics: Arc<Metrics>,
    ) -> Result<Loaded, Problem> {
        let mut slot = self.loaded.lock().await;
        if let Some(loaded) = &*slot {
            return Ok(loaded.clone());
        }
        let started = Instant::now();
        let opened = match &self.place {
            Place::Remote(name) => Remote::open(name, options).map(|r| Loaded::Remote(r.into())),
            Place::Encoder => self.open_encoder(options, metrics).await,
            Place::Chat => self.open_chat(options, metrics).await,
        };
        let loaded = opened.map_err(|reason| {
            tracing::error!(model = self.served.name, reason, "cannot load");
            Problem::Load {
                model: self.served.name.clone(),
                reason,
                // A provider is not asked for anything yet; a download may come through another time.
                is_permanent: matches!(self.place, Place::Remote(_)),
            }
        })?;
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(model = self.served.name, milliseconds, "loaded");
        *slot = Some(loaded.clone());
        Ok(loaded)
    }

    async fn open_encoder(
        &self,
        options: &ServerOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Loaded, String> {
        let (precision, threads) = (options.precision, options.threads);
        let open = move |local: LocalModel| {
            let options = EncoderOptions {
                precision,
                threads,
                name: Some(local.id),
                ..EncoderOptions::default()
            };
            let encoder = Encoder::open(&local.path, &options);
            let encoder = encoder.map_err(|error| error.to_string())?;
            // Hashes the weights, which the first request should not wait for.
            encoder.fingerprint();
            Ok(encoder)
        };
        let encoder = self.opened(open).await?;
        let gives = Wanted::from(encoder.description().output);
        self.gives.store(gives as u8, Ordering::Relaxed);
        let worker = Worker::start(encoder, &self.served.name, options, metrics);
        let worker = worker.map_err(|error| error.to_string())?;
        Ok(Loaded::Encoder(Arc::new(worker)))
    }

    async fn open_chat(
        &self,
        options: &ServerOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Loaded, String> {
        let decoder = DecoderOptions {
            // Small models lose their way in int8.
            precision: options.precision.or(Some(Precision::Bf16)),
            threads: options.threads,
            context: options.chat_context,
            cache: options.kv_cache,
        };
        let name = self.served.name.clone();
        let open = move |local: LocalModel| {
            let model = LocalChatModel::open(&local.path, &name, &decoder);
            let model = model.map_err(|error| error.to_string())?;
            let encoder = EncoderOptions {
                name: Some(local.id),
                ..EncoderOptions::default()
            };
            let encoder = model.decoder().encoder(&encoder);
            let encoder = encoder.map_err(|error| error.to_string())?;
            Ok((model, encoder))
        };
        let (local, encoder) = self.opened(open).await?;
        let worker = Worker::start(encoder, &self.served.name, options, metrics);
        let worker = worker.map_err(|error| error.to_string())?;
        let model: Arc<dyn ChatModel> = Arc::new(local.clone());
        let places = Arc::new(Semaphore::new(options.max_chats));
        let speaker = Speaker::new(model, Some(local), places);
        Ok(Loaded::Chat(Arc::new(speaker), Arc::new(worker)))
    }

    /// Finds the model's folder and opens it, where blocking does no harm.
    async fn opened<T: Send + 'static>(
        &self,
        open: impl FnOnce(LocalModel) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (hub, source) = (self.hub.clone(), self.served.source.clone());
        let opened = spawn_blocking(move || {
            let local = hub.resolve(local_source(&source), &Silent);
            open(local.map_err(|error| error.to_string())?)
        });
        opened.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.try_lock().is_ok_and(|loaded| loaded.is_some())
    }

    /// True if it is in memory and no request holds it.
    pub(super) fn is_idle(&self) -> bool {
        let loaded = self.loaded.try_lock();
        loaded.is_ok_and(|loaded| loaded.as_ref().is_some_and(|loaded| !loaded.is_in_use()))
    }

    /// Takes it out of memory unless a request has come meanwhile.
    pub(super) async fn unload(&self) -> bool {
        let Ok(mut slot) = self.loaded.try_lock() else {
            return false;
        };
        if slot.as_ref().is_some_and(Loaded::is_in_use) {
            return false;
        }
        let loaded = slot.take();
        drop(slot);
        spawn_blocking(move || drop(loaded)).await.is_ok()
    }

    /// Takes it out of the registry, in use or not.
    pub(super) async fn take(&self) -> Option<Loaded> {
        self.loaded.lock().await.take()
    }
}
