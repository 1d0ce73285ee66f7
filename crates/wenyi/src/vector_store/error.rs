//! What can go wrong between a text and its store.

use crate::embed::EmbedError;

/// The result of an operation on a store of texts.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] wenyi_store::Error),
    /// The embedder.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// Texts, metadata and ids of a call differ in number.
    #[error("there are {received} {what} for {expected} texts")]
    Count {
        /// `metadatas` or `ids`.
        what: &'static str,
        /// Texts.
        expected: usize,
        /// What came.
        received: usize,
    },
}
