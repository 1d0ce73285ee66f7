//! Headings of plain text: underlined titles, and chapters as Chinese and English books number them.

use std::ops::Range;

use crate::retrieve::chunk::structure::{self, Block, BlockKind};

/// Characters of a line that can be a title.
const LONGEST_TITLE: usize = 40;

/// The blocks of plain text: its headings, and paragraphs between blank lines.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut outline = Outline {
        text,
        underlines: Vec::new(),
        blocks: Vec::new(),
    };
    for paragraph in structure::plain(text) {
        outline.paragraph(paragraph.span);
    }
    outline.blocks
}

struct Outline<'a> {
    text: &'a str,
    /// The characters that titles are underlined with, the first for the highest level.
    underlines: Vec<char>,
    blocks: Vec<Block>,
}

impl Outline<'_> {
    fn paragraph(&mut self, span: Range<usize>) {
        let lines = self.lines(&span);
        let (mut plain, mut at) = (span.start, 0);
        while at < lines.len() {
            let line = &self.text[lines[at].clone()];
            let below = lines.get(at + 1).map(|line| &self.text[line.clone()]);
            let (level, length) = if let Some(level) = numbered_level(line) {
                (level, 1)
            } else if let Some(mark) = below.and_then(|below| underline(line, below)) {
                (self.level_of(mark), 2)
            } else {
                at += 1;
                continue;
            };
            let heading = lines[at].start..lines[at + length - 1].end;
            let title = line.trim().to_owned();
            self.push(BlockKind::Paragraph, plain..heading.start);
            at += length;
            plain = lines.get(at).map_or(span.end, |next| next.start);
            self.push(BlockKind::Heading { level, title }, heading);
        }
        self.push(BlockKind::Paragraph, plain..span.end);
    }

    fn lines(&self, span: &Range<usize>) -> Vec<Range<usize>> {
        let mut at = span.start;
        let lines = self.text[span.clone()].split_inclusive('\n').map(|line| {
            let start = at;
            at += line.len();
            start..start + line.trim_end().len()
        });
        lines.collect()
    }

    fn level_of(&mut self, mark: char) -> u8 {
        let known = self.underlines.iter().position(|&other| other == mark);
        let rank = known.unwrap_or_else(|| {
            self.underlines.push(mark);
            self.underlines.len() - 1
        });
        u8::try_from(rank + 1).unwrap_or(9).min(9)
    }

    fn push(&mut self, kind: BlockKind, span: Range<usize>) {
        let length = self.text[span.clone()].trim_end().len();
        if length > 0 {
            let span = span.start..span.start + length;
            self.blocks.push(Block { kind, span });
        }
    }
}

/// The character that `below` underlines `line` with, in at least its length.
fn underline(line: &str, below: &str) -> Option<char> {
    let below = below.trim();
    let mark = below.chars().next()?;
    let length = below.chars().count();
    let is_underline = matches!(mark, '=' | '-' | '~' | '^' | '*' | '#' | '+')
        && length >= 3
        && below.chars().all(|c| c == mark)
        && line.contains(char::is_alphanumeric)
        && line.trim().chars().count() <= length.min(80);
    is_underline.then_some(mark)
}

/// The level of `第三章 …`, `Chapter 3 …`, `一、…` and `（二）…`.
fn numbered_level(line: &str) -> Option<u8> {
    let line = line.trim_matches(|c: char| c.is_whitespace());
    let ends = |c: char| matches!(c, '。' | '，' | '；' | '！' | '？' | '：' | '.' | ',' | ';');
    if line.chars().count() > LONGEST_TITLE || line.ends_with(ends) {
        return None;
    }
    if let Some(rest) = line.strip_prefix('第') {
        let unit = rest.trim_start_matches(is_numeral);
        let unit = unit.chars().next().filter(|_| unit.len() < rest.len())?;
        let level = match unit {
            '卷' | '部' | '篇' | '编' => 1,
            '章' | '回' => 2,
            '节' | '節' => 3,
            _ => return None,
        };
        // `第三章的内容` speaks of a chapter; a title is set apart.
        let after = rest.trim_start_matches(is_numeral).chars().nth(1);
        return after
            .is_none_or(|c| c.is_whitespace() || c == '：')
            .then_some(level);
    }
    let lower = line.to_ascii_lowercase();
    for (word, level) in [("part ", 1), ("chapter ", 2), ("section ", 3)] {
        let number = lower
            .strip_prefix(word)
            .and_then(|rest| rest.split([' ', ':', '.', '—']).next());
        let is_number = |n: &str| {
            !n.is_empty()
                && n.chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, 'i' | 'v' | 'x' | 'l'))
        };
        if number.is_some_and(is_number) {
            return Some(level);
        }
    }
    let numeral = line.trim_start_matches(is_han_numeral);
    if numeral.len() < line.len() && numeral.starts_with('、') {
        return Some(4);
    }
    let inner = line.strip_prefix(['（', '('])?;
    let after = inner.trim_start_matches(is_han_numeral);
    (after.len() < inner.len() && after.starts_with(['）', ')'])).then_some(5)
}

fn is_numeral(c: char) -> bool {
    is_han_numeral(c) || c.is_ascii_digit()
}

fn is_han_numeral(c: char) -> bool {
    matches!(
        c,
        '〇' | '零'
            | '一'
            | '二'
            | '三'
            | '四'
            | '五'
            | '六'
            | '七'
            | '八'
            | '九'
            | '十'
            | '百'
            | '千'
            | '两'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_and_underlined_titles_are_headings() {
        let text = "书名\n====\n\n第一章 开始\n　　第三章的内容在后面。\n\n一、准备\n先读一遍\n（二）安装\n\nUsage\n-----\nRun it.\nChapter 2: Later\n\n第一次\n\n三、这是一句完整的话。\n";
        let found: Vec<_> = blocks(text)
            .into_iter()
            .map(|block| match block.kind {
                BlockKind::Heading { level, title } => format!("{level} {title}"),
                _ => text[block.span].to_owned(),
            })
            .collect();
        assert_eq!(
            found,
            [
                "1 书名",
                "2 第一章 开始",
                "　　第三章的内容在后面。",
                "4 一、准备",
                "先读一遍",
                "5 （二）安装",
                "2 Usage",
                "Run it.",
                "2 Chapter 2: Later",
                "第一次",
                "三、这是一句完整的话。",
            ]
        );
    }
}
