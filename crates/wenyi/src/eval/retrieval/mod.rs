//! How well a model and a way to search find what they should.
//!
//! [`judged`] reads queries, documents and the judgements which document answers which query;
//! [`evaluate`] embeds the documents, searches every query in each [`Method`], and averages
//! nDCG@10 (Järvelin and Kekäläinen 2002, with gains as judged, as `trec_eval` and BEIR have it).

mod judged;

use std::collections::HashMap;

use serde::Serialize;
use wenyi_store::{
    Chunk, Collection, CollectionOptions, Document, Filter, Fusion, Hit, NewDocument, Space,
};

pub use self::judged::{JudgedSet, Query, Text, judged_sets};
use crate::embed::{EmbedOptions, Embedder, Overflow, Role};
use crate::progress::{Progress, Unit};
use crate::retrieve::{Error, ErrorKind, Result};

/// Places of a result list that count.
const DEPTH: usize = 10;

/// Documents that are embedded in one call.
const BATCH: usize = 64;

/// A way to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// BM25 alone.
    Text,
    /// The vectors' cosine alone.
    Dense,
    /// Both.
    Hybrid(Fusion),
}

/// What a method reached on a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The mean over all queries, 0 to 1.
    pub ndcg_at_10: f64,
    /// The share of the judged documents among the first ten, averaged over the queries.
    pub recall_at_10: f64,
}

/// Embeds `set` and measures each of `methods` on it. Long texts are cut to what the model takes,
/// as the published figures of models have it.
///
/// # Errors
///
/// If the model fails, the disk is full, or the caller asks to stop.
pub fn evaluate(
    embedder: &dyn Embedder,
    set: &JudgedSet,
    methods: &[Method],
    progress: &dyn Progress,
) -> Result<Vec<Score>> {
    let folder = Folder::new()?;
    let collection = Collection::create(
        folder.0.join("evaluation.db"),
        &CollectionOptions {
            name: set.name.clone(),
            space: Space {
                fingerprint: serde_json::Value::Null,
                dimensions: embedder.dimensions(),
            },
            chunking: serde_json::Value::Null,
        },
    )?;
    progress.start(&set.name, Some(set.documents.len() as u64), Unit::Items);
    for batch in set.documents.chunks(BATCH) {
        if progress.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        keep(embedder, &collection, batch)?;
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    let texts: Vec<&str> = set
        .queries
        .iter()
        .map(|query| query.text.as_str())
        .collect();
    let vectors = embed(embedder, &texts, Role::Query)?;
    let measure = |method: &Method| measure(&collection, set, &vectors, *method);
    methods.iter().map(measure).collect()
}

fn keep(embedder: &dyn Embedder, collection: &Collection, batch: &[Text]) -> Result<()> {
    let texts: Vec<&str> = batch
        .iter()
        .map(|document| document.text.as_str())
        .collect();
    let vectors = embed(embedder, &texts, Role::Document)?;
    let documents = batch.iter().zip(vectors).map(|(text, vector)| NewDocument {
        document: Document {
            path: text.id.clone(),
            ..Document::default()
        },
        chunks: vec![Chunk {
            text: text.text.clone(),
            ..Chunk::default()
        }],
        vectors: vector,
    });
    Ok(collection.upsert_documents(&documents.collect::<Vec<_>>())?)
}

fn embed(embedder: &dyn Embedder, texts: &[&str], role: Role) -> Result<Vec<Vec<f32>>> {
    let options = EmbedOptions {
        role,
        overflow: Overflow::Truncate,
        ..EmbedOptions::default()
    };
    let embeddings = embedder.embed(texts, &options)?;
    Ok(embeddings.iter().map(<[f32]>::to_vec).collect())
}

fn measure(
    collection: &Collection,
    set: &JudgedSet,
    vectors: &[Vec<f32>],
    method: Method,
) -> Result<Score> {
    let (mut ndcg, mut recall) = (0.0, 0.0);
    for (query, vector) in set.queries.iter().zip(vectors) {
        let everything = Filter::default();
        // One more, for the document that is the query itself.
        let hits = match method {
            Method::Text => collection.search_text(&query.text, DEPTH + 1, &everything),
            Method::Dense => collection.search(vector, DEPTH + 1, &everything),
            Method::Hybrid(fusion) => {
                collection.search_hybrid(vector, &query.text, fusion, DEPTH + 1, &everything)
            }
        }?;
        let found: Vec<&str> = hits
            .iter()
            .map(path)
            .filter(|path| *path != query.id)
            .collect();
        ndcg += ndcg_at_10(&found, &query.relevant);
        recall += recall_at_10(&found, &query.relevant);
    }
    let count = set.queries.len().max(1) as f64;
    Ok(Score {
        ndcg_at_10: ndcg / count,
        recall_at_10: recall / count,
    })
}

fn path(hit: &Hit) -> &str {
    &hit.document.document.path
}

/// The discounted gain of the first ten over that of the best possible ten.
fn ndcg_at_10(found: &[&str], relevant: &HashMap<String, f64>) -> f64 {
    let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        let places = gains.take(DEPTH).zip(2..);
        places
            .map(|(gain, place)| gain / f64::from(place).log2())
            .sum()
    };
    let mut best: Vec<f64> = relevant.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal = discounted(&mut best.into_iter());
    let gain = |path: &&str| relevant.get(*path).copied().unwrap_or(0.0);
    match ideal > 0.0 {
        true => discounted(&mut found.iter().map(gain)) / ideal,
        false => 0.0,
    }
}

fn recall_at_10(found: &[&str], relevant: &HashMap<String, f64>) -> f64 {
    let first = &found[..found.len().min(DEPTH)];
    let hits = first.iter().filter(|path| relevant.contains_key(**path));
    hits.count() as f64 / relevant.len().max(1) as f64
}

/// A folder that is removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir();
        let mut number = 0;
        loop {
            let name = format!("wenyi-evaluation-{}-{number}", std::process::id());
            let path = folder.join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io(&path, error)),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
