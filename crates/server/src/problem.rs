//! Why a request gets no answer, as data; each dialect prints it in its own shape.

mod causes;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// A request that fails.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The body is not JSON, or not of the shape that the route takes.
    #[error("the body is not what this route takes: {reason}")]
    Malformed { reason: String },
    /// The path has something in it that is no text.
    #[error("the path cannot be read: {reason}")]
    Path { reason: String },
    /// A field has a value that cannot be served.
    #[error("`{field}` {reason}")]
    Field { field: &'static str, reason: String },
    /// More inputs than a request may have.
    #[error("`{field}` has {received} entries, expected at most {limit}")]
    TooManyInputs {
        field: &'static str,
        received: usize,
        limit: usize,
    },
    /// More tokens than a request may have.
    #[error("requested {received} tokens, max {limit} tokens per request")]
    TooManyTokens { received: usize, limit: usize },
    /// One text is longer than the model, and the request wants no part of it lost or averaged.
    #[error("text {index} has {tokens} tokens, the model takes {max_length}")]
    TooLong {
        index: usize,
        tokens: usize,
        max_length: usize,
    },
    /// More or fewer dimensions than the model has.
    #[error("`dimensions` is {requested}, the model gives 1 to {available}")]
    Dimensions { requested: usize, available: usize },
    /// No key, or not one of ours.
    #[error("{}", if *.given { "incorrect API key provided" } else { "no API key provided" })]
    Key { given: bool },
    /// A name of this host that nobody but an attacker's page would use.
    #[error("host `{host}` is not served without API keys")]
    Host { host: String },
    /// A model that is not served.
    #[error("the model `{model}` is not served here; served: {}", .served.join(", "))]
    NoModel { model: String, served: Vec<String> },
    /// A collection of documents that is not served.
    #[error("the collection `{collection}` is not served here; served: {}", .served.join(", "))]
    NoCollection {
        collection: String,
        served: Vec<String>,
    },
    /// No model of the kind that the route needs.
    #[error("no model that gives {wanted} is served here")]
    NoModelFor { wanted: &'static str },
    /// A model of another kind than the route needs.
    #[error("the model `{model}` gives {available}, not {wanted}")]
    Kind {
        model: String,
        wanted: &'static str,
        available: &'static str,
    },
    /// A model behind an API, where only one on this machine will do.
    #[error("the model `{model}` is behind an API, and {wanted} come from models on this machine")]
    Elsewhere { model: String, wanted: &'static str },
    /// A prompt that the model does not have.
    #[error("the model has no prompt `{name}`{}", listed_prompts(.known))]
    Prompt { name: String, known: Vec<String> },
    /// The body is larger than allowed.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    /// The client stopped sending.
    #[error("the request did not arrive within {} s", .0.as_secs())]
    SlowClient(Duration),
    /// The connection broke while the body was read.
    #[error("the body broke off: {reason}")]
    BrokenBody { reason: String },
    /// Too much is waiting already.
    #[error("the server is busy; try again in {} s", .retry_after.as_secs().max(1))]
    Busy { retry_after: Duration },
    /// No answer within the time a request may take.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// No such route.
    #[error("no route {method} {path}")]
    NoRoute { method: Method, path: String },
    /// The route takes another method.
    #[error("{path} does not take {method}")]
    NoMethod { method: Method, path: String },
    /// The model could not be loaded.
    #[error("the model `{model}` cannot be loaded: {reason}")]
    Load {
        model: String,
        reason: String,
        /// It will be the same until someone changes the server's settings.
        is_permanent: bool,
    },
    /// A conversation that is longer than the model's context.
    #[error("the conversation has {tokens} tokens, the model takes {context_length}")]
    ContextLength {
        tokens: usize,
        context_length: usize,
    },
    /// The model's provider, or the way to it, failed.
    #[error("{reason}")]
    Provider {
        status: StatusCode,
        code: Option<String>,
        reason: String,
        retry_after: Option<Duration>,
        /// Whether it helps to ask again, where that is known.
        should_retry: Option<bool>,
        hint: Option<String>,
    },
    /// Nothing is stored here.
    #[error("this server stores nothing")]
    NoStorage,
    /// No such collection of points.
    #[error("there is no collection `{name}`")]
    NoSuchCollection { name: String },
    /// A collection is there already.
    #[error("there is a collection `{name}` already")]
    CollectionExists { name: String },
    /// No such point, or it has no such vector.
    #[error("there is no point with id `{id}`, or it has no such vector")]
    NoPoint { id: String },
    /// No such thing among those that are kept.
    #[error("No {what} found with id '{id}'.")]
    NotFound { what: &'static str, id: String },
    /// What is to be stored, or sought, cannot be.
    #[error("{reason}")]
    Unstorable {
        reason: String,
        hint: Option<String>,
    },
    /// The disk has no room, or another process has the file.
    #[error("what is stored cannot be reached: {reason}")]
    Storage {
        status: StatusCode,
        reason: &'static str,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// Our fault.
    #[error("internal error: {reason}")]
    Internal { reason: String },
}

impl Problem {
    /// Too much is waiting, and nobody knows for how long.
    pub(crate) const BUSY: Self = Self::Busy {
        retry_after: Duration::from_secs(1),
    };

    /// A field with a value of the wrong kind.
    pub(crate) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Field {
            field,
            reason: reason.into(),
        }
    }

    /// The same problem in a dialect that calls fields otherwise: by pairs of names, ours first.
    pub(crate) fn renamed(self, names: &[(&'static str, &'static str)]) -> Self {
        let Self::Field { field, reason } = self else {
            return self;
        };
        let is_field = |(ours, _): &&(&str, &str)| *ours == field;
        let name = names.iter().find(is_field).map(|(_, theirs)| *theirs);
        let reason = names.iter().fold(reason, |reason, (ours, theirs)| {
            reason.replace(&format!("`{ours}`"), &format!("`{theirs}`"))
        });
        Self::field(name.unwrap_or(field), reason)
    }

    /// The status in dialects that do not say otherwise.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. }
            | Self::Path { .. }
            | Self::Elsewhere { .. }
            | Self::Prompt { .. }
            | Self::Field { .. }
            | Self::TooManyInputs { .. }
            | Self::TooManyTokens { .. }
            | Self::TooLong { .. }
            | Self::ContextLength { .. }
            | Self::Dimensions { .. }
            | Self::Kind { .. }
            | Self::NoModelFor { .. }
            | Self::Unstorable { .. }
            | Self::BrokenBody { .. } => StatusCode::BAD_REQUEST,
            Self::Key { .. } => StatusCode::UNAUTHORIZED,
            Self::Host { .. } => StatusCode::FORBIDDEN,
            Self::NoModel { .. }
            | Self::NoRoute { .. }
            | Self::NoCollection { .. }
            | Self::NoSuchCollection { .. }
            | Self::NotFound { .. }
            | Self::NoPoint { .. } => StatusCode::NOT_FOUND,
            Self::CollectionExists { .. } => StatusCode::CONFLICT,
            Self::NoStorage => StatusCode::NOT_IMPLEMENTED,
            Self::Storage { status, .. } => *status,
            Self::NoMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowClient(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Load { .. } | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Provider { status, .. } => *status,
        }
    }

    /// A short name for metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Path { .. } => "path",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Prompt { .. } => "prompt",
            Self::Field { .. } => "field",
            Self::TooManyInputs { .. } => "too_many_inputs",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::TooLong { .. } => "too_long",
            Self::Dimensions { .. } => "dimensions",
            Self::Key { .. } => "key",
            Self::Host { .. } => "host",
            Self::NoModel { .. } => "no_model",
            Self::NoCollection { .. } => "no_collection",
            Self::NoModelFor { .. } => "no_model_for",
            Self::Kind { .. } => "kind",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::SlowClient(_) => "slow_client",
            Self::BrokenBody { .. } => "broken_body",
            Self::Busy { .. } => "busy",
            Self::Deadline(_) => "deadline",
            Self::NoRoute { .. } => "no_route",
            Self::NoMethod { .. } => "no_method",
            Self::Load { .. } => "load",
            Self::ContextLength { .. } => "context_length",
            Self::Provider { .. } => "provider",
            Self::NoStorage => "no_storage",
            Self::NoSuchCollection { .. } => "no_such_collection",
            Self::CollectionExists { .. } => "collection_exists",
            Self::NoPoint { .. } => "no_point",
            Self::NotFound { .. } => "not_found",
            Self::Unstorable { .. } => "unstorable",
            Self::Storage { .. } => "storage",
            Self::Stopping => "stopping",
            Self::Internal { .. } => "internal",
        }
    }

    /// When to come again, if coming again can help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::Provider { retry_after, .. } => *retry_after,
            Self::Stopping => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether to come again, where clients would guess wrongly from the status: they ask again on
    /// a 429 and on every 5xx.
    pub(crate) fn should_retry(&self) -> Option<bool> {
        match self {
            Self::Provider {
                should_retry: Some(word),
                ..
            } => Some(*word),
            Self::Load {
                is_permanent: true, ..
            } => Some(false),
            _ => self.retry_after().map(|_| true),
        }
    }

    /// The problem and what can be done about it, for dialects with one text for both.
    pub(crate) fn advice(&self) -> String {
        with_hint(self.to_string(), self.hint())
    }

    /// What the one who sent the request, or who runs the server, can do.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoModel { model, served } => {
                let served = served.first().map_or("MODEL", |name| name);
                format!(
                    "ask for a served model, or start the server with `--alias {model}={served}`; \
                     vectors of different models cannot be compared, so no other model stands in"
                )
            }
            Self::NoCollection { .. } => {
                "start the server with `--collection FILE`, made by `wenyi index --collection FILE`"
                    .into()
            }
            Self::TooLong { .. } => {
                "send shorter texts, or let the server split or truncate".into()
            }
            Self::Dimensions { available, .. } => format!("choose 1 to {available}"),
            Self::NoModelFor { .. } | Self::Kind { .. } | Self::Elsewhere { .. } => {
                "start the server with one more `--model` (or `--chat-model`) of that kind".into()
            }
            Self::ContextLength { .. } => {
                "shorten the conversation, or ask for a shorter answer".into()
            }
            Self::Provider { hint, .. } => return hint.clone(),
            Self::NoStorage => "start the server with `--store FOLDER`".into(),
            Self::Unstorable { hint, .. } => return hint.clone(),
            Self::Key { .. } => "send `Authorization: Bearer KEY`".into(),
            Self::Host { .. } => "call it as `localhost`, or start the server with API keys".into(),
            _ => return None,
        })
    }
}

/// `message` and then `hint`; what others wrote may have a full stop already.
pub(crate) fn with_hint(message: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{}. Hint: {hint}", message.trim_end_matches(['.', '。'])),
        None => message,
    }
}

fn listed_prompts(known: &[String]) -> String {
    match known {
        [] => "; it has none".into(),
        known => format!("; it has `{}`", known.join("`, `")),
    }
}

impl IntoResponse for Problem {
    /// A bare status that carries the problem; `http::answer` lets the route's dialect print it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
