//! Texts put into a store and found again by meaning.

use std::sync::Arc;

use serde_json::Value;
use wenyi_store::Conditions;
use wenyi_store::vector_store::{
    MmrRequest, Payload, Point, PointId, ScoredPoint, SearchRequest, Selection, VectorStore,
};

use super::retriever::{Retriever, RetrieverOptions};
use super::{Error, Result};
use crate::embed::Embedder;

/// Points that are found when the caller does not say how many.
pub(super) const TOP_K: usize = 4;

/// A text with what is known about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredText {
    /// Its id; a new UUID is given if `None`.
    pub id: Option<PointId>,
    /// The text.
    pub text: String,
    /// The caller's own facts.
    pub metadata: Payload,
}

/// A store whose vectors an embedder makes. Clones share both.
#[derive(Clone)]
pub struct TextStore {
    store: Arc<dyn VectorStore>,
    embedder: Arc<dyn Embedder>,
}

impl TextStore {
    /// The texts of `store`, embedded by `embedder`.
    ///
    /// # Errors
    ///
    /// If the store's vectors have another width than the embedder's.
    pub fn new(store: Arc<dyn VectorStore>, embedder: Arc<dyn Embedder>) -> Result<Self> {
        let info = store.info()?;
        if let Some(expected) = info.dimensions.filter(|&n| n != embedder.dimensions()) {
            let kind = wenyi_store::ErrorKind::Width {
                collection: info.name,
                subject: format!("a vector of `{}`", embedder.fingerprint().model),
                expected,
                received: embedder.dimensions(),
            };
            return Err(wenyi_store::Error::from(kind).into());
        }
        Ok(Self { store, embedder })
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &dyn VectorStore {
        &*self.store
    }

    /// The embedder before it.
    #[must_use]
    pub fn embedder(&self) -> &dyn Embedder {
        &*self.embedder
    }

    /// Embeds texts and keeps them, replacing those whose ids are there; returns their ids, new
    /// UUIDs where there are none. `metadatas` and `ids` are empty or as many as the texts, which is
    /// checked before anything is embedded.
    ///
    /// # Errors
    ///
    /// If the numbers differ, embedding fails, or the store refuses; nothing has been kept then.
    pub fn add_texts(
        &self,
        texts: &[&str],
        metadatas: &[Payload],
        ids: &[PointId],
    ) -> Result<Vec<PointId>> {
        for (what, received) in [("metadatas", metadatas.len()), ("ids", ids.len())] {
            if received != 0 && received != texts.len() {
                let expected = texts.len();
                return Err(Error::Count {
                    what,
                    expected,
                    received,
                });
            }
        }
        let texts = texts.iter().enumerate().map(|(index, text)| StoredText {
            id: ids.get(index).cloned(),
            text: (*text).into(),
            metadata: metadatas.get(index).cloned().unwrap_or_default(),
        });
        self.add_documents(texts.collect())
    }

    /// [`TextStore::add_texts`] for texts that carry their metadata and ids.
    ///
    /// # Errors
    ///
    /// As [`TextStore::add_texts`].
    pub fn add_documents(&self, texts: Vec<StoredText>) -> Result<Vec<PointId>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let vectors = self.embedder.embed_documents(&all)?;
        let points: Vec<Point> = texts
            .into_iter()
            .zip(vectors)
            .map(|(text, vector)| Point {
                id: text.id.unwrap_or_else(new_id),
                vector,
                text: text.text,
                payload: text.metadata,
            })
            .collect();
        self.store.upsert(&points)?;
        Ok(points.into_iter().map(|point| point.id).collect())
    }

    /// Removes the texts with these ids; says how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn delete(&self, ids: &[PointId]) -> Result<u64> {
        Ok(self.store.delete(&Selection::Ids(ids.to_vec()))?)
    }

    /// The texts with these ids, in the order of `ids`; unknown ones are left out.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        Ok(self.store.get_by_ids(ids)?)
    }

    /// The `top_k` texts closest to `query`, best first.
    ///
    /// # Errors
    ///
    /// If embedding or the store fails.
    pub fn similarity_search(
        &self,
        query: &str,
        top_k: usize,
        filter: Option<&Conditions>,
    ) -> Result<Vec<Point>> {
        let found = self.similarity_search_with_score(query, top_k, filter)?;
        Ok(found.into_iter().map(|found| found.point).collect())
    }

    /// [`TextStore::similarity_search`] with the scores: greater is closer.
    ///
    /// # Errors
    ///
    /// As [`TextStore::similarity_search`].
    pub fn similarity_search_with_score(
        &self,
        query: &str,
        top_k: usize,
        filter: Option<&Conditions>,
    ) -> Result<Vec<ScoredPoint>> {
        let request = SearchRequest {
            top_k,
            filter: filter.cloned(),
            ..SearchRequest::default()
        };
        self.search(query, &request)
    }

    /// The texts closest to a vector.
    ///
    /// # Errors
    ///
    /// If the store fails or refuses the vector.
    pub fn similarity_search_by_vector(
        &self,
        vector: &[f32],
        top_k: usize,
        filter: Option<&Conditions>,
    ) -> Result<Vec<ScoredPoint>> {
        let request = SearchRequest {
            top_k,
            filter: filter.cloned(),
            ..SearchRequest::default()
        };
        Ok(self.store.search(vector, &request)?)
    }

    /// The closest texts for which `keep` is true.
    ///
    /// # Errors
    ///
    /// As [`TextStore::similarity_search`].
    pub fn similarity_search_where(
        &self,
        query: &str,
        top_k: usize,
        keep: &dyn Fn(&Point) -> bool,
    ) -> Result<Vec<ScoredPoint>> {
        let vector = self.embedder.embed_query(query)?;
        let request = SearchRequest {
            top_k,
            ..SearchRequest::default()
        };
        Ok(self.store.search_where(&vector, &request, keep)?)
    }

    /// Close texts that differ from each other.
    ///
    /// # Errors
    ///
    /// As [`TextStore::similarity_search`].
    pub fn max_marginal_relevance_search(
        &self,
        query: &str,
        request: &MmrRequest,
    ) -> Result<Vec<ScoredPoint>> {
        let vector = self.embedder.embed_query(query)?;
        Ok(self.store.max_marginal_relevance_search(&vector, request)?)
    }

    /// The same among texts for which `keep` is true: for conditions that are code and not data.
    ///
    /// # Errors
    ///
    /// As [`TextStore::similarity_search`].
    pub fn max_marginal_relevance_search_where(
        &self,
        query: &str,
        request: &MmrRequest,
        keep: &dyn Fn(&Point) -> bool,
    ) -> Result<Vec<ScoredPoint>> {
        let vector = self.embedder.embed_query(query)?;
        let store = &self.store;
        Ok(store.max_marginal_relevance_search_where(&vector, request, keep)?)
    }

    /// The texts closest to `query` as `request` says.
    ///
    /// # Errors
    ///
    /// As [`TextStore::similarity_search`].
    pub fn search(&self, query: &str, request: &SearchRequest) -> Result<Vec<ScoredPoint>> {
        let vector = self.embedder.embed_query(query)?;
        Ok(self.store.search(&vector, request)?)
    }

    /// A search with its options chosen beforehand.
    #[must_use]
    pub fn as_retriever(&self, options: RetrieverOptions) -> Retriever {
        Retriever::new(self.clone(), options)
    }
}

impl std::fmt::Debug for TextStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextStore")
            .field("store", &self.store)
            .field("model", &self.embedder.fingerprint().model)
            .finish()
    }
}

/// A random UUID (version 4).
fn new_id() -> PointId {
    PointId::Text(uuid::Uuid::new_v4().to_string())
}

/// Metadata from a JSON object; empty for anything else.
impl From<(&str, Value)> for StoredText {
    fn from((text, metadata): (&str, Value)) -> Self {
        let metadata = match metadata {
            Value::Object(metadata) => metadata,
            _ => Payload::new(),
        };
        Self {
            id: None,
            text: text.into(),
            metadata,
        }
    }
}
