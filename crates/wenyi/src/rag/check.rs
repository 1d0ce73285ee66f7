//! Does a passage say what an answer claims?
//!
//! A claim is held against every sentence of the passages: by meaning, as the embedder sees it, and
//! by what meaning does not show, its numbers, its code and its words. A number or a piece of code
//! that stands nowhere in the passages is invented, however close the rest comes; so is the number of
//! another row of a table ([`tables`](super::tables)), and a word whose opposite stands there.

use std::collections::HashSet;

use super::claims::code_spans;
use super::evidence::{Evidence, Support};
use super::opposites::{is_negative, says_the_opposite};
use super::quotes::{is_prose, kind_of};
use super::tables::Tables;
use crate::embed::Embedder;
use crate::retrieve::chunk::{Unit, units};
use crate::retrieve::words::{STOP_WORDS, cjk_pieces, runs, stem};
use crate::retrieve::{Result, SearchHit};

/// How a claim stands to the passages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    pub(super) support: Support,
    /// The passages that say it, those that the model named first.
    pub(super) citations: Vec<usize>,
}

/// The passages of an answer, ready to be compared with its claims.
pub(super) struct Checker<'a> {
    embedder: &'a dyn Embedder,
    /// What the question itself says needs no passage.
    question: Terms,
    passages: Vec<Passage>,
    /// Cosine that sentences have which do not speak of the same.
    background: f32,
}

struct Passage {
    number: usize,
    terms: Terms,
    sentences: Vec<Sentence>,
    tables: Tables,
}

struct Sentence {
    vector: Vec<f32>,
    text: String,
}

impl<'a> Checker<'a> {
    /// Reads the passages that `evidence` quotes from.
    pub(super) fn new(embedder: &'a dyn Embedder, evidence: &Evidence) -> Result<Self> {
        let quoted: HashSet<usize> = evidence.quotes.iter().map(|quote| quote.number).collect();
        let hits = (1..).zip(&evidence.passages);
        let hits: Vec<(usize, &SearchHit)> =
            hits.filter(|(number, _)| quoted.contains(number)).collect();
        let units: Vec<Vec<Unit>> = hits
            .iter()
            .map(|(_, hit)| {
                let mut units = units(kind_of(hit), &hit.text);
                units.retain(is_prose);
                units
            })
            .collect();
        let sentences: Vec<(usize, &str)> = hits
            .iter()
            .zip(&units)
            .flat_map(|((number, hit), units)| {
                let texts = units.iter().map(|unit| &hit.text[unit.span.clone()]);
                texts.map(|text| (*number, text))
            })
            .collect();
        let texts: Vec<&str> = sentences.iter().map(|(_, text)| *text).collect();
        let mut vectors = embedder.embed_documents(&texts)?;
        let background = background(&vectors);
        let mut passages = Vec::new();
        for ((number, hit), units) in hits.into_iter().zip(&units) {
            let text = hit.heading_path.join("\n") + "\n" + &hit.text;
            let own = sentences.iter().filter(|(of, _)| *of == number);
            let count = own.clone().count();
            let own = own.zip(vectors.drain(..count));
            passages.push(Passage {
                number,
                terms: Terms::of(&text),
                sentences: own
                    .map(|((_, text), vector)| Sentence {
                        vector,
                        text: (*text).to_owned(),
                    })
                    .collect(),
                tables: Tables::of(&hit.text, units),
            });
        }
        Ok(Self {
            embedder,
            question: Terms::of(&evidence.question),
            passages,
            background,
        })
    }

    /// Holds a claim against the passages; `named` are those that it names.
    pub(super) fn check(&self, claim: &str, named: &[usize]) -> Result<Checked> {
        let terms = Terms::of(claim);
        if terms.is_empty() {
            // "The answer is:" claims nothing.
            return Ok(Checked {
                support: Support::None,
                citations: Vec::new(),
            });
        }
        let vector = self.embedder.embed_documents(&[claim])?.remove(0);
        let mut found: Vec<(Support, f32, usize)> = Vec::new();
        for passage in &self.passages {
            let (support, score) = self.hold_against(passage, &terms, &vector);
            if support != Support::None {
                found.push((support, score, passage.number));
            }
        }
        // The best first, and of equals those that the model named.
        let rank = |support: &Support| *support == Support::Strong;
        found.sort_by(|a, b| {
            (rank(&b.0), named.contains(&b.2), b.1)
                .partial_cmp(&(rank(&a.0), named.contains(&a.2), a.1))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let Some((support, ..)) = found.first().copied() else {
            return Ok(Checked {
                support: Support::None,
                citations: Vec::new(),
            });
        };
        let equals = found.iter().filter(|(own, ..)| *own == support);
        let numbers: Vec<usize> = equals.map(|(.., number)| *number).collect();
        let mut citations: Vec<usize> = named
            .iter()
            .copied()
            .filter(|number| numbers.contains(number))
            .collect();
        if citations.is_empty() {
            citations.extend(numbers.first());
        }
        Ok(Checked { support, citations })
    }

    fn hold_against(&self, passage: &Passage, claim: &Terms, vector: &[f32]) -> (Support, f32) {
        let cosine = |sentence: &Sentence| dot(vector, &sentence.vector);
        let nearest = passage
            .sentences
            .iter()
            .max_by(|a, b| cosine(a).total_cmp(&cosine(b)));
        let cosine = nearest.map_or(0.0, cosine);
        let meaning = ((cosine - self.background) / (1.0 - self.background)).clamp(0.0, 1.0);
        let words = claim.share_in(&passage.terms, &self.question);
        let support = match words {
            _ if !claim.literals_in(&passage.terms, &self.question) => Support::None,
            _ if !self.numbers_belong(passage, claim) => Support::None,
            Some(share) if share >= 0.75 && share + meaning >= 1.25 => Support::Strong,
            Some(share) if share >= 0.5 && share + meaning >= 0.9 => Support::Weak,
            Some(_) => Support::None,
            // Another language: by meaning alone.
            None if meaning >= 0.6 => Support::Strong,
            None if meaning >= 0.4 => Support::Weak,
            None => Support::None,
        };
        let nearest = nearest.map_or("", |sentence| &*sentence.text);
        let turned = is_negative(nearest) != is_negative(&claim.whole);
        let support = match support {
            _ if says_the_opposite(&claim.whole, nearest) => Support::None,
            // The same words may say the opposite.
            Support::Strong if turned && meaning < 0.8 => Support::Weak,
            Support::Strong if self.counts_what_is_not_there(passage, claim) => Support::Weak,
            support => support,
        };
        (support, words.unwrap_or(0.0) + meaning)
    }

    /// True if each number of the claim that stands in a table there stands in a row of what the claim
    /// speaks of.
    fn numbers_belong(&self, passage: &Passage, claim: &Terms) -> bool {
        let mut new = claim.numbers.difference(&self.question.numbers);
        new.all(|number| passage.tables.agrees(number, claim))
    }

    /// True if the claim gives a number for something that the passage does not speak of at all, though the
    /// question does.
    fn counts_what_is_not_there(&self, passage: &Passage, claim: &Terms) -> bool {
        let mut new = claim.numbers.difference(&self.question.numbers);
        let mut missing = claim.words.difference(&passage.terms.words);
        new.next().is_some() && missing.any(|word| self.question.words.contains(word))
    }
}

/// The cosine of sentences that have little to do with each other: the median over the passages.
fn background(vectors: &[Vec<f32>]) -> f32 {
    /// Of a model that spreads its vectors over the whole sphere.
    const LEAST: f32 = 0.1;
    let pairs = vectors
        .iter()
        .enumerate()
        .flat_map(|(index, a)| vectors[..index].iter().map(move |b| dot(a, b)));
    let mut cosines: Vec<f32> = pairs.collect();
    let middle = cosines.len() / 2;
    if cosines.is_empty() {
        return LEAST;
    }
    let (_, median, _) = cosines.select_nth_unstable_by(middle, f32::total_cmp);
    median.clamp(LEAST, 0.95)
}

/// Words of a claim that only say that it is one.
const EMPTY_WORDS: &[&str] = &[
    "according",
    "answer",
    "answers",
    "based",
    "context",
    "document",
    "documents",
    "following",
    "given",
    "information",
    "mentioned",
    "passage",
    "passages",
    "provided",
    "question",
    "stated",
    "text",
];

/// What a text says, as far as it can be looked up.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) words: HashSet<String>,
    pub(super) pairs: HashSet<(char, char)>,
    pub(super) numbers: HashSet<String>,
    /// Code, letter by letter, and whatever else stands in the text.
    code: Vec<String>,
    whole: String,
}

impl Terms {
    pub(super) fn of(text: &str) -> Self {
        let mut terms = Self {
            numbers: numbers(text),
            code: code(text),
            whole: text.to_owned(),
            ..Self::default()
        };
        for run in runs(text) {
            let word = &text[run.span];
            if run.cjk {
                for piece in cjk_pieces(word) {
                    let pairs = piece.chars().zip(piece.chars().skip(1));
                    terms.pairs.extend(pairs);
                }
            } else if !STOP_WORDS.contains(&word.to_lowercase().as_str()) {
                terms.words.insert(stem(word));
            }
        }
        terms
    }

    /// True if it says nothing that could be looked up.
    fn is_empty(&self) -> bool {
        let said = |word: &String| !EMPTY_WORDS.iter().any(|empty| stem(empty) == *word);
        !self.words.iter().any(said)
            && self.pairs.is_empty()
            && self.numbers.is_empty()
            && self.code.is_empty()
    }

    /// The share of the words that stand in `passage`; those of the question count only if there are no
    /// others. `None` if the passage is written in another language.
    #[expect(clippy::cast_precision_loss, reason = "counts of words")]
    fn share_in(&self, passage: &Self, question: &Self) -> Option<f32> {
        let other_language = (self.pairs.len() > self.words.len()
            && passage.pairs.len() * 20 < passage.words.len())
            || (self.pairs.len() < self.words.len()
                && passage.words.len() * 4 < passage.pairs.len());
        if other_language {
            return None;
        }
        let count = |but: Option<&Self>| {
            let new_words = self
                .words
                .iter()
                .filter(|word| but.is_none_or(|but| !but.words.contains(*word)));
            let new_pairs = self
                .pairs
                .iter()
                .filter(|pair| but.is_none_or(|but| !but.pairs.contains(pair)));
            let (words, pairs) = (new_words.clone().count(), new_pairs.clone().count());
            let found = new_words
                .filter(|word| passage.words.contains(*word))
                .count()
                + new_pairs
                    .filter(|pair| passage.pairs.contains(pair))
                    .count();
            (found, words + pairs)
        };
        match (count(Some(question)), count(None)) {
            ((found, total), _) if total > 0 => Some(found as f32 / total as f32),
            (_, (found, total)) if total > 0 => Some(found as f32 / total as f32),
            _ => Some(0.0),
        }
    }

    /// True if every number and every piece of code stands in the passage or in the question.
    fn literals_in(&self, passage: &Self, question: &Self) -> bool {
        let has_number =
            |number: &String| passage.numbers.contains(number) || question.numbers.contains(number);
        let has_code = |code: &String| passage.has(code) || question.has(code);
        self.numbers.iter().all(has_number) && self.code.iter().all(has_code)
    }

    fn has(&self, code: &str) -> bool {
        self.whole.contains(code)
    }
}

/// Numbers as they are written, without separators of thousands: `8,000` is `8000`. Those in words
/// up to ten are numbers, too.
fn numbers(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len()
            && (bytes[at].is_ascii_digit()
                || (matches!(bytes[at], b'.' | b',')
                    && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
        {
            at += 1;
        }
        // The number of a list's entry says nothing.
        let opens_line = text[..start].trim_end_matches([' ', '\t']).is_empty()
            || text[..start].trim_end_matches([' ', '\t']).ends_with('\n');
        let is_item = opens_line && bytes.get(at).is_some_and(|b| matches!(b, b'.' | b')'));
        if !is_item {
            found.insert(text[start..at].replace(',', ""));
        }
    }
    found
}

/// Pieces of code: what stands between backticks, the lines of a block, and options.
fn code(text: &str) -> Vec<String> {
    if let Some(inside) = text.strip_prefix("```") {
        let lines = inside
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with("```"));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        return lines.map(str::to_owned).collect();
    }
    let quoted = code_spans(text).into_iter();
    let quoted = quoted.map(|span| text[span].trim_matches('`').trim().to_owned());
    let options = text
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    let options = options.map(|word| {
        word.trim_end_matches(|c: char| !c.is_alphanumeric())
            .to_owned()
    });
    quoted
        .chain(options)
        .filter(|code| !code.is_empty())
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
