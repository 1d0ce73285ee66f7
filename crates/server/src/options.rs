//! What the one who starts a server decides.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use wenyi::chat::CacheFormat;
use wenyi::config::{Config, Secret};
use wenyi::embed::{Overflow, Precision, Role};
use wenyi::hub::DEFAULT_MODEL;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// The models, the first of each kind being the one for requests that name none.
    pub models: Vec<ServedModel>,
    /// Models to talk with, the first being the one for requests that name none.
    pub chat_models: Vec<ServedModel>,
    /// Collections of documents that questions are answered from, the first being the one for
    /// requests that name none.
    pub collections: Vec<ServedCollection>,
    /// Other names for them, or names for models behind an API.
    pub aliases: Vec<Alias>,
    /// Providers, keys and more names, from `wenyi.toml` and the environment.
    pub config: Arc<Config>,
    /// As [`wenyi::embed::EncoderOptions::precision`].
    pub precision: Option<Precision>,
    /// As [`wenyi::embed::EncoderOptions::threads`].
    pub threads: Option<usize>,
    /// Tokens of a conversation that local chat models can follow; `None` for the models' own.
    pub chat_context: Option<usize>,
    /// As [`wenyi::chat::DecoderOptions::cache`].
    pub kv_cache: CacheFormat,
    /// Answers of one chat model, or requests to one model behind an API, in work at once, waiting ones
    /// included; more are refused with 429.
    pub max_chats: usize,
    /// Models that nobody uses leave memory while less than this is free, in bytes.
    pub memory_reserve: u64,
    /// Fetch nothing; serve what is on this machine.
    pub offline: bool,
    /// The folder for what clients store (collections of points, files, vector stores); none stores
    /// nothing.
    pub storage: Option<PathBuf>,
    /// Keys that open the server; without any, only a loopback address may be bound.
    pub keys: Vec<Secret>,
    /// Origins that browsers may call from; none by default.
    pub origins: Vec<String>,
    /// The role of texts whose request names none.
    pub role: Role,
    /// What happens to texts longer than the model if the request does not say.
    pub overflow: Overflow,
    /// Load every model at the start instead of on first use.
    pub preload: bool,
    /// A model that was not asked for this long leaves memory; `None` keeps it.
    pub idle: Option<Duration>,
    /// Models in memory at once; the one unused for longest makes room.
    pub max_loaded: usize,
    /// Largest body in bytes.
    pub max_body: usize,
    /// Requests in work at once.
    pub max_requests: usize,
    /// Open connections.
    pub max_connections: usize,
    /// Tokens that may wait for one model; more are refused with 429.
    pub max_queued_tokens: usize,
    /// About how long a batch of a model may run: short beside the time of a request over a network,
    /// long beside the cost of starting a batch.
    pub batch_time: Duration,
    /// Longest time from a request's arrival to its answer.
    pub request_timeout: Duration,
    /// Longest time for a request's head, the next part of its body, or the client to take the next
    /// part of its answer.
    pub read_timeout: Duration,
    /// Longest time that open requests get after the signal to stop.
    pub drain_timeout: Duration,
    /// Memory for vectors of texts seen before, in bytes; 0 for none.
    pub cache: usize,
    /// A collector for a span of every request; `None` for none.
    #[cfg(feature = "otlp")]
    pub otlp: Option<crate::OtlpOptions>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8000)),
            models: vec![ServedModel::of(DEFAULT_MODEL)],
            chat_models: Vec::new(),
            collections: Vec::new(),
            aliases: Vec::new(),
            config: Arc::new(Config::from_lookup(|_| None)),
            precision: None,
            threads: None,
            chat_context: None,
            kv_cache: CacheFormat::default(),
            max_chats: 64,
            memory_reserve: 256 << 20,
            offline: false,
            storage: None,
            keys: Vec::new(),
            origins: Vec::new(),
            role: Role::Document,
            overflow: Overflow::SplitMean,
            preload: false,
            idle: None,
            max_loaded: 8,
            max_body: 32 << 20,
            max_requests: 1024,
            max_connections: 4096,
            max_queued_tokens: 4 << 20,
            batch_time: Duration::from_millis(15),
            request_timeout: Duration::from_secs(300),
            read_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            cache: 64 << 20,
            #[cfg(feature = "otlp")]
            otlp: None,
        }
    }
}

/// A model and the name it is served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedModel {
    /// What clients call it.
    pub name: String,
    /// What [`wenyi::hub::Hub::resolve`] takes: a catalog id, a repository or a path; or a model
    /// behind an API, as [`wenyi::providers::ModelName::resolve`] understands it.
    pub source: String,
}

impl ServedModel {
    /// `source` under its own name, a path under its last part.
    #[must_use]
    pub fn of(source: &str) -> Self {
        let is_path = source.starts_with(['.', '/', '~']) || std::path::Path::new(source).exists();
        let last = source
            .trim_end_matches(['/', '\\'])
            .rsplit(['/', '\\'])
            .next();
        let name = if is_path {
            last.unwrap_or(source)
        } else {
            source
        };
        Self {
            name: name.to_owned(),
            source: source.to_owned(),
        }
    }
}

impl FromStr for ServedModel {
    type Err = String;

    /// `SOURCE` or `NAME=SOURCE`.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.split_once('=') {
            _ if value.is_empty() => Err("expected `MODEL` or `NAME=MODEL`".into()),
            None => Ok(Self::of(value)),
            Some((name, source)) if !name.is_empty() && !source.is_empty() => Ok(Self {
                name: name.to_owned(),
                source: source.to_owned(),
            }),
            Some(_) => Err("expected `MODEL` or `NAME=MODEL`".into()),
        }
    }
}

/// A collection of documents and the name it is served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedCollection {
    /// What clients call it.
    pub name: String,
    /// Its file, as `wenyi index --collection` makes it.
    pub path: PathBuf,
}

impl FromStr for ServedCollection {
    type Err = String;

    /// `FILE` under its name without the ending, or `NAME=FILE`.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let (name, path) = match value.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(value);
                let name = path.file_stem().unwrap_or_default();
                (name.to_string_lossy().into_owned(), path)
            }
        };
        match name.is_empty() || path.as_os_str().is_empty() {
            true => Err("expected `FILE` or `NAME=FILE`".into()),
            false => Ok(Self { name, path }),
        }
    }
}

/// Another name for a served model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// What clients may ask for.
    pub name: String,
    /// The served model that answers.
    pub model: String,
}

impl FromStr for Alias {
    type Err = String;

    /// `NAME=MODEL`.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.split_once('=') {
            Some((name, model)) if !name.is_empty() && !model.is_empty() => Ok(Self {
                name: name.to_owned(),
                model: model.to_owned(),
            }),
            _ => Err("expected `NAME=MODEL`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_served_under_its_last_part() {
        assert_eq!(ServedModel::of("./models/我的模型/").name, "我的模型");
        assert_eq!(ServedModel::of("BAAI/bge-m3").name, "BAAI/bge-m3");
        let named: ServedModel = "local=./models/a=b".parse().unwrap();
        assert_eq!((&*named.name, &*named.source), ("local", "./models/a=b"));
    }

    #[test]
    fn a_collection_is_served_under_its_files_name() {
        let served: ServedCollection = "data/笔记.db".parse().unwrap();
        assert_eq!(
            (&*served.name, served.path),
            ("笔记", "data/笔记.db".into())
        );
        let named: ServedCollection = "faq=a=b.db".parse().unwrap();
        assert_eq!((&*named.name, named.path), ("faq", "a=b.db".into()));
        for wrong in ["", "=a", "a="] {
            assert!(wrong.parse::<ServedCollection>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let options = ServerOptions {
            keys: vec!["key-of-the-server".into()],
            #[cfg(feature = "otlp")]
            otlp: Some(crate::OtlpOptions {
                url: "http://name:password-of-it@collector/v1/traces".into(),
                headers: vec![("api-key".into(), "key-of-the-collector".into())],
                service_name: "wenyi".into(),
            }),
            ..ServerOptions::default()
        };
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("-of-the-") && !shown.contains("-of-it"),
            "{shown}"
        );
    }

    #[test]
    fn an_alias_needs_both_names() {
        assert!("text-embedding-3-small=local".parse::<Alias>().is_ok());
        for wrong in ["", "a", "a=", "=a"] {
            assert!(wrong.parse::<Alias>().is_err(), "{wrong}");
        }
    }
}
