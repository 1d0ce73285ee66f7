//! Why a question got no answer.

use crate::chat::ChatError;
use crate::{embed, retrieve};

/// An error on the way from a question to its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RagError {
    /// Finding passages.
    #[error(transparent)]
    Retrieve(#[from] retrieve::Error),
    /// The chat model.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

impl From<embed::EmbedError> for RagError {
    fn from(source: embed::EmbedError) -> Self {
        Self::Retrieve(source.into())
    }
}

impl RagError {
    /// True if the caller can cure it by other input; false for a failing network or machine.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self {
            Self::Retrieve(error) => error.is_user_error(),
            Self::Chat(error) => error.is_user_error(),
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Retrieve(error) => error.hint(),
            Self::Chat(error) => error.hint(),
        }
    }
}
