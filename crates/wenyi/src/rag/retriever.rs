//! Questions to passages: the trait, and the search of a collection behind it.

use std::sync::Arc;

use wenyi_store::{Collection, Filter};

use crate::embed::Embedder;
use crate::retrieve::{Result, SearchHit, SearchOptions, search};

/// Candidates that the rarity of words and the background are judged by.
const NUM_CANDIDATES: usize = 64;

/// Where to look, and for how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceOptions {
    /// How many passages to take sentences from at most.
    pub top_k: usize,
    /// Only passages of documents whose path starts so.
    pub path_prefix: Option<String>,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        Self {
            top_k: 5,
            path_prefix: None,
        }
    }
}

/// What was found for a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retrieved {
    /// The passages, best first.
    pub passages: Vec<SearchHit>,
    /// What else is near, nearest first, some of the passages among it: by these is judged how far
    /// the passages stand out. Where they are few, sentences of everyday life stand in for them.
    pub candidates: Vec<Candidate>,
}

/// A text near to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// The headings above it and its own text.
    pub text: String,
    /// Cosine of question and text.
    pub cosine: f32,
}

/// Anything that finds passages for a question: a collection, or a search of one's own.
pub trait PassageRetriever: Send + Sync {
    /// Finds passages for `question`, whose vector is `vector`.
    ///
    /// # Errors
    ///
    /// If the options cannot be served or the search fails.
    fn retrieve(
        &self,
        question: &str,
        vector: &[f32],
        options: &EvidenceOptions,
    ) -> Result<Retrieved>;
}

/// The hybrid search of a collection.
#[derive(Clone)]
pub struct CollectionRetriever {
    embedder: Arc<dyn Embedder>,
    collection: Arc<Collection>,
}

impl std::fmt::Debug for CollectionRetriever {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectionRetriever")
            .field("collection", &self.collection.path())
            .finish_non_exhaustive()
    }
}

impl CollectionRetriever {
    /// Searches `collection` with the model that made it.
    #[must_use]
    pub fn new(embedder: Arc<dyn Embedder>, collection: Arc<Collection>) -> Self {
        Self {
            embedder,
            collection,
        }
    }
}

impl PassageRetriever for CollectionRetriever {
    fn retrieve(
        &self,
        question: &str,
        vector: &[f32],
        options: &EvidenceOptions,
    ) -> Result<Retrieved> {
        from_collection(
            self.embedder.as_ref(),
            &self.collection,
            question,
            vector,
            options,
        )
    }
}

/// The passages of `collection` for `question`, whose vector is `vector`.
pub(super) fn from_collection(
    embedder: &dyn Embedder,
    collection: &Collection,
    question: &str,
    vector: &[f32],
    options: &EvidenceOptions,
) -> Result<Retrieved> {
    let searching = SearchOptions {
        top_k: options.top_k,
        path_prefix: options.path_prefix.clone(),
        best_sentence: false,
        ..SearchOptions::default()
    };
    let results = search(embedder, collection, question, &searching)?;
    let filter = Filter {
        path_prefix: options.path_prefix.clone(),
        ..Filter::default()
    };
    let candidates = collection.search(vector, NUM_CANDIDATES, &filter)?;
    let candidates = candidates.into_iter().map(|hit| Candidate {
        text: with_headings(&hit.chunk.heading_path, &hit.chunk.text),
        cosine: hit.cosine.unwrap_or(hit.score),
    });
    Ok(Retrieved {
        passages: results.hits,
        candidates: candidates.collect(),
    })
}

pub(super) fn with_headings(headings: &[String], text: &str) -> String {
    headings.join(" ") + " " + text
}
