//! Breaking text into lines of a display width: Latin words stay whole, Chinese breaks between
//! characters, and a line never begins with a closing mark or ends with an opening one.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Marks that may not begin a line.
const CLOSING: &str = "，。、；：？！”’）》】』」〉〕％…—～·,.;:?!)]}%»";
/// Marks that may not end a line.
const OPENING: &str = "“‘（《【『「〈〔([{«";

/// The lines of `text`, as byte ranges, each at most `width` columns wide. Line breaks in the text
/// stay; blanks at other breaks belong to no line. A word wider than a line is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        wrap_line(text, start..start + content.len(), width.max(2), &mut lines);
        start += line.len();
    }
    lines
}

/// Breaks one line of the text; an empty one stays as an empty line.
fn wrap_line(text: &str, range: Range<usize>, width: usize, lines: &mut Vec<Range<usize>>) {
    let mut line = range.start..range.start;
    let mut columns = 0;
    for unit in units(&text[range.clone()]) {
        let unit = unit.start + range.start..unit.end + range.start;
        let is_blank = text[unit.clone()].trim().is_empty();
        let unit_columns = text[unit.clone()].width();
        if columns > 0 && columns + unit_columns > width {
            lines.push(trimmed(text, line));
            line = unit.start..unit.start;
            columns = 0;
        }
        // A blank after a soft break vanishes; at the start of the line it is indentation.
        if is_blank && columns == 0 && unit.start > range.start {
            line = unit.end..unit.end;
            continue;
        }
        if unit_columns > width {
            (line, columns) = cut(text, line.start..unit.end, width, lines);
        } else {
            line.end = unit.end;
            columns += unit_columns;
        }
    }
    lines.push(trimmed(text, line));
}

/// Cuts a word wider than a line; returns the last piece and its columns.
fn cut(
    text: &str,
    range: Range<usize>,
    width: usize,
    lines: &mut Vec<Range<usize>>,
) -> (Range<usize>, usize) {
    let mut line = range.start..range.start;
    let mut columns = 0;
    for grapheme in text[range].graphemes(true) {
        if columns > 0 && columns + grapheme.width() > width {
            lines.push(line.clone());
            line = line.end..line.end;
            columns = 0;
        }
        line.end += grapheme.len();
        columns += grapheme.width();
    }
    (line, columns)
}

fn trimmed(text: &str, line: Range<usize>) -> Range<usize> {
    line.start..line.start + text[line].trim_end().len()
}

/// The pieces between which a line may break: words, blanks, single wide characters with the marks
/// that cling to them.
pub(super) fn units(line: &str) -> Vec<Range<usize>> {
    let mut units: Vec<Range<usize>> = Vec::new();
    let mut last = "";
    for (index, grapheme) in line.grapheme_indices(true) {
        let end = index + grapheme.len();
        match units.last_mut() {
            Some(unit) if !may_break_between(last, grapheme) => unit.end = end,
            _ => units.push(index..end),
        }
        last = grapheme;
    }
    units
}

fn may_break_between(last: &str, next: &str) -> bool {
    let is_blank = |grapheme: &str| grapheme.chars().all(char::is_whitespace);
    let is_one_of = |grapheme: &str, marks: &str| grapheme.chars().all(|c| marks.contains(c));
    if is_blank(last) || is_blank(next) {
        return is_blank(last) != is_blank(next);
    }
    // Ideographs, kana and full-width marks.
    let is_wide = |grapheme: &str| grapheme.width() >= 2;
    !is_one_of(next, CLOSING) && !is_one_of(last, OPENING) && (is_wide(last) || is_wide(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, width: usize) -> Vec<&str> {
        wrap(text, width)
            .into_iter()
            .map(|range| &text[range])
            .collect()
    }

    #[test]
    fn words_stay_whole_and_blanks_at_breaks_vanish() {
        assert_eq!(lines("the sense of a text", 10), ["the sense", "of a text"]);
    }

    #[test]
    fn chinese_breaks_between_characters_by_display_width() {
        assert_eq!(
            lines("怎样在没有网络的机器上使用", 8),
            ["怎样在没", "有网络的", "机器上使", "用"]
        );
    }

    #[test]
    fn closing_marks_do_not_begin_a_line_and_opening_ones_do_not_end_it() {
        assert_eq!(lines("一二三四，五六", 8), ["一二三", "四，五六"]);
        assert_eq!(lines("一二三（四五）", 8), ["一二三", "（四五）"]);
    }

    #[test]
    fn mixed_text_breaks_between_the_scripts() {
        assert_eq!(lines("使用offline模式", 8), ["使用", "offline", "模式"]);
    }

    #[test]
    fn hard_breaks_and_indentation_stay() {
        assert_eq!(lines("a\n\n    b c", 20), ["a", "", "    b c"]);
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(lines("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
    }

    #[test]
    fn no_line_is_wider_than_asked_and_no_character_is_lost() {
        let text = "wenyi 文意 runs 在普通的 CPU 上（不需要网络），“快”而准。 Naïve café 👩‍👩‍👧 https://example.org/a/very/long/path";
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        for width in 4..60 {
            let lines = lines(text, width);
            assert_eq!(bare(&lines.concat()), bare(text), "width {width}");
            assert!(
                lines.iter().all(|line| line.width() <= width),
                "width {width}: {lines:?}"
            );
        }
    }
}
