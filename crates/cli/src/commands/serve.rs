//! `wenyi serve`: models behind HTTP, in the APIs that programs already speak.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;
use wenyi::chat::CacheFormat;
use wenyi::config::{Config, Secret};
use wenyi::embed::{Overflow, Role};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Progress;
use wenyi::providers::{Endpoint, ErrorKind, ModelName};
use wenyi_server::{Alias, ServedCollection, ServedModel, Server, ServerOptions};

use crate::arguments::{ComputeArguments, kv_cache_parser, overflow_parser, positive, role};
use crate::exit::UserError;
use crate::interrupt;
use crate::model;
use crate::output::style;
use crate::progress::Terminal;

/// Where keys may stand beside the file.
const KEYS_VARIABLE: &str = "WENYI_API_KEYS";

/// Serve models over HTTP: OpenAI's API and others
///
/// Programs that speak to OpenAI need only another address, such as
/// `OPENAI_BASE_URL=http://127.0.0.1:8000/v1`, and the name of a served model or an alias of one.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Address to listen on; anything but loopback needs API keys
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes any free one
    #[arg(short, long, value_name = "N", default_value_t = 8000)]
    port: u16,

    /// A model for vectors or scores, under its own name or another one; a name of the catalog, a
    /// path, or `PROVIDER:MODEL` for one behind an API; may be given several times
    #[arg(short, long, value_name = "[NAME=]MODEL")]
    model: Vec<ServedModel>,

    /// A model to talk with, as --model; may be given several times
    #[arg(long, value_name = "[NAME=]MODEL")]
    chat_model: Vec<ServedModel>,

    /// A collection of documents that questions are answered from at `/v1/ask`, as `wenyi index
    /// --collection FILE` makes it; may be given several times
    #[arg(long, value_name = "[NAME=]FILE")]
    collection: Vec<ServedCollection>,

    /// Another name for a model, such as `text-embedding-ada-002=multilingual-e5-small`; those of
    /// `wenyi.toml` are known too
    #[arg(long, value_name = "NAME=MODEL")]
    alias: Vec<Alias>,

    /// Folder for what clients store, made if there is none: points over Qdrant's REST (`points.db`),
    /// files and vector stores over OpenAI's
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,

    /// What texts are if a request does not say: `document`, `query` or `plain`
    #[arg(long, value_name = "ROLE", default_value = "document", value_parser = role)]
    input_type: Role,

    /// What happens to texts longer than the model if a request does not say
    #[arg(long, value_name = "POLICY", default_value = "split-mean", value_parser = overflow_parser())]
    overflow: Overflow,

    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Models")]
struct Computing {
    #[command(flatten)]
    compute: ComputeArguments,

    /// Longest conversation that local chat models can follow; their memory grows with it
    #[arg(long, value_name = "TOKENS", value_parser = positive)]
    chat_context: Option<usize>,

    /// How local chat models keep what they have read: int8 in half the memory, less exactly
    #[arg(long, value_name = "NAME", default_value = "bf16", value_parser = kv_cache_parser())]
    kv_cache: CacheFormat,

    /// Load all models at the start, not only the first
    #[arg(long)]
    preload: bool,

    /// Take a model out of memory that nobody asked for this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_unload: Option<Duration>,

    /// Take unused models out of memory while less than this is free, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory_reserve: u64,

    /// Models in memory at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    max_loaded: usize,

    /// Memory for vectors of texts seen before, in MiB; 0 for none
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    cache: usize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
struct Access {
    /// File with API keys, one a line; more in `WENYI_API_KEYS`, separated by commas
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Origin whose pages may call from a browser, `*` for all
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,

    /// What to log: errors and a line for each start and stop, refused requests too, or everything
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,

    /// One JSON object a line instead of text
    #[arg(long)]
    log_json: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Largest request body in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = positive)]
    max_body: usize,

    /// Requests in work at once
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive)]
    max_requests: usize,

    /// Open connections
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive)]
    max_connections: usize,

    /// Tokens that may wait for one model
    #[arg(long, value_name = "N", default_value_t = 4_194_304, value_parser = positive)]
    max_queued_tokens: usize,

    /// About how long a batch of a model may run; a shorter one answers sooner, a longer one serves more
    #[arg(long, value_name = "MILLISECONDS", default_value = "15", value_parser = milliseconds)]
    batch_time: Duration,

    /// Answers of one chat model, or requests to one model behind an API, in work at once, waiting
    /// ones included
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    max_chats: usize,

    /// Longest time for a request, or for the next piece of an answer that comes in pieces
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    request_timeout: Duration,

    /// Longest pause of a client that sends or takes its answer, and longest rest of a connection
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    read_timeout: Duration,

    /// Longest time for open requests after the signal to stop
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Error,
    Info,
    Debug,
}

const EXAMPLES: &str = "\
Examples:
  wenyi serve
  wenyi serve --model bge-small-zh-v1.5 --alias text-embedding-3-small=bge-small-zh-v1.5
  wenyi serve --chat-model gpt-4o=smollm2-135m-instruct --chat-model deepseek-v4-flash
  wenyi serve --chat-model smollm2-135m-instruct --collection notes.db
  wenyi serve --model text-embedding-3-large=dashscope:text-embedding-v4
  wenyi serve --store ~/vectors
  WENYI_API_KEYS=secret wenyi serve --host 0.0.0.0 --port 8080";

/// How often to look for the signal to stop.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    log(&arguments.access);
    let progress = Terminal::new(false);
    let config = Config::load()?;
    for note in config.notes() {
        progress.note(note);
    }
    let offline = arguments.computing.compute.offline;
    let options = options(arguments, config)?;
    prepare(&options, &model::hub(offline)?, &progress)?;
    // Requests are light beside the models, whose threads take every core: more threads than this
    // would wake each other for nothing.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = runtime.block_on(async {
        let server = Server::bind(options).await?;
        announce(server.address()?)?;
        server.run(stop()).await;
        Ok(())
    });
    // Threads that still wait for a provider hold nothing that must be kept.
    runtime.shutdown_background();
    served
}

/// Fetches local models, so that no request waits for a download, and looks whether providers can be
/// asked.
fn prepare(options: &ServerOptions, hub: &Hub, progress: &Terminal) -> anyhow::Result<()> {
    for served in options.models.iter().chain(&options.chat_models) {
        // A name that says nothing of a provider is the hub's to judge.
        let resolved = match ModelName::resolve(&served.source, &options.config) {
            Err(error) if matches!(error.kind(), ErrorKind::CannotInfer { .. }) => None,
            resolved => Some(resolved?),
        };
        match resolved.filter(|name| !name.is_local()) {
            Some(remote) if options.offline => {
                let error = UserError::new(format!("`{remote}` is not on this machine"));
                return Err(error
                    .with_hint("leave out `--offline`, or name a local model")
                    .into());
            }
            Some(remote) => {
                Endpoint::open(&remote.provider, &options.config)?;
            }
            None => {
                let source = served
                    .source
                    .strip_prefix("local:")
                    .unwrap_or(&served.source);
                hub.resolve(source, progress)?;
            }
        }
    }
    Ok(())
}

/// Resolves on Ctrl-C or termination.
async fn stop() {
    while !interrupt::requested() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells people on standard error and programs on standard output where the server is.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "http://{address}")?;
    stdout.flush()?;
    let style = style::stderr();
    let url = style.bold(&format!("http://{address}/v1"));
    writeln!(
        io::stderr(),
        "serving OpenAI's API at {url}; stop with Ctrl-C"
    )
}

fn log(access: &Access) {
    let level = match access.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(level);
    if access.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
}

fn options(arguments: Arguments, config: Config) -> anyhow::Result<ServerOptions> {
    let defaults = config.defaults().clone();
    let named = |name: String| ServedModel::of(&name);
    let mut models = arguments.model;
    if models.is_empty() {
        let usual = defaults.embeddings.map(named);
        models.push(usual.unwrap_or_else(|| ServedModel::of(DEFAULT_MODEL)));
        models.extend(defaults.rerank.map(named));
    }
    let mut chat_models = arguments.chat_model;
    if chat_models.is_empty() {
        chat_models.extend(defaults.chat.map(named));
    }
    let Arguments {
        computing,
        access,
        limits,
        ..
    } = arguments;
    let keys = keys(access.api_key_file.as_deref(), &config)?;
    #[cfg(feature = "otlp")]
    let otlp = wenyi_server::OtlpOptions::from_config(&config).map_err(UserError::new)?;
    Ok(ServerOptions {
        address: SocketAddr::new(arguments.host, arguments.port),
        models,
        chat_models,
        collections: arguments.collection,
        aliases: arguments.alias,
        config: Arc::new(config),
        storage: arguments.store,
        role: arguments.input_type,
        overflow: arguments.overflow,
        precision: computing.compute.precision,
        threads: computing.compute.threads,
        chat_context: computing.chat_context,
        kv_cache: computing.kv_cache,
        memory_reserve: computing.memory_reserve << 20,
        max_chats: limits.max_chats,
        offline: computing.compute.offline,
        preload: computing.preload,
        idle: computing.idle_unload,
        max_loaded: computing.max_loaded,
        cache: computing.cache << 20,
        keys,
        origins: access.cors_origin,
        max_body: limits.max_body << 20,
        max_requests: limits.max_requests,
        max_connections: limits.max_connections,
        max_queued_tokens: limits.max_queued_tokens,
        batch_time: limits.batch_time,
        request_timeout: limits.request_timeout,
        read_timeout: limits.read_timeout,
        drain_timeout: limits.drain_timeout,
        #[cfg(feature = "otlp")]
        otlp,
    })
}

/// The keys of the file and of the environment.
fn keys(file: Option<&Path>, config: &Config) -> anyhow::Result<Vec<Secret>> {
    let mut keys = Vec::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            UserError::new(format!("cannot read `{}`: {error}", path.display()))
                .with_hint("`--api-key-file` names a text file with one key a line")
        })?;
        let lines = text.lines().map(str::trim);
        let wanted = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.extend(wanted.map(Secret::new));
        if keys.is_empty() {
            let error = UserError::new(format!("`{}` holds no keys", path.display()));
            return Err(error.into());
        }
    }
    if let Some(list) = config.variable(KEYS_VARIABLE) {
        let listed = list.split(',').map(str::trim);
        let before = keys.len();
        keys.extend(listed.filter(|key| !key.is_empty()).map(Secret::new));
        // Whoever wrote a comma did not mean a server that is open to all.
        if keys.len() == before {
            return Err(UserError::new(format!("`{KEYS_VARIABLE}` holds no keys")).into());
        }
    }
    Ok(keys)
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(number) if (0.1..=10_000.0).contains(&number) => {
            Ok(Duration::from_secs_f64(number / 1000.0))
        }
        _ => Err("expected 0.1 to 10000 milliseconds".into()),
    }
}

fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected 0.1 to 86400 seconds".into()),
    }
}
