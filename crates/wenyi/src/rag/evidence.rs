//! The sentences that answer a question, and whether they do.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use wenyi_store::{Collection, Filter, Hit};

use super::coverage::Terms;
use crate::embed::Embedder;
use crate::retrieve::{Result, SearchHit, SearchOptions, search};

/// How to look for evidence.
#[derive(Clone, Debug)]
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

/// A sentence, as it stands in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quote {
    /// The passage it is from, from 1: what `[n]` refers to.
    pub number: usize,
    /// The file.
    pub path: PathBuf,
    /// Its first line in the file, from 1.
    pub first_line: u64,
    /// Its last line.
    pub last_line: u64,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// The sentence, and the code that it introduces, if any.
    pub text: String,
    /// Where it stands in the passage's text, in bytes.
    pub span: Range<usize>,
    /// Cosine of question and sentence.
    pub score: f32,
}

/// Candidates that the rarity of words and the background are judged by.
const NUM_CANDIDATES: usize = 64;

/// A candidate this far down is taken not to answer.
const BACKGROUND_RANK: usize = 50;

/// Finds the sentences of `collection` that answer `question`.
///
/// # Errors
///
/// As [`search`].
pub fn evidence(
    embedder: &dyn Embedder,
    collection: &Collection,
    question: &str,
    options: &EvidenceOptions,
) -> Result<Evidence> {
    let started = Instant::now();
    let searching = SearchOptions {
        top_k: options.top_k,
        path_prefix: options.path_prefix.clone(),
        ..SearchOptions::default()
    };
    let results = search(embedder, collection, question, &searching)?;
    let filter = Filter {
        path_prefix: options.path_prefix.clone(),
        ..Filter::default()
    };
    let vector = embedder.embed_query(&results.query)?;
    let candidates = collection.search(&vector, NUM_CANDIDATES, &filter)?;

    let passages = results
        .hits
        .iter()
        .map(|hit| hit.heading_path.join(" ") + " " + &hit.text);
    let others = candidates.iter().filter(|candidate| {
        let is = |hit: &SearchHit| hit.text == candidate.chunk.text;
        !results.hits.iter().any(is)
    });
    let others = others.map(|hit| hit.chunk.heading_path.join(" ") + " " + &hit.chunk.text);
    let texts: Vec<String> = passages.chain(others).collect();
    let coverage = Terms::of(&results.query).coverage(&texts, results.hits.len());

    let mut quotes: Vec<Quote> = (1..).zip(&results.hits).filter_map(quote).collect();
    quotes.sort_by(|a, b| b.score.total_cmp(&a.score));
    let best = quotes.first().map_or(0.0, |quote| quote.score);
    let margin = margin(best, &candidates);
    let support = support(coverage, margin, !quotes.is_empty());
    keep_the_best(&mut quotes, margin, best);
    if support == Support::None {
        quotes.clear();
    }
    Ok(Evidence {
        question: results.query,
        model: results.model,
        support,
        coverage,
        margin,
        quotes,
        passages: results.hits,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// How far `best` stands out from candidates that do not answer. Models differ in how wide they
/// spread their cosines, so the distance is taken relative to what is left up to 1.
fn margin(best: f32, candidates: &[Hit]) -> f32 {
    // In a small collection half of it is background.
    let rank = BACKGROUND_RANK.min(candidates.len() / 2);
    match candidates.get(rank) {
        Some(background) if background.score < 1.0 => {
            ((best - background.score) / (1.0 - background.score)).clamp(0.0, 1.0)
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

/// Leaves out sentences that stand out less than half as far as the best one.
fn keep_the_best(quotes: &mut Vec<Quote>, margin: f32, best: f32) {
    if margin > 0.0 {
        let background = (best - margin) / (1.0 - margin);
        quotes.retain(|quote| quote.score >= f32::midpoint(best, background));
    }
}

fn quote((number, hit): (usize, &SearchHit)) -> Option<Quote> {
    let best = hit.best_sentence.as_ref()?;
    let end = best.span.end + introduced_code(&hit.text[best.span.end..]);
    let span = best.span.start..end;
    let text = hit.text[span.clone()].to_owned();
    let (first_line, last_line) = lines(hit, &span);
    Some(Quote {
        number,
        path: hit.path.clone(),
        first_line,
        last_line,
        heading_path: hit.heading_path.clone(),
        text,
        span,
        score: best.score,
    })
}

/// The length of the fenced code that follows a sentence directly: what the sentence speaks of.
fn introduced_code(after: &str) -> usize {
    /// More is a listing, not an answer.
    const MOST_LINES: usize = 12;
    let code = after.trim_start();
    let fence: &str = match () {
        () if code.starts_with("```") => "```",
        () if code.starts_with("~~~") => "~~~",
        () => return 0,
    };
    let mut length = after.len() - code.len();
    for (number, line) in code.split_inclusive('\n').enumerate().take(MOST_LINES + 2) {
        length += line.len();
        if number > 0 && line.trim_start().starts_with(fence) {
            return after[..length].trim_end().len();
        }
    }
    0
}

/// The file's lines of a part of a passage; those of the passage where its text is not the file's.
fn lines(hit: &SearchHit, span: &Range<usize>) -> (u64, u64) {
    let count = |text: &str| text.matches('\n').count() as u64;
    if hit.first_line + count(hit.text.trim_end()) != hit.last_line {
        return (hit.first_line, hit.last_line);
    }
    let first = hit.first_line + count(&hit.text[..span.start]);
    (first, first + count(&hit.text[span.clone()]))
}

#[cfg(test)]
mod tests;
