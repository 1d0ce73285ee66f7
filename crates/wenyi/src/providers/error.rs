//! What can go wrong between a name such as `dashscope:text-embedding-v4` and its answer, and what
//! to do about it. No message holds a key: what a provider says is scrubbed before it comes here.

use std::time::Duration;

/// The result of talking to a provider.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a provider, or of the way to it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input or settings; false for a failing network,
    /// machine or provider.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self.kind() {
            ErrorKind::UnknownProvider { .. }
            | ErrorKind::CannotInfer { .. }
            | ErrorKind::EmptyModel { .. }
            | ErrorKind::MissingKey { .. }
            | ErrorKind::NoSuchService { .. }
            | ErrorKind::Retired { .. }
            | ErrorKind::Setting { .. }
            | ErrorKind::Option { .. }
            | ErrorKind::TooLong { .. }
            | ErrorKind::Config(_) => true,
            ErrorKind::Status { status, .. } => (400..500).contains(status) && !self.is_transient(),
            ErrorKind::Hub(error) => error.is_user_error(),
            _ => false,
        }
    }

    /// True if the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            ErrorKind::Connect { .. }
            | ErrorKind::Timeout { .. }
            | ErrorKind::Interrupted { .. } => true,
            ErrorKind::Status {
                status,
                code,
                should_retry,
                ..
            } => should_retry.unwrap_or_else(|| {
                // A used-up quota answers 429 as haste does, but waiting does not help.
                let used_up = matches!(code.as_deref(), Some("insufficient_quota"));
                !used_up && matches!(status, 408 | 409 | 425 | 429 | 500..=599)
            }),
            _ => false,
        }
    }

    /// How long the provider asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The provider's HTTP status, if it answered with one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.kind() {
            ErrorKind::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self.kind() {
            ErrorKind::UnknownProvider { known, .. } => format!(
                "the providers are {}; others go into `wenyi.toml` as `[providers.NAME]` with a \
                 `base_url`",
                known.join(", ")
            ),
            ErrorKind::CannotInfer { model } => {
                format!("write the provider before it, for example `openai-compatible:{model}`")
            }
            ErrorKind::EmptyModel { provider } => {
                format!("write the model after it: `{provider}:MODEL`")
            }
            ErrorKind::MissingKey { variable, .. } => {
                format!("set `{variable}` in the environment, or write it into a `.env` file")
            }
            ErrorKind::NoSuchService { hint, .. } | ErrorKind::Retired { hint, .. } => hint.clone(),
            ErrorKind::Connect { .. } => {
                "is the base URL right, and the network (or `HTTPS_PROXY`) up?".into()
            }
            ErrorKind::Timeout { .. } => {
                "try again later, or give the provider a longer `timeout` in `wenyi.toml`".into()
            }
            ErrorKind::Status {
                status,
                code,
                provider,
                ..
            } => return status_hint(provider, *status, code.as_deref()),
            ErrorKind::Malformed { .. } => {
                "is the base URL that of an API? Most end in `/v1`".into()
            }
            ErrorKind::WrongDimensions { expected, .. } => format!(
                "the model behind this name is not the one that was declared with {expected} \
                 dimensions; correct `dimensions` in `wenyi.toml`"
            ),
            ErrorKind::TooLong { .. } => {
                "shorten it, or choose another overflow policy: `truncate` or `split-mean`".into()
            }
            ErrorKind::Hub(error) => return error.hint(),
            _ => return None,
        })
    }
}

fn status_hint(provider: &str, status: u16, code: Option<&str>) -> Option<String> {
    Some(match (status, code) {
        (_, Some("insufficient_quota" | "Arrearage")) | (402, _) => {
            format!("the account at {provider} has no money or quota left")
        }
        (401, _) => format!("the key is not one of {provider}, or of another region of it"),
        (403, _) => format!("the account at {provider} may not use this model"),
        (404, _) => "is there such a model, and is the base URL right?".into(),
        (301..=308, _) => "set the base URL to where it leads".into(),
        (429, _) => "wait a little, or send less at a time".into(),
        (500..=599, _) => format!("{provider} has trouble; try again later"),
        _ => return None,
    })
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<crate::config::ConfigError> for Error {
    fn from(source: crate::config::ConfigError) -> Self {
        ErrorKind::Config(source).into()
    }
}

impl From<crate::hub::Error> for Error {
    fn from(source: crate::hub::Error) -> Self {
        ErrorKind::Hub(source).into()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No provider has this name.
    #[error("there is no provider `{provider}`")]
    UnknownProvider {
        /// The name.
        provider: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A model without a provider, whose name says nothing.
    #[error("cannot tell whose model `{model}` is")]
    CannotInfer {
        /// The model.
        model: String,
    },
    /// A provider, and no model of it.
    #[error("no model is named after `{provider}:`")]
    EmptyModel {
        /// The provider.
        provider: String,
    },
    /// The provider wants a key, and there is none.
    #[error("{provider} wants a key, and `{variable}` is not set")]
    MissingKey {
        /// The provider.
        provider: String,
        /// The variable that would hold the key.
        variable: String,
    },
    /// The provider has nothing of the kind.
    #[error("{provider} has no {service}")]
    NoSuchService {
        /// The provider.
        provider: String,
        /// `embeddings`, `chat` or `reranking`.
        service: &'static str,
        /// Who has it.
        hint: String,
    },
    /// The provider has switched the model off.
    #[error("`{model}` was retired by {provider} on {since}")]
    Retired {
        /// The provider.
        provider: String,
        /// The model.
        model: String,
        /// The day.
        since: String,
        /// What to use instead.
        hint: String,
    },
    /// A setting that cannot be used.
    #[error("`{name}` is `{value}`, expected {expected}")]
    Setting {
        /// The variable, or the field of a file.
        name: String,
        /// What came; never a key.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// The model does not take an option, or not this value of it.
    #[error("`{model}` does not take `{option}` = `{value}`: expected {expected}")]
    Option {
        /// The model.
        model: String,
        /// The option.
        option: &'static str,
        /// What came.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// No connection.
    #[error("cannot reach {provider} at {url}: {reason}")]
    Connect {
        /// The provider.
        provider: String,
        /// What was asked.
        url: String,
        /// The system's word.
        reason: String,
    },
    /// The provider was silent for too long.
    #[error("{provider} at {url} said nothing for {} s", .after.as_secs_f32())]
    Timeout {
        /// The provider.
        provider: String,
        /// What was asked.
        url: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection broke within the answer.
    #[error("the answer of {provider} broke off after {received} bytes: {reason}")]
    Interrupted {
        /// The provider.
        provider: String,
        /// Bytes that came.
        received: u64,
        /// The system's word.
        reason: String,
    },
    /// The provider answered with an error.
    #[error("{provider}: {status}{}: {message}", code_in_brackets(.code.as_deref()))]
    Status {
        /// The provider.
        provider: String,
        /// The HTTP status; 200 for an error that came as a success or within a stream.
        status: u16,
        /// The provider's word for it.
        code: Option<String>,
        /// The provider's message, without keys.
        message: String,
        /// The provider's name for the request.
        request_id: Option<String>,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
        /// Its own word on whether to try again.
        should_retry: Option<bool>,
    },
    /// The answer is not what the API promises.
    #[error("the answer of {provider} is malformed: {reason}")]
    Malformed {
        /// The provider.
        provider: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Other vectors or scores than asked for.
    #[error("{provider} sent {received} {what} for {expected} texts")]
    WrongCount {
        /// The provider.
        provider: String,
        /// `vectors` or `scores`.
        what: &'static str,
        /// Texts that were sent.
        expected: usize,
        /// What came back.
        received: usize,
    },
    /// Vectors of another width than declared.
    #[error("{provider} sent vectors of {received} dimensions for `{model}`, expected {expected}")]
    WrongDimensions {
        /// The provider.
        provider: String,
        /// The model.
        model: String,
        /// As declared or asked for.
        expected: usize,
        /// As it came.
        received: usize,
    },
    /// A vector or score that is no number, or a vector without a direction.
    #[error("{provider} sent {what} for text {index}")]
    NotANumber {
        /// The provider.
        provider: String,
        /// The text, counted from 0 within the call.
        index: usize,
        /// What came, in words.
        what: &'static str,
    },
    /// A text is longer than the model takes.
    #[error("text {index} has {}{tokens} tokens, `{model}` takes {max_length}", if *.estimated { "about " } else { "" })]
    TooLong {
        /// The model.
        model: String,
        /// The text, counted from 0 within the call.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens that the model takes.
        max_length: usize,
        /// True if the provider's own tokenizer is not known here.
        estimated: bool,
    },
    /// The settings cannot be read.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A model of this machine that cannot be had.
    #[error(transparent)]
    Hub(#[from] crate::hub::Error),
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

fn code_in_brackets(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}
