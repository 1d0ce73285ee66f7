//! The sentences that answer a question, and whether they do.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use wenyi_store::Collection;

use super::background;
use super::coverage::Terms;
use super::quotes::{Sentences, kind_of};
use super::retriever::{Candidate, EvidenceOptions, Retrieved, from_collection, with_headings};
use super::wanted::Wanted;
use crate::embed::Embedder;
use crate::retrieve::load::{Kind, spoken};
use crate::retrieve::{ErrorKind, Location, Result, SearchHit};

/// Whether the passages answer the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// They speak of what is asked.
    Strong,
    /// They may; whoever reads should look.
    Weak,
    /// They do not: the documents have no answer.
    None,
}

/// What the documents say to a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// The question.
    pub question: String,
    /// The name of the model that compared.
    pub model: String,
    /// Whether the quotes answer it.
    pub support: Support,
    /// The share of the question's words, by rarity, that the passages have; `None` if they are in
    /// another language.
    pub coverage: Option<f32>,
    /// How far the best quote stands out from passages that do not answer: 0 not at all, 1 entirely.
    pub margin: f32,
    /// The sentences, best first; none if there is no support.
    pub quotes: Vec<Quote>,
    /// The passages that were looked at, nearest first: `Quote::number` counts them from 1.
    pub passages: Vec<SearchHit>,
    /// How long it took.
    pub seconds: f64,
}

/// A sentence and what belongs to it, as it stands in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quote {
    /// The passage it is from, from 1: what `[n]` refers to.
    pub number: usize,
    /// The file.
    pub path: PathBuf,
    /// Its pages, slides, rows or chapters, for files that have no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Its first line, from 1, as a [`SearchHit`] counts them.
    pub first_line: u64,
    /// Its last line.
    pub last_line: u64,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// The sentence, with its neighbours and the code that it introduces.
    pub text: String,
    /// Where it stands in the passage's text, in bytes.
    pub span: Range<usize>,
    /// Cosine of the question and the best sentence of the quote.
    pub score: f32,
}

/// A candidate this far down is taken not to answer.
const BACKGROUND_RANK: usize = 50;

/// Finds the sentences of `collection` that answer `question`.
///
/// # Errors
///
/// As [`crate::retrieve::search`].
pub fn evidence(
    embedder: &dyn Embedder,
    collection: &Collection,
    question: &str,
    options: &EvidenceOptions,
) -> Result<Evidence> {
    let started = Instant::now();
    let question = asked(question)?;
    let vector = embedder.embed_query(question)?;
    let found = from_collection(embedder, collection, question, &vector, options)?;
    let mut evidence = weigh(embedder, question, &vector, found)?;
    evidence.seconds = started.elapsed().as_secs_f64();
    Ok(evidence)
}

/// The question without white space around it.
pub(super) fn asked(question: &str) -> Result<&str> {
    let question = question.trim();
    match question.contains(char::is_alphanumeric) {
        true => Ok(question),
        // Marks alone ask nothing.
        false => Err(ErrorKind::EmptyQuery.into()),
    }
}

/// Chooses the quotes of what was `found` for `question`, and judges whether they answer it.
pub(super) fn weigh(
    embedder: &dyn Embedder,
    question: &str,
    vector: &[f32],
    found: Retrieved,
) -> Result<Evidence> {
    let started = Instant::now();
    let Retrieved {
        passages,
        candidates,
    } = found;
    let shown = passages
        .iter()
        .map(|hit| with_headings(&hit.heading_path, &hit.text));
    let shown: Vec<String> = shown.collect();
    let others = candidates.iter().map(|candidate| &candidate.text);
    let others = others.filter(|text| !shown.contains(text)).cloned();
    let company = background::company(embedder, vector, &candidates)?;
    let beside = company.iter().map(|candidate| candidate.text.clone());
    let read = passages
        .iter()
        .zip(&shown)
        .map(|(hit, text)| match kind_of(hit) {
            // Names in code are several words in one.
            Kind::Code => format!("{text} {}", spoken(text)),
            _ => text.clone(),
        });
    let texts: Vec<String> = read.chain(others).chain(beside).collect();
    let terms = Terms::of(question);
    let known = terms.among(&texts);
    let coverage = known.coverage(passages.len());

    let background = background_of(&candidates, &company);
    let mut sentences = Sentences::read(embedder, vector, &passages)?;
    sentences.rank(&known, background.unwrap_or(1.0));
    let best = sentences.best_score();
    let margin = margin(best.unwrap_or(0.0), background);
    let support = match support(coverage, margin, best.is_some()) {
        // Beside sentences of everyday life whatever is on the subject stands out.
        Support::Strong if !company.is_empty() && !is_spoken_of(coverage, margin) => Support::Weak,
        // What the question names is not what they speak of.
        Support::Strong if known.misses_a_name(passages.len()) => Support::Weak,
        support => support,
    };
    let quotes = match (support, best) {
        (Support::None, _) | (_, None) => Vec::new(),
        (_, Some(best)) => sentences.quotes(least(margin, best)),
    };
    let wanted = Wanted::of(question);
    let has_wanted = wanted.is_none_or(|wanted| {
        let mut quotes = quotes.iter();
        quotes.any(|quote| wanted.is_in(&quote.text))
    });
    let support = match support {
        // They are on the subject, and do not say what is asked of it.
        Support::Strong if !has_wanted => Support::Weak,
        support => support,
    };
    Ok(Evidence {
        question: question.to_owned(),
        model: embedder.fingerprint().model.clone(),
        support,
        coverage,
        margin,
        quotes,
        passages,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The cosine of candidates that do not answer.
fn background_of(candidates: &[Candidate], company: &[Candidate]) -> Option<f32> {
    if company.is_empty() {
        // In a small collection half of it is background.
        let rank = BACKGROUND_RANK.min(candidates.len() / 2);
        return candidates.get(rank).map(|candidate| candidate.cosine);
    }
    background::cosine(candidates, company)
}

/// How far `best` stands out from `background`. Models differ in how wide they spread their cosines, so the
/// distance is taken relative to what is left up to 1.
fn margin(best: f32, background: Option<f32>) -> f32 {
    match background {
        Some(background) if background < 1.0 => {
            ((best - background) / (1.0 - background)).clamp(0.0, 1.0)
        }
        _ => 0.0,
    }
}

/// Judged on questions on a book in two languages and on questions that it does not answer: see
/// `docs/guide/en/ask.md`.
fn support(coverage: Option<f32>, margin: f32, any: bool) -> Support {
    let (strong, weak) = match coverage {
        Some(coverage) => {
            // Rare words alone do not answer: a search by words finds them wherever they stand.
            let sum = coverage + 1.6 * margin;
            (sum >= 0.85 && margin >= 0.2, sum >= 0.65 && margin >= 0.12)
        }
        // By meaning alone, which says less.
        None => (margin >= 0.35, margin >= 0.2),
    };
    match (any, strong, weak) {
        (false, ..) | (_, false, false) => Support::None,
        (_, true, _) => Support::Strong,
        _ => Support::Weak,
    }
}

/// True if few passages speak of what is asked and not only of its subject. Judged on notes of one to
/// five passages with the default model: 15 questions that they answer and 10 on their subjects that
/// they do not, in each of two languages.
fn is_spoken_of(coverage: Option<f32>, margin: f32) -> bool {
    coverage.is_none_or(|coverage| coverage >= 0.45) || margin >= 0.4
}

/// The least score of a quote: one that stands out half as far as the best one.
fn least(margin: f32, best: f32) -> f32 {
    if margin <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let background = (best - margin) / (1.0 - margin);
    f32::midpoint(best, background)
}

#[cfg(test)]
mod tests;
