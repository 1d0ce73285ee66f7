//! The pieces that chunks are filled with: sentences and lines, and parts of those that are too
//! long to be left whole.

use std::ops::Range;

use super::structure::{Block, BlockKind};
use crate::embed::Embedder;
use crate::retrieve::sentences::{is_cjk, sentences};
use crate::retrieve::{ErrorKind, Result};

/// A piece of text that is not cut further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    pub(super) span: Range<usize>,
    pub(super) tokens: usize,
    /// True if a block begins here: a good place to cut.
    pub(super) opens_block: bool,
    /// True for a heading or an anchor, which goes with what follows it.
    pub(super) is_heading: bool,
}

/// Counts tokens as chunks need them: without the special ones around a text.
pub(super) struct TokenCounter<'a> {
    embedder: &'a dyn Embedder,
    special: usize,
    /// Tokens that the model leaves for a text behind the document prompt.
    pub(super) limit: usize,
}

impl<'a> TokenCounter<'a> {
    pub(super) fn new(embedder: &'a dyn Embedder) -> Result<Self> {
        let special = embedder.count_tokens("")?;
        // With its special tokens, the prompt's count is what a text behind it cannot use.
        let taken = embedder
            .count_tokens(&embedder.fingerprint().document_prompt)?
            .max(special);
        let limit = embedder.max_length().saturating_sub(taken);
        if limit == 0 {
            return Err(ErrorKind::Option {
                option: "max_length",
                value: embedder.max_length().to_string(),
                expected: format!("more than the {taken} tokens of the prompt"),
            }
            .into());
        }
        Ok(Self {
            embedder,
            special,
            limit,
        })
    }

    pub(super) fn count(&self, text: &str) -> Result<usize> {
        Ok(self
            .embedder
            .count_tokens(text)?
            .saturating_sub(self.special))
    }
}

/// The atoms of `blocks`, each at most `size` tokens (a single character excepted).
pub(super) fn split(
    text: &str,
    blocks: &[Block],
    size: usize,
    counter: &TokenCounter<'_>,
) -> Result<Vec<Atom>> {
    let mut atoms = Vec::new();
    for block in blocks {
        let first = atoms.len();
        for span in seams(text, block) {
            push(text, span, size, counter, &mut atoms)?;
        }
        let is_heading = matches!(block.kind, BlockKind::Heading { .. } | BlockKind::Markup);
        for atom in &mut atoms[first..] {
            atom.is_heading = is_heading;
        }
        if let Some(atom) = atoms.get_mut(first) {
            atom.opens_block = true;
        }
    }
    Ok(atoms)
}

/// Where a block may be cut without cutting a sentence or a line.
pub(super) fn seams(text: &str, block: &Block) -> Vec<Range<usize>> {
    let inside = &text[block.span.clone()];
    let shift = |span: Range<usize>| span.start + block.span.start..span.end + block.span.start;
    match block.kind {
        BlockKind::Heading { .. } => vec![block.span.clone()],
        BlockKind::Paragraph => sentences(inside).map(shift).collect(),
        BlockKind::Code | BlockKind::Table | BlockKind::Markup => {
            lines(inside).map(shift).collect()
        }
        BlockKind::List => lines(inside)
            .flat_map(|line| {
                let start = line.start;
                sentences(&inside[line]).map(move |span| span.start + start..span.end + start)
            })
            .map(shift)
            .collect(),
    }
}

/// Lines without their ends, blank ones left out; indentation is kept.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let length = line.trim_end().len();
        (length > 0).then(|| start..start + length)
    })
}

/// Adds `span` as one atom, or as several if it has more than `size` tokens.
///
/// Every byte is tokenized a bounded number of times: a piece is at most `size` times
/// [`MAX_BYTES_PER_TOKEN`] long before it is counted, and halved from there.
fn push(
    text: &str,
    span: Range<usize>,
    size: usize,
    counter: &TokenCounter<'_>,
    atoms: &mut Vec<Atom>,
) -> Result<()> {
    let mut waiting = vec![span];
    while let Some(span) = waiting.pop() {
        let bytes = span.len();
        let window = size.saturating_mul(MAX_BYTES_PER_TOKEN).max(4);
        if bytes > window {
            let cut = cut_near(text, &span, window);
            waiting.push(cut..span.end);
            waiting.push(span.start..cut);
            continue;
        }
        let Some(span) = trim(text, span) else {
            continue;
        };
        let tokens = counter.count(&text[span.clone()])?;
        let single = text[span.clone()].chars().nth(1).is_none();
        if tokens <= size || single {
            atoms.push(Atom {
                span,
                tokens,
                opens_block: false,
                is_heading: false,
            });
            continue;
        }
        let cut = cut_near(text, &span, span.len().div_ceil(2));
        waiting.push(cut..span.end);
        waiting.push(span.start..cut);
    }
    Ok(())
}

/// Prose has 3 to 5 bytes a token; a piece of more than this many is cut before it is counted.
const MAX_BYTES_PER_TOKEN: usize = 12;

fn trim(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let inside = &text[span.clone()];
    // Leading white space is a line's indentation and stays with it.
    let length = inside.trim_end().len();
    (length > 0).then(|| span.start..span.start + length)
}

/// A place to cut `span` at most `window` bytes behind its start: behind white space in the second
/// half of the window, else between ideographs or at punctuation, else between any characters.
fn cut_near(text: &str, span: &Range<usize>, window: usize) -> usize {
    let first = text[span.start..].chars().next().map_or(1, char::len_utf8);
    let farthest = text.floor_char_boundary(span.start + window);
    let farthest = farthest.clamp(span.start + first, span.end);
    let nearest = text
        .ceil_char_boundary(span.start + window / 2)
        .clamp(span.start + first, farthest);
    let half = &text[nearest..farthest];
    let behind = |wanted: fn(char) -> bool| {
        let (at, c) = half.char_indices().rfind(|&(_, c)| wanted(c))?;
        Some(nearest + at + c.len_utf8())
    };
    behind(char::is_whitespace)
        .or_else(|| behind(|c| is_cjk(c) || c.is_ascii_punctuation()))
        .unwrap_or(farthest)
}
