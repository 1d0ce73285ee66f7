//! `.env` files, read as python-dotenv 1.2 reads them, so that a program's file says the same to
//! wenyi: `load_dotenv()` with its defaults, existing variables win.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The nearest `.env` at `start` or above it, to the root. A folder of that name is none.
#[must_use]
pub fn find(start: &Path) -> Option<PathBuf> {
    let is_file = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| !data.is_dir());
    start
        .ancestors()
        .map(|folder| folder.join(".env"))
        .find(is_file)
}

/// A file's variables, and the lines that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dotenv {
    /// Values as written, `${…}` replaced.
    pub variables: BTreeMap<String, String>,
    /// Lines, counted from one, that begin a statement that cannot be read and was passed over.
    pub bad_lines: Vec<usize>,
}

/// Reads `text`; `existing` is the environment, which wins over the file in `${…}` as well.
#[must_use]
pub fn parse(text: &str, existing: impl Fn(&str) -> Option<String>) -> Dotenv {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As Python opens text files: every line end is `\n`, within quotes too.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { text: &text, at: 0 };
    // `A` alone names a variable without a value: it hides an earlier one, and sets nothing.
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut bad_lines = Vec::new();
    while reader.at < text.len() {
        let start = reader.at;
        match reader.binding() {
            Some(Binding {
                key: Some(key),
                value,
            }) => {
                let lookup = |name: &str| {
                    existing(name)
                        .or_else(|| values.get(name).map(|v| v.clone().unwrap_or_default()))
                };
                let value = value.map(|value| interpolate(&value, lookup));
                values.insert(key, value);
            }
            Some(Binding { key: None, .. }) => {}
            None => {
                bad_lines.push(line_of_statement(&text, start));
                // On from where reading failed, so that an open quote costs one line only.
                reader.take_while(|c| c != '\n');
                reader.take(1);
            }
        }
    }
    let variables = values
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    Dotenv {
        variables: variables.collect(),
        bad_lines,
    }
}

/// A statement; without a key it is a comment or blank.
struct Binding {
    key: Option<String>,
    value: Option<String>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// `None` leaves the reader where the statement went wrong.
    fn binding(&mut self) -> Option<Binding> {
        self.take_while(char::is_whitespace);
        if self.rest().is_empty() {
            return Some(Binding {
                key: None,
                value: None,
            });
        }
        self.export();
        let key = match self.peek() {
            Some('#') => None,
            Some('\'') => Some(self.quoted_key()?),
            _ => Some(self.key()?),
        };
        self.take_while(is_blank);
        let value = match self.peek() {
            Some('=') => Some(self.value()?),
            _ => None,
        };
        self.end_of_statement()?;
        Some(Binding { key, value })
    }

    fn export(&mut self) {
        if let Some(rest) = self.rest().strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            self.take("export".len());
            self.take_while(is_blank);
        }
    }

    fn key(&mut self) -> Option<String> {
        let key = self.take_while(|c| c != '=' && c != '#' && !c.is_whitespace());
        (!key.is_empty()).then(|| key.to_owned())
    }

    fn quoted_key(&mut self) -> Option<String> {
        let (key, _) = self.rest()[1..].split_once('\'')?;
        self.take(key.len() + 2);
        (!key.is_empty()).then(|| key.to_owned())
    }

    fn value(&mut self) -> Option<String> {
        self.take(1);
        let space = self.take_while(is_blank);
        match self.peek() {
            // After a space, `#` begins a comment; at once after `=` it belongs to the value.
            Some('#') if !space.is_empty() => Some(String::new()),
            Some('\'') => self.quoted('\'').map(|value| unescape(value, "\\'")),
            Some('"') => self
                .quoted('"')
                .map(|value| unescape(value, "\\'\"abfnrtv")),
            _ => Some(unquoted(self.take_while(|c| c != '\n'))),
        }
    }

    /// The text between two quotes; a backslash takes the character after it along.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        let inner = &self.rest()[1..];
        let mut escaped = false;
        for (index, c) in inner.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == quote => {
                    self.take(index + 2);
                    return Some(&inner[..index]);
                }
                _ => {}
            }
        }
        None
    }

    /// A comment and the line's end, and nothing else.
    fn end_of_statement(&mut self) -> Option<()> {
        let before = self.at;
        self.take_while(is_blank);
        if self.peek() == Some('#') {
            self.take_while(|c| c != '\n');
        }
        if self.rest().is_empty() || self.peek() == Some('\n') {
            self.take(1);
            return Some(());
        }
        self.at = before;
        None
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.text.len());
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }
}

/// Space that does not end a line.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

/// Up to a comment, which needs a space before it.
fn unquoted(line: &str) -> String {
    let hashes = line.match_indices('#').map(|(index, _)| index);
    let mut comments = hashes.filter(|&index| line[..index].ends_with(char::is_whitespace));
    let value = comments.next().map_or(line, |index| &line[..index]);
    value.trim_end().to_owned()
}

/// Replaces a backslash and one of `known` by what it means; others stay as they are.
fn unescape(value: &str, known: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        let next = chars
            .clone()
            .next()
            .filter(|&next| c == '\\' && known.contains(next));
        let Some(next) = next else {
            text.push(c);
            continue;
        };
        chars.next();
        text.push(match next {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            other => other,
        });
    }
    text
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$NAME` is left as it is.
fn interpolate(value: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        text.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        let variable = inside.find('}').and_then(|end| {
            let (name, default) = match inside[..end].split_once(':') {
                Some((name, default)) => (name, Some(default.strip_prefix('-')?)),
                None => (&inside[..end], None),
            };
            Some((name, default, end))
        });
        let Some((name, default, end)) = variable else {
            text.push_str("${");
            rest = inside;
            continue;
        };
        text.push_str(&lookup(name).unwrap_or_else(|| default.unwrap_or_default().to_owned()));
        rest = &inside[end + 1..];
    }
    text + rest
}

/// The line of the first statement at or after `start`, counted from one.
fn line_of_statement(text: &str, start: usize) -> usize {
    let space = text[start..]
        .find(|c: char| !c.is_whitespace())
        .unwrap_or(0);
    text[..start + space].matches('\n').count() + 1
}

#[cfg(test)]
mod tests;
