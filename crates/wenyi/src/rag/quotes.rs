//! The stretches of passages that answer: sentences, entries of lists and code, quoted exactly.
//!
//! Each sentence is compared with the question, by meaning and by its words. From a passage comes its
//! best sentence; that of the best passages is quoted with its neighbours, since a sentence that speaks
//! of what is asked often stands beside the one that answers it, and with the code that it introduces.
//! A row of a table is quoted below the table's head, a line of code that says a value below its comment.

use std::borrow::Cow;
use std::ops::Range;

use super::coverage::Known;
use super::evidence::Quote;
use crate::embed::Embedder;
use crate::retrieve::chunk::{Unit, UnitKind, units};
use crate::retrieve::load::{Kind, spoken};
use crate::retrieve::{Result, SearchHit};

/// Sentences of one question: about 20 of each of ten passages, or a tenth of a second.
const MOST_SENTENCES: usize = 192;

/// Code of more lines is a listing, not an answer.
const MOST_CODE_LINES: usize = 12;

/// Columns of a quote that has neighbours with it: about four lines, an ideograph being two columns.
const MOST_COLUMNS: usize = 640;

/// Sentences behind the best one that are quoted with it: what answers often follows what speaks of
/// the question.
const FOLLOWING: usize = 2;

/// Quotes that have neighbours with them, besides that of the nearest passage.
const EXTENDED: usize = 2;

/// What all words of the question add to the cosine of a sentence that has them, of what lies between
/// sentences that do not answer and 1. Judged on 78 questions on notes in two languages and 28 on a book.
const WORDS: f32 = 0.16;

/// The passages of a question, sentence by sentence.
pub(super) struct Sentences<'a> {
    passages: &'a [SearchHit],
    units: Vec<Vec<Scored>>,
}

/// A unit of a passage with its cosine to the question; `None` for blocks of code and headings.
struct Scored {
    unit: Unit,
    score: Option<f32>,
    /// The cosine, and what the question's words add.
    rank: f32,
}

/// The best sentence of a passage.
#[derive(Clone, Copy)]
struct Best {
    passage: usize,
    unit: usize,
    score: f32,
    rank: f32,
}

impl<'a> Sentences<'a> {
    /// Compares every sentence with the question, whose vector is `question`. All are embedded in one
    /// call, as documents: they are compared with the question as their passage was.
    pub(super) fn read(
        embedder: &dyn Embedder,
        question: &[f32],
        passages: &'a [SearchHit],
    ) -> Result<Self> {
        let mut room = MOST_SENTENCES;
        let mut all: Vec<Vec<Scored>> = Vec::new();
        let mut texts: Vec<Cow<'_, str>> = Vec::new();
        for hit in passages {
            let mut own = units(kind_of(hit), &hit.text);
            own.retain(|unit| {
                if is_prose(unit) && is_link(&hit.text[unit.span.clone()]) {
                    return false;
                }
                let has_room = room > 0 || !is_prose(unit);
                room = room.saturating_sub(usize::from(is_prose(unit)));
                has_room
            });
            let prose = (0..own.len()).filter(|&index| is_prose(&own[index]));
            texts.extend(prose.map(|index| said(hit, &own, index)));
            let unscored = own.into_iter().map(|unit| Scored {
                unit,
                score: None,
                rank: 0.0,
            });
            all.push(unscored.collect());
        }
        if !texts.is_empty() {
            let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
            let vectors = embedder.embed_documents(&texts)?;
            let prose = all.iter_mut().flatten();
            let prose = prose.filter(|scored| is_prose(&scored.unit));
            for (scored, vector) in prose.zip(vectors) {
                scored.score = Some(dot(question, &vector));
            }
        }
        Ok(Self {
            passages,
            units: all,
        })
    }

    /// Ranks the sentences by meaning and by the question's words; sentences that do not answer have the
    /// cosine `background`.
    pub(super) fn rank(&mut self, words: &Known<'_>, background: f32) {
        for (hit, units) in self.passages.iter().zip(&mut self.units) {
            let own: Vec<Unit> = units.iter().map(|scored| scored.unit.clone()).collect();
            for (index, scored) in units.iter_mut().enumerate() {
                let Some(score) = scored.score else { continue };
                let share = words.share(&said(hit, &own, index));
                scored.rank = score + WORDS * (1.0 - background) * share;
            }
        }
    }

    /// The score of the best sentence of all.
    pub(super) fn best_score(&self) -> Option<f32> {
        self.best().first().map(|best| best.score)
    }

    /// The best sentence of each passage, best first; of equal ones the first.
    fn best(&self) -> Vec<Best> {
        let of_passage = |(passage, units): (usize, &Vec<Scored>)| {
            let scores = units.iter().enumerate();
            let scores = scores.filter_map(|(unit, scored)| {
                Some(Best {
                    passage,
                    unit,
                    score: scored.score?,
                    rank: scored.rank,
                })
            });
            scores.reduce(|best, next| if next.rank > best.rank { next } else { best })
        };
        let mut best: Vec<Best> = (self.units.iter().enumerate())
            .filter_map(of_passage)
            .collect();
        best.sort_by(|a, b| b.rank.total_cmp(&a.rank));
        best
    }

    /// A quote of each passage whose best sentence has at least the rank `least`, best first, and of
    /// the nearest passage in any case.
    pub(super) fn quotes(&self, least: f32) -> Vec<Quote> {
        let mut quotes: Vec<Quote> = Vec::new();
        for (rank, best) in self.best().into_iter().enumerate() {
            let is_nearest = best.passage == 0;
            if best.rank < least && !is_nearest {
                continue;
            }
            let hit = &self.passages[best.passage];
            let units = &self.units[best.passage];
            let span = match rank < EXTENDED || is_nearest {
                true => extended(hit, units, best.unit, least),
                false => with_code(hit, units, best.unit..best.unit + 1),
            };
            let span = units[span.start].unit.span.start..units[span.end - 1].unit.span.end;
            let text = &hit.text[span.clone()];
            // Passages overlap, and the same is said in several places: the longer one stays.
            let same =
                |other: &&mut Quote| other.text.contains(text) || text.contains(&*other.text);
            let is_longer = |other: &Quote| text.len() > other.text.len();
            match quotes.iter_mut().find(same) {
                Some(other) if is_longer(other) => {
                    *other = quote(best.passage + 1, hit, span, best.score);
                }
                Some(_) => {}
                None => quotes.push(quote(best.passage + 1, hit, span, best.score)),
            }
        }
        quotes
    }
}

/// How the passage's file was read, as far as its name tells.
pub(super) fn kind_of(hit: &SearchHit) -> Kind {
    Kind::from_path(&hit.path).unwrap_or(Kind::Text)
}

/// True of what says something by itself.
pub(super) fn is_prose(unit: &Unit) -> bool {
    matches!(
        unit.kind,
        UnitKind::Sentence | UnitKind::Item | UnitKind::Statement
    )
}

/// What a unit says, in words: code with its comment and with the words that its names are made of.
fn said<'a>(hit: &'a SearchHit, units: &[Unit], index: usize) -> Cow<'a, str> {
    let unit = &units[index];
    if unit.kind != UnitKind::Statement {
        return Cow::Borrowed(&hit.text[unit.span.clone()]);
    }
    let comment = index.checked_sub(1).map(|before| &units[before]);
    let comment = comment.filter(|comment| comment.block == unit.block);
    let start = comment.map_or(unit.span.start, |comment| comment.span.start);
    Cow::Owned(spoken(&hit.text[start..unit.span.end]))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Columns that units take, an ideograph being two.
fn columns(hit: &SearchHit, units: &[Scored], span: &Range<usize>) -> usize {
    let span = units[span.start].unit.span.start..units[span.end - 1].unit.span.end;
    let characters = hit.text[span].chars();
    characters.map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// The units around the best one that are quoted with it: what it points back to, the sentences of its
/// paragraph behind it, and the code or list that the last of them introduces. The sentence before it
/// comes too if its rank is not far below: `least` is that of a quote which is.
fn extended(hit: &SearchHit, units: &[Scored], best: usize, least: f32) -> Range<usize> {
    let text = |index: usize| &hit.text[units[index].unit.span.clone()];
    let block = |index: usize| units[index].unit.block;
    let columns = |span: &Range<usize>| columns(hit, units, span);
    let is_statement = units[best].unit.kind == UnitKind::Statement;
    if is_row(text(best)) && !is_statement {
        return of_table(hit, units, best);
    }
    let is_near = |index: usize| {
        let (rank, best) = (units[index].rank, units[best].rank);
        is_prose(&units[index].unit) && rank >= f32::midpoint(least, best)
    };
    let mut chosen = best..best + 1;
    if let Some(before) = best.checked_sub(1) {
        if is_short_code(hit, &units[before]) {
            let introduction = before
                .checked_sub(1)
                .filter(|index| is_prose(&units[*index].unit));
            chosen.start = introduction.unwrap_or(before);
        } else if block(before) == block(best)
            && (is_statement || points_back(text(best)) || is_near(before))
        {
            chosen.start = before;
        }
        if columns(&chosen) > MOST_COLUMNS {
            chosen.start = best;
        }
    }
    for _ in 0..FOLLOWING {
        let next = chosen.end;
        let goes_on = next < units.len()
            && (block(next) == block(next - 1) || introduces(text(next - 1)))
            && is_prose(&units[next].unit)
            && columns(&(chosen.start..next + 1)) <= MOST_COLUMNS;
        if !goes_on {
            break;
        }
        chosen.end = next + 1;
    }
    with_code(hit, units, chosen)
}

/// A row of a table below the table's head, if that is near; from the head itself as much as fits.
fn of_table(hit: &SearchHit, units: &[Scored], best: usize) -> Range<usize> {
    let is_same = |index: &usize| {
        let unit = &units[*index].unit;
        unit.block == units[best].unit.block && is_row(&hit.text[unit.span.clone()])
    };
    let fits = |span: &Range<usize>| columns(hit, units, span) <= MOST_COLUMNS;
    let head = (0..=best).rev().take_while(is_same).last();
    let head = head.unwrap_or(best);
    if head < best {
        let below = head..best + 1;
        return if fits(&below) { below } else { best..best + 1 };
    }
    let ends = (best + 1..units.len()).take_while(is_same);
    let spans = ends.map(|last| best..last + 1).take_while(fits);
    spans.last().unwrap_or(best..best + 1)
}

/// True of a row of a table, as every kind of document is read.
pub(super) fn is_row(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('|') || text.contains(" | ")
}

/// True of nothing but a link, which leads elsewhere and says nothing itself.
fn is_link(text: &str) -> bool {
    let text = text.trim_start_matches(['-', '*', '+', ' ']).trim_end();
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(')'));
    inside.is_some_and(|inside| {
        let parts = inside.split_once("](");
        parts.is_some_and(|(_, target)| !target.contains([')', ' ']))
    })
}

/// The units with the short code behind the last of them.
fn with_code(hit: &SearchHit, units: &[Scored], chosen: Range<usize>) -> Range<usize> {
    let next = units.get(chosen.end);
    let has_code = next.is_some_and(|next| is_short_code(hit, next));
    chosen.start..chosen.end + usize::from(has_code)
}

fn is_short_code(hit: &SearchHit, scored: &Scored) -> bool {
    // A fence at either end.
    let lines = hit.text[scored.unit.span.clone()].lines().count();
    scored.unit.kind == UnitKind::Code && lines <= MOST_CODE_LINES + 2
}

/// True if a sentence announces what follows it.
fn introduces(text: &str) -> bool {
    text.trim_end().ends_with([':', '：'])
}

/// True if a sentence begins with a word that means something before it.
fn points_back(text: &str) -> bool {
    const ENGLISH: &[&str] = &[
        "this",
        "that",
        "these",
        "those",
        "it",
        "they",
        "he",
        "she",
        "however",
        "but",
        "therefore",
        "instead",
        "then",
        "so",
        "otherwise",
        "similarly",
        "for",
    ];
    const CHINESE: &[&str] = &[
        "这", "那", "它", "他", "她", "其", "此", "但", "因此", "所以", "例如", "比如", "然而",
        "不过", "否则", "同样",
    ];
    let start = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let first = start.split(|c: char| !c.is_alphanumeric()).next();
    let first = first.unwrap_or_default().to_lowercase();
    ENGLISH.contains(&first.as_str()) || CHINESE.iter().any(|word| start.starts_with(word))
}

fn quote(number: usize, hit: &SearchHit, span: Range<usize>, score: f32) -> Quote {
    let (first_line, last_line) = lines(hit, &span);
    Quote {
        number,
        path: hit.path.clone(),
        location: hit.locate(first_line, last_line),
        first_line,
        last_line,
        heading_path: hit.heading_path.clone(),
        text: hit.text[span.clone()].to_owned(),
        span,
        score,
    }
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
