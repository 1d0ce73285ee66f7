//! Texts to search terms: what the full-text index keeps of a text and a query asks it for.
//!
//! `runs` cuts a text where its script changes, `compound` takes identifiers apart, `stem` brings
//! the forms of an English word together. A text and a query go the same way, so what is written
//! in both meets:
//!
//! - English words in lower case, stemmed: `Indexing` and `indexes` meet at `index`.
//! - Identifiers whole and in parts: `read_to_string`, `std::fs::File`, `HashMap`, `utf-8` and
//!   `v1.2.3` are one exact term each, and the words in them terms of their own.
//! - Chinese and Japanese by pairs of neighbouring characters. Against a dictionary of words
//!   (`jieba`), pairs find as much (`docs/retrieval.md` has the figures), know every name, and need
//!   no dictionary to be loaded, which takes 130 ms or more.
//!
//! `table` keeps the terms in SQLite and finds them there.

mod runs;
mod compound;
mod stop_words;
pub(crate) mod table;

use std::collections::HashSet;

use rust_stemmers::{Algorithm, Stemmer};

use self::runs::{Run, Script, runs};

/// Changes when a text yields other terms than before: an index made by another version is rebuilt.
pub(crate) const ANALYSIS_VERSION: u32 = 1;

/// Bytes of the longest term. Longer ones are data (base64, hashes of hashes), not words.
const MAX_TERM: usize = 96;

/// The terms of a text in order, repeated as often as they occur.
pub(crate) fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    let stemmer = Stemmer::create(Algorithm::English);
    for run in runs(text) {
        match run.script {
            Script::Ideographs => pairs(run.text, &mut terms),
            Script::Letters => compound::terms(&stemmer, run.text, &mut terms),
        }
    }
    terms
}

/// What a query asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum QueryTerm {
    /// This very term.
    Exact(String),
    /// Any term that begins so: a single ideograph, which the index has inside of pairs.
    Prefix(String),
}

impl QueryTerm {
    /// True if a text of these terms has it.
    pub(crate) fn is_among(&self, terms: &[String]) -> bool {
        match self {
            Self::Exact(term) => terms.contains(term),
            Self::Prefix(start) => terms.iter().any(|term| term.starts_with(start)),
        }
    }
}

/// The different terms of a query. Words such as `the` are left out if there are others.
pub(crate) fn query_terms(query: &str) -> Vec<QueryTerm> {
    let (telling, common) = asked_terms(query, query_pairs);
    different(if telling.is_empty() { common } else { telling })
}

/// All different terms of a query, for those that must all be there.
pub(crate) fn wanted_terms(query: &str) -> Vec<QueryTerm> {
    let (telling, common) = asked_terms(query, asked_pairs);
    different(telling.into_iter().chain(common))
}

/// What a query asks for, and its common words.
fn asked_terms(
    query: &str,
    of_ideographs: impl Fn(&Run<'_>) -> Vec<QueryTerm>,
) -> (Vec<QueryTerm>, Vec<QueryTerm>) {
    let stemmer = Stemmer::create(Algorithm::English);
    let (mut telling, mut common) = (Vec::new(), Vec::new());
    for run in runs(query) {
        match run.script {
            Script::Ideographs => telling.extend(of_ideographs(&run)),
            Script::Letters => {
                let mut terms = Vec::new();
                compound::terms(&stemmer, run.text, &mut terms);
                let into = match stop_words::is_stop_word(run.text) {
                    true => &mut common,
                    false => &mut telling,
                };
                into.extend(terms.into_iter().map(QueryTerm::Exact));
            }
        }
    }
    (telling, common)
}

fn different(terms: impl IntoIterator<Item = QueryTerm>) -> Vec<QueryTerm> {
    let mut seen = HashSet::new();
    let terms = terms.into_iter();
    terms.filter(|term| seen.insert(term.clone())).collect()
}

/// Every character with its right neighbour, and the last one alone: so each begins one term, and
/// a single character is found by prefix.
fn pairs(run: &str, terms: &mut Vec<String>) {
    for (start, character) in run.char_indices() {
        let next = start + character.len_utf8();
        let end = next + run[next..].chars().next().map_or(0, char::len_utf8);
        terms.push(run[start..end].to_owned());
    }
}

/// The pairs of a query's run; its single character if it has but one.
fn asked_pairs(run: &Run<'_>) -> Vec<QueryTerm> {
    let mut all = Vec::new();
    pairs(run.text, &mut all);
    if all.len() == 1 {
        return all.into_iter().map(QueryTerm::Prefix).collect();
    }
    // The last character alone is in the index to be found by prefix, not to be asked for.
    all.pop();
    all.into_iter().map(QueryTerm::Exact).collect()
}

/// Those that tell something: pairs that only join words (`的是`) are left out where others are left.
fn query_pairs(run: &Run<'_>) -> Vec<QueryTerm> {
    let mut all = asked_pairs(run);
    let telling = |term: &QueryTerm| match term {
        QueryTerm::Exact(pair) => !stop_words::is_stop_pair(pair),
        QueryTerm::Prefix(_) => true,
    };
    if all.iter().any(telling) {
        all.retain(telling);
    }
    all
}

#[cfg(test)]
mod tests;
