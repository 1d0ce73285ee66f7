//! A question and passages go in, the passages' relevance comes out: one trait for every reranker.

use std::path::Path;

use wenyi_engine::encoder::{Encoder, EncoderOptions, Overflow};

use crate::providers;

pub use crate::providers::{init_reranker, init_reranker_with};

/// Anything that says how relevant passages are to a question.
pub trait Reranker: Send + Sync {
    /// The model's name as a user gives it.
    fn name(&self) -> &str;

    /// How relevant each of `documents` is to `query`, in the order of `documents`.
    ///
    /// # Errors
    ///
    /// If a pair is too long for the model, or the source fails.
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Ranking, RerankError>;
}

/// The relevance of every document of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// One score a document, in their order; greater is more relevant, usually between 0 and 1.
    pub scores: Vec<f32>,
    /// Tokens that the model read, where they were counted.
    pub total_tokens: Option<u64>,
}

impl Ranking {
    /// Indices of the documents, the most relevant first; equals stay in their order.
    #[must_use]
    pub fn best_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]));
        order
    }
}

/// A local model as a [`Reranker`].
#[derive(Debug)]
pub struct LocalReranker {
    encoder: Encoder,
    name: String,
}

impl LocalReranker {
    /// Opens a model folder; see [`crate::hub::Hub::resolve`] for models by name.
    ///
    /// # Errors
    ///
    /// As [`Encoder::open`].
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self, RerankError> {
        let encoder = Encoder::open(path, options)?;
        let name = encoder.fingerprint().model.clone();
        Ok(Self { encoder, name })
    }
}

impl Reranker for LocalReranker {
    fn name(&self) -> &str {
        &self.name
    }

    /// Passages longer than the model are truncated, as rerankers do everywhere.
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Ranking, RerankError> {
        let relevance = self.encoder.rerank(query, documents, Overflow::Truncate)?;
        let total_tokens = relevance.iter().map(|one| one.usage.kept as u64).sum();
        Ok(Ranking {
            scores: relevance.iter().map(|one| one.score).collect(),
            total_tokens: Some(total_tokens),
        })
    }
}

/// Why a reranker failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RerankError {
    /// The local engine.
    #[error(transparent)]
    Engine(#[from] wenyi_engine::Error),
    /// The provider of the model, or the way to it.
    #[error(transparent)]
    Remote(#[from] providers::Error),
}

impl RerankError {
    /// True if the caller can cure it by other input; false for a failing network or machine.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_user_error(),
            Self::Remote(error) => error.is_user_error(),
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Remote(error) => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equals_stay_in_order() {
        let ranking = Ranking {
            scores: vec![0.1, 0.9, 0.1, 0.95],
            total_tokens: None,
        };
        assert_eq!(ranking.best_first(), [3, 1, 0, 2]);
    }
}
