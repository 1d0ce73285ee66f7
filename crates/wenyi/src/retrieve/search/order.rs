//! Which of the candidates are shown, and in which order: by a reranker, and for the sake of variety.

use wenyi_store::Collection;
use wenyi_store::vector_store::maximal_marginal_relevance;

use super::{Found, SearchMode, SearchOptions};
use crate::rerank::Reranker;
use crate::retrieve::Result;
use crate::retrieve::chunk::kept;

/// The best of `found` by what `options` ask for.
pub(super) fn choose(
    reranker: Option<&dyn Reranker>,
    collection: &Collection,
    query: &str,
    mode: SearchMode,
    mut found: Vec<Found>,
    options: &SearchOptions,
) -> Result<Vec<Found>> {
    if let Some(reranker) = reranker {
        rerank(reranker, query, &mut found)?;
    }
    if let Some(lambda) = options.mmr {
        return varied(collection, mode, found, options.top_k, lambda);
    }
    found.truncate(options.top_k);
    Ok(found)
}

/// Orders by relevance; equals stay as they are.
fn rerank(reranker: &dyn Reranker, query: &str, found: &mut [Found]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let text = |found: &Found| {
        let chunk = &found.hit.chunk;
        kept::text_below_titles(&chunk.heading_path, &chunk.text)
    };
    let texts: Vec<String> = found.iter().map(text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ranking = reranker.rerank(query, &texts)?;
    for (found, score) in found.iter_mut().zip(ranking.scores) {
        found.relevance = Some(score);
    }
    let relevance = |found: &Found| found.relevance.unwrap_or(f32::NEG_INFINITY);
    found.sort_by(|a, b| relevance(b).total_cmp(&relevance(a)));
    Ok(())
}

/// By maximal marginal relevance. In a search by meaning the relevance is the cosine; other scores
/// are of no fixed size, and count as shares of the best one.
fn varied(
    collection: &Collection,
    mode: SearchMode,
    found: Vec<Found>,
    top_k: usize,
    lambda: f32,
) -> Result<Vec<Found>> {
    let score = |found: &Found| f64::from(found.relevance.unwrap_or(found.hit.score));
    let best = found.iter().map(score).fold(f64::MIN_POSITIVE, f64::max);
    let is_cosine = mode == SearchMode::Dense && found.iter().all(|f| f.relevance.is_none());
    let unit = if is_cosine { 1.0 } else { best };
    let relevance: Vec<f64> = found.iter().map(|found| score(found) / unit).collect();
    let ids: Vec<i64> = found.iter().map(|found| found.hit.chunk_id).collect();
    let vectors = collection.chunk_vectors(&ids)?;
    let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
    let chosen = maximal_marginal_relevance(&relevance, &vectors, top_k, lambda);
    let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let chosen = chosen.into_iter().filter_map(|index| found[index].take());
    Ok(chosen.collect())
}
