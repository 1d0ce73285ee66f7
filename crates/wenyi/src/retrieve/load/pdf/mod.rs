//! PDF (ISO 32000): the text of each page in reading order, with headings, tables and code.
//!
//! The objects are read by `lopdf`; what characters a font's codes stand for and where they stand
//! is worked out here, since Chinese files need their maps and every citation needs its page.

mod encryption;
mod annotations;
mod cmap;
mod columns;
mod content;
mod edges;
mod font;
mod lines;
mod tables;
mod paragraphs;

use std::collections::HashMap;

use lopdf::{Document, Object, ObjectId};

use self::content::Shared;
use self::edges::remove_repeated;
use self::lines::Line;
use self::paragraphs::Style;
use super::draft::Draft;
use super::places::Unit;
use super::{SkipReason, guard};

/// Pages of one file.
const MOST_PAGES: usize = 50_000;

/// Lines of all pages: 20,000 pages of 50.
const MOST_LINES: usize = 1_000_000;

/// Pieces of outlines from which on a page without text is a picture: a frame or a rule has some
/// four, one letter some ten.
const FEWEST_SEGMENTS: usize = 30;

pub(super) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    guard::against_panics(|| {
        let document = encryption::open(bytes)?;
        let ids: Vec<_> = document.page_iter().take(MOST_PAGES).collect();
        if ids.is_empty() {
            let message = "it has no pages".to_owned();
            return Err(SkipReason::Broken { message });
        }
        let num_pages = ids.len() as u64;
        let mut pages = Pages::read(&document, ids);
        remove_repeated(&mut pages.lines, num_pages);
        let style = Style::of(&pages.lines);
        let mut draft = Draft::default();
        for (number, lines) in &pages.lines {
            paragraphs::write(&mut draft, *number, lines, &style);
            for note in pages.notes.remove(number).into_iter().flatten() {
                draft.place(Unit::Page, *number, None);
                draft.paragraph(&note);
            }
            draft.expect_room()?;
        }
        let missing = missing_pages(&document, num_pages);
        let beyond = pages.left_out.then_some(SkipReason::TooMuch {
            limit: content::MOST_OF_ALL as u64,
        });
        let scanned = (!pages.pictures.is_empty()).then_some(SkipReason::Scanned {
            pages: pages.pictures,
            num_pages,
        });
        draft
            .gaps
            .extend(missing.into_iter().chain(beyond).chain(scanned));
        Ok(draft)
    })
}

/// What the pages show.
#[derive(Default)]
struct Pages {
    /// The lines of the pages that have any.
    lines: Vec<(u64, Vec<Line>)>,
    /// What readers noted on a page.
    notes: HashMap<u64, Vec<String>>,
    /// Pages without text that show something.
    pictures: Vec<u64>,
    /// True if there is more than can be read.
    left_out: bool,
}

impl Pages {
    fn read(document: &Document, ids: Vec<ObjectId>) -> Self {
        let mut shared = Shared::new();
        let mut pages = Self::default();
        let mut num_lines = 0;
        for (number, id) in (1..).zip(ids) {
            let content = content::read(document, id, &mut shared);
            let known: usize = content.pieces.iter().map(|piece| piece.text.len()).sum();
            let is_drawn = content.num_images > 0 || content.num_segments >= FEWEST_SEGMENTS;
            // A picture with a page number is a scan, too.
            let is_picture = (is_drawn && known < 10)
                || (content.num_unknown > 20 && content.num_unknown > known);
            if is_picture {
                pages.pictures.push(number);
            }
            if (known > 0 && !is_picture) || !content.notes.is_empty() {
                let lines = lines::lines(&content.pieces);
                num_lines += lines.len();
                pages.lines.push((number, lines));
                pages.notes.insert(number, content.notes);
            }
            if shared.room == 0 || num_lines > MOST_LINES {
                shared.left_out = true;
                break;
            }
        }
        pages.left_out = shared.left_out;
        pages
    }
}

/// Says so if pages that the file speaks of are not in it, as in one whose end is cut off.
fn missing_pages(document: &Document, num_found: u64) -> Option<SkipReason> {
    let is_there = |object: &Object| document.dereference(object).is_ok();
    let is_whole = |page: &ObjectId| {
        let page = document.get_dictionary(*page).ok();
        match page.and_then(|page| page.get(b"Contents").ok()) {
            Some(Object::Array(parts)) => parts.iter().all(is_there),
            Some(content) => is_there(content),
            // A blank page.
            None => true,
        }
    };
    let num_whole = document
        .page_iter()
        .filter(is_whole)
        .take(MOST_PAGES)
        .count() as u64;
    let tree = document
        .catalog()
        .ok()?
        .get_deref(b"Pages", document)
        .ok()?;
    let count = tree.as_dict().ok()?.get(b"Count").ok()?.as_i64().ok()?;
    let num_pages = num_found.max(u64::try_from(count).ok()?.min(MOST_PAGES as u64));
    (num_whole < num_pages && num_found < MOST_PAGES as u64).then(|| SkipReason::Broken {
        message: format!(
            "pages are missing, {} of {num_pages}",
            num_pages - num_whole
        ),
    })
}
