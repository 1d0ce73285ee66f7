//! Lines of code that say a value: constants, settings, fields and their defaults, in any language.

use std::ops::Range;

/// Columns of a line; longer ones are data.
const LONGEST: usize = 160;

/// Letters of a name: shorter ones count or index, and say nothing.
const SHORTEST_NAME: usize = 3;

/// The lines of `text` that give a name a number, a text or a truth value, without their indentation.
pub(in crate::retrieve) fn statements(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let lines = text.split_inclusive('\n').filter_map(|line| {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let line = line.trim();
        says_value(line).then(|| start..start + line.len())
    });
    lines.collect()
}

fn says_value(line: &str) -> bool {
    if line.len() > LONGEST {
        return false;
    }
    if let Some(rest) = line.strip_prefix("#define ") {
        let value = rest.split_once(char::is_whitespace);
        return value.is_some_and(|(name, value)| is_name(name) && is_value(value));
    }
    parted(line).is_some_and(|(name, value)| is_name(name) && is_value(value))
}

/// What stands before `=`, and what behind it; else before and behind a colon, as in fields and settings.
fn parted(line: &str) -> Option<(&str, &str)> {
    let bytes = line.as_bytes();
    let is_sign = |at: usize| {
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let behind = bytes.get(at + 1).copied().unwrap_or(b' ');
        // Neither a comparison nor an arrow, nor one that changes what is there.
        bytes[at] == b'=' && !b"=<>!+-*/%&|^~".contains(&before) && !b"=>~".contains(&behind)
    };
    if let Some(at) = (0..bytes.len()).find(|&at| is_sign(at)) {
        return Some((&line[..at], &line[at + 1..]));
    }
    line.split_once(": ")
}

/// True for a name with what declares it before and its type behind, and for nothing that computes.
fn is_name(text: &str) -> bool {
    let text = text.trim_end_matches([' ', ':']);
    let name = text.split([':', '=']).next().unwrap_or_default();
    let visible = name
        .strip_prefix("pub(")
        .and_then(|name| name.split_once(')'));
    let name = visible.map_or(name, |(_, name)| name);
    let name = name.trim_end().trim_matches(['"', '\'', '`']);
    let last = name.rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
    let letters = last.take(1).flat_map(str::chars);
    letters.filter(|c| c.is_alphabetic()).count() >= SHORTEST_NAME
        && !name.contains(['(', ')', '{', '}', ';', ','])
}

/// True for what begins with a text or a truth value, or has a number in it.
fn is_value(text: &str) -> bool {
    const WORDS: &[&str] = &["true", "false", "True", "False", "yes", "no", "on", "off"];
    let text = text.trim();
    let word = text.split(|c: char| !c.is_alphanumeric()).next();
    if text.starts_with(['"', '\'', '`']) || word.is_some_and(|word| WORDS.contains(&word)) {
        return text.contains(char::is_alphanumeric);
    }
    let mut before = ' ';
    text.chars().any(|c| {
        let is_number = c.is_ascii_digit() && !before.is_alphanumeric() && before != '_';
        before = c;
        is_number
    })
}

/// The words of `code` as people say them: `MAX_RETRIES` and `maxRetries` are `max retries`.
pub(crate) fn spoken(code: &str) -> String {
    let mut out = String::with_capacity(code.len() + 16);
    let mut before = ' ';
    let mut letters = code.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_small_next = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = letter.is_uppercase()
            && (before.is_lowercase() || (before.is_uppercase() && is_small_next));
        if begins {
            out.push(' ');
        }
        match letter {
            '_' => out.push(' '),
            letter => out.extend(letter.to_lowercase()),
        }
        before = letter;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_name_and_a_value_are_found_in_many_languages() {
        for line in [
            "const MAX_RETRIES: u32 = 7;",
            "pub(crate) static GREETING: &str = \"你好\";",
            "MAX_RETRIES = 7",
            "    max_retries: int = 7  # at most",
            "private static final int MAX_RETRIES = 7;",
            "#define MAX_RETRIES 7",
            "const timeout = 30 * 1000",
            "let timeout = Duration::from_secs(30);",
            "maxRetries := 7",
            "\"max_retries\": 7,",
            "max-retries: 7",
            "verbose = false",
            "retries: 7,",
            "PORT=8080",
        ] {
            let found = statements(line);
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(&line[found[0].clone()], line.trim());
        }
    }

    #[test]
    fn other_lines_say_no_value() {
        for line in [
            "",
            "}",
            "x = 7",
            "if retries == 7 {",
            "if retries >= 7:",
            "let client = Client::new();",
            "client.retry(7);",
            "retries += 7;",
            "Some(7) => retry,",
            "fn retry(times: u32) -> u32 {",
            "let v2 = load_v1(file)?;",
            "return 7;",
            "use std::io;",
        ] {
            assert!(statements(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn names_are_spoken_word_by_word() {
        assert_eq!(
            spoken("const MAX_RETRIES: u32 = 7;"),
            "const max retries: u32 = 7;"
        );
        assert_eq!(spoken("maxHTTPRetries"), "max http retries");
        assert_eq!(spoken("重试次数 = 7"), "重试次数 = 7");
    }
}
