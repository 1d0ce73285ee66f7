//! A passage as people read it: wrapped, with the words that the question shares and the best
//! sentence set off, cut to the lines around that sentence.

use std::ops::Range;

use crate::output::printable::printable;
use crate::output::style::Style;
use crate::output::wrap::wrap;

/// What is set off in a passage, as byte ranges of its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// The sentence that answers best.
    pub(super) sentence: Option<Range<usize>>,
    /// Words that the question has too, in order.
    pub(super) words: Vec<Range<usize>>,
}

/// Lines of `text`, at most `width` columns wide; at most `most` of them, around the best sentence.
pub(super) fn render(
    text: &str,
    marks: &Marks,
    width: usize,
    most: usize,
    style: Style,
) -> Vec<String> {
    if style.is_coloured() {
        return excerpt(text, marks.sentence.as_ref(), width, most, |line| {
            paint(text, line, marks, style)
        });
    }
    let (text, sentence) = with_plain_marks(text, marks);
    excerpt(&text, sentence.as_ref(), width, most, |line| {
        printable(&text[line]).into_owned()
    })
}

/// Wraps, passes over blank lines, and keeps `most` lines around the sentence.
fn excerpt(
    text: &str,
    sentence: Option<&Range<usize>>,
    width: usize,
    most: usize,
    paint: impl Fn(Range<usize>) -> String,
) -> Vec<String> {
    let lines: Vec<_> = wrap(text, width)
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect();
    let kept = window(&lines, sentence, most);
    let mut shown = Vec::with_capacity(kept.len() + 2);
    if kept.start > 0 {
        shown.push("…".to_owned());
    }
    shown.extend(lines[kept.clone()].iter().cloned().map(paint));
    if kept.end < lines.len() {
        shown.push("…".to_owned());
    }
    shown
}

/// Which lines to keep: those of the sentence, with as much before as after.
fn window(lines: &[Range<usize>], sentence: Option<&Range<usize>>, most: usize) -> Range<usize> {
    if lines.len() <= most {
        return 0..lines.len();
    }
    let (start, end) = sentence.map_or((0, 0), |sentence| (sentence.start, sentence.end));
    let first = lines.iter().position(|line| line.end > start).unwrap_or(0);
    let last = lines
        .iter()
        .rposition(|line| line.start < end.max(1))
        .unwrap_or(first)
        .max(first);
    let spare = most.saturating_sub(last + 1 - first);
    let begin = first.saturating_sub(spare / 2).min(lines.len() - most);
    begin..begin + most
}

/// One line with ANSI attributes.
fn paint(text: &str, line: Range<usize>, marks: &Marks, style: Style) -> String {
    let mut edges = vec![line.start, line.end];
    for mark in marks.words.iter().chain(&marks.sentence) {
        edges.extend([mark.start, mark.end].map(|edge| edge.clamp(line.start, line.end)));
    }
    edges.sort_unstable();
    edges.dedup();
    let mut painted = String::new();
    for edge in edges.windows(2) {
        let is_in = |mark: &Range<usize>| mark.start <= edge[0] && edge[1] <= mark.end;
        let word = marks.words.iter().any(is_in);
        let sentence = marks.sentence.iter().any(is_in);
        let piece = printable(&text[edge[0]..edge[1]]);
        painted.push_str(&style.passage(&piece, word, sentence));
    }
    painted
}

/// The text with `*word*` and `»sentence«`, and where the sentence is in it.
fn with_plain_marks(text: &str, marks: &Marks) -> (String, Option<Range<usize>>) {
    let mut insertions: Vec<(usize, u8, &str)> = Vec::new();
    for word in &marks.words {
        insertions.extend([(word.start, 2, "*"), (word.end, 0, "*")]);
    }
    if let Some(sentence) = &marks.sentence {
        insertions.extend([(sentence.start, 1, "»"), (sentence.end, 1, "«")]);
    }
    // At one place, a word ends before the sentence does and begins after it.
    insertions.sort_by_key(|(position, order, _)| (*position, *order));
    let mut marked = String::with_capacity(text.len() + 2 * insertions.len());
    let mut done = 0;
    for (position, _, mark) in insertions {
        marked.push_str(&text[done..position]);
        marked.push_str(mark);
        done = position;
    }
    marked.push_str(&text[done..]);
    let sentence = marks.sentence.as_ref().and_then(|_| {
        let start = marked.find('»')?;
        Some(start..marked[start..].find('«')? + start + "«".len())
    });
    (marked, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str, sentence: &str, words: &[&str]) -> Marks {
        let find = |part: &str| text.find(part).map(|start| start..start + part.len());
        Marks {
            sentence: find(sentence),
            words: words.iter().filter_map(|word| find(word)).collect(),
        }
    }

    #[test]
    fn plain_marks_surround_words_and_sentence() {
        let text = "先下载模型。没有网络也能使用。";
        let marks = marks(text, "没有网络也能使用。", &["网络"]);
        let lines = render(text, &marks, 80, 8, Style::PLAIN);
        assert_eq!(lines, ["先下载模型。»没有*网络*也能使用。«"]);
    }

    #[test]
    fn a_word_at_the_sentence_edge_stays_inside_it() {
        let marks = marks("offline", "offline", &["offline"]);
        assert_eq!(
            render("offline", &marks, 80, 8, Style::PLAIN),
            ["»*offline*«"]
        );
    }

    #[test]
    fn colour_falls_on_the_marked_bytes_alone() {
        let text = "use it offline now";
        let marks = marks(text, "offline now", &["offline"]);
        let lines = render(text, &marks, 80, 8, Style::COLOURED);
        assert_eq!(
            lines,
            ["use it \x1b[1;4;33moffline\x1b[0m\x1b[4m now\x1b[0m"]
        );
    }

    #[test]
    fn controls_in_a_passage_are_shown_and_not_obeyed() {
        let text = "the \u{1b}[31mkey\u{1b}[0m is red";
        let marks = marks(text, "nothing", &["key"]);
        let plain = render(text, &marks, 80, 8, Style::PLAIN);
        assert_eq!(plain, ["the ␛[31m*key*␛[0m is red"]);
        let coloured = render(text, &marks, 80, 8, Style::COLOURED);
        assert_eq!(coloured, ["the ␛[31m\u{1b}[1;33mkey\u{1b}[0m␛[0m is red"]);
    }

    #[test]
    fn a_long_passage_is_cut_around_the_sentence() {
        let text: String = (0..20).map(|number| format!("line {number}\n\n")).collect();
        let marks = marks(&text, "line 12", &[]);
        let lines = render(&text, &marks, 80, 3, Style::PLAIN);
        assert_eq!(lines, ["…", "line 11", "»line 12«", "line 13", "…"]);
    }

    #[test]
    fn a_long_passage_without_a_sentence_shows_its_beginning() {
        let text = "a\nb\nc\nd\n";
        assert_eq!(
            render(text, &Marks::default(), 80, 2, Style::PLAIN),
            ["a", "b", "…"]
        );
    }
}
