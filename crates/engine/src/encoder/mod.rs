//! Hidden states read as meaning: embeddings, relevance scores, sparse vectors.

mod options;

pub use options::{EmbedOptions, Embeddings, Fingerprint, Overflow, Precision, Role, TokenUsage};
