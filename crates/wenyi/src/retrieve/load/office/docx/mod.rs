//! Word documents: headings by their styles, lists with their numbers, tables, charts, notes,
//! comments, headers and footers. Deleted and hidden texts are left out.

mod margins;
mod numbering;
mod paragraph;
mod styles;

use std::collections::HashMap;

use self::numbering::Numbering;
use self::paragraph::Paragraph;
use self::styles::Styles;
use super::chart::Chart;
use super::package::{Package, Relation};
use super::xml::{self, Node, Tag};
use crate::retrieve::load::SkipReason;
use crate::retrieve::load::draft::Draft;
use crate::retrieve::load::places::Unit;

/// Where the document's relations lead if they do not say.
const DOCUMENT: &str = "word/document.xml";

/// Tables within tables; the text of each is copied into the cell that it stands in.
const MOST_TABLES: usize = 16;

/// Columns that a cell reaches over, as in the program.
const MOST_SPANNED: usize = 63;

/// Columns of a row with cells that reach over several.
const MOST_COLUMNS: usize = 1024;

pub(in crate::retrieve::load) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    let mut package = Package::open(bytes)?;
    let relations = package.relations("");
    let document = relations
        .into_iter()
        .find(|relation| relation.kind == "officeDocument")
        .map_or_else(|| DOCUMENT.to_owned(), |relation| relation.target);
    let related = package.relations(&document);
    let body = package.xml(&document)?;
    let mut reader = Reader {
        // Where Word never laid the document out there are no pages to tell.
        pages: body.contains("lastRenderedPageBreak"),
        page: 1,
        ..Reader::default()
    };
    if let Some(styles) = reader.related(&mut package, &related, "styles", Styles::read)? {
        reader.styles = styles;
    }
    if let Some(lists) = reader.related(&mut package, &related, "numbering", Numbering::read)? {
        reader.numbering = lists;
    }
    reader.read_margins(&mut package, &related)?;
    reader.read(&body)?;
    reader.expect_document()?;
    reader.read_charts(&mut package, &related)?;
    for kind in ["footnotes", "endnotes", "comments"] {
        let notes = reader.related(&mut package, &related, kind, |xml| Ok(xml.to_owned()))?;
        if let Some(notes) = notes {
            let read = reader.read(&notes);
            reader.draft.part(kind, read)?;
        }
    }
    Ok(reader.draft)
}

/// A row of a table that is being read.
#[derive(Default)]
struct Row {
    cells: Vec<String>,
    /// Columns that the open cell reaches over besides its own.
    spanned: usize,
}

#[derive(Default)]
struct Reader {
    styles: Styles,
    numbering: Numbering,
    draft: Draft,
    pages: bool,
    page: u64,
    /// The first element's name.
    root: String,
    num_paragraphs: usize,
    /// The pages of what is read later: notes by their kind and number, charts by their relation.
    cited: HashMap<(&'static str, String), u64>,
    /// What stands before the next paragraph.
    prefix: String,
    /// Open paragraphs: a text box stands inside of one.
    open: Vec<Paragraph>,
    /// The row that is being read, for every table that is open.
    tables: Vec<Row>,
    /// Open tables below the deepest that is told from the text around it.
    deeper: usize,
    in_text: bool,
    /// Depth within what is written twice or not shown.
    hidden: usize,
    /// For each open run, whether its text is hidden.
    runs: Vec<bool>,
    num_hidden_runs: usize,
    /// Properties of a paragraph, which are no run's.
    in_properties: bool,
    /// Depth within properties as they were before a change.
    before_change: usize,
}

impl Reader {
    /// What `read` makes of the part of this kind, if there is one that is whole.
    fn related<T>(
        &mut self,
        package: &mut Package<'_>,
        related: &[Relation],
        kind: &str,
        read: impl FnOnce(&str) -> Result<T, SkipReason>,
    ) -> Result<Option<T>, SkipReason> {
        let found = related.iter().find(|relation| relation.kind == kind);
        let Some(part) = found.map(|relation| relation.target.as_str()) else {
            return Ok(None);
        };
        if !package.has(part) {
            return Ok(None);
        }
        let xml = package.xml(part).and_then(|xml| read(&xml));
        self.draft.part(part, xml)
    }

    /// # Errors
    ///
    /// If what was read is a file of another kind.
    fn expect_document(&self) -> Result<(), SkipReason> {
        let message = if self.root != "document" {
            format!("its main part is a `{}`, no Word document", self.root)
        } else if self.num_paragraphs == 0 {
            "it has no paragraphs".to_owned()
        } else {
            return Ok(());
        };
        Err(SkipReason::Broken { message })
    }

    fn read_charts(
        &mut self,
        package: &mut Package<'_>,
        related: &[Relation],
    ) -> Result<(), SkipReason> {
        for relation in related.iter().filter(|relation| relation.kind == "chart") {
            let chart = package.xml(&relation.target);
            let chart = chart.and_then(|xml| Chart::read(&xml));
            let page = self.cited.get(&("chart", relation.id.clone())).copied();
            if let Some(chart) = self.draft.part(&relation.target, chart)? {
                self.place(page.unwrap_or(self.page));
                chart.write(&mut self.draft);
            }
            self.draft.expect_room()?;
        }
        Ok(())
    }

    fn place(&mut self, page: u64) {
        if self.pages {
            self.draft.place(Unit::Page, page, None);
        }
    }

    fn read(&mut self, xml: &str) -> Result<(), SkipReason> {
        (self.open, self.tables, self.runs) = (Vec::new(), Vec::new(), Vec::new());
        (self.deeper, self.hidden, self.num_hidden_runs) = (0, 0, 0);
        (self.in_text, self.in_properties, self.before_change) = (false, false, 0);
        xml::read(xml, |node| {
            match node {
                Node::Open(tag) => self.open(&tag),
                Node::Close(name) => self.close(name),
                Node::Text(text) if self.in_text => self.push(&text),
                Node::Text(_) => {}
            }
            self.draft.expect_room()
        })
    }

    fn open(&mut self, tag: &Tag<'_>) {
        if self.root.is_empty() {
            tag.name().clone_into(&mut self.root);
        }
        match tag.name() {
            // The same text again, for programs that cannot show the first, and text that was
            // moved elsewhere.
            "Fallback" | "moveFrom" => self.hidden += 1,
            "p" => {
                self.open.push(Paragraph::default());
                self.num_paragraphs += 1;
            }
            "r" => self.runs.push(false),
            "t" => self.in_text = true,
            "tab" | "ptab" if self.in_run() => self.push("\t"),
            "br" | "cr" if self.in_run() => self.push("\n"),
            "noBreakHyphen" => self.push("-"),
            "lastRenderedPageBreak" => self.page += 1,
            "footnoteReference" => self.cite("footnote", tag.attribute("id")),
            "endnoteReference" => self.cite("endnote", tag.attribute("id")),
            "commentReference" => self.cite("comment", tag.attribute("id")),
            "chart" => self.cite("chart", tag.prefixed_attribute("id")),
            "footnote" => self.note("footnote", tag),
            "endnote" => self.note("endnote", tag),
            "comment" => self.note("comment", tag),
            "pPrChange" | "rPrChange" => self.before_change += 1,
            _ if self.before_change > 0 => {}
            "pPr" => self.in_properties = true,
            "vanish" if !self.in_properties => self.hide_run(tag),
            "tbl" | "tc" | "gridSpan" | "gridBefore" => self.open_table(tag),
            _ => self.property(tag),
        }
    }

    /// Notes on which page something is cited that is read later.
    fn cite(&mut self, kind: &'static str, id: Option<String>) {
        if let Some(id) = id {
            self.cited.entry((kind, id)).or_insert(self.page);
        }
    }

    /// What follows is a note; it stands on the page that cites it.
    fn note(&mut self, kind: &'static str, tag: &Tag<'_>) {
        let id = tag.attribute("id").unwrap_or_default();
        if let Some(&page) = self.cited.get(&(kind, id)) {
            self.page = page;
        }
        self.prefix.clear();
        if kind == "comment" {
            self.prefix = match tag.attribute("author") {
                Some(author) if !author.trim().is_empty() => format!("Comment by {author}: "),
                _ => "Comment: ".to_owned(),
            };
        }
    }

    fn hide_run(&mut self, tag: &Tag<'_>) {
        let is_shown = matches!(tag.attribute("val").as_deref(), Some("0" | "false" | "off"));
        if let Some(run) = self.runs.last_mut()
            && !is_shown
            && !std::mem::replace(run, true)
        {
            self.num_hidden_runs += 1;
        }
    }

    /// What is told of the last paragraph.
    fn property(&mut self, tag: &Tag<'_>) {
        let Some(paragraph) = self.open.last_mut() else {
            return;
        };
        let value = || tag.attribute("val");
        match tag.name() {
            "pStyle" => paragraph.style = value().unwrap_or_default(),
            "outlineLvl" => {
                let level = value().and_then(|level| level.parse().ok());
                paragraph.outline = level.filter(|&level: &u8| level < 9);
            }
            "ilvl" => paragraph.level = value().and_then(|level| level.parse().ok()),
            "numId" => paragraph.list = value(),
            _ => {}
        }
    }

    fn open_table(&mut self, tag: &Tag<'_>) {
        let num_columns = || {
            let columns = tag.attribute("val").and_then(|value| value.parse().ok());
            columns.unwrap_or(0_usize).min(MOST_SPANNED)
        };
        let depth = self.tables.len();
        match (tag.name(), self.tables.last_mut()) {
            ("tbl", _) if depth >= MOST_TABLES => self.deeper += 1,
            ("tbl", outer) => {
                if outer.is_none() {
                    self.draft.close();
                }
                self.tables.push(Row::default());
            }
            _ if self.deeper > 0 => {}
            ("tc", Some(row)) => row.cells.push(String::new()),
            ("gridSpan", Some(row)) => row.spanned = num_columns().saturating_sub(1),
            ("gridBefore", Some(row)) => row.skip(num_columns()),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "Fallback" | "moveFrom" => self.hidden = self.hidden.saturating_sub(1),
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "r" => {
                let was_hidden = self.runs.pop().unwrap_or(false);
                self.num_hidden_runs -= usize::from(was_hidden);
            }
            "pPr" if self.before_change == 0 => self.in_properties = false,
            "pPrChange" | "rPrChange" => {
                self.before_change = self.before_change.saturating_sub(1);
            }
            "tbl" | "tr" | "tc" if self.deeper > 0 => self.deeper -= usize::from(name == "tbl"),
            "tc" => {
                if let Some(row) = self.tables.last_mut() {
                    let spanned = std::mem::take(&mut row.spanned);
                    row.skip(spanned);
                }
            }
            "tr" => {
                let row = self.tables.last_mut().map(std::mem::take);
                self.end_row(&row.unwrap_or_default().cells);
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

    fn is_hidden(&self) -> bool {
        self.hidden > 0 || self.num_hidden_runs > 0
    }

    /// `tab` and `br` also name settings, outside of any paragraph's text.
    fn in_run(&self) -> bool {
        !self.open.is_empty() && !self.in_properties
    }

    fn push(&mut self, text: &str) {
        if self.is_hidden() {
            return;
        }
        if let Some(paragraph) = self.open.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn end_row(&mut self, row: &[String]) {
        // A table inside of a table is a line of the cell that it stands in.
        let inner = self.tables.len() > 1;
        if inner {
            let above = self.tables.len() - 2;
            if let Some(cell) = self.tables[above].cells.last_mut() {
                cell.push_str(&format!(" {}", row.join(" ")));
            }
            return;
        }
        self.place(self.page);
        self.draft.row(row);
    }
}

impl Row {
    /// Columns without cells of their own.
    fn skip(&mut self, num_columns: usize) {
        let length = (self.cells.len() + num_columns).min(MOST_COLUMNS);
        self.cells
            .resize(length.max(self.cells.len()), String::new());
    }
}
