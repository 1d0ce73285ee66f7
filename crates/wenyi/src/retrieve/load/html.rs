//! The visible text of a page, its blocks, and where each piece stood in the source.
//!
//! One pass over the tags, as lenient as a browser: unknown tags vanish, an unclosed comment or
//! script swallows the rest, an unclosed tag is text. Styles and scripts are never run, so text
//! that only they hide is kept.

use crate::retrieve::chunk::structure::{Block, BlockKind};

/// Elements whose content no reader sees.
const INVISIBLE: &[&str] = &[
    "script", "style", "template", "noscript", "svg", "math", "iframe", "object", "title",
    "textarea",
];

/// Elements that begin and end a block.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "head",
    "header",
    "hr",
    "html",
    "legend",
    "li",
    "main",
    "menu",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "select",
    "summary",
    "table",
    "tbody",
    "tr",
    "ul",
];

pub(super) struct Page {
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    /// See [`super::SourceMap`].
    pub(super) points: Vec<(usize, usize)>,
}

pub(super) fn visible_text(source: &str) -> Page {
    let mut reader = Reader {
        source,
        ..Reader::default()
    };
    let mut at = 0;
    while at < source.len() {
        let open = source[at..]
            .find('<')
            .map_or(source.len(), |offset| at + offset);
        reader.literal(at, open);
        if open == source.len() {
            break;
        }
        at = reader.markup(open);
    }
    reader.end_block(source.len());
    Page {
        text: reader.text,
        blocks: reader.blocks,
        points: reader.points,
    }
}

#[derive(Default)]
struct Reader<'a> {
    source: &'a str,
    text: String,
    blocks: Vec<Block>,
    points: Vec<(usize, usize)>,
    /// Where the open block begins in `text`.
    block_start: usize,
    heading: Option<u8>,
    in_list: usize,
    in_table: usize,
    in_pre: usize,
    /// White space was seen and will be one blank if text follows.
    space: bool,
    /// A tag without an end was met: what follows is text.
    broken: bool,
}

impl Reader<'_> {
    /// Handles what begins with `<` at `open`; returns where it ends.
    fn markup(&mut self, open: usize) -> usize {
        let rest = &self.source[open..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            return comment
                .find("-->")
                .map_or(self.source.len(), |end| open + 4 + end + 3);
        }
        let second = rest.as_bytes().get(1).copied().unwrap_or(b' ');
        let is_tag = second.is_ascii_alphabetic() || matches!(second, b'/' | b'!' | b'?');
        let end = if is_tag && !self.broken {
            tag_end(rest)
        } else {
            None
        };
        let Some(end) = end else {
            // Remembered, so that a page of a million `<a ` is not searched a million times.
            self.broken |= is_tag;
            self.literal(open, open + 1);
            return open + 1;
        };
        self.tag(&rest[1..end - 1], open, open + end)
    }

    /// Handles a tag that reaches from `open` to `end`; returns where reading goes on.
    fn tag(&mut self, inner: &str, open: usize, end: usize) -> usize {
        let closing = inner.starts_with('/');
        let inner = inner.trim_start_matches('/');
        let length = inner
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(inner.len());
        let name = inner[..length].to_ascii_lowercase();
        let name = name.as_str();
        if !closing && !inner.ends_with('/') && INVISIBLE.contains(&name) {
            self.space = true;
            return after_closing(self.source, end, name);
        }
        match name {
            "br" => self.line_break(end),
            "td" | "th" if !closing => self.cell(end),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_block(open);
                self.heading = (!closing).then(|| name.as_bytes()[1] - b'0');
            }
            _ if BLOCKS.contains(&name) => self.block_tag(name, closing, open, end),
            _ => {}
        }
        end
    }

    fn block_tag(&mut self, name: &str, closing: bool, open: usize, end: usize) {
        // Rows of one table and items of one list stay in one block, a line each.
        let inside = (name == "tr" && self.in_table > 0)
            || (name == "li" && self.in_list > 0)
            || (self.in_table > 0 && matches!(name, "tbody" | "p" | "div"))
            || (self.in_list > 0 && matches!(name, "p" | "div" | "ul" | "ol"));
        if inside {
            self.line_break(end);
        } else {
            self.end_block(open);
        }
        let count = |depth: &mut usize| {
            *depth = if closing {
                depth.saturating_sub(1)
            } else {
                *depth + 1
            };
        };
        match name {
            "ul" | "ol" | "menu" => count(&mut self.in_list),
            "table" => count(&mut self.in_table),
            "pre" => count(&mut self.in_pre),
            "li" if !closing => self.insert("- ", end),
            _ => {}
        }
    }

    /// Text from the source, entities decoded, white space collapsed outside of `pre`.
    fn literal(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let rest = &self.source[at..end];
            let Some(c) = rest.chars().next() else { break };
            if c.is_ascii_whitespace() && self.in_pre == 0 {
                self.space = true;
                at += 1;
            } else if c == '&' {
                at += self.entity(at, rest);
            } else {
                let stop =
                    rest.find(|c: char| c == '&' || (c.is_ascii_whitespace() && self.in_pre == 0));
                let length = stop.unwrap_or(rest.len());
                self.pending_space(at);
                self.point(at);
                self.text.push_str(&rest[..length]);
                at += length;
                self.point(at);
            }
        }
    }

    /// A character reference at the start of `rest`; returns its length in the source.
    fn entity(&mut self, at: usize, rest: &str) -> usize {
        // The longest name, `CounterClockwiseContourIntegral`, has 31 letters.
        let window = rest.as_bytes().iter().take(34);
        let length = window
            .into_iter()
            .position(|&byte| byte == b';')
            .map_or(1, |end| end + 1);
        let decoded = html_escape::decode_html_entities(&rest[..length]);
        if decoded
            .chars()
            .all(|c| c.is_ascii_whitespace() || c == '\u{a0}')
            && self.in_pre == 0
        {
            self.space = true;
            return length;
        }
        self.pending_space(at);
        self.point(at);
        self.text.push_str(&decoded);
        self.point(at + length);
        length
    }

    fn pending_space(&mut self, at: usize) {
        let inside = self.text.len() > self.block_start && !self.text.ends_with(['\n', ' ']);
        if std::mem::take(&mut self.space) && inside {
            self.insert(" ", at);
        }
    }

    /// Text that the source does not have.
    fn insert(&mut self, text: &str, at: usize) {
        self.point(at);
        self.text.push_str(text);
        self.point(at);
    }

    fn point(&mut self, source: usize) {
        let point = (self.text.len(), source);
        if self.points.last() != Some(&point) {
            self.points.push(point);
        }
    }

    fn line_break(&mut self, at: usize) {
        self.space = false;
        if self.text.len() > self.block_start && !self.text.ends_with('\n') {
            self.insert("\n", at);
        }
    }

    fn cell(&mut self, at: usize) {
        self.space = false;
        if self.text.len() > self.block_start && !self.text.ends_with(['\n', ' ']) {
            self.insert(" | ", at);
        }
    }

    /// Closes the open block, if it has any text.
    fn end_block(&mut self, at: usize) {
        self.space = false;
        let text = &self.text[self.block_start..];
        let heading = self.heading.take();
        if !text.trim().is_empty() {
            let span = self.block_start..self.block_start + text.trim_end().len();
            let kind = match heading {
                Some(level) => BlockKind::Heading {
                    level,
                    title: text.trim().to_owned(),
                },
                None if self.in_pre > 0 => BlockKind::Code,
                None if self.in_table > 0 => BlockKind::Table,
                None if self.in_list > 0 => BlockKind::List,
                None => BlockKind::Paragraph,
            };
            self.blocks.push(Block { kind, span });
            self.insert("\n\n", at);
        }
        self.block_start = self.text.len();
    }
}

/// The length of the tag at the start of `rest`, `>` included; quoted values may hold `>`.
fn tag_end(rest: &str) -> Option<usize> {
    let mut quote = None;
    let mut after_equals = false;
    for (index, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            // A quote opens a value only behind `=`: `<p class=it's>` is a tag.
            (None, b'"' | b'\'') if after_equals => quote = Some(byte),
            (None, b'>') => return Some(index + 1),
            (None, _) => {}
        }
        if !byte.is_ascii_whitespace() {
            after_equals = byte == b'=';
        }
    }
    None
}

/// Where reading goes on after an element whose content is not visible.
fn after_closing(source: &str, from: usize, name: &str) -> usize {
    let bytes = source.as_bytes();
    let mut at = from;
    while let Some(offset) = source[at..].find("</") {
        let start = at + offset + 2;
        let end = start + name.len();
        if bytes
            .get(start..end)
            .is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        {
            return source[end..]
                .find('>')
                .map_or(source.len(), |close| end + close + 1);
        }
        at = start;
    }
    source.len()
}
