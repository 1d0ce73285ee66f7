//! Why a model did not answer.

use crate::providers;

/// An error of a conversation.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ChatError(Box<ChatErrorKind>);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatErrorKind {
    /// The model on this machine.
    #[error(transparent)]
    Engine(wenyi_engine::Error),
    /// The provider of the model, or the way to it.
    #[error(transparent)]
    Provider(providers::Error),
    /// The conversation is longer than the model's context.
    #[error("the conversation has {tokens} tokens, `{model}` takes {context_length}")]
    ContextLength {
        /// The model.
        model: String,
        /// Tokens of the conversation and the answer asked for.
        tokens: usize,
        /// Tokens that the model takes.
        context_length: usize,
    },
    /// The model cannot do what was asked.
    #[error("`{model}` does not take `{option}`: expected {expected}")]
    Unsupported {
        /// The model.
        model: String,
        /// What was asked.
        option: &'static str,
        /// What is possible.
        expected: String,
    },
    /// The answer cannot have the form that was asked for.
    #[error("`{option}`: {source}")]
    Form {
        /// What asks for it.
        option: &'static str,
        /// What is wrong with it.
        source: wenyi_engine::Error,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl ChatError {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ChatErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing network or machine.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self.kind() {
            ChatErrorKind::Engine(error) => error.is_user_error(),
            ChatErrorKind::Provider(error) => error.is_user_error(),
            ChatErrorKind::ContextLength { .. }
            | ChatErrorKind::Unsupported { .. }
            | ChatErrorKind::Form { .. } => true,
            ChatErrorKind::Cancelled => false,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self.kind() {
            ChatErrorKind::Engine(error) => error.hint(),
            ChatErrorKind::Provider(error) => error.hint(),
            ChatErrorKind::ContextLength { .. } => {
                Some("shorten the conversation, or use a model with a longer context".into())
            }
            ChatErrorKind::Unsupported { option, .. } => Some(format!("leave out `{option}`")),
            ChatErrorKind::Form { source, .. } => source.hint(),
            ChatErrorKind::Cancelled => None,
        }
    }
}

impl From<ChatErrorKind> for ChatError {
    fn from(kind: ChatErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<wenyi_engine::Error> for ChatError {
    fn from(source: wenyi_engine::Error) -> Self {
        ChatErrorKind::Engine(source).into()
    }
}

impl From<providers::Error> for ChatError {
    fn from(source: providers::Error) -> Self {
        ChatErrorKind::Provider(source).into()
    }
}
