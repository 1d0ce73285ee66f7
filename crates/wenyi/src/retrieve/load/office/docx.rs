//! Word documents: headings by their styles, lists, tables, foot- and endnotes.

use std::collections::HashMap;

use super::package::Package;
use super::xml::{self, Node, Tag};
use crate::retrieve::load::SkipReason;
use crate::retrieve::load::draft::Draft;
use crate::retrieve::load::places::Unit;

/// Where the document's relations lead if they do not say.
const DOCUMENT: &str = "word/document.xml";

/// Tables within tables; the text of each is copied into the cell that it stands in.
const MOST_TABLES: usize = 16;

pub(in crate::retrieve::load) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    let mut package = Package::open(bytes)?;
    let relations = package.relations("");
    let document = relations
        .into_iter()
        .find(|relation| relation.kind == "officeDocument")
        .map_or_else(|| DOCUMENT.to_owned(), |relation| relation.target);
    let related = package.relations(&document);
    let target = |kind: &str| {
        let found = related.iter().find(|relation| relation.kind == kind);
        found.map(|relation| relation.target.clone())
    };
    let styles = match target("styles").map(|part| package.xml(&part)) {
        Some(xml) => heading_styles(&xml?)?,
        None => HashMap::new(),
    };
    let body = package.xml(&document)?;
    let mut reader = Reader {
        styles: &styles,
        draft: Draft::default(),
        // Where Word never laid the document out there are no pages to tell.
        pages: body.contains("lastRenderedPageBreak"),
        ..Reader::new(&styles)
    };
    reader.read(&body)?;
    for kind in ["footnotes", "endnotes"] {
        if let Some(notes) = target(kind).filter(|part| package.has(part)) {
            reader.read(&package.xml(&notes)?)?;
        }
    }
    Ok(reader.draft)
}

/// The heading level of each style that has one: by its outline level, its name, or the style
/// that it is based on.
fn heading_styles(xml: &str) -> Result<HashMap<String, u8>, SkipReason> {
    let mut levels: HashMap<String, u8> = HashMap::new();
    let mut based_on: HashMap<String, String> = HashMap::new();
    let mut style = String::new();
    xml::read(xml, |node| {
        let Node::Open(tag) = node else { return Ok(()) };
        let value = || tag.attribute("val").unwrap_or_default();
        match tag.name() {
            "style" => style = tag.attribute("styleId").unwrap_or_default(),
            "basedOn" => {
                based_on.insert(style.clone(), value());
            }
            "name" => {
                let name = value().to_lowercase();
                let level = match name.as_str() {
                    "title" => Some(1),
                    _ => heading_number(&name),
                };
                if let Some(level) = level {
                    levels.entry(style.clone()).or_insert(level);
                }
            }
            "outlineLvl" => {
                // 9 is body text.
                if let Some(level) = value().parse::<u8>().ok().filter(|&level| level < 9) {
                    levels.insert(style.clone(), level + 1);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    for style in based_on.keys() {
        let (mut above, mut steps) = (style, 0);
        while !levels.contains_key(above)
            && steps < 16
            && let Some(next) = based_on.get(above)
        {
            (above, steps) = (next, steps + 1);
        }
        if let Some(&level) = levels.get(above) {
            levels.insert(style.clone(), level);
        }
    }
    Ok(levels)
}

/// `heading 2`, and what Chinese editions call it.
fn heading_number(name: &str) -> Option<u8> {
    let number = ["heading", "标题", "標題"]
        .iter()
        .find_map(|word| name.strip_prefix(word))?;
    number.trim().parse().ok().filter(|&level| level <= 9)
}

#[derive(Default)]
struct Paragraph {
    text: String,
    style: String,
    outline: Option<u8>,
    /// The level in a list.
    list: Option<usize>,
}

struct Reader<'a> {
    styles: &'a HashMap<String, u8>,
    draft: Draft,
    pages: bool,
    page: u64,
    /// Open paragraphs: a text box stands inside of one.
    open: Vec<Paragraph>,
    /// The cells of the row that is being read, for every table that is open.
    tables: Vec<Vec<String>>,
    /// Open tables below the deepest that is told from the text around it.
    deeper: usize,
    in_text: bool,
    /// Depth within what is written twice or not shown.
    hidden: usize,
}

impl<'a> Reader<'a> {
    fn new(styles: &'a HashMap<String, u8>) -> Self {
        Self {
            styles,
            draft: Draft::default(),
            pages: false,
            page: 1,
            open: Vec::new(),
            tables: Vec::new(),
            deeper: 0,
            in_text: false,
            hidden: 0,
        }
    }

    fn read(&mut self, xml: &str) -> Result<(), SkipReason> {
        (self.open, self.tables) = (Vec::new(), Vec::new());
        (self.deeper, self.hidden) = (0, 0);
        xml::read(xml, |node| {
            match node {
                Node::Open(tag) => self.open(&tag),
                Node::Close(name) => self.close(name),
                Node::Text(text) if self.in_text && self.hidden == 0 => self.push(&text),
                Node::Text(_) => {}
            }
            self.draft.expect_room()
        })
    }

    fn open(&mut self, tag: &Tag<'_>) {
        match tag.name() {
            // The same text again, for programs that cannot show the first.
            "Fallback" => self.hidden += 1,
            "p" => self.open.push(Paragraph::default()),
            "t" => self.in_text = true,
            "tab" | "ptab" if self.in_run() => self.push("\t"),
            "br" | "cr" if self.in_run() => self.push("\n"),
            "noBreakHyphen" => self.push("-"),
            "lastRenderedPageBreak" => self.page += 1,
            "pStyle" => {
                let style = tag.attribute("val").unwrap_or_default();
                self.with_last(|paragraph| paragraph.style = style);
            }
            "outlineLvl" => {
                let level = tag.attribute("val").and_then(|level| level.parse().ok());
                self.with_last(|paragraph| {
                    paragraph.outline = level.filter(|&level: &u8| level < 9);
                });
            }
            "ilvl" => {
                let level = tag.attribute("val").and_then(|level| level.parse().ok());
                self.with_last(|paragraph| paragraph.list = Some(level.unwrap_or(0)));
            }
            // The number 0 takes a paragraph out of its style's list.
            "numId" if tag.attribute("val").as_deref() == Some("0") => {
                self.with_last(|paragraph| paragraph.list = None);
            }
            "tbl" if self.tables.len() >= MOST_TABLES => self.deeper += 1,
            "tbl" => {
                if self.tables.is_empty() {
                    self.draft.close();
                }
                self.tables.push(Vec::new());
            }
            "tc" if self.deeper == 0 => {
                if let Some(row) = self.tables.last_mut() {
                    row.push(String::new());
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "Fallback" => self.hidden = self.hidden.saturating_sub(1),
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tbl" | "tr" if self.deeper > 0 => self.deeper -= usize::from(name == "tbl"),
            "tr" => {
                let row = self.tables.last_mut().map(std::mem::take);
                self.end_row(&row.unwrap_or_default());
            }
            "tbl" => {
                self.tables.pop();
                if self.tables.is_empty() {
                    self.draft.close();
                }
            }
            _ => {}
        }
    }

    /// `tab` and `br` also name settings, outside of any paragraph's text.
    fn in_run(&self) -> bool {
        !self.open.is_empty() && self.hidden == 0
    }

    fn push(&mut self, text: &str) {
        if self.hidden == 0 {
            self.with_last(|paragraph| paragraph.text.push_str(text));
        }
    }

    fn with_last(&mut self, change: impl FnOnce(&mut Paragraph)) {
        if let Some(paragraph) = self.open.last_mut() {
            change(paragraph);
        }
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.open.pop() else {
            return;
        };
        if paragraph.text.trim().is_empty() {
            return;
        }
        if let Some(cell) = self.tables.last_mut().and_then(|row| row.last_mut()) {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(&paragraph.text);
            return;
        }
        if self.pages {
            self.draft.place(Unit::Page, self.page, None);
        }
        let level = paragraph.outline.map(|level| level + 1);
        match (
            level.or_else(|| self.styles.get(&paragraph.style).copied()),
            paragraph.list,
        ) {
            (Some(level), _) => self.draft.heading(level, &paragraph.text),
            (None, Some(depth)) => self.draft.item(depth, &paragraph.text),
            (None, None) if is_code(&paragraph) => self.draft.code(&paragraph.text),
            (None, None) => self.draft.paragraph(&paragraph.text),
        }
    }

    fn end_row(&mut self, row: &[String]) {
        // A table inside of a table is a line of the cell that it stands in.
        let inner = self.tables.len() > 1;
        if inner {
            let above = self.tables.len() - 2;
            if let Some(cell) = self.tables[above].last_mut() {
                cell.push_str(&format!(" {}", row.join(" ")));
            }
            return;
        }
        if self.pages {
            self.draft.place(Unit::Page, self.page, None);
        }
        self.draft.row(row);
    }
}

/// Pandoc and others call the style of listings so.
fn is_code(paragraph: &Paragraph) -> bool {
    let style = paragraph.style.to_lowercase();
    style.contains("sourcecode") || style.contains("verbatim") || style == "code"
}
