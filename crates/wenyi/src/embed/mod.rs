//! Texts to vectors: one trait for every source of embeddings.

mod local;

use std::error::Error as StdError;

pub use crate::providers::{init_embeddings, init_embeddings_with};
pub use local::LocalEmbedder;
pub use wenyi_engine::encoder::{
    EmbedOptions, Embeddings, EncoderOptions, Fingerprint, Overflow, Precision, Role,
    SparseEmbedding, TokenUsage,
};

/// Anything that turns texts into vectors of one space.
pub trait Embedder: Send + Sync {
    /// The space that the vectors live in.
    fn fingerprint(&self) -> &Fingerprint;

    /// Width of the vectors.
    fn dimensions(&self) -> usize {
        self.fingerprint().dimensions
    }

    /// The greatest width that may be asked for.
    fn max_dimensions(&self) -> usize {
        self.dimensions()
    }

    /// True if it answers from behind a network, where half the texts take hardly less time.
    fn is_remote(&self) -> bool {
        false
    }

    /// Tokens that one text may have, special ones and the longest prompt included.
    fn max_length(&self) -> usize;

    /// Tokens of `text`, special ones included, prompt not.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the text.
    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError>;

    /// The vectors of `texts`, in order, unit length.
    ///
    /// # Errors
    ///
    /// If a text is too long for the policy in `options`, or the source fails.
    fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings, EmbedError>;

    /// The vector of a question, behind the model's query prompt.
    ///
    /// # Errors
    ///
    /// As [`Embedder::embed`]; a question longer than the model is an error.
    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let options = EmbedOptions {
            role: Role::Query,
            ..EmbedOptions::default()
        };
        Ok(self.embed(&[text], &options)?.values)
    }

    /// The vectors of documents, behind the model's document prompt; over-long ones are split and
    /// averaged.
    ///
    /// # Errors
    ///
    /// As [`Embedder::embed`].
    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let options = EmbedOptions {
            role: Role::Document,
            overflow: Overflow::SplitMean,
            ..EmbedOptions::default()
        };
        Ok(self
            .embed(texts, &options)?
            .iter()
            .map(<[f32]>::to_vec)
            .collect())
    }
}

/// Why a source of embeddings failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The local engine.
    #[error(transparent)]
    Engine(#[from] wenyi_engine::Error),
    /// The provider of a model behind an API, or the way to it.
    #[error(transparent)]
    Remote(#[from] crate::providers::Error),
    /// Another source, named.
    #[error("{provider}: {source}")]
    Provider {
        /// Who.
        provider: String,
        /// Its own error.
        source: Box<dyn StdError + Send + Sync>,
    },
}
