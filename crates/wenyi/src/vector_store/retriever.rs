//! A search with its options chosen beforehand.

use wenyi_store::Conditions;
use wenyi_store::vector_store::{MmrRequest, ScoredPoint, SearchRequest};

use super::Result;
use super::text_store::{TOP_K, TextStore};

/// How a [`Retriever`] chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SearchType {
    /// The closest texts.
    #[default]
    Similarity,
    /// The closest texts with at least this score.
    SimilarityScoreThreshold(f32),
    /// Close texts that differ from each other.
    MaxMarginalRelevance {
        /// The closest texts, among which is chosen.
        fetch_k: usize,
        /// 1 for the closest, 0 for the most different.
        lambda_mult: f32,
    },
}

/// What a [`Retriever`] looks for. The default is the 4 closest texts.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrieverOptions {
    /// How it chooses.
    pub search_type: SearchType,
    /// Texts to find.
    pub top_k: usize,
    /// Only texts whose metadata meet these conditions.
    pub filter: Option<Conditions>,
}

impl Default for RetrieverOptions {
    fn default() -> Self {
        Self {
            search_type: SearchType::default(),
            top_k: TOP_K,
            filter: None,
        }
    }
}

/// Finds texts for questions, always in the same way.
#[derive(Clone, Debug)]
pub struct Retriever {
    texts: TextStore,
    options: RetrieverOptions,
}

impl Retriever {
    pub(super) fn new(texts: TextStore, options: RetrieverOptions) -> Self {
        Self { texts, options }
    }

    /// The texts for a question, best first.
    ///
    /// # Errors
    ///
    /// If embedding or the store fails.
    pub fn invoke(&self, query: &str) -> Result<Vec<ScoredPoint>> {
        let RetrieverOptions {
            search_type,
            top_k,
            filter,
        } = self.options.clone();
        let score_threshold = match search_type {
            SearchType::Similarity => None,
            SearchType::SimilarityScoreThreshold(least) => Some(least),
            SearchType::MaxMarginalRelevance {
                fetch_k,
                lambda_mult,
            } => {
                let request = MmrRequest {
                    top_k,
                    fetch_k,
                    lambda_mult,
                    filter,
                    with_vector: false,
                };
                return self.texts.max_marginal_relevance_search(query, &request);
            }
        };
        let request = SearchRequest {
            top_k,
            filter,
            score_threshold,
            ..SearchRequest::default()
        };
        self.texts.search(query, &request)
    }
}
