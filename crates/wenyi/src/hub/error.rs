//! What can go wrong between a model's name and its files on this machine, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of a hub operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the hub: what came, what was expected, and where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing network, machine or hub.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self.kind() {
            ErrorKind::UnknownModel { .. }
            | ErrorKind::NotInstalled { .. }
            | ErrorKind::Offline { .. }
            | ErrorKind::NotAModel { .. }
            | ErrorKind::NoSource { .. }
            | ErrorKind::NoWeights { .. }
            | ErrorKind::Unauthorized { .. }
            | ErrorKind::Forbidden { .. }
            | ErrorKind::NotFound { .. }
            | ErrorKind::Setting { .. }
            | ErrorKind::Bundle { .. } => true,
            ErrorKind::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            ErrorKind::AllSources { attempts, .. } => {
                attempts.iter().all(|(_, error)| error.is_user_error())
            }
            _ => false,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.kind().hint()
    }

    /// True if the same request may succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::RateLimited { .. }
                | ErrorKind::Server { .. }
                | ErrorKind::Timeout { .. }
                | ErrorKind::Interrupted { .. }
        )
    }

    /// True if another source cannot help: the user stopped, or this machine is at fault.
    pub(crate) fn ends_the_search(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Cancelled
                | ErrorKind::DiskFull { .. }
                | ErrorKind::Io { .. }
                | ErrorKind::Offline { .. }
        )
    }

    /// An input or output error at `path`; a full disk is told apart from the others.
    pub(crate) fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::DiskFull { path }.into()
            }
            _ => ErrorKind::Io { path, source }.into(),
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name is neither a path, nor in the catalog, nor of the form `org/name`.
    #[error("no model `{model}`")]
    UnknownModel {
        /// What the user gave.
        model: String,
        /// Catalog ids that look alike.
        similar: Vec<String>,
    },
    /// The model is known but not on this machine.
    #[error("model `{model}` is not on this machine")]
    NotInstalled {
        /// Its id.
        model: String,
    },
    /// The model would have to be fetched, and the hub is offline.
    #[error("model `{model}` is not on this machine, and offline mode forbids fetching it")]
    Offline {
        /// Its id.
        model: String,
    },
    /// A path that holds no model.
    #[error("`{}` is not a model: {reason}", path.display())]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The model has no source of the kind that was asked for.
    #[error("model `{model}` has no source {source_kind}, only `{}`", known.join("`, `"))]
    NoSource {
        /// Its id.
        model: String,
        /// What was asked.
        source_kind: String,
        /// What it has.
        known: Vec<String>,
    },
    /// A repository without weights in a format that the engine reads.
    #[error("`{repository}` has no `.safetensors` or `.gguf` weights to choose{}", choice(.found))]
    NoWeights {
        /// The repository.
        repository: String,
        /// Weight files that it does have.
        found: Vec<String>,
    },
    /// The operating system refused.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// No room left.
    #[error("the disk is full: cannot write `{}`", path.display())]
    DiskFull {
        /// The file that could not be written.
        path: PathBuf,
    },
    /// A file is not the one that was promised.
    #[error("`{file}` from {origin} has SHA-256 {received}, expected {expected}")]
    WrongHash {
        /// The file.
        file: String,
        /// Where it came from.
        origin: String,
        /// The pinned or announced hash, hex.
        expected: String,
        /// The hash of what came.
        received: String,
    },
    /// A file has another length than was promised.
    #[error("`{file}` from {origin} has {received} bytes, expected {expected}")]
    WrongSize {
        /// The file.
        file: String,
        /// Where it came from.
        origin: String,
        /// The pinned or announced length.
        expected: u64,
        /// The length of what came.
        received: u64,
    },
    /// A web page came instead of a file: a login page, a captive portal, a filter.
    #[error("{url} answered with a web page{} instead of the file", page_title(.title))]
    HtmlPage {
        /// What was asked for.
        url: String,
        /// The page's title, empty if it has none.
        title: String,
    },
    /// HTTP 401.
    #[error("{url}: 401 unauthorized{}", if *.token_sent { ", the token was refused" } else { "" })]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// Whether a token went with the request.
        token_sent: bool,
    },
    /// HTTP 403.
    #[error("{url}: 403 forbidden")]
    Forbidden {
        /// What was asked for.
        url: String,
        /// Whether a token went with the request.
        token_sent: bool,
    },
    /// HTTP 404.
    #[error("{url}: 404 not found")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// HTTP 429, and waiting as long as the server wants is more than we do.
    #[error("{url}: 429 too many requests{}", wait(.retry_after))]
    RateLimited {
        /// What was asked for.
        url: String,
        /// How long the server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// HTTP 5xx.
    #[error("{url}: the server failed with status {status}")]
    Server {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// How long the server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// Any other status.
    #[error("{url}: unexpected status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The proxy does not answer or refuses to connect us.
    #[error("proxy {proxy} failed for {url}: {reason}")]
    Proxy {
        /// The proxy, without its password.
        proxy: String,
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server cannot be reached.
    #[error("cannot reach {url}: {reason}")]
    Connect {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server was silent for too long.
    #[error("{url}: no answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// What was asked for.
        url: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection broke in the middle.
    #[error("{url}: the connection broke after {received} bytes: {reason}")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// Bytes that had come in all.
        received: u64,
        /// What happened.
        reason: String,
    },
    /// The answer is not what this kind of server gives.
    #[error("{url}: not understood: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No Python package installer.
    #[error("no `pip` to fetch the wheel `{package}` with; tried {tried:?}")]
    NoPip {
        /// The package.
        package: String,
        /// The commands that were tried.
        tried: Vec<String>,
    },
    /// `pip download` failed.
    #[error("`pip download {package}` failed: {reason}")]
    Pip {
        /// The package and version.
        package: String,
        /// What it said, summarised.
        reason: String,
    },
    /// A wheel that is not as the catalog says.
    #[error("wheel `{}`: {reason}", path.display())]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An offline bundle that cannot be used.
    #[error("bundle `{}`: {reason}", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the cache that cannot be understood.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A setting with an impossible value.
    #[error("`{name}` is `{value}`, expected {expected}")]
    Setting {
        /// The environment variable or option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// Every source of the model failed.
    #[error("model `{model}` could not be fetched{}", list(.attempts))]
    AllSources {
        /// Its id.
        model: String,
        /// Each source with its error, in the order tried.
        attempts: Vec<(String, Error)>,
    },
    /// The embedding source failed while golden texts were checked.
    #[error(transparent)]
    Embed(crate::embed::EmbedError),
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl ErrorKind {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownModel { similar, .. } if !similar.is_empty() => {
                format!("did you mean `{}`?", similar.join("` or `"))
            }
            Self::UnknownModel { .. } => "`wenyi models list` shows the models known by name; \
                 `org/name` takes any repository, and a path any model folder or `.gguf` file"
                .into(),
            Self::NotInstalled { model } => format!("`wenyi models pull {model}` fetches it"),
            Self::Offline { model } => format!(
                "on a machine with a network, `wenyi models bundle {model}`; then, here, \
                 `wenyi models import` the file that it makes"
            ),
            Self::NotAModel { .. } => "give the folder of a model (with `config.json` and \
                 `model.safetensors`) or a `.gguf` file"
                .into(),
            Self::NoWeights { found, .. } if found.iter().any(|name| name.ends_with(".gguf")) => {
                "choose one by a part of its name: `org/name:Q8_0`".into()
            }
            Self::NoWeights { .. } => {
                "look for a repository of the same model with `model.safetensors` or `.gguf`".into()
            }
            Self::DiskFull { .. } => {
                "free some space, `wenyi models remove` a model, or set `WENYI_CACHE` to a folder \
                 on another disk; what has come is kept and continued"
                    .into()
            }
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                "check the file's permissions, or set `WENYI_CACHE` to a folder that you may write to"
                    .into()
            }
            Self::WrongHash { .. } | Self::WrongSize { .. } => {
                "nothing was installed; a proxy or mirror may have changed the file: try again, \
                 or another source with `--source`"
                    .into()
            }
            Self::HtmlPage { .. } => "log in to the network in a browser, or set `HTTPS_PROXY`, \
                 `HF_ENDPOINT` (a mirror) or `--source modelscope`"
                .into(),
            Self::Unauthorized { token_sent: true, .. } => {
                "the token in `HF_TOKEN` is wrong or expired: make a new one with read access"
                    .into()
            }
            Self::Unauthorized { .. } => {
                "the repository is private or gated, or does not exist: check its name, and set \
                 `HF_TOKEN` to a token with read access"
                    .into()
            }
            Self::Forbidden { token_sent, .. } => forbidden_hint(*token_sent),
            Self::NotFound { .. } => {
                "check the repository's name, its revision and `HF_ENDPOINT`".into()
            }
            Self::RateLimited { .. } => {
                "wait a little, set `HF_TOKEN` (a known user may ask more often), or try another \
                 source with `--source`"
                    .into()
            }
            Self::Server { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => {
                "try again: what has come is kept and continued; or try another source with \
                 `--source`"
                    .into()
            }
            Self::Proxy { .. } => {
                "check `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, or name the server in `NO_PROXY`"
                    .into()
            }
            Self::Connect { .. } => {
                "check the network; `HF_ENDPOINT` sets a mirror, `HTTPS_PROXY` a proxy, and \
                 `wenyi models import` takes an offline bundle"
                    .into()
            }
            Self::NoPip { .. } => {
                "install Python with pip, or set `WENYI_PIP` to the command".into()
            }
            Self::Pip { reason, .. } => return pip_hint(reason),
            Self::NoSource { .. } => {
                "name one that it has with `--source`; `WENYI_SOURCE` insists on one for all models"
                    .into()
            }
            Self::Bundle { .. } => {
                "nothing was installed; write the bundle again with `wenyi models bundle`, and compare \
                 both files' lengths after carrying it over"
                    .into()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path".into()
            }
            Self::Damaged { .. } => "`wenyi models remove` the model and pull it again".into(),
            Self::AllSources { attempts, .. } => {
                return attempts.iter().find_map(|(_, error)| error.hint());
            }
            _ => return None,
        })
    }
}

fn forbidden_hint(token_sent: bool) -> String {
    if token_sent {
        "accept the model's terms on its page with the account of your `HF_TOKEN`".into()
    } else {
        "accept the model's terms on its page, then set `HF_TOKEN`; a firewall may also forbid it"
            .into()
    }
}

fn pip_hint(reason: &str) -> Option<String> {
    let hint = if reason.contains("No matching distribution") {
        "your package index or mirror does not carry it: check `pip config list`"
    } else if reason.contains("proxy") || reason.contains("Proxy") {
        "pip could not get through the proxy: check `HTTPS_PROXY` and `pip config list`"
    } else if reason.contains("SSL") || reason.contains("certificate") {
        "pip does not trust the server's certificate: set `PIP_CERT` to your network's one"
    } else if reason.contains("No module named pip") {
        "install pip for this Python, or set `WENYI_PIP` to another command"
    } else {
        "run the command yourself to see more; mirror, proxy and credentials are pip's own"
    };
    Some(hint.into())
}

fn choice(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!(": it has `{}`", found.join("`, `"))
    }
}

fn page_title(title: &str) -> String {
    if title.is_empty() {
        String::new()
    } else {
        format!(" (\"{title}\")")
    }
}

fn wait(retry_after: &Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| {
        format!(", it asks to wait {} s", wait.as_secs())
    })
}

fn list(attempts: &[(String, Error)]) -> String {
    attempts
        .iter()
        .map(|(source, error)| format!("\n  {source}: {error}"))
        .collect()
}
