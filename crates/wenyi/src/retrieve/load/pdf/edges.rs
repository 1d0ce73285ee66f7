//! Headers, footers and page numbers: what stands at the edge of many pages is text of none.
//!
//! Only what is the same is taken out. A line whose numbers change is data, such as the number, the
//! date and the total of each of many invoices, unless the one number that changes counts the pages.

use std::collections::{HashMap, HashSet};

use super::lines::Line;

/// Pages from which on a line at the edge of several is their header or footer.
const FEWEST_REPEATS: usize = 3;

/// Lines at the top and the bottom of a page that are looked at.
const EDGE: usize = 3;

/// How far a page's printed number is from its place in the file where other words stand beside
/// it: covers and forewords are not counted. An `Invoice No. 341` is further off.
const FARTHEST_NUMBER: i64 = 20;

/// Characters of a line that may hold a page's number.
const LONGEST_NUMBERED: usize = 200;

/// Numbers of a line that are tried for the page's.
const MOST_NUMBERS: usize = 8;

/// What is left of a line once its page number is left out, and its height to about half a line.
type Key = (String, i32);

/// Removes headers, footers and page numbers: what stands at the edge of many pages in the same
/// words, a number that runs with the pages aside.
pub(super) fn remove_repeated(pages: &mut [(u64, Vec<Line>)], num_pages: u64) {
    let mut places: HashMap<Key, HashSet<u64>> = HashMap::new();
    for (number, lines) in pages.iter() {
        for line in edges(lines) {
            for key in keys(line, *number, num_pages) {
                places.entry(key).or_default().insert(*number);
            }
        }
    }
    let enough = FEWEST_REPEATS.max(pages.len() / 4);
    let is_repeated = |key: &Key| places.get(key).is_some_and(|pages| pages.len() >= enough);
    for (number, lines) in pages.iter_mut() {
        let repeated: HashSet<Key> = edges(lines)
            .filter(|line| {
                is_page_number(&line.text(), *number)
                    || keys(line, *number, num_pages).iter().any(is_repeated)
            })
            .map(identity)
            .collect();
        lines.retain(|line| !repeated.contains(&identity(line)));
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

fn identity(line: &Line) -> Key {
    (without_blanks(&line.text()), (line.y / 6.0).round() as i32)
}

/// Programs set the words of a line apart as they like.
fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// What the line has in common with those of other pages, if it is their header or footer: all of
/// it, or all but one number and how far this is from the page's.
fn keys(line: &Line, page: u64, num_pages: u64) -> Vec<Key> {
    let text = line.text();
    let (whole, height) = identity(line);
    let mut keys = vec![(whole, height)];
    if text.chars().count() > LONGEST_NUMBERED {
        return keys;
    }
    for number in numbers(&text).into_iter().take(MOST_NUMBERS) {
        let (before, after) = (&text[..number.start], &text[number.end..]);
        let offset = number.value - i64::try_from(page).unwrap_or(i64::MAX);
        let is_of_date = is_of_date(before, after) && !is_of_all(after, num_pages);
        let is_near = offset.abs() <= FARTHEST_NUMBER && !is_of_date;
        if is_near || is_bare(before, after) {
            let [before, after] = [before, after].map(without_blanks);
            keys.push((format!("{before}\0{offset}\0{after}"), height));
        }
    }
    keys
}

/// True if the number between is one of several with a mark between them: the month of a date runs
/// with the pages of monthly accounts.
fn is_of_date(before: &str, after: &str) -> bool {
    let is_mark = |c: char| matches!(c, '-' | '/' | '.' | ':' | ',');
    let is_joined = |[mark, digit]: [Option<char>; 2]| {
        mark.is_some_and(is_mark) && digit.is_some_and(char::is_numeric)
    };
    let (mut left, mut right) = (before.chars().rev(), after.chars());
    is_joined([left.next(), left.next()]) || is_joined([right.next(), right.next()])
}

/// True if the number before is one of all pages, such as 3 in `3/7`.
fn is_of_all(after: &str, num_pages: u64) -> bool {
    let next = numbers(after).into_iter().next();
    next.is_some_and(|next| next.start == 1 && u64::try_from(next.value) == Ok(num_pages))
}

/// A number in a text.
struct Number {
    value: i64,
    start: usize,
    end: usize,
}

fn numbers(text: &str) -> Vec<Number> {
    let mut found: Vec<Number> = Vec::new();
    for (at, c) in text.char_indices() {
        // Full-width digits stand in Chinese footers.
        let digit = match c {
            '０'..='９' => i64::from(u32::from(c) - u32::from('０')),
            _ => match c.to_digit(10) {
                Some(digit) => i64::from(digit),
                None => continue,
            },
        };
        let end = at + c.len_utf8();
        match found.last_mut().filter(|last| last.end == at) {
            Some(last) => {
                last.value = last.value.saturating_mul(10).saturating_add(digit);
                last.end = end;
            }
            None => found.push(Number {
                value: digit,
                start: at,
                end,
            }),
        }
    }
    found
}

/// True if what stands around a number is nothing, or says that it is a page's.
fn is_bare(before: &str, after: &str) -> bool {
    let words: String = [before, after]
        .concat()
        .chars()
        .filter(|c| c.is_alphabetic())
        .flat_map(char::to_lowercase)
        .collect();
    matches!(
        words.as_str(),
        "" | "page"
            | "pageof"
            | "of"
            | "p"
            | "pg"
            | "seite"
            | "seitevon"
            | "第页"
            | "第頁"
            | "第页共页"
            | "第頁共頁"
            | "共页第页"
            | "页"
            | "頁"
    ) && (!words.is_empty() || !before.contains(char::is_numeric))
}

/// True for `Page 2` on the second page, which needs no others to be told by.
fn is_page_number(text: &str, page: u64) -> bool {
    let text = without_blanks(text);
    let names_page = ["page", "第", "seite"]
        .iter()
        .any(|word| text.to_lowercase().starts_with(word));
    names_page
        && numbers(&text).first().is_some_and(|number| {
            u64::try_from(number.value) == Ok(page)
                && is_bare(&text[..number.start], &text[number.end..])
        })
}
