//! Questions to passages: the closest chunks by meaning and words, the sentence of each that comes nearest, and the
//! words that question and passage share.

mod best_sentence;
mod order;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use wenyi_store::{Collection, Conditions, Filter, Fusion, Hit};

use super::collection::expect_same_space;
use super::load::{Location, Places};
use super::words::Words;
use super::{ErrorKind, Result};
use crate::embed::Embedder;
use crate::rerank::Reranker;

/// What question and passages are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// By meaning and words together.
    Hybrid,
    /// By meaning: the vectors' cosine.
    Dense,
    /// By words: BM25.
    Text,
}

/// How to search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// What is compared; `None` is hybrid, or dense in an old collection that is open to read only
    /// and has no text index.
    pub mode: Option<SearchMode>,
    /// How the two orders of a hybrid search become one.
    pub fusion: Fusion,
    /// How many passages to give back at most.
    pub top_k: usize,
    /// Only passages of documents whose path starts so; end it with `/` to mean a folder.
    pub path_prefix: Option<String>,
    /// Only passages of documents that meet these conditions.
    pub conditions: Option<Conditions>,
    /// Only passages with at least this cosine; with at least this BM25 in a search by words.
    pub min_score: Option<f32>,
    /// How many of the closest passages a reranker reads, or are chosen from for the sake of
    /// variety.
    pub candidates: usize,
    /// λ of maximal marginal relevance, 0 to 1: each further passage is to be close to the question
    /// and unlike those before it; 1 is closeness alone. `None` leaves the order as it is.
    pub mmr: Option<f32>,
    /// Find the best sentence of each passage, which costs one more call of the model.
    pub best_sentence: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            mode: None,
            fusion: Fusion::default(),
            top_k: 5,
            path_prefix: None,
            conditions: None,
            min_score: None,
            candidates: 50,
            mmr: None,
            best_sentence: true,
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchResults {
    /// The question.
    pub query: String,
    /// The name of the model that compared.
    pub model: String,
    /// What was compared.
    pub mode: SearchMode,
    /// The name of the model that ordered the best of them anew, if one did.
    pub reranker: Option<String>,
    /// The passages, best first.
    pub hits: Vec<SearchHit>,
    /// How long it took.
    pub seconds: f64,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchHit {
    /// The file.
    pub path: PathBuf,
    /// Its pages, slides, rows or chapters, for files that have no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The passage's first line, from 1: in the file, or in the text taken from it if the file has
    /// no lines (PDF, office documents, books, mails).
    pub first_line: u64,
    /// Its last line.
    pub last_line: u64,
    /// Its bytes in the file, or in the text taken from it.
    pub bytes: Range<u64>,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// What the passages are ordered by: greater is closer. The cosine in a dense search, BM25 in
    /// one by words, their fusion in a hybrid one; the relevance if a reranker ordered them.
    pub score: f32,
    /// Cosine of question and passage, unless the search was by words alone.
    pub cosine: Option<f32>,
    /// BM25 of the question's words in the passage, if it has any and they were looked for.
    pub bm25: Option<f32>,
    /// Relevance to the question by the reranker, if there was one.
    pub relevance: Option<f32>,
    /// The passage.
    pub text: String,
    /// The sentence that comes nearest to the question.
    pub best_sentence: Option<BestSentence>,
    /// Where `text` has words of the question: byte spans in order, not overlapping.
    pub matches: Vec<Range<usize>>,
    /// Other places with the very same text, which are not given back as hits of their own.
    pub also_in: Vec<Place>,
    /// Where the file's pages begin.
    #[serde(skip)]
    pub(crate) places: Option<Places>,
}

impl SearchHit {
    /// The pages, slides, rows or chapters of some of the passage's lines, if the file has them.
    pub(crate) fn locate(&self, first_line: u64, last_line: u64) -> Option<Location> {
        self.places.as_ref()?.locate(first_line, last_line)
    }
}

/// A sentence of a passage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BestSentence {
    /// Where it stands in the passage's text, in bytes.
    pub span: Range<usize>,
    /// Its text.
    pub text: String,
    /// Cosine of question and sentence.
    pub score: f32,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Its pages, slides, rows or chapters, for files that have no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The first line, from 1.
    pub first_line: u64,
    /// The last line.
    pub last_line: u64,
}

/// Finds the passages of `collection` that are closest to `query`.
///
/// Passages that are mostly repeated by a better one (by the overlap of chunks, or as a copy
/// elsewhere) do not take a place of their own.
///
/// # Errors
///
/// If the question is empty or longer than the model takes, an option is out of its range, the
/// collection was made with another model, or the model or the collection fails.
pub fn search(
    embedder: &dyn Embedder,
    collection: &Collection,
    query: &str,
    options: &SearchOptions,
) -> Result<SearchResults> {
    search_reranked(embedder, None, collection, query, options)
}

/// [`search`] whose best passages are ordered anew by a reranker, which reads the question together
/// with each of them.
///
/// # Errors
///
/// As [`search`]; also if the reranker fails.
pub fn search_reranked(
    embedder: &dyn Embedder,
    reranker: Option<&dyn Reranker>,
    collection: &Collection,
    query: &str,
    options: &SearchOptions,
) -> Result<SearchResults> {
    let started = Instant::now();
    let query = query.trim();
    check(query, options)?;
    expect_same_space(collection, embedder.fingerprint())?;
    let vector = embedder.embed_query(query)?;
    let (found, mode) = candidates(collection, query, &vector, reranker.is_some(), options)?;
    let found = order::choose(reranker, collection, query, mode, found, options)?;
    let sentences = if options.best_sentence {
        best_sentence::find(embedder, &vector, found.iter().map(|found| &found.hit))?
    } else {
        vec![None; found.len()]
    };
    Ok(SearchResults {
        query: query.to_owned(),
        model: embedder.fingerprint().model.clone(),
        mode,
        reranker: reranker.map(|reranker| reranker.name().to_owned()),
        hits: to_search_hits(found, sentences, query),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Finds the passages of `collection` that share most with the words of `query`. No model is needed,
/// so the best sentence, which is one of meaning, stays unmarked.
///
/// # Errors
///
/// If the question is empty, an option is out of its range, the collection has no text index, or the
/// collection or the reranker fails.
pub fn search_words(
    reranker: Option<&dyn Reranker>,
    collection: &Collection,
    query: &str,
    options: &SearchOptions,
) -> Result<SearchResults> {
    let started = Instant::now();
    let query = query.trim();
    check(query, options)?;
    let options = SearchOptions {
        mode: Some(SearchMode::Text),
        ..options.clone()
    };
    let (found, mode) = candidates(collection, query, &[], reranker.is_some(), &options)?;
    let found = order::choose(reranker, collection, query, mode, found, &options)?;
    let sentences = vec![None; found.len()];
    let space = &collection.info().space;
    let model = space
        .fingerprint
        .get("model")
        .and_then(|name| name.as_str());
    Ok(SearchResults {
        query: query.to_owned(),
        model: model.unwrap_or_default().to_owned(),
        mode,
        reranker: reranker.map(|reranker| reranker.name().to_owned()),
        hits: to_search_hits(found, sentences, query),
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn check(query: &str, options: &SearchOptions) -> Result<()> {
    if query.is_empty() {
        return Err(ErrorKind::EmptyQuery.into());
    }
    let out_of_range = |option, value: String, expected: &str| {
        let expected = expected.into();
        Err(ErrorKind::Option {
            option,
            value,
            expected,
        }
        .into())
    };
    if options.top_k == 0 {
        return out_of_range("top_k", "0".into(), "at least 1");
    }
    match options.mmr {
        Some(lambda) if !(0.0..=1.0).contains(&lambda) => {
            out_of_range("mmr", lambda.to_string(), "0 to 1")
        }
        _ => Ok(()),
    }
}

/// The passages to choose from, best first, and what was compared.
fn candidates(
    collection: &Collection,
    query: &str,
    vector: &[f32],
    is_reranked: bool,
    options: &SearchOptions,
) -> Result<(Vec<Found>, SearchMode)> {
    let mut options = options.clone();
    if is_reranked || options.mmr.is_some() {
        options.top_k = options.top_k.max(options.candidates);
    }
    match (options.mode, closest(collection, query, vector, &options)) {
        (None, Err(error)) if error.is_without_text_index() => {
            options.mode = Some(SearchMode::Dense);
            let found = closest(collection, query, vector, &options)?;
            Ok((found, SearchMode::Dense))
        }
        (mode, found) => Ok((found?, mode.unwrap_or(SearchMode::Hybrid))),
    }
}

/// A passage with the places of its copies.
struct Found {
    hit: Hit,
    also_in: Vec<Place>,
    relevance: Option<f32>,
}

fn to_search_hits(
    found: Vec<Found>,
    sentences: Vec<Option<BestSentence>>,
    query: &str,
) -> Vec<SearchHit> {
    let words = Words::of(query);
    let hits = found.into_iter().zip(sentences);
    hits.map(|(found, best_sentence)| to_search_hit(found, best_sentence, &words))
        .collect()
}

fn to_search_hit(found: Found, best_sentence: Option<BestSentence>, words: &Words) -> SearchHit {
    let hit = found.hit;
    SearchHit {
        location: location(&hit),
        places: Places::from_metadata(&hit.document.document.metadata),
        path: hit.document.document.path.into(),
        first_line: hit.chunk.first_line,
        last_line: hit.chunk.last_line,
        bytes: hit.chunk.span,
        heading_path: hit.chunk.heading_path,
        score: found.relevance.unwrap_or(hit.score),
        cosine: hit.cosine,
        bm25: hit.bm25,
        relevance: found.relevance,
        matches: words.matches(&hit.chunk.text),
        text: hit.chunk.text,
        best_sentence,
        also_in: found.also_in,
    }
}

/// The best hits without repetitions, each with the places of its copies.
fn closest(
    collection: &Collection,
    query: &str,
    vector: &[f32],
    options: &SearchOptions,
) -> Result<Vec<Found>> {
    let filter = Filter {
        path_prefix: options.path_prefix.clone(),
        conditions: options.conditions.clone(),
        ..Filter::default()
    };
    let mut asked = options.top_k.saturating_mul(2).saturating_add(8);
    loop {
        let hits = match options.mode.unwrap_or(SearchMode::Hybrid) {
            SearchMode::Hybrid => {
                collection.search_hybrid(vector, query, options.fusion, asked, &filter)?
            }
            SearchMode::Dense => collection.search(vector, asked, &filter)?,
            SearchMode::Text => collection.search_text(query, asked, &filter)?,
        };
        let all = hits.len() < asked;
        let enough = |hit: &Hit| {
            let score = hit.cosine.unwrap_or(hit.score);
            options.min_score.is_none_or(|least| score >= least)
        };
        let distinct = without_repetitions(hits.into_iter().filter(enough), options.top_k);
        // A folder full of copies: look further down.
        if all || distinct.len() == options.top_k || asked >= MOST_CANDIDATES {
            return Ok(distinct);
        }
        asked = asked.saturating_mul(4);
    }
}

/// Beyond this many candidates, what is left is taken to be copies.
const MOST_CANDIDATES: usize = 10_000;

fn without_repetitions(hits: impl Iterator<Item = Hit>, top_k: usize) -> Vec<Found> {
    let mut distinct: Vec<Found> = Vec::new();
    for hit in hits {
        let same = |found: &&mut Found| found.hit.chunk.text == hit.chunk.text;
        if let Some(found) = distinct.iter_mut().find(same) {
            found.also_in.push(place(&hit));
        } else if distinct.len() < top_k && !distinct.iter().any(|d| mostly_covers(&d.hit, &hit)) {
            distinct.push(Found {
                hit,
                also_in: Vec::new(),
                relevance: None,
            });
        }
    }
    distinct
}

/// True if more than half of `hit` lies in the passage `better`.
fn mostly_covers(better: &Hit, hit: &Hit) -> bool {
    let (a, b) = (&better.chunk.span, &hit.chunk.span);
    let shared = a.end.min(b.end).saturating_sub(a.start.max(b.start));
    better.document.id == hit.document.id && shared * 2 > b.end - b.start
}

fn place(hit: &Hit) -> Place {
    Place {
        path: hit.document.document.path.clone().into(),
        location: location(hit),
        first_line: hit.chunk.first_line,
        last_line: hit.chunk.last_line,
    }
}

fn location(hit: &Hit) -> Option<Location> {
    let places = Places::from_metadata(&hit.document.document.metadata)?;
    places.locate(hit.chunk.first_line, hit.chunk.last_line)
}

#[cfg(test)]
mod tests;
