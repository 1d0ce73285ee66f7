//! An answer, as it comes, to the single things that it says.
//!
//! A claim is a sentence, a line of a list, or a block of code, together with the marks (`[1]`)
//! behind it: the unit that is checked against the passages before it is shown.

use std::ops::Range;

use crate::retrieve::sentences;

/// A claim as the model wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// White space before it.
    pub(super) lead: String,
    /// What it says, without marks.
    pub(super) text: String,
    /// The numbers of its marks, in order, none twice.
    pub(super) marks: Vec<usize>,
}

/// Cuts a growing answer into claims.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    waiting: String,
}

impl Splitter {
    pub(super) fn push(&mut self, text: &str) {
        self.waiting.push_str(text);
    }

    /// The next claim that is complete; at the end of the answer whatever is left.
    pub(super) fn next(&mut self, is_end: bool) -> Option<Said> {
        let start = self.waiting.len() - self.waiting.trim_start().len();
        let length = claim_length(&self.waiting[start..], is_end)?;
        let rest = self.waiting.split_off(start + length);
        let whole = std::mem::replace(&mut self.waiting, rest);
        let (text, marks) = without_marks(whole[start..].trim_end());
        Some(Said {
            lead: whole[..start].to_owned(),
            text,
            marks,
        })
    }
}

/// The length of the first claim of `text`, which does not begin with white space; `None` if more
/// must come before that is known, or nothing is there.
fn claim_length(text: &str, is_end: bool) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    if let Some(inside) = text.strip_prefix("```") {
        let closing = inside
            .find("\n```")
            .map(|at| "```".len() + at + "\n```".len());
        return closing.or(is_end.then_some(text.len()));
    }
    let line = text.find('\n');
    let known = &text[..line.unwrap_or(text.len())];
    let is_whole = is_end || line.is_some();
    let mut ends = sentences(known).map(|span| span.end);
    let mut end = ends.next()?;
    // A mark behind the full stop is no sentence of its own.
    loop {
        let rest = &known[end..];
        let gap = rest.len() - rest.trim_start().len();
        match mark_at(&rest[gap..]) {
            Some((length, _)) => end += gap + length,
            // The rest of a mark may still come.
            None if !is_whole && may_become_mark(&rest[gap..]) => return None,
            None => break,
        }
        let after = &known[end..];
        end += after.len()
            - after
                .trim_start_matches(['.', '。', ',', '，', ';', '；'])
                .len();
    }
    let is_last = known[end..].trim().is_empty();
    (is_whole || !is_last).then_some(end)
}

/// True if `text` could be the beginning of a mark that has not come as a whole; so may nothing.
fn may_become_mark(text: &str) -> bool {
    let mut characters = text.chars();
    match characters.next() {
        None => true,
        Some('[' | '【' | '［') => {
            characters.all(|c| c.is_ascii_digit() || ", ，-–、".contains(c))
        }
        _ => false,
    }
}

/// The length and the numbers of the mark at the beginning of `text`: `[1]`, `[1, 3]`, `【2】`.
fn mark_at(text: &str) -> Option<(usize, Vec<usize>)> {
    let closing = match text.chars().next()? {
        '[' => ']',
        '【' => '】',
        '［' => '］',
        _ => return None,
    };
    let open = text.chars().next().map_or(0, char::len_utf8);
    let length = text[open..].find(closing)?;
    let (inside, end) = (
        &text[open..open + length],
        open + length + closing.len_utf8(),
    );
    // `[1](…)` is a link.
    if text[end..].starts_with('(') {
        return None;
    }
    let parts = inside.split([',', '，', '、', ' ']).map(str::trim);
    let numbers: Option<Vec<usize>> = parts
        .filter(|part| !part.is_empty())
        .map(|part| part.trim_start_matches('^').parse().ok())
        .collect();
    let numbers = numbers.filter(|numbers| !numbers.is_empty())?;
    Some((end, numbers))
}

/// The text without its marks and the gaps before them, and their numbers. What looks like a mark
/// inside of code is code.
pub(super) fn without_marks(text: &str) -> (String, Vec<usize>) {
    let mut numbers: Vec<usize> = Vec::new();
    let mut kept = String::with_capacity(text.len());
    if text.starts_with("```") {
        return (text.to_owned(), numbers);
    }
    let code = code_spans(text);
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let is_code = code.iter().any(|span| span.contains(&at));
        match mark_at(&text[at..]).filter(|_| !is_code) {
            Some((length, found)) => {
                numbers.extend(found);
                kept.truncate(kept.trim_end().len());
                at += length;
            }
            None => {
                kept.push(c);
                at += c.len_utf8();
            }
        }
    }
    let mut seen = Vec::new();
    numbers.retain(|number| {
        !seen.contains(number) && {
            seen.push(*number);
            true
        }
    });
    (kept.trim().to_owned(), numbers)
}

/// What stands between backticks.
pub(super) fn code_spans(text: &str) -> Vec<Range<usize>> {
    let ticks: Vec<usize> = text.match_indices('`').map(|(at, _)| at).collect();
    ticks
        .chunks_exact(2)
        .map(|pair| pair[0]..pair[1] + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The claims of `text` if it comes in pieces of `size` characters.
    fn split(text: &str, size: usize) -> Vec<(String, Vec<usize>)> {
        let mut splitter = Splitter::default();
        let mut said = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(size) {
            splitter.push(&piece.iter().collect::<String>());
            while let Some(next) = splitter.next(false) {
                said.push((next.text, next.marks));
            }
        }
        while let Some(next) = splitter.next(true) {
            said.push((next.text, next.marks));
        }
        said
    }

    #[test]
    fn claims_are_the_same_in_whatever_pieces_they_come() {
        let text = "It is 8000 [1]. You may change it. [2][3]\n\n- with `--port`. [4]\n- or `a[0]`\n\
                    密钥由管理员更换[1, 2]。旧的一天内有效。【3】\n```sh\nadmin rotate. Now\n```\nDone";
        let expected = [
            ("It is 8000.", vec![1]),
            ("You may change it.", vec![2, 3]),
            ("- with `--port`.", vec![4]),
            ("- or `a[0]`", vec![]),
            ("密钥由管理员更换。", vec![1, 2]),
            ("旧的一天内有效。", vec![3]),
            ("```sh\nadmin rotate. Now\n```", vec![]),
            ("Done", vec![]),
        ];
        let expected: Vec<_> = (expected.into_iter())
            .map(|(text, marks)| (text.to_owned(), marks))
            .collect();
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(split(text, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_link_is_no_mark() {
        let text = "See [1](http://x) and v [x].";
        assert_eq!(without_marks(text), (text.to_owned(), vec![]));
        assert_eq!(without_marks("a [2] b [2]."), ("a b.".to_owned(), vec![2]));
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_marks_and_gaps_is_lost(text in "(?s)[a-c.!?。`\\[\\]1 \n-]{0,60}") {
            let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
            let whole: String = split(&text, 3).into_iter().map(|(text, _)| text).collect();
            assert_eq!(letters(&whole), letters(&text));
        }
    }
}
