//! What the failures of others mean to the one who sent a request.

use axum::http::StatusCode;
use wenyi::chat::{ChatError, ChatErrorKind};
use wenyi::embed::EmbedError;
use wenyi::providers;
use wenyi_engine::ErrorKind;

use super::Problem;

impl Problem {
    /// What a provider's error means to the client. A key that the provider refuses is the
    /// server's, so the client must not take the answer for one about its own.
    pub(crate) fn of_provider(error: &providers::Error) -> Self {
        use providers::ErrorKind as Kind;
        let (status, code) = match error.kind() {
            Kind::Status { status, code, .. } => {
                let status = match status {
                    401 | 403 | 0..=399 => StatusCode::BAD_GATEWAY,
                    other => StatusCode::from_u16(*other).unwrap_or(StatusCode::BAD_GATEWAY),
                };
                (status, code.clone())
            }
            Kind::TooLong {
                index,
                tokens,
                max_length,
                ..
            } => {
                return Self::TooLong {
                    index: *index,
                    tokens: *tokens,
                    max_length: *max_length,
                };
            }
            Kind::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Kind::NoSuchService { .. } | Kind::Retired { .. } | Kind::Option { .. } => {
                (StatusCode::BAD_REQUEST, None)
            }
            _ => (StatusCode::BAD_GATEWAY, None),
        };
        Self::Provider {
            status,
            code,
            reason: error.to_string(),
            retry_after: error.retry_after(),
            should_retry: should_retry(error),
            hint: error.hint(),
        }
    }

    /// What the failure of a chat model means to the client.
    pub(crate) fn of_chat(error: &ChatError) -> Self {
        match error.kind() {
            ChatErrorKind::Provider(error) => Self::of_provider(error),
            ChatErrorKind::ContextLength {
                tokens,
                context_length,
                ..
            } => Self::ContextLength {
                tokens: *tokens,
                context_length: *context_length,
            },
            ChatErrorKind::Unsupported {
                option, expected, ..
            } => Self::field(
                option,
                format!("is not taken by this model: expected {expected}"),
            ),
            ChatErrorKind::Form { option, source } => Self::field(option, source.to_string()),
            ChatErrorKind::ToolChoice { .. } => Self::named("tool_choice", error),
            ChatErrorKind::Room { limit, .. } => Self::named(limit, error),
            ChatErrorKind::Engine(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Option {
                        option: "logit_bias",
                        ..
                    }
                ) =>
            {
                Self::field("logit_bias", error.to_string())
            }
            ChatErrorKind::Engine(error) if error.is_user_error() => {
                Self::field("messages", error.to_string())
            }
            _ => Self::Internal {
                reason: error.to_string(),
            },
        }
    }

    /// What the store's refusal or failure means to the client; the server's paths are not its business.
    pub(crate) fn of_store(error: &wenyi::store::Error) -> Self {
        use wenyi::store::ErrorKind as Kind;
        let storage = |status, reason| Self::Storage { status, reason };
        match error.kind() {
            Kind::UnknownCollection { name, .. } => Self::NoSuchCollection { name: name.clone() },
            Kind::CollectionExists { name, .. } => Self::CollectionExists { name: name.clone() },
            Kind::UnknownId { id } => Self::NoPoint { id: id.clone() },
            Kind::NoWidth { .. } => Self::field("vectors", "says no width"),
            Kind::Full { .. } => storage(StatusCode::INSUFFICIENT_STORAGE, "the disk is full"),
            Kind::Locked { .. } => storage(
                StatusCode::SERVICE_UNAVAILABLE,
                "another process is writing",
            ),
            Kind::ReadOnly { .. } => storage(
                StatusCode::SERVICE_UNAVAILABLE,
                "the file cannot be written",
            ),
            Kind::Width { .. }
            | Kind::NotFinite { .. }
            | Kind::ZeroVector { .. }
            | Kind::DuplicateId { .. }
            | Kind::EmptyId
            | Kind::CollectionName { .. }
            | Kind::NoVector { .. }
            | Kind::UnknownVector { .. }
            | Kind::VectorKind { .. }
            | Kind::SparseVector { .. }
            | Kind::InvalidVectors { .. }
            | Kind::Filter { .. }
            | Kind::Dimensions { .. } => Self::Unstorable {
                reason: error.to_string(),
                hint: error
                    .hint()
                    .filter(|_| !matches!(error.kind(), Kind::Width { .. })),
            },
            _ => {
                tracing::error!(%error, "the store failed");
                storage(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the file failed; see the log",
                )
            }
        }
    }

    /// What the failure of a source of vectors means to the client.
    pub(crate) fn of_embedder(error: &EmbedError) -> Self {
        match error {
            EmbedError::Remote(error) => Self::of_provider(error),
            EmbedError::Engine(error) => Self::of_engine(error, 0),
            other => Self::Internal {
                reason: other.to_string(),
            },
        }
    }

    /// What an engine error means to the sender of text `index`.
    pub(crate) fn of_engine(error: &wenyi_engine::Error, index: usize) -> Self {
        match error.kind() {
            ErrorKind::TooLong {
                tokens, max_length, ..
            } => Self::TooLong {
                index,
                tokens: *tokens,
                max_length: *max_length,
            },
            ErrorKind::UnknownPrompt { name, known } => Self::Prompt {
                name: name.clone(),
                known: known.clone(),
            },
            ErrorKind::Tokenizer { reason } => Self::field("input", reason.clone()),
            _ => Self::Internal {
                reason: error.to_string(),
            },
        }
    }

    /// `error`, which begins with the name of the field at fault.
    fn named(field: &'static str, error: &ChatError) -> Self {
        let reason = error.to_string();
        let name = format!("`{field}` ");
        Self::field(field, reason.strip_prefix(&name).unwrap_or(&reason))
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed {
            reason: error.to_string(),
        }
    }
}

/// What a provider's error says of asking again: not where it stays as it is. An error that came as
/// a success says nothing.
fn should_retry(error: &providers::Error) -> Option<bool> {
    let is_told = |status: u16| status >= 400;
    let is_permanent = !error.is_transient() && error.status().is_none_or(is_told);
    is_permanent.then_some(false)
}
