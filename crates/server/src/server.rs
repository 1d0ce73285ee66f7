//! A server from its start to its end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use wenyi::providers::ModelName;

use crate::http::{self, App};
use crate::memory;
use crate::options::ServerOptions;
use crate::vector_stores;

/// How often to look for models that nobody asks for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A server that has its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Everyone could use it.
    #[error("`{0}` is not a loopback address, and there are no API keys")]
    Open(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is nothing to serve.
    #[error("no model to serve")]
    NoModels,
    /// Two models or aliases have one name.
    #[error("the name `{0}` is given twice")]
    Twice(String),
    /// An alias of nothing.
    #[error("the alias `{name}` stands for `{model}`, which is not served")]
    Alias {
        /// The alias.
        name: String,
        /// What it should stand for.
        model: String,
    },
    /// The folder for what clients store cannot be used.
    #[error("cannot store anything: {0}")]
    Storage(#[from] wenyi::store::Error),
    /// The hub's settings are wrong.
    #[error(transparent)]
    Hub(#[from] wenyi::hub::Error),
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open(_) => {
                "set `WENYI_API_KEYS` or `--api-key-file`, or listen on `127.0.0.1`".into()
            }
            Self::Listen { .. } => "choose another `--port`; 0 takes any free one".into(),
            Self::Twice(_) => "give each its own name with `--model NAME=MODEL`".into(),
            Self::Alias { .. } => {
                "an alias is `NAME=MODEL`, with the name of a `--model` or `PROVIDER:MODEL`".into()
            }
            Self::NoModels => "give one with `--model`".into(),
            Self::Storage(error) => return error.hint(),
            Self::Hub(error) => return error.hint(),
        })
    }
}

impl Server {
    /// Checks the options and takes the address.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn bind(options: ServerOptions) -> Result<Self, StartError> {
        check(&options)?;
        let address = options.address;
        let app = App::new(Arc::new(options))?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| StartError::Listen { address, source })?;
        Ok(Self { listener, app })
    }

    /// Where it listens, with the port that the system chose for 0.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves, then finishes what is in work and frees the models.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, app } = self;
        let housekeeper = tokio::spawn(keep_house(app.clone()));
        let ingesting = tokio::spawn(vector_stores::ingest(app.clone()));
        let stopping = app.clone();
        let stop = async move {
            stop.await;
            stopping.set_ready(false);
        };
        http::serve(listener, http::router(app.clone()), &app.options, stop).await;
        housekeeper.abort();
        // What it has not finished is begun again at the next start.
        ingesting.abort();
        app.models.registry.close().await;
        #[cfg(feature = "otlp")]
        app.flush().await;
    }
}

/// Loads what is wanted from the start, then unloads what nobody asks for.
async fn keep_house(app: Arc<App>) {
    match app.models.registry.preload(app.options.preload).await {
        Ok(()) => app.set_ready(true),
        // Requests try again and are told why.
        Err(problem) => tracing::error!(%problem, "not ready"),
    }
    let (idle, reserve) = (app.options.idle, app.options.memory_reserve);
    loop {
        tokio::time::sleep(idle.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING)).await;
        if let Some(idle) = idle {
            app.models.registry.unload_idle(idle).await;
        }
        let has_room = || memory::available().is_none_or(|free| free >= reserve);
        app.models.registry.unload_until(has_room).await;
    }
}

fn check(options: &ServerOptions) -> Result<(), StartError> {
    if options.keys.is_empty() && !options.address.ip().is_loopback() {
        return Err(StartError::Open(options.address));
    }
    if options.models.is_empty() && options.chat_models.is_empty() {
        return Err(StartError::NoModels);
    }
    let served = || options.models.iter().chain(&options.chat_models);
    let names: Vec<_> = (served().map(|model| &model.name))
        .chain(options.aliases.iter().map(|alias| &alias.name))
        .collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(StartError::Twice((*name).clone()));
        }
    }
    for alias in &options.aliases {
        let is_known = served().any(|model| model.name == alias.model)
            || options.config.aliases().contains_key(&alias.model);
        let resolved = ModelName::resolve(&alias.model, &options.config);
        let is_remote = resolved.is_ok_and(|name| !name.is_local());
        if !is_known && !is_remote {
            let (name, model) = (alias.name.clone(), alias.model.clone());
            return Err(StartError::Alias { name, model });
        }
    }
    Ok(())
}
