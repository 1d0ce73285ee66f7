//! Tables by display width: a Chinese character takes two columns.

use unicode_width::UnicodeWidthStr;

use super::style::Style;

/// To which side a column's cells go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header, two spaces between columns, no lines.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            header: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert!(cells.len() <= self.header.len(), "more cells than columns");
        self.rows.push(cells);
    }

    /// The lines, the header bold.
    pub(crate) fn render(&self, style: Style) -> String {
        let widths = self.widths();
        let mut text = style.bold(&self.line(&self.header, &widths));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&self.line(row, &widths));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), align) in cells.iter().zip(widths).zip(&self.aligns) {
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) = match align {
                Align::Left => ("", padding.as_str()),
                Align::Right => (padding.as_str(), ""),
            };
            line.extend([before, cell, after, "  "]);
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_display_width() {
        let mut table = Table::new(&[("model", Align::Left), ("size", Align::Right)]);
        table.row(vec!["文意".into(), "7".into()]);
        table.row(vec!["english".into(), "1,024".into()]);
        let expected = "model     size\n文意         7\nenglish  1,024\n";
        assert_eq!(table.render(Style::PLAIN), expected);
    }
}
