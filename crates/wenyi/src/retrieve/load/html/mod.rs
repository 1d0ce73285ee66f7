//! The visible text of a page, its blocks, and where each piece stood in the source.
//!
//! One pass over the tags, as lenient as a browser: unknown tags vanish, an unclosed comment or
//! script swallows the rest, an unclosed tag is text. Style sheets and scripts are never run, so
//! text that only they hide is kept; what an element itself says is hidden is left out.

mod grid;
mod tags;
mod text;

use self::grid::Grid;
use self::tags::{Hidden, Within, attribute, tag_end};
use super::draft::collapsed;
use crate::retrieve::chunk::structure::{Block, BlockKind};

/// Elements whose content no reader sees.
const INVISIBLE: &[&str] = &[
    "script",
    "style",
    "template",
    "noscript",
    "svg",
    "iframe",
    "object",
    "title",
    "textarea",
    // A formula once more, for programs.
    "annotation",
    "annotation-xml",
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

/// A cell with more than this on its line is running text, whose paragraphs are lines; in shorter
/// ones they are words of a row.
const LONGEST_CELL: usize = 200;

/// Bytes of a page's title.
const LONGEST_TITLE: usize = 1000;

pub(super) struct Page {
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    /// See [`super::SourceMap`].
    pub(super) points: Vec<(usize, usize)>,
    /// What its window is called.
    pub(super) title: Option<String>,
}

/// A page that is a document of its own: its title is the heading above all others, if it has no
/// heading of the first level.
pub(super) fn document(source: &str) -> Page {
    let has_heading = source
        .as_bytes()
        .windows(3)
        .any(|tag| tag.eq_ignore_ascii_case(b"<h1"));
    let shows_title = !has_heading;
    Reader {
        shows_title,
        ..Reader::new(source)
    }
    .read()
}

pub(super) fn visible_text(source: &str) -> Page {
    Reader::new(source).read()
}

/// True if there is any text, other than what stands for pictures.
pub(super) fn shows_text(source: &str) -> bool {
    let page = Reader {
        leaves_pictures: true,
        ..Reader::new(source)
    }
    .read();
    !page.text.trim().is_empty()
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
    /// The last number of each open list, `None` for one with bullets.
    lists: Vec<Option<i64>>,
    /// Where the mark of an item ends, behind which its first paragraph begins.
    mark_end: usize,
    grids: Vec<Grid>,
    /// Cells that may still be spanned.
    room: usize,
    in_pre: usize,
    hidden: Option<Hidden>,
    title: Option<String>,
    /// The title is the first heading.
    shows_title: bool,
    /// Words that stand for pictures are left out.
    leaves_pictures: bool,
    /// White space was seen and will be one blank if text follows.
    space: bool,
    /// A tag without an end was met: what follows is text.
    broken: bool,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            room: grid::MOST_SPANNED,
            ..Self::default()
        }
    }

    fn read(mut self) -> Page {
        let source = self.source;
        let mut at = 0;
        while at < source.len() {
            let open = source[at..]
                .find('<')
                .map_or(source.len(), |offset| at + offset);
            self.literal(at, open);
            if open == source.len() {
                break;
            }
            at = self.markup(open);
        }
        self.end_block(source.len());
        Page {
            text: self.text,
            blocks: self.blocks,
            points: self.points,
            title: self.title,
        }
    }

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
        if let Some(hidden) = &mut self.hidden {
            match hidden.meets(name, closing) {
                Within::Hidden => return self.after_invisible(name, inner, closing, end),
                Within::Closing => {
                    self.hidden = None;
                    return end;
                }
                Within::Behind => self.hidden = None,
            }
        }
        if !closing && name == "title" && self.title.is_none() && !inner.ends_with('/') {
            self.name_page(end);
        }
        if !closing {
            self.hidden = Hidden::opened(name, inner);
            if self.hidden.is_some() || is_invisible(name, inner) {
                // A formula's annotation stands within the words around it.
                self.space |= !name.starts_with("annotation");
                return self.after_invisible(name, inner, closing, end);
            }
        }
        match name {
            "br" => self.soft_break(end),
            "img" if !closing && !self.leaves_pictures => self.image(inner, open),
            "td" | "th" if !closing => self.cell(inner, end),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_block(open);
                self.heading = (!closing).then(|| name.as_bytes()[1] - b'0');
            }
            "tr" if !self.grids.is_empty() => {
                self.line_break(end);
                if let Some(grid) = self.grids.last_mut() {
                    grid.row(closing);
                }
            }
            _ if BLOCKS.contains(&name) => self.block_tag(name, inner, closing, open, end),
            _ => {}
        }
        end
    }

    /// Behind the tag, or behind the element that it opens if nobody sees its content.
    fn after_invisible(&self, name: &str, inner: &str, closing: bool, end: usize) -> usize {
        if !closing && is_invisible(name, inner) {
            return tags::closing(self.source, end, name).1;
        }
        end
    }

    /// Notes what stands in the title at `start`.
    fn name_page(&mut self, start: usize) {
        let (end, _) = tags::closing(self.source, start, "title");
        let title = collapsed(&html_escape::decode_html_entities(&self.source[start..end]));
        // One that is never closed is the whole page.
        if title.is_empty() || title.len() > LONGEST_TITLE {
            return;
        }
        self.title = Some(title);
        if self.shows_title && self.text.is_empty() {
            self.heading = Some(1);
            self.literal(start, end);
            self.end_block(end);
        }
    }

    fn block_tag(&mut self, name: &str, inner: &str, closing: bool, open: usize, end: usize) {
        let in_cell = self.grids.last().is_some_and(|grid| grid.in_cell);
        // Rows of one table and items of one list stay in one block, a line each.
        if name == "li" && !self.lists.is_empty() && !in_cell {
            self.line_break(end);
        } else if in_cell && !matches!(name, "table" | "pre") {
            self.soft_break(end);
        } else if closing && self.lists.len() == 1 && matches!(name, "ul" | "ol" | "menu") {
            self.end_block(open);
        } else if (!self.lists.is_empty() && matches!(name, "p" | "div" | "ul" | "ol"))
            || (!self.grids.is_empty() && matches!(name, "tbody" | "p" | "div"))
        {
            // An item's first paragraph stands behind its mark.
            if self.text.len() != self.mark_end {
                self.line_break(end);
            }
        } else {
            self.end_block(open);
        }
        match name {
            "ul" | "ol" | "menu" if closing => drop(self.lists.pop()),
            "ul" | "menu" => self.lists.push(None),
            "ol" => self
                .lists
                .push(Some(number(inner, "start").unwrap_or(1).saturating_sub(1))),
            "table" if closing => drop(self.grids.pop()),
            "table" => self.grids.push(Grid::default()),
            "pre" if closing => self.in_pre = self.in_pre.saturating_sub(1),
            "pre" => self.in_pre += 1,
            "li" if !closing => self.item(inner, end),
            _ => {}
        }
    }

    /// The mark of an item: a bullet, or its number.
    fn item(&mut self, inner: &str, at: usize) {
        let depth = self.lists.len().saturating_sub(1).min(8);
        let mark = match self.lists.last_mut() {
            Some(Some(last)) => {
                *last = number(inner, "value").unwrap_or(last.saturating_add(1));
                format!("{}{last}. ", "  ".repeat(depth))
            }
            _ => format!("{}- ", "  ".repeat(depth)),
        };
        let in_cell = self.grids.last().is_some_and(|grid| grid.in_cell);
        if in_cell {
            self.before_text(at);
            self.insert(mark.trim_start(), at);
        } else {
            self.insert(&mark, at);
        }
        self.mark_end = self.text.len();
    }

    /// The words that stand for a picture.
    fn image(&mut self, inner: &str, at: usize) {
        let words = html_escape::decode_html_entities(attribute(inner, "alt").unwrap_or_default());
        let words = collapsed(&words);
        // Some programs put the file's name there.
        let is_file = !words.contains(' ') && words.contains('.');
        if self.hidden.is_none() && !is_file && words.contains(char::is_alphanumeric) {
            self.space = true;
            self.before_text(at);
            self.insert(&words, at);
            self.space = true;
        }
    }

    fn cell(&mut self, inner: &str, at: usize) {
        self.space = false;
        let span = |name| number(inner, name).and_then(|span| usize::try_from(span).ok());
        let (columns, rows) = (span("colspan").unwrap_or(1), span("rowspan").unwrap_or(1));
        let is_first = self.text.len() == self.block_start;
        if let Some(grid) = self.grids.last_mut() {
            grid.cell(columns, rows, &mut self.room, is_first);
        } else if !is_first && !self.text.ends_with(['\n', ' ']) {
            // A cell outside of any table, in a piece of a page.
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
                None if !self.grids.is_empty() => BlockKind::Table,
                None if !self.lists.is_empty() => BlockKind::List,
                None => BlockKind::Paragraph,
            };
            self.blocks.push(Block { kind, span });
            self.insert("\n\n", at);
        }
        self.block_start = self.text.len();
        if let Some(grid) = self.grids.last_mut() {
            grid.cut();
        }
    }
}

fn is_invisible(name: &str, inner: &str) -> bool {
    INVISIBLE.contains(&name) && !inner.ends_with('/')
}

/// The whole number that an attribute has as its value.
fn number(inner: &str, name: &str) -> Option<i64> {
    attribute(inner, name)?.trim().parse().ok()
}
