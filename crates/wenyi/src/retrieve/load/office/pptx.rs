//! Presentations: slide by slide, the title first, then texts and tables, then charts and the notes.

use std::collections::HashMap;

use super::chart::Chart;
use super::package::Package;
use super::xml::{self, Node};
use crate::retrieve::load::SkipReason;
use crate::retrieve::load::draft::Draft;
use crate::retrieve::load::places::Unit;

const PRESENTATION: &str = "ppt/presentation.xml";

pub(in crate::retrieve::load) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    let mut package = Package::open(bytes)?;
    let presentation = package.xml(PRESENTATION)?;
    let targets: HashMap<String, String> = package
        .relations(PRESENTATION)
        .into_iter()
        .map(|relation| (relation.id, relation.target))
        .collect();
    let mut slides = Vec::new();
    xml::read(&presentation, |node| {
        if let Node::Open(tag) = node
            && tag.name() == "sldId"
        {
            slides.push(relation_id(&tag).and_then(|id| targets.get(&id)).cloned());
        }
        Ok(())
    })?;
    let mut draft = Draft::default();
    for (number, slide) in (1..).zip(slides) {
        let Some(slide) = slide else {
            let message = format!("its slide {number} is missing");
            draft.gap(SkipReason::Broken { message });
            continue;
        };
        read_slide(&mut package, &mut draft, number, &slide)?;
        draft.expect_room()?;
    }
    Ok(draft)
}

fn read_slide(
    package: &mut Package<'_>,
    draft: &mut Draft,
    number: u64,
    slide: &str,
) -> Result<(), SkipReason> {
    draft.place(Unit::Slide, number, None);
    let relations = package.relations(slide);
    let shapes = package.xml(slide).and_then(|xml| shapes(&xml));
    let shapes = draft.part(slide, shapes)?.unwrap_or_default();
    // What belongs to a slide without words of its own stands below a heading all the same.
    let has_more = relations
        .iter()
        .any(|relation| matches!(relation.kind.as_str(), "chart" | "diagramData"));
    write(draft, number, shapes, has_more);
    for relation in relations {
        let part = relation.target.as_str();
        match relation.kind.as_str() {
            "notesSlide" => {
                let notes = package.xml(part).and_then(|xml| self::shapes(&xml));
                let notes = draft.part(part, notes)?.unwrap_or_default();
                for shape in notes.into_iter().filter(|shape| shape.kind == "body") {
                    shape.write(draft);
                }
            }
            // The texts of a diagram stand in a part of their own.
            "diagramData" => {
                let texts = package.xml(part).and_then(|xml| self::shapes(&xml));
                for shape in draft.part(part, texts)?.unwrap_or_default() {
                    shape.write(draft);
                }
            }
            "chart" => {
                let chart = package.xml(part).and_then(|xml| Chart::read(&xml));
                if let Some(chart) = draft.part(part, chart)? {
                    chart.write(draft);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `r:id`, not the `id` beside it.
fn relation_id(tag: &xml::Tag<'_>) -> Option<String> {
    tag.prefixed_attribute("id")
}

fn write(draft: &mut Draft, number: u64, shapes: Vec<Shape>, has_more: bool) {
    let is_title = |shape: &Shape| matches!(shape.kind.as_str(), "title" | "ctrTitle");
    let title = shapes.iter().find(|shape| is_title(shape));
    let title = title
        .map(Shape::text)
        .filter(|title| !title.trim().is_empty());
    // A slide without a title is a section of its own all the same.
    let title = title.unwrap_or_else(|| format!("Slide {number}"));
    if has_more || shapes.iter().any(|shape| !shape.text().trim().is_empty()) {
        draft.heading(1, &title);
    }
    for shape in shapes.iter().filter(|shape| !is_title(shape)) {
        shape.write(draft);
    }
}

/// One shape of a slide.
#[derive(Default)]
struct Shape {
    /// What it stands for: `title`, `body` …; empty for a free text.
    kind: String,
    lines: Vec<Line>,
}

enum Line {
    /// The level in a list and the text.
    Paragraph(usize, String),
    Row(Vec<String>),
}

impl Shape {
    fn text(&self) -> String {
        let text = |line: &Line| match line {
            Line::Paragraph(_, text) => text.clone(),
            Line::Row(cells) => cells.join(" "),
        };
        self.lines.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    fn write(&self, draft: &mut Draft) {
        draft.close();
        // Dates, footers and numbers are the same on every slide.
        if matches!(
            self.kind.as_str(),
            "dt" | "ftr" | "sldNum" | "hdr" | "sldImg"
        ) {
            return;
        }
        let several = self.lines.len() > 1;
        for line in &self.lines {
            match line {
                Line::Paragraph(level, text) if several => draft.item(*level, text),
                Line::Paragraph(_, text) => draft.paragraph(text),
                Line::Row(cells) => draft.row(cells),
            }
        }
        draft.close();
    }
}

/// The shapes of a slide in their order, tables among them.
fn shapes(xml: &str) -> Result<Vec<Shape>, SkipReason> {
    let mut shapes: Vec<Shape> = Vec::new();
    let mut shape = Shape::default();
    let (mut text, mut level) = (String::new(), 0);
    let (mut in_text, mut in_table, mut hidden) = (false, false, 0_usize);
    let mut row: Vec<String> = Vec::new();
    xml::read(xml, |node| {
        match node {
            Node::Open(tag) => match tag.name() {
                "Fallback" => hidden += 1,
                "sp" | "graphicFrame" | "pt" => shapes.push(std::mem::take(&mut shape)),
                "ph" => shape.kind = tag.attribute("type").unwrap_or_else(|| "body".to_owned()),
                "tbl" => in_table = true,
                "tr" => row.clear(),
                "tc" => row.push(String::new()),
                "p" => (text, level) = (String::new(), 0),
                "pPr" => {
                    level = tag
                        .attribute("lvl")
                        .and_then(|l| l.parse().ok())
                        .unwrap_or(0);
                }
                "br" => text.push(' '),
                "t" => in_text = true,
                _ => {}
            },
            Node::Text(part) if in_text && hidden == 0 => text.push_str(&part),
            Node::Text(_) => {}
            Node::Close(name) => match name {
                "Fallback" => hidden = hidden.saturating_sub(1),
                "t" => in_text = false,
                "p" if !text.trim().is_empty() => match row.last_mut() {
                    Some(cell) if in_table => {
                        cell.push_str(if cell.is_empty() { "" } else { " " });
                        cell.push_str(&std::mem::take(&mut text));
                    }
                    _ => {
                        let text = std::mem::take(&mut text);
                        shape.lines.push(Line::Paragraph(level, text));
                    }
                },
                "tr" => shape.lines.push(Line::Row(std::mem::take(&mut row))),
                "tbl" => in_table = false,
                "sp" | "graphicFrame" | "pt" => shapes.push(std::mem::take(&mut shape)),
                _ => {}
            },
        }
        Ok(())
    })?;
    shapes.push(shape);
    shapes.retain(|shape| !shape.lines.is_empty());
    Ok(shapes)
}
