//! CSV (RFC 4180) with whatever separates its fields; each record is a line.

use super::SkipReason;
use super::draft::Draft;
use super::table::Table;

const SEPARATORS: [char; 4] = [',', '\t', ';', '|'];

/// The records of `text`, a line of a table each.
pub(super) fn read(text: &str) -> Result<Draft, SkipReason> {
    let (separator, mut at) = match told_separator(text) {
        Some((separator, end)) => (separator, end),
        None => (separator_of(text), 0),
    };
    let mut draft = Draft::default();
    let mut table = Table::new(1);
    while at < text.len() {
        let (cells, end) = record(text, at, separator);
        if cells.iter().any(|cell| !cell.trim().is_empty()) {
            let mut begin = 0;
            let next = table.is_at_start().then(|| record(text, end, separator).0);
            table.row(&mut draft, &cells, next.as_deref(), |draft| {
                begin = draft.text.len();
            });
            // The line or blank line before the record belongs to what was before.
            let written = draft.text.len();
            let start =
                begin + (draft.text[begin..].len() - draft.text[begin..].trim_start().len());
            draft.points.push((start, at));
            draft
                .points
                .push((written, end.min(at + written - start).max(at)));
        }
        draft.expect_room()?;
        at = end;
    }
    Ok(draft)
}

/// The separator of a first line `sep=;`, which spreadsheets write for each other, and its end.
fn told_separator(text: &str) -> Option<(char, usize)> {
    let end = text.find('\n').map_or(text.len(), |end| end + 1);
    let line = text[..end].trim_end_matches(['\r', '\n']).trim_matches('"');
    let told = line.get(..4).filter(|key| key.eq_ignore_ascii_case("sep="));
    let mut told = told.map(|_| line[4..].chars())?;
    match (told.next(), told.next()) {
        (Some(separator), None) => Some((separator, end)),
        _ => None,
    }
}

/// The separator that cuts the first lines into the most columns, alike in each.
fn separator_of(text: &str) -> char {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(20)
        .collect();
    let columns = |separator: char| {
        let counts: Vec<usize> = lines
            .iter()
            .map(|line| record(line, 0, separator).0.len())
            .collect();
        let several = counts.iter().filter(|&&count| count > 1).count();
        let alike = counts.iter().filter(|&&count| count == counts[0]).count();
        (several, alike, counts.first().copied().unwrap_or(0))
    };
    let best = SEPARATORS
        .into_iter()
        .rev()
        .max_by_key(|&separator| columns(separator));
    best.unwrap_or(',')
}

/// The fields of the record at `start`, and where the next one begins.
fn record(text: &str, start: usize, separator: char) -> (Vec<String>, usize) {
    let mut cells = vec![String::new()];
    let mut chars = text[start..].char_indices().peekable();
    let mut quoted = false;
    while let Some((at, c)) = chars.next() {
        let Some(cell) = cells.last_mut() else { break };
        match c {
            '"' if quoted => {
                if chars.next_if(|&(_, next)| next == '"').is_some() {
                    cell.push('"');
                } else {
                    quoted = false;
                }
            }
            // A quote that is never closed is a character, or the rest of the file is one cell.
            '"' if cell.trim().is_empty() && closes(&text[start + at + 1..]) => {
                cell.clear();
                quoted = true;
            }
            '\n' if !quoted => return (cells, start + at + 1),
            '\r' if !quoted => {}
            _ if c == separator && !quoted => cells.push(String::new()),
            _ => cell.push(c),
        }
    }
    (cells, text.len())
}

/// True if a quoted field ends within a bounded distance.
fn closes(rest: &str) -> bool {
    const LONGEST_FIELD: usize = 1 << 16;
    rest.bytes().take(LONGEST_FIELD).any(|byte| byte == b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_tells_the_separator_is_no_record() {
        let text = "sep=;\r\nregion;2023;2024\r\nnorth, west;1;2\r\n";
        let draft = read(text).unwrap();
        assert_eq!(draft.text, "region | 2023 | 2024\n\nnorth, west | 1 | 2");
        let source = super::super::SourceMap::new(text, 0, draft.points.clone());
        assert_eq!(source.lines(&(0..6)), (2, 2));
    }

    #[test]
    fn quotes_separators_and_line_breaks() {
        let text = "名称;说明\r\n\"a;b\";\"first\nsecond \"\"x\"\"\"\r\nc;\"open\n";
        let draft = read(text).unwrap();
        assert_eq!(
            draft.text,
            "名称 | 说明\n\na;b | first second \"x\"\nc | \"open"
        );
        let source = super::super::SourceMap::new(text, 0, draft.points.clone());
        let lines = |part: &str| {
            let start = draft.text.find(part).unwrap();
            source.lines(&(start..start + part.len()))
        };
        assert_eq!(lines("名称"), (1, 1));
        assert_eq!(lines("a;b"), (2, 2));
        assert_eq!(lines("c |"), (4, 4));
    }
}
