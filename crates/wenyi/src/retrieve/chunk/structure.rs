//! The blocks of a document: where it may be cut without hurting the sense.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::retrieve::load::shows_text;

/// A stretch of a document that belongs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    /// Byte span in the document's text.
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Begins a section; `title` is its text without markup.
    Heading { level: u8, title: String },
    /// Cut between sentences.
    Paragraph,
    /// Cut between lines, then between sentences.
    List,
    /// Cut between lines.
    Code,
    /// Cut between lines.
    Table,
    /// Raw HTML that shows nothing (anchors, comments): no passage of its own.
    Markup,
}

/// The blocks of plain text: paragraphs between blank lines.
pub(crate) fn plain(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    push_paragraphs(text, 0..text.len(), &mut blocks);
    blocks
}

/// The rows of a table, one a line; what blank lines part from them is the sheet's name and the
/// header.
pub(crate) fn rows(text: &str) -> Vec<Block> {
    let mut blocks = plain(text);
    let num_headings = blocks.len().saturating_sub(1);
    for (index, block) in blocks.iter_mut().enumerate() {
        block.kind = if index < num_headings {
            BlockKind::Heading {
                level: 1,
                title: text[block.span.clone()].to_owned(),
            }
        } else {
            BlockKind::Table
        };
    }
    blocks
}

/// The top-level blocks of Markdown. What the parser has no event for (reference definitions) is
/// kept as paragraphs, so that blocks cover all of the text but white space.
pub(crate) fn markdown(text: &str) -> Vec<Block> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut found = Found {
        text,
        covered: 0,
        blocks: Vec::new(),
    };
    let mut depth = 0_usize;
    for (event, span) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    found.push(kind_of(&tag), span);
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(piece) | Event::Code(piece) => found.extend_title(depth, &piece),
            Event::SoftBreak | Event::HardBreak => found.extend_title(depth, " "),
            _ if depth == 0 => found.push(BlockKind::Paragraph, span),
            _ => {}
        }
    }
    push_paragraphs(text, found.covered..text.len(), &mut found.blocks);
    found.blocks
}

struct Found<'a> {
    text: &'a str,
    /// Where the last block ended.
    covered: usize,
    blocks: Vec<Block>,
}

impl Found<'_> {
    fn push(&mut self, kind: BlockKind, span: Range<usize>) {
        let inside = self.text.get(span.clone()).unwrap_or_default();
        // An anchor alone, `<a id="x"></a>`, is a paragraph to Markdown.
        let kind = match kind {
            BlockKind::Markup if shows_text(inside) => BlockKind::Code,
            BlockKind::Paragraph if inside.starts_with('<') && !shows_text(inside) => {
                BlockKind::Markup
            }
            kind => kind,
        };
        let start = self.text.floor_char_boundary(span.start).max(self.covered);
        let end = self.text.floor_char_boundary(span.end).max(start);
        push_paragraphs(self.text, self.covered..start, &mut self.blocks);
        if let Some(span) = trimmed(self.text, start..end) {
            self.blocks.push(Block { kind, span });
        }
        self.covered = end;
    }

    /// Adds to the title if the open block is a heading; within others, `depth` is at least 1 too,
    /// but the last block is not a heading.
    fn extend_title(&mut self, depth: usize, piece: &str) {
        if depth > 0
            && let Some(Block {
                kind: BlockKind::Heading { title, .. },
                ..
            }) = self.blocks.last_mut()
        {
            title.push_str(piece);
        }
    }
}

fn kind_of(tag: &Tag<'_>) -> BlockKind {
    match tag {
        Tag::Heading { level, .. } => BlockKind::Heading {
            level: *level as u8,
            title: String::new(),
        },
        Tag::List(_) => BlockKind::List,
        Tag::CodeBlock(_) | Tag::MetadataBlock(_) => BlockKind::Code,
        Tag::HtmlBlock => BlockKind::Markup,
        Tag::Table(_) => BlockKind::Table,
        _ => BlockKind::Paragraph,
    }
}

/// Paragraphs between blank lines of `span`.
fn push_paragraphs(text: &str, span: Range<usize>, blocks: &mut Vec<Block>) {
    let mut start = span.start;
    let mut at = span.start;
    for line in text[span.clone()].split_inclusive('\n') {
        if line.trim().is_empty() {
            push_paragraph(text, start..at, blocks);
            start = at + line.len();
        }
        at += line.len();
    }
    push_paragraph(text, start..span.end.max(start), blocks);
}

fn push_paragraph(text: &str, span: Range<usize>, blocks: &mut Vec<Block>) {
    if let Some(span) = trimmed(text, span) {
        blocks.push(Block {
            kind: BlockKind::Paragraph,
            span,
        });
    }
}

/// The span without the blank lines before it and the white space behind it; `None` if nothing is
/// left. A first line keeps its indentation, which means something in code and lists.
fn trimmed(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let inside = &text[span.clone()];
    let length = inside.trim_end().len();
    let lead = length.min(inside.len() - inside.trim_start().len());
    let lead = inside[..lead].rfind('\n').map_or(0, |at| at + 1);
    (length > 0).then(|| span.start + lead..span.start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_blocks_are_the_top_level_ones() {
        let text = "---\ntitle: x\n---\n\n# A `b` *c*\n\nOne\ntwo.\n\n- x\n  - y\n\n```sh\n# no\n\nls\n```\n\n\
                    | a | b |\n|---|---|\n| 1 | 2 |\n\nSub\n---\n\n> # quoted\n\n[x]: http://y\n";
        let found: Vec<_> = markdown(text)
            .into_iter()
            .map(|block| (block.kind, &text[block.span]))
            .collect();
        let heading = |level, title: &str| BlockKind::Heading {
            level,
            title: title.into(),
        };
        assert_eq!(
            found,
            [
                (BlockKind::Code, "---\ntitle: x\n---"),
                (heading(1, "A b c"), "# A `b` *c*"),
                (BlockKind::Paragraph, "One\ntwo."),
                (BlockKind::List, "- x\n  - y"),
                (BlockKind::Code, "```sh\n# no\n\nls\n```"),
                (BlockKind::Table, "| a | b |\n|---|---|\n| 1 | 2 |"),
                (heading(2, "Sub"), "Sub\n---"),
                (BlockKind::Paragraph, "> # quoted"),
                (BlockKind::Paragraph, "[x]: http://y"),
            ]
        );
    }

    #[test]
    fn html_that_shows_nothing_is_markup() {
        let text = "<a id=\"x\"></a>\n\n<!-- note -->\n\n<p>shown</p>\n";
        let found: Vec<_> = markdown(text).into_iter().map(|block| block.kind).collect();
        assert_eq!(
            found,
            [BlockKind::Markup, BlockKind::Markup, BlockKind::Code]
        );
    }

    #[test]
    fn plain_text_is_cut_at_blank_lines() {
        let text = "\n  one\ntwo \n\u{3000}\n\nthree";
        let found: Vec<_> = plain(text)
            .into_iter()
            .map(|block| &text[block.span])
            .collect();
        assert_eq!(found, ["  one\ntwo", "three"]);
    }
}
