//! Which model answers to a name, and which of them are in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use wenyi::hub::{Hub, ModelKind};
use wenyi::providers::ModelName;
use wenyi_engine::encoder::Output;

use super::entry::{Entry, Loaded, Place, Wanted};
use super::remote::Remote;
use super::speaker::Speaker;
use super::worker::Worker;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::problem::Problem;

/// The served models in the order of the options.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: Vec<Arc<Entry>>,
    /// Names that stand for entries.
    aliases: Vec<(String, String)>,
    options: Arc<ServerOptions>,
    metrics: Arc<Metrics>,
    started: Instant,
}

/// A served model for listings.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What clients call it.
    pub(crate) name: String,
    /// The model behind it if `name` is an alias.
    pub(crate) alias_of: Option<String>,
    /// What it is for, as far as that is known.
    pub(crate) capabilities: &'static [&'static str],
}

/// What a model is, for those who ask before they use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) capabilities: &'static [&'static str],
    /// Tokens that it can read at once.
    pub(crate) context_length: Option<usize>,
    /// Of its vectors.
    pub(crate) dimensions: Option<usize>,
    /// Of its numbers in memory; empty for models behind an API.
    pub(crate) precision: String,
}

/// A local encoder that answers a request, held in memory as long as this lives.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Its served name.
    pub(crate) name: String,
    pub(crate) worker: Arc<Worker>,
}

/// A model that answers a request, on this machine or far away.
#[derive(Clone, Debug)]
pub(crate) enum Choice<T> {
    Here(T),
    There(String, Arc<Remote>),
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
        let mut registry = Self {
            entries: Vec::new(),
            aliases: Vec::new(),
            options: options.clone(),
            metrics,
            started: Instant::now(),
        };
        for served in &options.models {
            registry.add(&hub, served, false);
        }
        for served in &options.chat_models {
            registry.add(&hub, served, true);
        }
        for alias in &options.aliases {
            registry.add_name(&hub, &alias.name, &alias.model);
        }
        // What was said on the command line goes before the file.
        for (name, model) in options.config.aliases() {
            if registry.find(name).is_none() {
                registry.add_name(&hub, name, model);
            }
        }
        Ok(registry)
    }

    fn add(&mut self, hub: &Hub, served: &ServedModel, is_chat: bool) {
        let place = place(&self.options, &served.source, is_chat, hub);
        let wanted = match &place {
            Place::Encoder => catalogued(hub, &served.source),
            Place::Chat => Some(Wanted::Chat),
            Place::Remote(_) if is_chat => Some(Wanted::Chat),
            // The one kind that names tell, besides what is asked for most.
            Place::Remote(name) if name.model.contains("rerank") => Some(Wanted::Relevance),
            Place::Remote(_) => Some(Wanted::Embedding),
        };
        let entry = Entry::new(served.clone(), place, hub.clone(), wanted);
        self.entries.push(Arc::new(entry));
    }

    /// Lets `name` stand for a served model, or else for a model of its own.
    fn add_name(&mut self, hub: &Hub, name: &str, model: &str) {
        let resolved = self.options.config.resolve_alias(model).unwrap_or(model);
        if self.entry(resolved).is_some() || self.find(model).is_some() {
            let target = if self.entry(resolved).is_some() {
                resolved
            } else {
                model
            };
            self.aliases.push((name.to_owned(), target.to_owned()));
            return;
        }
        let served = ServedModel {
            name: name.to_owned(),
            source: resolved.to_owned(),
        };
        let place = place(&self.options, &served.source, false, hub);
        let wanted = match &place {
            Place::Encoder => catalogued(hub, &served.source),
            Place::Chat => Some(Wanted::Chat),
            Place::Remote(_) => None,
        };
        let mut entry = Entry::new(served, place, hub.clone(), wanted);
        entry.is_named_only = true;
        self.entries.push(Arc::new(entry));
    }

    /// All names that are answered, served models first.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let models = self.entries.iter().map(|entry| Listed {
            name: entry.served.name.clone(),
            alias_of: (entry.is_named_only).then(|| entry.served.source.clone()),
            capabilities: entry.capabilities(),
        });
        let aliases = self.aliases.iter().map(|(name, model)| Listed {
            name: name.clone(),
            alias_of: Some(model.clone()),
            capabilities: self.find(model).map_or(&[], |entry| entry.capabilities()),
        });
        models.chain(aliases).collect()
    }

    /// The model called `name`, or the first that gives `wanted`; loaded if it is not in memory.
    pub(crate) async fn choose(
        &self,
        name: Option<&str>,
        wanted: Output,
    ) -> Result<Choice<Chosen>, Problem> {
        let (name, loaded) = self.loaded(name, wanted.into()).await?;
        match loaded {
            Loaded::Encoder(worker) => Ok(Choice::Here(Chosen { name, worker })),
            Loaded::Remote(remote) => Ok(Choice::There(name, remote)),
            Loaded::Chat(_, worker) if wanted == Output::Embedding => {
                Ok(Choice::Here(Chosen { name, worker }))
            }
            Loaded::Chat(..) => Err(kind(&name, wanted.into(), Wanted::Chat)),
        }
    }

    /// As [`Self::choose`], on this machine.
    pub(crate) async fn choose_here(
        &self,
        name: Option<&str>,
        wanted: Output,
    ) -> Result<Chosen, Problem> {
        match self.choose(name, wanted).await? {
            Choice::Here(chosen) => Ok(chosen),
            Choice::There(model, _) => Err(Problem::Elsewhere {
                model,
                wanted: Wanted::from(wanted).plural(),
            }),
        }
    }

    /// The model called `name`, or the first, to talk with.
    pub(crate) async fn speaker(
        &self,
        name: Option<&str>,
    ) -> Result<(String, Choice<Arc<Speaker>>), Problem> {
        let (name, loaded) = self.loaded(name, Wanted::Chat).await?;
        match loaded {
            Loaded::Chat(speaker, _) => Ok((name, Choice::Here(speaker))),
            Loaded::Remote(remote) => Ok((name.clone(), Choice::There(name, remote))),
            Loaded::Encoder(worker) => {
                let available = worker.encoder().description().output.into();
                Err(kind(&name, Wanted::Chat, available))
            }
        }
    }

    /// False if the catalog says that the model served as `name` does not know the language with this code.
    pub(crate) fn speaks(&self, name: &str, language: &str) -> bool {
        self.entry(name).is_none_or(|entry| entry.knows(language))
    }

    /// What answers requests for vectors that name no model; if nothing does, those for scores or
    /// for sparse vectors.
    pub(crate) async fn first(&self) -> Result<(Output, Choice<Chosen>), Problem> {
        for wanted in [Output::Embedding, Output::Relevance, Output::Sparse] {
            match self.choose(None, wanted).await {
                Err(Problem::NoModelFor { .. }) => {}
                chosen => return Ok((wanted, chosen?)),
            }
        }
        Err(Problem::NoModelFor {
            wanted: "vectors or scores",
        })
    }

    /// What is known of the model called `name`; loaded, since its files say most.
    pub(crate) async fn show(&self, name: &str) -> Result<Shown, Problem> {
        let found = self.find(name);
        let entry = found.ok_or_else(|| self.unknown(name, Wanted::Embedding))?;
        let loaded = self.load(entry).await?;
        let mut shown = Shown {
            capabilities: entry.capabilities(),
            ..Shown::default()
        };
        match &loaded {
            Loaded::Encoder(worker) => {
                let encoder = worker.encoder();
                shown.context_length = Some(encoder.max_length());
                let gives_vectors = encoder.description().output == Output::Embedding;
                shown.dimensions = gives_vectors.then(|| encoder.dimensions());
                shown.precision = encoder.precision().to_string();
            }
            Loaded::Chat(speaker, worker) => {
                shown.context_length = speaker.decoder().map(|decoder| decoder.context());
                shown.dimensions = Some(worker.encoder().dimensions());
                shown.precision = worker.encoder().precision().to_string();
            }
            Loaded::Remote(remote) => {
                shown.context_length = remote.endpoint().max_text_tokens(remote.model());
            }
        }
        Ok(shown)
    }

    async fn loaded(
        &self,
        name: Option<&str>,
        wanted: Wanted,
    ) -> Result<(String, Loaded), Problem> {
        if let Some(name) = name {
            let entry = self.find(name).ok_or_else(|| self.unknown(name, wanted))?;
            // Known without loading: a wrong kind must not cost a load.
            if let (Some(given), Place::Encoder | Place::Chat) = (entry.gives(), &entry.place)
                && !given.includes(wanted)
            {
                return Err(kind(name, wanted, given));
            }
            let loaded = self.load(entry).await?;
            return match entry.gives() {
                Some(given) if !given.includes(wanted) && !loaded.is_remote() => {
                    Err(kind(name, wanted, given))
                }
                _ => Ok((entry.served.name.clone(), loaded)),
            };
        }
        for entry in self.entries.iter().filter(|entry| !entry.is_named_only) {
            if entry.gives().is_some_and(|given| given != wanted) {
                continue;
            }
            let loaded = self.load(entry).await?;
            if entry.gives() == Some(wanted) {
                return Ok((entry.served.name.clone(), loaded));
            }
        }
        Err(Problem::NoModelFor {
            wanted: wanted.plural(),
        })
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
        let queued = |entry: &Arc<Entry>| match entry.peek()? {
            Loaded::Encoder(worker) | Loaded::Chat(_, worker) => {
                Some((entry.served.name.clone(), worker.queued()))
            }
            Loaded::Remote(_) => None,
        };
        self.entries.iter().filter_map(queued).collect()
    }

    /// Names of the models in memory.
    pub(crate) fn in_memory(&self) -> Vec<String> {
        let loaded = self.entries.iter().filter(|entry| entry.is_loaded());
        loaded.map(|entry| entry.served.name.clone()).collect()
    }

    /// Names what is served, what would serve first.
    fn unknown(&self, name: &str, wanted: Wanted) -> Problem {
        let names = self.list().into_iter().map(|listed| listed.name);
        let mut served: Vec<String> = names.collect();
        let serves = |name: &String| {
            let given = self.find(name).and_then(|entry| entry.gives());
            given.is_some_and(|given| given.includes(wanted))
        };
        served.sort_by_key(|name| !serves(name));
        Problem::NoModel {
            model: name.to_owned(),
            served,
        }
    }

    fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == name);
        match alias {
            // An alias may stand for another one.
            Some((_, model)) if model != name => self.entry(model).or_else(|| self.find(model)),
            _ => self.entry(name),
        }
    }

    fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.served.name == name)
    }

    async fn load(&self, entry: &Arc<Entry>) -> Result<Loaded, Problem> {
        entry.last_used.store(self.now(), Ordering::Relaxed);
        if let Some(loaded) = entry.peek() {
            return Ok(loaded);
        }
        self.make_room(entry).await;
        let (task, options, metrics) = (entry.clone(), self.options.clone(), self.metrics.clone());
        // A task of its own: a client that goes away does not undo the load for the others.
        let task = tokio::spawn(async move { task.load(&options, metrics).await });
        task.await.map_err(|error| Problem::Internal {
            reason: error.to_string(),
        })?
    }

    /// Unloads what was unused for longest while more models are in memory than may be.
    async fn make_room(&self, newcomer: &Arc<Entry>) {
        loop {
            let loaded = (self.entries.iter())
                .filter(|entry| !Arc::ptr_eq(entry, newcomer) && entry.is_loaded());
            if loaded.count() < self.options.max_loaded.max(1) {
                return;
            }
            if !self.unload_oldest(Some(newcomer)).await {
                return;
            }
        }
    }

    /// Unloads the unused model that was unused for longest; false if there is none.
    async fn unload_oldest(&self, but: Option<&Arc<Entry>>) -> bool {
        let others =
            (self.entries.iter()).filter(|entry| but.is_none_or(|but| !Arc::ptr_eq(entry, but)));
        let mut idle: Vec<_> = others.filter(|entry| entry.is_idle()).collect();
        idle.sort_by_key(|entry| entry.last_used.load(Ordering::Relaxed));
        match idle.first() {
            Some(oldest) => oldest.unload().await,
            None => false,
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

    /// Unloads unused models, the longest unused first, until `has_room` or none is left.
    pub(crate) async fn unload_until(&self, has_room: impl Fn() -> bool) {
        while !has_room() && self.unload_oldest(None).await {
            tracing::info!("unloaded a model: memory is short");
        }
    }

    /// Unloads everything; requests that wait fail.
    pub(crate) async fn close(&self) {
        for entry in &self.entries {
            let loaded = entry.take().await;
            // Joins the model's thread, which may be in a batch.
            let _ = spawn_blocking(move || drop(loaded)).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where `source` is: a name that says nothing of a provider is the hub's to judge.
fn place(options: &ServerOptions, source: &str, is_chat: bool, hub: &Hub) -> Place {
    let resolved = ModelName::resolve(source, &options.config);
    if let Ok(name) = resolved
        && !name.is_local()
    {
        return Place::Remote(name);
    }
    let entry = hub.catalog().find(local_source(source));
    if is_chat || entry.is_some_and(|entry| entry.kind == ModelKind::Chat) {
        Place::Chat
    } else {
        Place::Encoder
    }
}

/// What the hub takes.
pub(super) fn local_source(source: &str) -> &str {
    source.strip_prefix("local:").unwrap_or(source)
}

fn catalogued(hub: &Hub, source: &str) -> Option<Wanted> {
    match hub.catalog().find(local_source(source))?.kind {
        ModelKind::Embedding => Some(Wanted::Embedding),
        ModelKind::Reranker => Some(Wanted::Relevance),
        ModelKind::Chat => Some(Wanted::Chat),
    }
}

fn kind(model: &str, wanted: Wanted, available: Wanted) -> Problem {
    Problem::Kind {
        model: model.to_owned(),
        wanted: wanted.plural(),
        available: available.plural(),
    }
}
