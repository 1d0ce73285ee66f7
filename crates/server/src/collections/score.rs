//! The arithmetic of queries that are more than a search.

use std::collections::{BTreeMap, HashMap};

use wenyi::store::vector_store::{
    Distance, NamedVector, PointId, ScoredPoint, SparseVector, maximal_marginal_relevance_by,
};

use crate::problem::Problem;

/// How the results of several queries become one order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fusion {
    /// The sum over the queries of 1 / ((rank + 1) / weight + k - 1), ranks from 0 (Cormack et al. 2009).
    ReciprocalRank { k: f32, weights: Option<Vec<f32>> },
    /// The sum of the scores, each where it lies between mean - 3σ and mean + 3σ of its query.
    Distribution,
}

impl Fusion {
    pub(super) fn fuse(&self, sources: Vec<Vec<ScoredPoint>>) -> Result<Vec<ScoredPoint>, Problem> {
        if let Self::ReciprocalRank {
            weights: Some(weights),
            ..
        } = self
            && weights.len() != sources.len()
        {
            let (weights, sources) = (weights.len(), sources.len());
            let reason =
                format!("has {weights} entries, expected one for each of {sources} prefetches");
            return Err(Problem::field("weights", reason));
        }
        let mut places: HashMap<PointId, usize> = HashMap::new();
        let mut fused: Vec<ScoredPoint> = Vec::new();
        for (source, found) in sources.into_iter().enumerate() {
            let scores = self.scores(source, &found);
            for (found, score) in found.into_iter().zip(scores) {
                match places.get(&found.point.id) {
                    Some(&place) => fused[place].score += score,
                    None => {
                        places.insert(found.point.id.clone(), fused.len());
                        fused.push(ScoredPoint { score, ..found });
                    }
                }
            }
        }
        // Stable: equal ones stay in the order in which they were found.
        fused.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(fused)
    }

    /// What each result of a query adds to its point.
    fn scores(&self, source: usize, found: &[ScoredPoint]) -> Vec<f32> {
        match self {
            Self::ReciprocalRank { k, weights } => {
                let weight = weights.as_ref().map_or(1.0, |weights| weights[source]);
                let of = |rank: usize| match weight > 0.0 {
                    true => 1.0 / ((rank as f32 + 1.0) / weight + k - 1.0),
                    false => 0.0,
                };
                (0..found.len()).map(of).collect()
            }
            Self::Distribution => {
                let scores: Vec<f64> = found.iter().map(|found| f64::from(found.score)).collect();
                let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
                let squares = scores.iter().map(|score| (score - mean).powi(2));
                let variance = squares.sum::<f64>() / scores.len().saturating_sub(1).max(1) as f64;
                let deviation = variance.sqrt();
                let of = |score: &f64| match deviation > 0.0 {
                    true => ((score - (mean - 3.0 * deviation)) / (6.0 * deviation)) as f32,
                    false => 0.5,
                };
                scores.iter().map(of).collect()
            }
        }
    }
}

/// The indices of up to `wanted` of `vectors` by maximal marginal relevance, with the closeness of
/// their space.
pub(super) fn diverse(
    distance: Option<Distance>,
    query: &NamedVector,
    vectors: &[NamedVector],
    wanted: usize,
    lambda: f32,
) -> Vec<usize> {
    let close = |a: &NamedVector, b: &NamedVector| f64::from(closeness(distance, a, b));
    let relevance: Vec<f64> = vectors.iter().map(|vector| close(query, vector)).collect();
    let alike = |a: usize, b: usize| close(&vectors[a], &vectors[b]);
    maximal_marginal_relevance_by(&relevance, alike, wanted, lambda)
}

/// How close two vectors of a space are; greater is closer. Of sparse vectors, the dot product.
fn closeness(distance: Option<Distance>, a: &NamedVector, b: &NamedVector) -> f32 {
    match (a, b) {
        (NamedVector::Dense(a), NamedVector::Dense(b)) => dense_closeness(distance, a, b),
        (NamedVector::Sparse(a), NamedVector::Sparse(b)) => {
            let of_b: HashMap<u32, f32> = b.iter().collect();
            let products = a
                .iter()
                .filter_map(|(term, value)| Some(value * of_b.get(&term)?));
            products.sum()
        }
        _ => 0.0,
    }
}

fn dense_closeness(distance: Option<Distance>, a: &[f32], b: &[f32]) -> f32 {
    let sum = |of: fn(f64, f64) -> f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum()
    };
    let closeness = match distance {
        Some(Distance::Euclidean) => -sum(|a, b| (a - b) * (a - b)),
        Some(Distance::Manhattan) => -sum(|a, b| (a - b).abs()),
        Some(Distance::Dot) | None => sum(|a, b| a * b),
        Some(Distance::Cosine) => {
            let lengths = (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt();
            if lengths > 0.0 {
                sum(|a, b| a * b) / lengths
            } else {
                0.0
            }
        }
    };
    closeness as f32
}

/// The mean of the positive vectors, and as far again away from the mean of the negative ones.
pub(super) fn average(
    distance: Option<Distance>,
    positive: &[NamedVector],
    negative: &[NamedVector],
) -> wenyi::store::Result<NamedVector> {
    if matches!(positive.first(), Some(NamedVector::Sparse(_))) {
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        for (vectors, weight) in weighted(positive, negative) {
            for vector in vectors {
                if let NamedVector::Sparse(vector) = vector {
                    for (term, value) in vector.iter() {
                        *sums.entry(term).or_default() += weight * f64::from(value);
                    }
                }
            }
        }
        let (terms, values) = sums
            .into_iter()
            .map(|(term, sum)| (term, sum as f32))
            .unzip();
        return SparseVector::new(terms, values).map(NamedVector::Sparse);
    }
    let mut sums: Vec<f64> = Vec::new();
    for (vectors, weight) in weighted(positive, negative) {
        for vector in vectors {
            let NamedVector::Dense(vector) = vector else {
                continue;
            };
            // Where lengths say nothing, all examples count alike.
            let length = match distance {
                Some(Distance::Cosine) => length(vector),
                _ => 1.0,
            };
            sums.resize(sums.len().max(vector.len()), 0.0);
            for (sum, value) in sums.iter_mut().zip(vector) {
                *sum += weight * f64::from(*value) / length;
            }
        }
    }
    Ok(NamedVector::Dense(
        sums.into_iter().map(|sum| sum as f32).collect(),
    ))
}

/// Both kinds of examples with the weight of each example.
fn weighted<'a>(
    positive: &'a [NamedVector],
    negative: &'a [NamedVector],
) -> [(&'a [NamedVector], f64); 2] {
    let share = |vectors: &[NamedVector]| 1.0 / vectors.len().max(1) as f64;
    let twice = if negative.is_empty() { 1.0 } else { 2.0 };
    [
        (positive, twice * share(positive)),
        (negative, -share(negative)),
    ]
}

fn length(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    let length = squares.sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

/// Of the closest positive and the closest negative example the closer one decides, the latter against
/// the point.
pub(super) fn best(scores: &[f32], num_positive: usize) -> f32 {
    let greatest = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (positive, negative) = scores.split_at(num_positive);
    let (positive, negative) = (greatest(positive), greatest(negative));
    if positive > negative {
        half_sigmoid(positive)
    } else {
        -half_sigmoid(negative)
    }
}

/// The closeness to all positive examples less that to all negative ones.
pub(super) fn sum(scores: &[f32], num_positive: usize) -> f32 {
    let (positive, negative) = scores.split_at(num_positive);
    positive.iter().sum::<f32>() - negative.iter().sum::<f32>()
}

/// `scores` of the target, then of each pair's positive and negative example: the pairs in which the
/// positive one is closer less the others, and within that the closeness to the target.
pub(super) fn discover(scores: &[f32]) -> f32 {
    let (target, pairs) = scores.split_first().unwrap_or((&0.0, &[]));
    let rank = |pair: &[f32; 2]| match pair[0].total_cmp(&pair[1]) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Less => -1.0,
    };
    let ranks: f32 = pairs.as_chunks::<2>().0.iter().map(rank).sum();
    ranks + half_sigmoid(*target)
}

/// `scores` of each pair's positive and negative example: 0 where the positive one is closer in every
/// pair, less the further from that.
pub(super) fn context(scores: &[f32]) -> f32 {
    let loss = |pair: &[f32; 2]| sigmoid((pair[0] - pair[1] - f32::EPSILON).min(0.0));
    scores.as_chunks::<2>().0.iter().map(loss).sum()
}

/// A sigmoid without an exponential, from -1 to 1.
fn sigmoid(x: f32) -> f32 {
    x / (1.0 + x.abs())
}

/// The same from 0 to 1.
fn half_sigmoid(x: f32) -> f32 {
    0.5 * (sigmoid(x) + 1.0)
}
