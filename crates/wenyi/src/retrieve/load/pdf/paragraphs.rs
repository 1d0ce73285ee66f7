//! Lines to headings, paragraphs, tables and code, by their size, distance and indentation.

use std::collections::HashSet;

use super::lines::Line;
use super::tables::is_row;
use super::{columns, tables};
use crate::retrieve::chunk::structure::BlockKind;
use crate::retrieve::load::draft::{Draft, collapsed, joined};
use crate::retrieve::load::places::Unit;
use crate::retrieve::sentences::is_cjk;

/// What the pages have in common.
pub(super) struct Style {
    /// Sizes of headings, greatest first.
    headings: Vec<f32>,
    /// The distance of two lines of a paragraph, in font sizes.
    pitch: f32,
    /// Words with a hyphen inside that stand on one line somewhere, in small letters.
    compounds: HashSet<String>,
}

/// Words with a hyphen that are remembered; a long book has some thousand.
const MOST_COMPOUNDS: usize = 100_000;

/// Levels of headings that are told by their size.
const MOST_LEVELS: usize = 5;

impl Style {
    pub(super) fn of(pages: &[(u64, Vec<Line>)]) -> Self {
        let lines = || pages.iter().flat_map(|(_, lines)| lines);
        let body = most(lines().map(|line| (rounded(line.size), line.text().len())));
        let body = f32::from(body.unwrap_or(20)) / 2.0;
        let mut headings: Vec<u16> = lines()
            .filter(|line| line.size > body * 1.12 && line.text().contains(char::is_alphabetic))
            .map(|line| rounded(line.size))
            .collect();
        headings.sort_unstable_by(|a, b| b.cmp(a));
        headings.dedup();
        let distances = pages
            .iter()
            .flat_map(|(_, lines)| lines.windows(2))
            .filter_map(|pair| {
                let distance = (pair[1].y - pair[0].y) / pair[1].size.max(1.0);
                let alike = (pair[0].size - pair[1].size).abs() < 0.5;
                // In tenths of a size.
                (alike && (0.8..3.0).contains(&distance))
                    .then(|| ((distance * 10.0).round() as u16, 1))
            });
        let pitch = most(distances).map_or(1.3, |tenths| f32::from(tenths) / 10.0);
        Self {
            headings: headings
                .into_iter()
                .map(|size| f32::from(size) / 2.0)
                .collect(),
            pitch: pitch.clamp(1.0, 2.2),
            compounds: lines()
                .flat_map(|line| compounds(&line.text()))
                .take(MOST_COMPOUNDS)
                .collect(),
        }
    }

    /// The level of a heading, if the line is one.
    fn level(&self, line: &Line) -> Option<u8> {
        let text = line.text();
        let short = text.chars().count() <= 160 && text.contains(char::is_alphabetic);
        if !short || line.cells.len() > 2 {
            return None;
        }
        let size = f32::from(rounded(line.size)) / 2.0;
        let rank = self
            .headings
            .iter()
            .position(|&heading| (heading - size).abs() < 0.3);
        rank.map(|rank| u8::try_from(rank.min(MOST_LEVELS - 1) + 1).unwrap_or(1))
    }

    /// True if the document has the word that a hyphen at the end of `before` cuts on one line
    /// elsewhere, hyphen and all, such as `human-readable`.
    fn has_compound(&self, before: &str, after: &str) -> bool {
        let first = before.rsplit(is_between_words).next().unwrap_or_default();
        let second = after.split(is_between_words).next().unwrap_or_default();
        let word = format!("{first}{second}").to_lowercase();
        self.compounds.contains(&word)
    }

    /// The level of a heading that is bold and no larger than the text.
    fn bold_level(&self) -> u8 {
        u8::try_from(self.headings.len().min(MOST_LEVELS) + 1).unwrap_or(1)
    }
}

/// Half points, as sizes are told apart.
fn rounded(size: f32) -> u16 {
    (size * 2.0).round().clamp(0.0, 2000.0) as u16
}

/// The value with the greatest sum of weights.
fn most(values: impl Iterator<Item = (u16, usize)>) -> Option<u16> {
    let mut sums: std::collections::BTreeMap<u16, usize> = std::collections::BTreeMap::new();
    for (value, weight) in values {
        *sums.entry(value).or_default() += weight;
    }
    sums.into_iter()
        .max_by_key(|&(_, sum)| sum)
        .map(|(value, _)| value)
}

pub(super) fn write(draft: &mut Draft, page: u64, lines: &[Line], style: &Style) {
    let mut writer = Writer {
        draft,
        page,
        style,
        right: lines.iter().map(Line::right).fold(0.0, f32::max),
        first: true,
    };
    let mut at = 0;
    while at < lines.len() {
        at = writer.block(lines, at);
    }
}

struct Writer<'a> {
    draft: &'a mut Draft,
    page: u64,
    style: &'a Style,
    /// Where the longest line of the page ends.
    right: f32,
    /// True for the first block of the page.
    first: bool,
}

impl Writer<'_> {
    /// Writes the block that begins with `lines[at]`; returns where the next one begins.
    fn block(&mut self, lines: &[Line], at: usize) -> usize {
        let line = &lines[at];
        // What stands higher than the line before it begins a column.
        let is_column = at > 0 && line.y < lines[at - 1].y - line.size;
        let first = std::mem::take(&mut self.first) || is_column;
        if let Some(level) = self.style.level(line) {
            let same =
                |next: &Line| self.style.level(next) == Some(level) && next.is_bold == line.is_bold;
            let end = self.run(lines, at, 1.9, same);
            self.heading(level, &lines[at..end]);
            return end;
        }
        if line.is_monospaced {
            let end = self.run(lines, at, 2.6, |next| next.is_monospaced);
            self.code(&lines[at..end]);
            return end;
        }
        let rows = lines[at..].iter().take_while(|line| is_row(line)).count();
        if let Some(columns) = columns::parted(&lines[at..at + rows]) {
            self.columns(&columns);
            return at + rows;
        }
        if let Some((rows, length)) = tables::read(&lines[at..]) {
            self.draft.close();
            for row in &rows {
                self.draft.place(Unit::Page, self.page, None);
                self.draft.row(row);
            }
            self.draft.close();
            return at + length;
        }
        let end = self.paragraph_end(lines, at);
        let is_heading = end == at + 1 && line.is_bold && is_title(&line.text());
        if is_heading && lines.get(end).is_some_and(|next| !next.is_bold) {
            self.heading(self.style.bold_level(), &lines[at..end]);
            return end;
        }
        let text = flowed(&lines[at..end], self.style);
        if first && self.goes_on(&text) {
            self.draft.go_on(Unit::Page, self.page, &text);
        } else {
            self.draft.place(Unit::Page, self.page, None);
            self.draft.paragraph(&text);
        }
        end
    }

    /// Writes one column behind the other.
    fn columns(&mut self, columns: &[Vec<Line>]) {
        let right = self.right;
        for lines in columns {
            self.right = lines.iter().map(Line::right).fold(0.0, f32::max);
            let mut at = 0;
            while at < lines.len() {
                // A sentence may go on in the next column.
                self.first |= at == 0;
                at = self.block(lines, at);
            }
        }
        self.right = right;
    }

    fn heading(&mut self, level: u8, lines: &[Line]) {
        self.draft.place(Unit::Page, self.page, None);
        self.draft.heading(level, &flowed(lines, self.style));
    }

    /// How far lines alike follow each other within `distance` font sizes.
    fn run(
        &self,
        lines: &[Line],
        at: usize,
        distance: f32,
        alike: impl Fn(&Line) -> bool,
    ) -> usize {
        let mut end = at + 1;
        while let Some(next) = lines.get(end) {
            let below = next.y - lines[end - 1].y;
            if !alike(next) || below < 0.0 || below > distance * next.size {
                break;
            }
            end += 1;
        }
        end
    }

    /// Where the paragraph of `lines[at]` ends.
    fn paragraph_end(&self, lines: &[Line], at: usize) -> usize {
        let mut end = at + 1;
        while let Some(next) = lines.get(end) {
            let last = &lines[end - 1];
            let size = last.size.max(1.0);
            let below = next.y - last.y;
            let apart = below < -size * 0.3 || below > size * (self.style.pitch + 0.45);
            let other = (next.size - last.size).abs() > size * 0.12
                || next.is_monospaced != last.is_monospaced
                || (next.is_bold != last.is_bold && end == at + 1);
            let indented = next.left() - last.left() > size * 0.9 && end > at + 1;
            let indented = indented && (next.left() - lines[at].left()).abs() < size * 0.5;
            let short = last.right() < self.right - size * 6.0 && ends_sentence(&last.text());
            if apart || other || indented || short || is_item(&next.text()) || is_row(next) {
                break;
            }
            end += 1;
        }
        end
    }

    /// True if the first text of a page or column goes on with the last sentence of the one before.
    fn goes_on(&self, text: &str) -> bool {
        let Some(last) = self.draft.blocks.last() else {
            return false;
        };
        let before = &self.draft.text[last.span.clone()];
        let begins = text.chars().next();
        let lower = begins.is_some_and(|c| c.is_lowercase() || is_cjk(c));
        last.kind == BlockKind::Paragraph
            && lower
            && !ends_sentence(before)
            && !is_item(text)
            // More than a number or a caption.
            && before.chars().nth(20).is_some()
    }

    fn code(&mut self, lines: &[Line]) {
        let left = lines.iter().map(Line::left).fold(f32::MAX, f32::min);
        let mut text = String::new();
        for line in lines {
            // The characters of such fonts are about six tenths as wide as high.
            let columns = ((line.left() - left) / (line.size.max(1.0) * 0.6)).round();
            let columns = columns.clamp(0.0, 120.0) as usize;
            text.push_str(&" ".repeat(columns));
            text.push_str(line.text().trim());
            text.push('\n');
        }
        self.draft.place(Unit::Page, self.page, None);
        self.draft.code(&text);
    }
}

/// A line that could be a heading by its words.
fn is_title(text: &str) -> bool {
    let text = text.trim();
    text.chars().count() <= 80
        && text.contains(char::is_alphabetic)
        // A line of a table of contents.
        && !text.contains(" … ")
        && !text.ends_with(['.', ',', ';', '。', '，', '；', '、'])
}

fn is_item(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with([
        '•', '●', '▪', '■', '◦', '‣', '–', '·', '○', '➢', '✓', '\u{f0b7}', '\u{f0a7}',
    ]) || text.starts_with("- ")
        || text.starts_with("* ")
}

fn ends_sentence(text: &str) -> bool {
    let text = text
        .trim_end()
        .trim_end_matches(['"', '”', '’', ')', '）', '」']);
    text.ends_with(['.', '!', '?', ':', '。', '！', '？', '：', '；', ';'])
}

/// Lines as running text: words cut by a hyphen are whole again, ideographs stand together.
fn flowed(lines: &[Line], style: &Style) -> String {
    let mut text = String::new();
    for line in lines {
        let next = collapsed(&joined_cells(line));
        let (last, first) = (text.chars().last(), next.chars().next());
        match (last, first) {
            (None, _) | (_, None) => {}
            (Some('-'), Some(first)) if first.is_lowercase() && is_word(&text) => {
                if is_cut_word(&text) && !style.has_compound(&text, &next) {
                    text.pop();
                }
            }
            (Some(last), Some(first)) if is_cjk(last) && is_cjk(first) => {}
            _ => text.push(' '),
        }
        text.push_str(&next);
    }
    text
}

fn joined_cells(line: &Line) -> String {
    if line.cells.len() > 2 {
        let cells: Vec<&str> = line.cells.iter().map(|cell| cell.text.as_str()).collect();
        return joined(&cells);
    }
    line.text()
}

fn is_between_words(c: char) -> bool {
    !c.is_alphanumeric() && c != '-'
}

/// The words of a line that have a hyphen inside, in small letters.
fn compounds(text: &str) -> Vec<String> {
    let words = text.split(is_between_words);
    words
        .filter(|word| word.trim_matches('-').contains('-') && !word.ends_with('-'))
        .map(str::to_lowercase)
        .collect()
}

/// True for a letter before the hyphen.
fn is_word(text: &str) -> bool {
    text.chars().rev().nth(1).is_some_and(char::is_alphabetic)
}

/// True if the hyphen at the end only cuts a word; that of `state-of-the-`, `NIST-` or `self-` is
/// part of it.
fn is_cut_word(text: &str) -> bool {
    let text = text.trim_end_matches('-');
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_compound = word.contains('-') || word.chars().skip(1).any(char::is_uppercase);
    !is_compound && !word.eq_ignore_ascii_case("self")
}
