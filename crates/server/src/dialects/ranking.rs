//! Scores, best first.

use wenyi_engine::encoder::Relevance;

use crate::call::Scores;

/// Places and scores of the `top` best documents (all if `None`), best first; of equal ones, the
/// earlier.
pub(super) fn ranked(
    scores: &Scores,
    top: Option<usize>,
) -> impl Iterator<Item = (usize, Relevance)> {
    let mut ranked: Vec<_> = scores.relevance.iter().copied().enumerate().collect();
    ranked.sort_by(|(_, one), (_, other)| other.logit.total_cmp(&one.logit));
    ranked.truncate(top.unwrap_or(usize::MAX));
    ranked.into_iter()
}
