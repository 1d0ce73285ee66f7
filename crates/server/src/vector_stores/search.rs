//! Searches in a store.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use wenyi::embed::Role;
use wenyi::store::vector_store::{ScoredPoint, SearchRequest, SqliteStore, VectorStore};
use wenyi::store::{Conditions, Fusion};

use super::ingest::on;
use super::of_store;
use crate::call::{Client, TextsRequest};
use crate::http::App;
use crate::problem::Problem;

/// What is sought.
#[derive(Debug)]
pub(crate) struct Search {
    /// A chunk is as close as it is to the closest of them.
    pub(crate) queries: Vec<String>,
    pub(crate) limit: usize,
    /// On attributes, by [`attribute_key`].
    pub(crate) filter: Option<Conditions>,
    pub(crate) ranking: Ranking,
    pub(crate) score_threshold: Option<f32>,
}

/// What makes the score of a chunk, which is between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ranking {
    /// The cosine, 0 if it is negative.
    Vectors,
    /// The cosine and the words together, as [`Fusion::Absolute`] has it.
    Hybrid { vector: f32, text: f32 },
}

impl Default for Ranking {
    fn default() -> Self {
        Self::Hybrid {
            vector: 1.0,
            text: 1.0,
        }
    }
}

/// A chunk that was found.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) file: String,
    pub(crate) filename: String,
    pub(crate) score: f32,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) text: String,
}

/// Where the attribute `name` lies in a chunk's payload.
pub(crate) fn attribute_key(name: &str) -> String {
    format!("attribute:{name}")
}

/// The chunks of the store that fit best, best first.
pub(crate) async fn search(
    app: &Arc<App>,
    client: Client,
    store: String,
    search: Search,
) -> Result<Vec<Hit>, Problem> {
    let stores = app.storage.vector_stores().ok_or(Problem::NoStorage)?;
    let chunks = on(&stores, move |stores| {
        if stores.store(&store)?.is_expired() {
            let reason = "is of a vector store that has expired";
            return Err(Problem::field("vector_store_id", reason));
        }
        stores.touch(&store)?;
        let Some(chunks) = stores.chunks(&store)? else {
            return Ok(None);
        };
        let metadata = chunks.info().map_err(of_store)?.metadata;
        Ok(Some((chunks, metadata)))
    });
    let Some((chunks, metadata)) = chunks.await? else {
        return Ok(Vec::new());
    };
    let served = app.models.served(metadata["model"].as_str()).await?;
    served.check_space(&metadata)?;
    let request = TextsRequest {
        model: Some(served.name.clone()),
        texts: search.queries.clone(),
        role: Some(Role::Query),
        ..TextsRequest::default()
    };
    let vectors = app.models.embed(client, request).await?.vectors;
    on(&stores, move |_| {
        let found = found(&chunks, &vectors, &search).map_err(of_store)?;
        Ok(best_of(found, search.limit).into_iter().map(hit).collect())
    })
    .await
}

/// What each query finds.
fn found(
    chunks: &SqliteStore,
    vectors: &[Arc<[f32]>],
    search: &Search,
) -> wenyi::store::Result<Vec<Vec<ScoredPoint>>> {
    let request = SearchRequest {
        top_k: search.limit,
        filter: search.filter.clone(),
        score_threshold: search.score_threshold,
        ..SearchRequest::default()
    };
    let Ranking::Hybrid { vector, text } = search.ranking else {
        let queries: Vec<&[f32]> = vectors.iter().map(|vector| &**vector).collect();
        let mut found = chunks.search_batch(&queries, &request)?;
        for scored in found.iter_mut().flatten() {
            scored.score = scored.score.clamp(0.0, 1.0);
        }
        return Ok(found);
    };
    // Stores from before there were text indexes get theirs now.
    chunks.keep_text_index()?;
    let fusion = Fusion::Absolute { vector, text };
    let queries = search.queries.iter().zip(vectors);
    queries
        .map(|(query, vector)| chunks.search_hybrid(vector, query, fusion, &request))
        .collect()
}

/// The results of several queries as one list.
fn best_of(found: Vec<Vec<ScoredPoint>>, limit: usize) -> Vec<ScoredPoint> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<ScoredPoint> = Vec::new();
    for scored in found.into_iter().flatten() {
        match places.get(&scored.point.id.to_string()) {
            Some(&place) => all[place].score = all[place].score.max(scored.score),
            None => {
                places.insert(scored.point.id.to_string(), all.len());
                all.push(scored);
            }
        }
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(limit);
    all
}

fn hit(found: ScoredPoint) -> Hit {
    let prefix = attribute_key("");
    let payload = found.point.payload;
    let text_at = |key: &str| {
        payload
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let attributes = payload.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(&prefix)?;
        Some((name.to_owned(), value.clone()))
    });
    Hit {
        file: text_at("file_id"),
        filename: text_at("filename"),
        score: found.score,
        attributes: attributes.collect(),
        text: found.point.text,
    }
}
