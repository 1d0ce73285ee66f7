//! Pages, slides, sheets and chapters: where a passage stands in a file that has no lines.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a file without lines is divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A page of a PDF, or of a text document as its program last laid it out.
    Page,
    /// A slide of a presentation.
    Slide,
    /// A row of a sheet; the location's name is the sheet's.
    Row,
    /// A chapter of a book, in reading order.
    Chapter,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Page => "page",
            Self::Slide => "slide",
            Self::Row => "row",
            Self::Chapter => "chapter",
        })
    }
}

/// A place in a file without lines, such as pages 3 to 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// What is counted.
    pub unit: Unit,
    /// The first of them, from 1.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The sheet's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for Location {
    /// `page 3`, `pages 3-4`, `sheet Costs, rows 2-9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "sheet {name}, ")?;
        }
        if self.first == self.last {
            write!(f, "{} {}", self.unit, self.first)
        } else {
            write!(f, "{}s {}-{}", self.unit, self.first, self.last)
        }
    }
}

/// Where the pages (slides, rows, chapters) of a document begin, by the lines of its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    unit: Unit,
    marks: Vec<Mark>,
}

/// The line from which on a page, or a run of rows, stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    line: u64,
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Places {
    pub(super) fn new(unit: Unit) -> Self {
        let marks = Vec::new();
        Self { unit, marks }
    }

    /// Notes that `number` begins on `line`, unless that follows from what was noted before.
    pub(super) fn push(&mut self, line: u64, number: u64, name: Option<&str>) {
        if let Some(last) = self.marks.last_mut() {
            if last.name.as_deref() == name && self.unit.at(last, line) == number {
                return;
            }
            if last.line == line {
                (last.number, last.name) = (number, name.map(str::to_owned));
                return;
            }
        }
        self.marks.push(Mark {
            line,
            number,
            name: name.map(str::to_owned),
        });
    }

    /// The places of a document as its metadata in a collection keep them.
    #[must_use]
    pub fn from_metadata(metadata: &Value) -> Option<Self> {
        let places = metadata.get("places")?;
        Self::deserialize(places).ok()
    }

    /// Where the lines from `first_line` to `last_line` of the text stand.
    #[must_use]
    pub fn locate(&self, first_line: u64, last_line: u64) -> Option<Location> {
        let before = |line: u64| {
            let after = self.marks.partition_point(|mark| mark.line <= line);
            self.marks.get(after.max(1) - 1)
        };
        let (first, last) = (before(first_line)?, before(last_line.max(first_line))?);
        let number = self.unit.at(first, first_line);
        let same_name = first.name == last.name;
        Some(Location {
            unit: self.unit,
            first: number,
            last: if same_name {
                self.unit.at(last, last_line).max(number)
            } else {
                number
            },
            name: first.name.clone(),
        })
    }
}

impl Unit {
    /// What stands on `line`, at or behind `mark`: rows are counted by lines.
    fn at(self, mark: &Mark, line: u64) -> u64 {
        match self {
            Self::Row => mark.number + line.saturating_sub(mark.line),
            Self::Page | Self::Slide | Self::Chapter => mark.number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_reach_to_the_next_one() {
        let mut places = Places::new(Unit::Page);
        for (line, page) in [(1, 1), (10, 2), (12, 3)] {
            places.push(line, page, None);
        }
        let shown = |first, last| places.locate(first, last).unwrap().to_string();
        assert_eq!(shown(3, 9), "page 1");
        assert_eq!(shown(9, 10), "pages 1-2");
        assert_eq!(shown(11, 400), "pages 2-3");
    }

    #[test]
    fn rows_are_counted_within_their_sheet() {
        let mut places = Places::new(Unit::Row);
        places.push(3, 1, Some("费用"));
        places.push(4, 2, Some("费用"));
        places.push(9, 20, Some("费用"));
        places.push(12, 1, Some("B"));
        assert_eq!(places.marks.len(), 3, "rows in sequence share a mark");
        let shown = |first, last| places.locate(first, last).unwrap().to_string();
        assert_eq!(shown(4, 5), "sheet 费用, rows 2-3");
        assert_eq!(shown(10, 10), "sheet 费用, row 21");
        assert_eq!(shown(13, 13), "sheet B, row 2");
        let kept = serde_json::json!({ "places": places });
        assert_eq!(Places::from_metadata(&kept), Some(places));
        assert_eq!(Places::from_metadata(&Value::Null), None);
    }
}
