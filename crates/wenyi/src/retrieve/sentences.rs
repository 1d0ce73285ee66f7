//! Sentences of English and Chinese text.
//!
//! A Chinese sentence ends at its mark (`。！？；` or an ellipsis), an English one at `.`, `!` or `?`
//! before white space, unless the word is an abbreviation or an initial, or the next word goes on
//! in lower case. Closing quotes and brackets belong to the sentence they close. A blank line ends
//! every sentence.

use std::ops::Range;

/// Words that are followed by a full stop and by the rest of their sentence, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "rev", "gen", "col", "capt", "lt", "sgt", "sen",
    "rep", "gov", "hon", "jr", "sr", "vs", "cf", "eg", "ie", "viz", "al", "ca", "approx", "fig",
    "figs", "eq", "eqs", "sec", "ch", "vol", "nos", "pp", "ed", "eds", "dept", "est", "resp",
];

/// The sentences of `text` in order, as byte spans without surrounding white space.
///
/// Every character that is not white space lies in exactly one span.
pub fn sentences(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].len() - text[at..].trim_start().len();
        if at >= text.len() {
            return None;
        }
        let end = at + sentence_length(&text[at..]);
        let sentence = at..at + text[at..end].trim_end().len();
        at = end;
        Some(sentence)
    })
}

/// The length of the first sentence of `text`, which does not begin with white space.
fn sentence_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        let after = index + c.len_utf8();
        if c == '\n' && begins_with_blank_line(&text[after..]) {
            return after;
        }
        if !is_end_mark(c) {
            continue;
        }
        let end = after + closing_length(&text[after..]);
        if ends_sentence(text, index, c, end) {
            return end;
        }
        while chars.next_if(|&(next, _)| next < end).is_some() {}
    }
    text.len()
}

fn begins_with_blank_line(rest: &str) -> bool {
    rest.trim_start_matches([' ', '\t', '\r', '\u{3000}'])
        .starts_with('\n')
}

fn is_end_mark(c: char) -> bool {
    is_chinese_end(c) || matches!(c, '.' | '!' | '?' | '…')
}

fn is_chinese_end(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '｡' | '‼' | '⁇' | '⁈' | '⁉')
}

/// Further marks, then the quotes and brackets that the marks close.
fn closing_length(rest: &str) -> usize {
    let closes = |c: char| is_end_mark(c) || is_closing(c);
    rest.find(|c: char| !closes(c)).unwrap_or(rest.len())
}

fn is_closing(c: char) -> bool {
    matches!(
        c,
        '”' | '’'
            | '」'
            | '』'
            | '】'
            | '）'
            | '》'
            | '〉'
            | '〕'
            | '］'
            | '"'
            | '\''
            | ')'
            | ']'
            | '}'
            | '»'
    )
}

/// Ideographs, kana, and the punctuation that goes with them.
pub(super) fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3ffff}')
}

/// Decides whether the marks from `mark_at` to `end`, the first of which is `mark`, end a sentence.
fn ends_sentence(text: &str, mark_at: usize, mark: char, end: usize) -> bool {
    let rest = &text[end..];
    let Some(next) = rest.chars().next() else {
        return true;
    };
    let marks = &text[mark_at..end];
    if marks.contains(is_chinese_end) {
        // `？”，他问` goes on: a comma never begins a sentence.
        return !matches!(next, '，' | '、' | '：' | ',' | ':' | '；');
    }
    if mark == '…' && is_cjk(next) {
        return !matches!(next, '，' | '、' | '：' | '。' | '；' | '（' | '(');
    }
    if matches!(mark, '!' | '?') && is_cjk(next) {
        return !matches!(next, '，' | '、' | '：');
    }
    if !next.is_whitespace() {
        return false;
    }
    let word = rest.trim_start_matches(|c: char| c.is_whitespace() || "\"'“‘([*_`".contains(c));
    if word.chars().next().is_some_and(char::is_lowercase) {
        return false;
    }
    mark != '.'
        || marks.chars().take_while(|&c| c == '.').count() > 1
        || !is_abbreviation(&text[..mark_at])
}

/// True if the word at the end of `before` takes a full stop that does not end the sentence.
fn is_abbreviation(before: &str) -> bool {
    // A look back of 32 bytes keeps a text of a million initials linear.
    let before = &before[before.floor_char_boundary(before.len().saturating_sub(32))..];
    let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '.'));
    let start = start.map_or(0, |at| {
        at + before[at..].chars().next().map_or(1, char::len_utf8)
    });
    let word = &before[start..];
    let line_start = before[..start].rfind('\n').map_or(0, |at| at + 1);
    let opens_line = before[line_start..start]
        .trim_matches([' ', '\t', '>', '*', '-', '#'])
        .is_empty();
    let mut letters = word.chars();
    match (letters.next(), letters.next()) {
        (None, _) => false,
        // An initial, as in `J. Smith`; but `I` is a word.
        (Some(first), None) if first.is_uppercase() && first != 'I' => true,
        // A list's number.
        _ if opens_line
            && word.len() <= 4
            && word.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
        {
            true
        }
        // `U.S.`, `e.g.`, but not `3.14` nor `example.com`.
        _ if word.contains('.') => word
            .split('.')
            .all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic)),
        _ => word.len() <= 6 && ABBREVIATIONS.contains(&word.to_ascii_lowercase().as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).map(|span| &text[span]).collect()
    }

    #[test]
    fn english_sentences_end_before_a_capital() {
        assert_eq!(
            split("It works. Does it? Yes!  \"Of course.\" She left... Then (no.) Done"),
            [
                "It works.",
                "Does it?",
                "Yes!",
                "\"Of course.\"",
                "She left...",
                "Then (no.)",
                "Done"
            ]
        );
    }

    #[test]
    fn abbreviations_decimals_and_addresses_do_not_end_a_sentence() {
        for text in [
            "Dr. Smith met J. R. Jones of the U.S. Navy, e.g. at 3.14 p.m. by the sea",
            "See Fig. 2 at https://example.com/a.b?c=d!e and version 1.2.3 of lib.rs for more",
            "He said \"Stop!\" and left",
            "1. The first item",
            "wait... what",
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn chinese_sentences_end_at_their_marks() {
        assert_eq!(
            split(
                "文意是什么？它把文本变成向量；再找回来！他说：“好的。”然后走了……天黑了。（完。）尾"
            ),
            [
                "文意是什么？",
                "它把文本变成向量；",
                "再找回来！",
                "他说：“好的。”",
                "然后走了……",
                "天黑了。",
                "（完。）",
                "尾"
            ]
        );
        assert_eq!(
            split("“真的吗？”，他问。圆周率3.14不变。"),
            ["“真的吗？”，他问。", "圆周率3.14不变。"]
        );
        assert_eq!(
            split("用 Rust 写的!真快?对. Next one."),
            ["用 Rust 写的!", "真快?", "对.", "Next one."]
        );
    }

    #[test]
    fn a_blank_line_ends_a_sentence_and_a_line_break_does_not() {
        assert_eq!(split("one\ntwo\n \nThree"), ["one\ntwo", "Three"]);
        assert_eq!(split(" \n\t"), Vec::<&str>::new());
    }

    proptest::proptest! {
        #[test]
        fn sentences_cover_all_but_white_space(text in "(?s)[a-zA-Z.!?。！？；…“”\"() \n中文é]{0,80}|\\PC{0,60}") {
            let mut end = 0;
            for span in sentences(&text) {
                assert!(span.start >= end && span.end > span.start);
                assert!(text[end..span.start].trim().is_empty());
                assert_eq!(text[span.clone()].trim(), &text[span.clone()]);
                end = span.end;
            }
            assert!(text[end..].trim().is_empty());
        }
    }
}
