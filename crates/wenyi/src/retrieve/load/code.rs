//! Source code along its definitions, told by indentation and keywords: one reader for all
//! languages that are written as people read them.
//!
//! A definition is a section: its comment, attributes and first line are the heading, what is below
//! them the body. One of more than a screen is opened, and its members are sections below it. What
//! is not recognised as a definition is code like any other, so nothing is lost in any language.

use std::ops::Range;

use crate::retrieve::chunk::structure::{Block, BlockKind};

/// Lines up to which a definition with members stays whole.
const A_SCREEN: usize = 40;

/// Definitions within definitions.
const MOST_LEVELS: u8 = 6;

/// Characters of a title.
const LONGEST_TITLE: usize = 120;

/// The blocks of `text`, which cover all of it but white space.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut at = 0;
    let lines: Vec<Line<'_>> = text
        .split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            Line::new(start, line)
        })
        .collect();
    let mut reader = Reader {
        lines: &lines,
        blocks: Vec::new(),
    };
    reader.scan(0..lines.len(), 1);
    reader.blocks
}

struct Line<'a> {
    /// Its byte span without the end of line.
    span: Range<usize>,
    /// Its text without indentation.
    text: &'a str,
    /// Columns of indentation.
    indent: usize,
}

impl<'a> Line<'a> {
    fn new(start: usize, line: &'a str) -> Self {
        let line = line.trim_end();
        let text = line.trim_start();
        let indent = line[..line.len() - text.len()]
            .chars()
            .map(|c| if c == '\t' { 4 } else { 1 })
            .sum();
        Self {
            span: start..start + line.len(),
            text,
            indent,
        }
    }

    /// A comment, a decorator or an attribute.
    fn is_lead(&self) -> bool {
        const LEADS: &[&str] = &["//", "#[", "#!", "# ", "@", "/*", "*", "--", ";;", "[", "%"];
        self.text == "#" || LEADS.iter().any(|lead| self.text.starts_with(lead))
    }

    fn is_closer(&self) -> bool {
        self.text.starts_with(['}', ')', ']']) || self.text == "end" || self.text == "end;"
    }
}

struct Reader<'a> {
    lines: &'a [Line<'a>],
    blocks: Vec<Block>,
}

impl Reader<'_> {
    fn scan(&mut self, range: Range<usize>, level: u8) {
        let (mut plain, mut at, mut titled) = (range.start, range.start, false);
        let mut outermost = usize::MAX;
        while at < range.end {
            let line = &self.lines[at];
            let title = title(line.text).filter(|_| line.indent <= outermost);
            let Some(title) = title else {
                at += 1;
                continue;
            };
            // Only the outermost definitions of the range are sections of it.
            outermost = line.indent;
            let lead = self.lead(plain, at);
            self.plain(plain..lead, titled, level);
            let end = self.end(at, range.end);
            self.push_heading(lead..at + 1, title, level);
            if end - at > A_SCREEN && level < MOST_LEVELS {
                self.scan(at + 1..end, level + 1);
            } else {
                self.code(at + 1..end);
            }
            (plain, at, titled) = (end, end, true);
        }
        self.plain(plain..range.end, titled, level);
    }

    /// The first line of the comments and attributes right above the definition at `at`.
    fn lead(&self, floor: usize, at: usize) -> usize {
        let indent = self.lines[at].indent;
        let above = self.lines[floor..at].iter().rev();
        let leads = above
            .take_while(|line| line.indent >= indent && !line.text.is_empty() && line.is_lead());
        at - leads.count()
    }

    /// Where the definition at `at` ends: before the next line that is indented no deeper.
    fn end(&self, at: usize, limit: usize) -> usize {
        let indent = self.lines[at].indent;
        for index in at + 1..limit {
            let line = &self.lines[index];
            if line.text.is_empty() || line.indent > indent {
                continue;
            }
            // The brace on a line of its own, and parameters that are closed at the margin.
            if line.text == "{" || (line.is_closer() && line.text.ends_with(['{', ':'])) {
                continue;
            }
            return if line.is_closer() { index + 1 } else { index };
        }
        limit
    }

    /// Code between definitions: behind one, a section that is called by its first line.
    fn plain(&mut self, mut range: Range<usize>, titled: bool, level: u8) {
        let lines = self.lines;
        while range.start < range.end && lines[range.start].text.is_empty() {
            range.start += 1;
        }
        let Some(first) = lines[range.clone()].first() else {
            return;
        };
        // A brace that closes what was before is no section.
        let says = lines[range.clone()]
            .iter()
            .any(|line| line.text.contains(char::is_alphanumeric));
        if titled && says {
            let title = shortened(first.text);
            self.push_heading(range.start..range.start + 1, title, level);
            range.start += 1;
        }
        self.code(range);
    }

    fn push_heading(&mut self, lines: Range<usize>, title: String, level: u8) {
        let kind = BlockKind::Heading { level, title };
        self.push(kind, lines);
    }

    /// Blocks of code between blank lines.
    fn code(&mut self, range: Range<usize>) {
        let mut start = range.start;
        for index in range.clone() {
            if self.lines[index].text.is_empty() {
                self.push(BlockKind::Code, start..index);
                start = index + 1;
            }
        }
        self.push(BlockKind::Code, start..range.end.max(start));
    }

    fn push(&mut self, kind: BlockKind, lines: Range<usize>) {
        let lines = &self.lines[lines];
        if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
            let span = first.span.start..last.span.end;
            self.blocks.push(Block { kind, span });
        }
    }
}

/// Words before a definition's keyword.
const MODIFIERS: &[&str] = &[
    "pub",
    "async",
    "unsafe",
    "export",
    "default",
    "static",
    "public",
    "private",
    "protected",
    "internal",
    "final",
    "abstract",
    "virtual",
    "override",
    "sealed",
    "partial",
    "inline",
    "extern",
    "const",
    "open",
    "data",
    "suspend",
    "local",
    "declare",
    "implicit",
    "case",
    "create",
    "or",
    "replace",
    "temporary",
    "unique",
    "mutating",
    "readonly",
];

/// Words that define something.
const KEYWORDS: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "trait",
    "impl",
    "mod",
    "union",
    "macro_rules!",
    "def",
    "class",
    "function",
    "func",
    "fun",
    "interface",
    "namespace",
    "module",
    "object",
    "record",
    "protocol",
    "extension",
    "sub",
    "defmodule",
    "defp",
    "defmacro",
    "message",
    "service",
    "table",
    "view",
    "procedure",
    "trigger",
    "index",
    "type",
    "proc",
];

/// Words that are followed by parentheses or braces and define nothing.
const CONTROL: &[&str] = &[
    "if",
    "for",
    "while",
    "switch",
    "return",
    "else",
    "catch",
    "do",
    "try",
    "match",
    "with",
    "when",
    "foreach",
    "elif",
    "unless",
    "using",
    "lock",
    "synchronized",
    "loop",
    "new",
    "throw",
    "await",
    "yield",
    "assert",
    "super",
    "this",
    "defer",
    "select",
    "go",
    "let",
    "var",
    "print",
    "}",
];

/// What the line defines, if it does: the line without what opens its body.
fn title(line: &str) -> Option<String> {
    let mut words = line
        .split(|c: char| c.is_whitespace() || c == '(' || c == '<' || c == '{')
        .filter(|word| !word.is_empty());
    let mut first = words.next()?.trim_start_matches('(');
    let mut modified = false;
    while MODIFIERS.contains(&first.to_ascii_lowercase().as_str())
        || (modified && (first.ends_with(')') || first.starts_with('"')))
    {
        modified = true;
        first = words.next()?;
    }
    let opens =
        line.ends_with(['{', ':', '(', ',', ')']) || line.ends_with("=>") || line.ends_with("do");
    let keyword = first.to_ascii_lowercase();
    if KEYWORDS.contains(&keyword.as_str()) {
        let name = words.next()?;
        // `type = 3` and `message: x` only look like definitions.
        let named = name.starts_with(|c: char| {
            c.is_alphabetic() || matches!(c, '_' | '$' | '*' | '&' | '`' | '[' | '\'' | '"')
        });
        return named.then(|| shortened(line));
    }
    if CONTROL.contains(&keyword.as_str()) || !opens {
        return None;
    }
    let is_function = is_signature(line) || (modified && line.contains("=>") && line.contains('='));
    is_function.then(|| shortened(line))
}

/// `int main(void) {` and `constructor(a, b) {`, but no call and no assignment.
fn is_signature(line: &str) -> bool {
    let Some((before, _)) = line.split_once('(') else {
        return false;
    };
    let name = before.rsplit([' ', '*', '&']).next().unwrap_or_default();
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '~' | '$' | '<' | '>' | ','));
    is_name && line.ends_with('{') && !before.contains(['=', '.', '"', '\'', '+', '?', '!'])
}

fn shortened(line: &str) -> String {
    let line = line.trim_end_matches(['{', ':', '(', ' ']).trim_end();
    line.chars().take(LONGEST_TITLE).collect()
}

/// Comments of a passage of code: what of it can be quoted as prose.
pub(in crate::retrieve) fn comments(text: &str) -> Vec<Range<usize>> {
    const MARKS: &[&str] = &[
        "///", "//!", "//", "/**", "/*", "*/", "*", "#", "--", ";;", "\"\"\"",
    ];
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut goes_on = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.trim_start();
        let mark = MARKS.iter().find(|mark| content.starts_with(**mark));
        let mark = mark.filter(|_| !content.starts_with("#[") && !content.starts_with("#!["));
        let Some(mark) = mark else {
            goes_on = false;
            continue;
        };
        let words = content[mark.len()..].trim();
        if !words.contains(char::is_alphanumeric) {
            goes_on = false;
            continue;
        }
        let first = start + (line.len() - content.len()) + mark.len();
        let first = first + (text[first..].len() - text[first..].trim_start().len());
        let end = start + line.trim_end().len();
        match found.last_mut() {
            Some(last) if goes_on => last.end = end,
            _ => found.push(first..end),
        }
        goes_on = true;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<(u8, String)> {
        let titles = blocks(text)
            .into_iter()
            .filter_map(|block| match block.kind {
                BlockKind::Heading { level, title } => Some((level, title)),
                _ => None,
            });
        titles.collect()
    }

    #[test]
    fn definitions_of_many_languages_are_sections() {
        for (code, title) in [
            (
                "pub(crate) async fn read(path: &Path) -> Result<()> {\n}\n",
                "pub(crate) async fn read(path: &Path) -> Result<()>",
            ),
            ("impl<T> Stack<T> {\n}\n", "impl<T> Stack<T>"),
            ("def 读取(path):\n    pass\n", "def 读取(path)"),
            (
                "export default class Shop extends Base {\n}\n",
                "export default class Shop extends Base",
            ),
            (
                "export const add = (a, b) => {\n}\n",
                "export const add = (a, b) =>",
            ),
            (
                "func (s *Server) Run(port int) error {\n}\n",
                "func (s *Server) Run(port int) error",
            ),
            (
                "int main(int argc, char **argv) {\n}\n",
                "int main(int argc, char **argv)",
            ),
            (
                "public static void main(String[] args) {\n}\n",
                "public static void main(String[] args)",
            ),
            ("CREATE TABLE users (\n  id int\n);\n", "CREATE TABLE users"),
        ] {
            assert_eq!(titles(code), [(1, title.to_owned())], "{code}");
        }
        for code in [
            "if (x) {\n}\n",
            "call(a, b)\n",
            "x = f(1)\n",
            "type = 3\n",
            "foo.then(() => {\n})\n",
        ] {
            assert_eq!(titles(code), [], "{code}");
        }
    }

    #[test]
    fn a_definition_takes_its_comment_and_a_long_one_is_opened() {
        let long = "        x += 1;\n".repeat(50);
        let text = format!(
            "use a;\n\n/// Counts.\n#[must_use]\nfn count() {{\n    1\n}}\n\nclass Shop\n{{\n    int n;\n\n    void buy() {{\n{long}    }}\n\n    void sell() {{\n    }}\n}}\n\nconst X: u8 = 1;\n"
        );
        let shown: Vec<(u8, String)> = titles(&text);
        let expected = [
            (1, "fn count()"),
            (1, "class Shop"),
            (2, "void buy()"),
            (2, "void sell()"),
            (1, "const X: u8 = 1;"),
        ];
        assert_eq!(
            shown,
            expected.map(|(level, title)| (level, title.to_owned()))
        );
        let found = blocks(&text);
        assert_eq!(
            &text[found[1].span.clone()],
            "/// Counts.\n#[must_use]\nfn count() {"
        );
        let covered: String = found
            .iter()
            .map(|block| &text[block.span.clone()])
            .collect();
        let letters = |text: &str| {
            text.chars()
                .filter(|c| !c.is_whitespace())
                .collect::<String>()
        };
        assert_eq!(
            letters(&covered),
            letters(&text),
            "nothing is lost or doubled"
        );
    }

    #[test]
    fn comments_are_prose() {
        let text = "/// Reads it.\n/// Twice.\nfn read() {} // no\n\n# 中文说明\n#[test]\n";
        let found: Vec<_> = comments(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["Reads it.\n/// Twice.", "中文说明"]);
    }
}
