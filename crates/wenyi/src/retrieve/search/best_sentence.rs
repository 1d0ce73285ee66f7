//! The sentence of a passage that comes nearest to the question.

use std::ops::Range;

use serde::Deserialize;
use wenyi_store::Hit;

use super::BestSentence;
use crate::embed::{EmbedOptions, Embedder, Overflow, Role};
use crate::retrieve::Result;
use crate::retrieve::chunk::prose;
use crate::retrieve::load::Kind;

/// Sentences of one search, so that a hundred passages cost no more than ten: about 20 of each of
/// ten, or a tenth of a second.
const MOST_SENTENCES: usize = 192;

/// For each hit its sentence closest to `query`; none if it has only code or headings.
///
/// All sentences are embedded in one call, as documents: they are compared with the question as
/// their passage was.
pub(super) fn find<'a>(
    embedder: &dyn Embedder,
    query: &[f32],
    hits: impl Iterator<Item = &'a Hit>,
) -> Result<Vec<Option<BestSentence>>> {
    let mut candidates: Vec<(&str, Vec<Range<usize>>)> = Vec::new();
    let mut room = MOST_SENTENCES;
    for hit in hits {
        let text = hit.chunk.text.as_str();
        let mut sentences = prose(kind_of(hit), text);
        sentences.truncate(room);
        room -= sentences.len();
        candidates.push((text, sentences));
    }
    let texts: Vec<&str> = candidates
        .iter()
        .flat_map(|(text, sentences)| sentences.iter().map(|span| &text[span.clone()]))
        .collect();
    if texts.is_empty() {
        return Ok(vec![None; candidates.len()]);
    }
    let options = EmbedOptions {
        role: Role::Document,
        overflow: Overflow::SplitMean,
        ..EmbedOptions::default()
    };
    let embeddings = embedder.embed(&texts, &options)?;
    let mut vectors = embeddings.iter();
    let best = candidates.into_iter().map(|(text, sentences)| {
        let scored = sentences.into_iter().zip(vectors.by_ref());
        let scored = scored.map(|(span, vector)| (dot(query, vector), span));
        // Of equal sentences the first.
        let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(score, span)| BestSentence {
            text: text[span.clone()].to_owned(),
            span,
            score,
        })
    });
    Ok(best.collect())
}

/// How the passage's file was read; what is not told is read as plain text.
fn kind_of(hit: &Hit) -> Kind {
    let kind = &hit.document.document.metadata["kind"];
    Kind::deserialize(kind).unwrap_or(Kind::Text)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
