//! Charts of presentations and documents: their titles, and the table of what they show.

use super::xml::{self, Node, Tag};
use crate::retrieve::load::SkipReason;
use crate::retrieve::load::draft::Draft;

/// Points of a series; more is not a chart that is read.
const MOST_POINTS: usize = 4096;

/// Series of a chart.
const MOST_SERIES: usize = 256;

/// A chart as it is read.
#[derive(Default)]
pub(super) struct Chart {
    title: String,
    /// The titles of the axes.
    axes: Vec<String>,
    series: Vec<Series>,
}

#[derive(Default)]
struct Series {
    name: String,
    categories: Vec<String>,
    values: Vec<String>,
}

/// What a text of a chart belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Title,
    Axis,
    Name,
    Category,
    Value,
    Other,
}

impl Chart {
    pub(super) fn read(xml: &str) -> Result<Self, SkipReason> {
        let mut reader = Reader {
            chart: Self::default(),
            part: Part::Other,
            in_axis: false,
            in_series: false,
            in_text: false,
            point: 0,
        };
        xml::read(xml, |node| {
            match node {
                Node::Open(tag) => reader.open(&tag),
                Node::Close(name) => reader.close(name),
                Node::Text(text) if reader.in_text => reader.text(&text),
                Node::Text(_) => {}
            }
            Ok(())
        })?;
        Ok(reader.chart)
    }

    /// Writes the titles, and a row for each category with the values of all series.
    pub(super) fn write(&self, draft: &mut Draft) {
        draft.close();
        let titles = std::iter::once(&self.title).chain(&self.axes);
        let titles: Vec<&str> = titles
            .map(|title| title.trim())
            .filter(|title| !title.is_empty())
            .collect();
        draft.paragraph(&titles.join("\n"));
        let names = self.series.iter().map(|series| series.name.as_str());
        draft.row(&std::iter::once("").chain(names).collect::<Vec<_>>());
        let named = self
            .series
            .iter()
            .max_by_key(|series| series.categories.len());
        let categories = named.map_or(&[][..], |series| &series.categories);
        let longest = self.series.iter().map(|series| series.values.len()).max();
        for row in 0..longest.unwrap_or(0).max(categories.len()) {
            let category = categories.get(row).map_or("", String::as_str);
            let values = self.series.iter();
            let values = values.map(|series| series.values.get(row).map_or("", String::as_str));
            draft.row(&std::iter::once(category).chain(values).collect::<Vec<_>>());
        }
        draft.close();
    }
}

struct Reader {
    chart: Chart,
    part: Part,
    in_axis: bool,
    in_series: bool,
    in_text: bool,
    /// The index of the open point.
    point: usize,
}

impl Reader {
    fn open(&mut self, tag: &Tag<'_>) {
        match tag.name() {
            "catAx" | "valAx" | "dateAx" | "serAx" => self.in_axis = true,
            "ser" if self.chart.series.len() < MOST_SERIES => {
                self.chart.series.push(Series::default());
                self.in_series = true;
            }
            "title" if self.in_axis => {
                self.chart.axes.push(String::new());
                self.part = Part::Axis;
            }
            "title" => self.part = Part::Title,
            "tx" if self.in_series && self.part == Part::Other => self.part = Part::Name,
            "cat" | "xVal" if self.in_series => self.part = Part::Category,
            "val" | "yVal" if self.in_series => self.part = Part::Value,
            "pt" => {
                let index = tag.attribute("idx").and_then(|index| index.parse().ok());
                self.point = index.unwrap_or(0);
            }
            "t" | "v" => self.in_text = true,
            // Labels of single points repeat what the series has.
            "dLbls" => self.in_series = false,
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "catAx" | "valAx" | "dateAx" | "serAx" => self.in_axis = false,
            "ser" => (self.in_series, self.part) = (false, Part::Other),
            "dLbls" => self.in_series = true,
            "title" | "cat" | "xVal" | "val" | "yVal" => self.part = Part::Other,
            "tx" if self.part == Part::Name => self.part = Part::Other,
            // Paragraphs of a title.
            "p" => self.text(" "),
            "t" | "v" => self.in_text = false,
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        let point = self.point;
        let series = self.chart.series.last_mut();
        match (self.part, series) {
            (Part::Title, _) => self.chart.title.push_str(text),
            (Part::Axis, _) => {
                if let Some(title) = self.chart.axes.last_mut() {
                    title.push_str(text);
                }
            }
            (Part::Name, Some(series)) => series.name.push_str(text),
            (Part::Category, Some(series)) => push(&mut series.categories, point, text),
            (Part::Value, Some(series)) => push(&mut series.values, point, text),
            _ => {}
        }
    }
}

fn push(points: &mut Vec<String>, index: usize, text: &str) {
    if index < MOST_POINTS {
        points.resize(points.len().max(index + 1), String::new());
        points[index].push_str(text);
    }
}
