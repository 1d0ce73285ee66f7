//! Maximal marginal relevance: close to the query, unlike what was chosen before.

use super::VectorStore;
use super::point::{Point, ScoredPoint};
use super::request::{MmrRequest, SearchRequest};
use crate::Result;

pub(super) fn search<S: VectorStore + ?Sized>(
    store: &S,
    query: &[f32],
    request: &MmrRequest,
    keep: Option<&dyn Fn(&Point) -> bool>,
) -> Result<Vec<ScoredPoint>> {
    let closest = SearchRequest {
        top_k: request.fetch_k,
        filter: request.filter.clone(),
        with_vector: true,
        ..SearchRequest::default()
    };
    let found = match keep {
        None => store.search(query, &closest)?,
        Some(keep) => store.search_where(query, &closest, keep)?,
    };
    let vectors: Vec<&[f32]> = found.iter().map(|f| f.point.vector.as_slice()).collect();
    let relevance: Vec<f64> = vectors.iter().map(|vector| cosine(query, vector)).collect();
    let lambda = request.lambda_mult;
    let chosen = maximal_marginal_relevance(&relevance, &vectors, request.top_k, lambda);
    let mut found: Vec<Option<ScoredPoint>> = found.into_iter().map(Some).collect();
    let mut points: Vec<ScoredPoint> = chosen
        .into_iter()
        .filter_map(|index| found[index].take())
        .collect();
    if !request.with_vector {
        points
            .iter_mut()
            .for_each(|found| found.point.vector.clear());
    }
    Ok(points)
}

/// [`maximal_marginal_relevance_by`] the cosines of `vectors` with one another.
#[must_use]
pub fn maximal_marginal_relevance(
    relevance: &[f64],
    vectors: &[&[f32]],
    top_k: usize,
    lambda: f32,
) -> Vec<usize> {
    let alike = |a: usize, b: usize| cosine(vectors[a], vectors[b]);
    maximal_marginal_relevance_by(relevance, alike, top_k, lambda)
}

/// The indices of up to `top_k` candidates, one for each `relevance`, in the order in which they are
/// chosen: each time the one with the most of λ · its relevance - (1 - λ) · how much it is `alike` one
/// chosen before, at most (Carbonell and Goldstein 1998). The first of equals is taken.
#[must_use]
pub fn maximal_marginal_relevance_by(
    relevance: &[f64],
    alike: impl Fn(usize, usize) -> f64,
    top_k: usize,
    lambda: f32,
) -> Vec<usize> {
    let lambda = f64::from(lambda);
    let mut redundancy = vec![f64::NEG_INFINITY; relevance.len()];
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < top_k && !left.is_empty() {
        let value = |index: usize| match chosen.is_empty() {
            true => relevance[index],
            false => lambda * relevance[index] - (1.0 - lambda) * redundancy[index],
        };
        let mut best = 0;
        for place in 1..left.len() {
            if value(left[place]) > value(left[best]) {
                best = place;
            }
        }
        let index = left.remove(best);
        for &other in &left {
            redundancy[other] = redundancy[other].max(alike(index, other));
        }
        chosen.push(index);
    }
    chosen
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 {
        0.0
    } else {
        dot(a, b) / lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambda_weighs_closeness_against_difference() {
        let (query, near, same, far): (&[f32], &[f32], &[f32], &[f32]) =
            (&[1.0, 0.0], &[0.9, 0.1], &[1.8, 0.2], &[0.5, -0.9]);
        let vectors = [near, same, far];
        let choose = |vectors: &[&[f32]], top_k, lambda| {
            let relevance: Vec<f64> = vectors.iter().map(|v| cosine(query, v)).collect();
            maximal_marginal_relevance(&relevance, vectors, top_k, lambda)
        };
        assert_eq!(choose(&vectors, 3, 1.0), [0, 1, 2]);
        assert_eq!(choose(&vectors, 2, 0.0), [0, 2]);
        assert_eq!(choose(&vectors, 9, 0.5), [0, 2, 1]);
        assert_eq!(choose(&[], 2, 0.5), [0usize; 0]);
    }
}
