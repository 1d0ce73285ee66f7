//! What can go wrong between a folder and an answer, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::embed::EmbedError;
use crate::rerank::RerankError;

/// The result of a retrieval operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of retrieval: what came, what was expected, and where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing machine or a bug.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match &*self.0 {
            ErrorKind::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            ErrorKind::Embed(EmbedError::Engine(source)) => source.is_user_error(),
            ErrorKind::Embed(EmbedError::Remote(source)) => source.is_user_error(),
            ErrorKind::Embed(_) | ErrorKind::Cancelled => false,
            ErrorKind::Store(source) => source.is_user_error(),
            ErrorKind::Rerank(source) => source.is_user_error(),
            ErrorKind::EmptyQuery
            | ErrorKind::OtherModel { .. }
            | ErrorKind::Option { .. }
            | ErrorKind::JudgedSet { .. } => true,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match &*self.0 {
            ErrorKind::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "give a folder or a file that exists".into()
            }
            ErrorKind::Embed(EmbedError::Engine(source)) => return source.hint(),
            ErrorKind::Embed(EmbedError::Remote(source)) => return source.hint(),
            ErrorKind::Store(source) => return source.hint(),
            ErrorKind::Rerank(source) => return source.hint(),
            ErrorKind::OtherModel {
                expected, received, ..
            } if expected == received => {
                "the model's files, its pooling or its prompt have changed since: embed again with \
                 `wenyi index --reindex`"
                    .into()
            }
            ErrorKind::OtherModel { expected, .. } => {
                format!("use `--model {expected}`, or embed again with `wenyi index --reindex`")
            }
            ErrorKind::EmptyQuery => "ask in a few words, for example \
                                      `wenyi search docs \"how do I install it?\"`"
                .into(),
            ErrorKind::JudgedSet { .. } => {
                "give a folder with `corpus.jsonl`, `queries.jsonl` and \
                                            `qrels/*.tsv`, or with `pairs.jsonl`"
                    .into()
            }
            _ => return None,
        })
    }

    /// True if the collection was made before there was a text index.
    pub(crate) fn is_without_text_index(&self) -> bool {
        let ErrorKind::Store(error) = self.kind() else {
            return false;
        };
        matches!(error.kind(), wenyi_store::ErrorKind::NoTextIndex { .. })
    }

    pub(crate) fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        ErrorKind::Io {
            path: path.as_ref().to_path_buf(),
            source,
        }
        .into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<EmbedError> for Error {
    fn from(source: EmbedError) -> Self {
        ErrorKind::Embed(source).into()
    }
}

impl From<RerankError> for Error {
    fn from(source: RerankError) -> Self {
        ErrorKind::Rerank(source).into()
    }
}

impl From<wenyi_store::Error> for Error {
    fn from(source: wenyi_store::Error) -> Self {
        ErrorKind::Store(source).into()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The model failed.
    #[error(transparent)]
    Embed(EmbedError),
    /// The collection failed.
    #[error(transparent)]
    Store(wenyi_store::Error),
    /// The reranker failed.
    #[error(transparent)]
    Rerank(RerankError),
    /// The collection's vectors live in another space than the model's.
    #[error(
        "collection `{}` was made with model `{expected}` (weights {expected_weights}), not with \
         `{received}` (weights {received_weights})",
        path.display()
    )]
    OtherModel {
        /// The collection's file.
        path: PathBuf,
        /// The model that it was made with.
        expected: String,
        /// The first digits of its weights' hash.
        expected_weights: String,
        /// The model at hand.
        received: String,
        /// The first digits of its weights' hash.
        received_weights: String,
    },
    /// The question has no words.
    #[error("the question is empty")]
    EmptyQuery,
    /// An option has a value that cannot be served.
    #[error("`{option}` is `{value}`, expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// What came.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// Judged queries and documents that cannot be measured with.
    #[error("`{}`: {reason}", path.display())]
    JudgedSet {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, with the line if there is one.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}
