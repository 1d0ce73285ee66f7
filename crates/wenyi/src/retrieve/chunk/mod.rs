//! Documents to chunks: passages of about equal length, cut where the text itself has a seam.
//!
//! A chunk never crosses a heading. Within a section, chunks are filled evenly up to
//! [`ChunkOptions::chunk_size`] tokens, cut between blocks where possible, else between sentences
//! (paragraphs, lists) or lines (code, tables), and inside of these only if one alone is too long.
//! When a section goes on in the next chunk, that one repeats its last sentences.
//!
//! A chunk's text is a stretch of the document. What is embedded is the path of the headings above
//! it, on a line of its own, and then the text: see [`Chunk::embedding_text`].

pub(crate) mod structure;
pub(super) mod kept;
mod atoms;
mod pack;

use std::borrow::Cow;
use std::ops::Range;

use self::atoms::{Atom, TokenCounter};
use self::structure::{Block, BlockKind};
use super::load::{Document, Kind, comments, statements};
use super::{ErrorKind, Result};
use crate::embed::Embedder;

/// Between the headings of a path.
const PATH_SEPARATOR: &str = " > ";

/// How long chunks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkOptions {
    /// Tokens that a chunk aims at; lowered to what the model takes.
    pub chunk_size: usize,
    /// Tokens of the last sentences that the next chunk repeats at most.
    pub overlap: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self {
            chunk_size: 256,
            overlap: 32,
        }
    }
}

/// A passage of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it stands in the document's text.
    pub span: Range<usize>,
    /// Where it stands in the file, in bytes: see [`super::load::SourceMap`].
    pub bytes: Range<usize>,
    /// Its first line in the file, from 1.
    pub first_line: usize,
    /// Its last line in the file.
    pub last_line: usize,
    /// The titles of the headings above it, outermost first, its own included.
    pub heading_path: Vec<String>,
    /// Its text.
    pub text: String,
    /// The part of the heading path that its text does not show, as much as fits the model.
    pub context: String,
    /// Tokens of the embedding text, about; special ones and prompt not included.
    pub tokens: usize,
}

impl Chunk {
    /// What is embedded: the headings above the chunk that its text does not show, then its text.
    #[must_use]
    pub fn embedding_text(&self) -> Cow<'_, str> {
        if self.context.is_empty() {
            return Cow::Borrowed(&self.text);
        }
        Cow::Owned(format!("{}\n{}", self.context, self.text))
    }
}

/// Cuts `document` into chunks that the model behind `embedder` takes whole.
///
/// # Errors
///
/// If the options cannot be served, or the tokenizer refuses the text.
pub fn chunk(
    embedder: &dyn Embedder,
    document: &Document,
    options: &ChunkOptions,
) -> Result<Vec<Chunk>> {
    let counter = TokenCounter::new(embedder)?;
    let limit = counter.limit;
    if options.chunk_size == 0 || options.overlap >= options.chunk_size {
        return Err(ErrorKind::Option {
            option: "chunk_size",
            value: format!("{} with overlap {}", options.chunk_size, options.overlap),
            expected: "at least 1 token, and more than the overlap".into(),
        }
        .into());
    }
    let cutter = Cutter {
        document,
        counter,
        chunk_size: options.chunk_size.min(limit),
        overlap: options.overlap.min(limit / 4),
    };
    let mut chunks = Vec::new();
    for section in sections(&document.blocks) {
        cutter.cut(&section, &mut chunks)?;
    }
    Ok(chunks)
}

/// A sentence of a passage, or another piece that says something on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Byte span in the passage's text.
    pub(crate) span: Range<usize>,
    /// Which of the passage's blocks it is part of.
    pub(crate) block: usize,
    pub(crate) kind: UnitKind,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitKind {
    /// Of a paragraph.
    Sentence,
    /// Of a list, or a row of a table.
    Item,
    /// A line of code that says a value.
    Statement,
    /// A whole block of code.
    Code,
    Heading,
}

/// The units of a passage's `text` in order.
pub(crate) fn units(kind: Kind, text: &str) -> Vec<Unit> {
    let blocks = match kind {
        Kind::Markdown => structure::markdown(text),
        Kind::Code => return code_units(text),
        // A row is read as a whole.
        Kind::Xlsx | Kind::Csv => structure::rows(text),
        _ => structure::plain(text),
    };
    let readable = |span: &Range<usize>| text[span.clone()].contains(char::is_alphanumeric);
    let mut units = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let (kind, spans) = match block.kind {
            BlockKind::Markup => continue,
            BlockKind::Heading { .. } => (UnitKind::Heading, vec![block.span.clone()]),
            BlockKind::Code => (UnitKind::Code, vec![block.span.clone()]),
            BlockKind::Paragraph => (UnitKind::Sentence, atoms::seams(text, block)),
            BlockKind::List | BlockKind::Table => (UnitKind::Item, atoms::seams(text, block)),
        };
        let spans = spans.into_iter().filter(readable);
        units.extend(spans.map(|span| Unit {
            span,
            block: index,
            kind,
        }));
    }
    units
}

/// The comments of code and the lines that say a value, which is what of it can be quoted. Such a line is
/// of one block with the comment right above it.
fn code_units(text: &str) -> Vec<Unit> {
    let comments = comments(text);
    let is_comment = |line: &Range<usize>| {
        let is_in = |comment: &Range<usize>| line.start < comment.end && comment.start < line.end;
        comments.iter().any(is_in)
    };
    let statements = statements(text).into_iter();
    let statements = statements.filter(|line| !is_comment(line));
    let statements = statements.map(|span| (span, UnitKind::Statement));
    let sentences = comments
        .iter()
        .map(|span| (span.clone(), UnitKind::Sentence));
    let mut found: Vec<_> = sentences.chain(statements).collect();
    found.sort_by_key(|(span, _)| span.start);
    let mut units: Vec<Unit> = Vec::new();
    for (span, kind) in found {
        let block = units.last().map_or(0, |last| {
            let is_below = kind == UnitKind::Statement
                && last.kind == UnitKind::Sentence
                && is_line_end(&text[last.span.end..span.start]);
            last.block + usize::from(!is_below)
        });
        units.push(Unit { span, block, kind });
    }
    units
}

fn is_line_end(between: &str) -> bool {
    between.trim().is_empty() && between.matches('\n').count() == 1
}

/// The sentences of `text` that are prose: those of paragraphs and lists, and the rows of tables,
/// but neither code nor headings.
pub(crate) fn prose(kind: Kind, text: &str) -> Vec<Range<usize>> {
    let units = units(kind, text).into_iter();
    let wanted = |unit: &Unit| matches!(unit.kind, UnitKind::Sentence | UnitKind::Item);
    units.filter(wanted).map(|unit| unit.span).collect()
}

/// A heading (or several without text between them), and the blocks up to the next.
struct Section<'a> {
    /// Headings above the section's own blocks, outermost first: level, title, index of its block.
    path: Vec<(u8, &'a str, usize)>,
    blocks: &'a [Block],
    /// The index of the first of `blocks`.
    first: usize,
}

fn sections(blocks: &[Block]) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    let mut path: Vec<(u8, &str, usize)> = Vec::new();
    let mut first = 0;
    let mut has_body = false;
    for (index, block) in blocks.iter().enumerate() {
        let BlockKind::Heading { level, title } = &block.kind else {
            has_body |= block.kind != BlockKind::Markup;
            continue;
        };
        // A heading with nothing below it yet goes with what follows.
        if has_body {
            sections.push(Section {
                path: path.clone(),
                blocks: &blocks[first..index],
                first,
            });
            (first, has_body) = (index, false);
        }
        while path.last().is_some_and(|&(above, ..)| above >= *level) {
            path.pop();
        }
        path.push((*level, title.trim(), index));
    }
    if first < blocks.len() {
        sections.push(Section {
            path,
            blocks: &blocks[first..],
            first,
        });
    }
    sections
}

struct Cutter<'a> {
    document: &'a Document,
    counter: TokenCounter<'a>,
    chunk_size: usize,
    overlap: usize,
}

impl Cutter<'_> {
    fn cut(&self, section: &Section<'_>, chunks: &mut Vec<Chunk>) -> Result<()> {
        let titles: Vec<&str> = section.path.iter().map(|&(_, title, _)| title).collect();
        let above = section
            .path
            .iter()
            .filter(|&&(.., index)| index < section.first)
            .count();
        // The first chunk shows its own headings, those that go on below it do not.
        let first_context = self.context(&titles[..above])?;
        let later_context = self.context(&titles)?;
        let widest = first_context.tokens.max(later_context.tokens);
        let body_limit = (self.counter.limit - widest).max(1);
        let body_size = self.chunk_size.min(body_limit);

        let atoms = atoms::split(
            &self.document.text,
            section.blocks,
            body_size,
            &self.counter,
        )?;
        for (index, range) in pack::pack(&atoms, body_size, self.overlap)
            .into_iter()
            .enumerate()
        {
            let context = if index == 0 {
                &first_context
            } else {
                &later_context
            };
            self.push(&atoms[range], context, &titles, chunks)?;
        }
        Ok(())
    }

    /// Adds the chunk that `atoms` make. Their counts were added up; should the whole have more
    /// tokens than its parts and not fit the model, it is cut in two until it does.
    fn push(
        &self,
        atoms: &[Atom],
        context: &Context,
        titles: &[&str],
        chunks: &mut Vec<Chunk>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (atoms.first(), atoms.last()) else {
            return Ok(());
        };
        let span = first.span.start..last.span.end;
        let source = &self.document.source;
        let (first_line, last_line) = source.lines(&span);
        let tokens = context.tokens + atoms.iter().map(|atom| atom.tokens).sum::<usize>();
        let mut chunk = Chunk {
            bytes: source.bytes(&span),
            first_line,
            last_line,
            heading_path: titles.iter().map(|&title| title.to_owned()).collect(),
            text: self.document.text[span.clone()].to_owned(),
            context: context.text.clone(),
            tokens,
            span,
        };
        // Below three quarters of the limit, no joint between atoms can make up the difference.
        if tokens * 4 > self.counter.limit * 3 {
            chunk.tokens = self.counter.count(&chunk.embedding_text())?;
            if chunk.tokens > self.counter.limit && atoms.len() > 1 {
                let (left, right) = atoms.split_at(atoms.len() / 2);
                self.push(left, context, titles, chunks)?;
                return self.push(right, context, titles, chunks);
            }
        }
        chunks.push(chunk);
        Ok(())
    }

    /// The path's line before a chunk's text: the innermost titles that fit a quarter of the model.
    fn context(&self, titles: &[&str]) -> Result<Context> {
        for skipped in 0..titles.len() {
            let text = titles[skipped..].join(PATH_SEPARATOR);
            let tokens = self.counter.count(&text)?;
            if tokens <= self.counter.limit / 4 {
                return Ok(Context { text, tokens });
            }
        }
        Ok(Context {
            text: String::new(),
            tokens: 0,
        })
    }
}

struct Context {
    text: String,
    tokens: usize,
}

#[cfg(test)]
mod tests;
