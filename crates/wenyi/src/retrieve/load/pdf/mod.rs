//! PDF (ISO 32000): the text of each page in reading order, with headings, tables and code.
//!
//! The objects are read by `lopdf`; what characters a font's codes stand for and where they stand
//! is worked out here, since Chinese files need their maps and every citation needs its page.

mod encryption;
mod cmap;
mod content;
mod font;
mod lines;
mod paragraphs;

use std::collections::{HashMap, HashSet};

use lopdf::{Document, Object, ObjectId};

use self::content::Shared;
use self::lines::Line;
use self::paragraphs::Style;
use super::draft::Draft;
use super::{SkipReason, guard};

/// Pages of one file.
const MOST_PAGES: usize = 50_000;

/// Lines of all pages: 20,000 pages of 50.
const MOST_LINES: usize = 1_000_000;

pub(super) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    guard::against_panics(|| {
        let document = encryption::open(bytes)?;
        let ids: Vec<_> = document.page_iter().take(MOST_PAGES).collect();
        if ids.is_empty() {
            let message = "it has no pages".to_owned();
            return Err(SkipReason::Broken { message });
        }
        let num_pages = ids.len() as u64;
        let mut shared = Shared::new();
        let (mut pages, mut without) = (Vec::new(), Vec::new());
        let mut num_lines = 0;
        for (number, id) in (1..).zip(ids) {
            let content = content::read(&document, id, &mut shared);
            let known: usize = content.pieces.iter().map(|piece| piece.text.len()).sum();
            // A picture with a page number is a scan, too.
            let is_scan = content.num_images > 0 && known < 10;
            if is_scan || (content.num_unknown > 20 && content.num_unknown > known) {
                without.push(number);
            } else if known > 0 {
                let lines = lines::lines(&content.pieces);
                num_lines += lines.len();
                pages.push((number, lines));
            }
            if shared.room == 0 || num_lines > MOST_LINES {
                shared.left_out = true;
                break;
            }
        }
        remove_repeated(&mut pages);
        let style = Style::of(&pages);
        let mut draft = Draft::default();
        for (number, lines) in &pages {
            paragraphs::write(&mut draft, *number, lines, &style);
            draft.expect_room()?;
        }
        let missing = missing_pages(&document, num_pages);
        let beyond = shared.left_out.then_some(SkipReason::TooMuch {
            limit: content::MOST_OF_ALL as u64,
        });
        for reason in missing.into_iter().chain(beyond) {
            if draft.text.trim().is_empty() {
                return Err(reason);
            }
            draft.gaps.push(reason);
        }
        let scanned = |pages| SkipReason::Scanned { pages, num_pages };
        match without.is_empty() {
            false if draft.text.trim().is_empty() => return Err(scanned(without)),
            false => draft.gaps.push(scanned(without)),
            true => {}
        }
        Ok(draft)
    })
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

/// Pages from which on a line at the edge of several is their header or footer.
const FEWEST_REPEATS: usize = 3;

/// Lines at the top and the bottom of a page that are looked at.
const EDGE: usize = 3;

/// Removes headers, footers and page numbers: what stands at the edge of many pages in the same
/// words, numbers aside.
fn remove_repeated(pages: &mut [(u64, Vec<Line>)]) {
    let mut places: HashMap<(String, i32), HashSet<u64>> = HashMap::new();
    for (number, lines) in pages.iter() {
        for line in edges(lines) {
            places.entry(key(line)).or_default().insert(*number);
        }
    }
    let enough = FEWEST_REPEATS.max(pages.len() / 4);
    for (_, lines) in pages.iter_mut() {
        let repeated: HashSet<(String, i32)> = edges(lines)
            .map(key)
            .filter(|key| places.get(key).is_some_and(|pages| pages.len() >= enough))
            .collect();
        lines.retain(|line| !repeated.contains(&key(line)));
    }
}

/// The lines nearest to the top and to the bottom, wherever the file writes them.
fn edges(lines: &[Line]) -> impl Iterator<Item = &Line> {
    let mut order: Vec<&Line> = lines.iter().collect();
    order.sort_by(|a, b| a.y.total_cmp(&b.y));
    let length = order.len();
    order
        .into_iter()
        .enumerate()
        .filter(move |(index, _)| *index < EDGE || index + EDGE >= length)
        .map(|(_, line)| line)
}

/// A line's words without its numbers, and its height to about half a line.
fn key(line: &Line) -> (String, i32) {
    let words = line
        .text()
        .chars()
        .filter(|c| !c.is_numeric() && !c.is_whitespace())
        .collect();
    (words, (line.y / 6.0).round() as i32)
}
