//! The words that a question and a passage have in common.
//!
//! English (and other spaced) words are compared in lower case without their endings; Chinese,
//! which is written without spaces, by pairs of neighbouring characters. Words that carry no
//! meaning of their own (`the`, `怎样`) are left out.

use std::collections::HashSet;
use std::ops::Range;

use super::sentences::is_cjk;

/// English words without a meaning to look for.
pub(crate) const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "been", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have",
    "he", "her", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "may", "me",
    "my", "no", "not", "of", "on", "or", "our", "s", "she", "should", "so", "t", "than", "that",
    "the", "their", "them", "then", "there", "they", "this", "to", "was", "we", "were", "what",
    "when", "where", "which", "who", "why", "will", "with", "you",
];

/// Chinese words that are cut away before pairs are formed, longest first.
const STOP_PHRASES: &[&str] = &[
    "为什么",
    "怎么样",
    "是不是",
    "有没有",
    "能不能",
    "可不可以",
    "怎样",
    "怎么",
    "什么",
    "如何",
    "哪些",
    "哪个",
    "哪里",
    "可以",
    "我们",
    "你们",
    "他们",
    "这个",
    "那个",
    "一个",
    "以及",
    "或者",
    "但是",
    "因为",
    "所以",
    "如果",
    "请问",
];

/// Chinese characters that join words without being part of one.
const STOP_CHARACTERS: &str = "的了在是和与及或吗呢吧啊把被让对从到也都就还很这那着";

/// What a question looks for, ready to be found in passages.
#[derive(Clone, Debug, Default)]
pub struct Words {
    stems: HashSet<String>,
    pairs: HashSet<(char, char)>,
    single: HashSet<char>,
}

impl Words {
    /// The words of `question` that carry meaning.
    #[must_use]
    pub fn of(question: &str) -> Self {
        let mut words = Self::default();
        for run in runs(question) {
            let run_text = &question[run.span];
            if run.cjk {
                words.add_cjk(run_text);
            } else if !STOP_WORDS.contains(&run_text.to_lowercase().as_str()) {
                words.stems.insert(stem(run_text));
            }
        }
        words
    }

    /// True if the question has no word that carries meaning.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stems.is_empty() && self.pairs.is_empty() && self.single.is_empty()
    }

    /// Where `text` has words of the question: byte spans in order, neighbouring pairs joined.
    #[must_use]
    pub fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for run in runs(text) {
            if run.cjk {
                self.match_cjk(text, run.span, &mut found);
            } else if self.stems.contains(&stem(&text[run.span.clone()])) {
                found.push(run.span);
            }
        }
        found
    }

    fn add_cjk(&mut self, run: &str) {
        for piece in cjk_pieces(run) {
            let chars: Vec<char> = piece.chars().collect();
            if let [only] = chars[..] {
                self.single.insert(only);
            }
            self.pairs
                .extend(chars.windows(2).map(|pair| (pair[0], pair[1])));
        }
    }

    fn match_cjk(&self, text: &str, span: Range<usize>, found: &mut Vec<Range<usize>>) {
        let mut previous: Option<(usize, char)> = None;
        for (offset, c) in text[span.clone()].char_indices() {
            let (start, end) = (span.start + offset, span.start + offset + c.len_utf8());
            let pair = previous.filter(|&(_, before)| self.pairs.contains(&(before, c)));
            let matched = pair
                .map(|(at, _)| at)
                .or(self.single.contains(&c).then_some(start));
            if let Some(matched) = matched {
                match found.last_mut() {
                    Some(last) if last.end >= matched => last.end = end,
                    _ => found.push(matched..end),
                }
            }
            previous = Some((start, c));
        }
    }
}

/// What is left of a run of ideographs without the words that carry no meaning.
pub(crate) fn cjk_pieces(run: &str) -> impl Iterator<Item = &str> {
    let mut pieces = vec![run];
    for phrase in STOP_PHRASES {
        pieces = pieces
            .into_iter()
            .flat_map(|piece| piece.split(phrase))
            .collect();
    }
    pieces
        .into_iter()
        .flat_map(|piece| piece.split(|c| STOP_CHARACTERS.contains(c)))
}

/// Every stem and pair of `text`, for an embedder that counts them.
#[cfg(test)]
pub(super) fn keys(text: &str) -> Vec<String> {
    let words = Words::of(text);
    let pairs = words.pairs.iter().map(|(a, b)| format!("{a}{b}"));
    words.stems.iter().cloned().chain(pairs).collect()
}

/// A run of letters and digits of one kind of script.
pub(crate) struct Run {
    pub(crate) span: Range<usize>,
    /// Ideographs, which are written without spaces.
    pub(crate) cjk: bool,
}

/// Maximal runs of letters and digits, ideographs and other scripts apart.
pub(crate) fn runs(text: &str) -> impl Iterator<Item = Run> + '_ {
    let class = |c: char| c.is_alphanumeric().then(|| is_cjk(c));
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c| class(c).is_some())?;
        let cjk = text[start..].chars().next().is_some_and(is_cjk);
        let length = text[start..].find(|c| class(c) != Some(cjk));
        at = length.map_or(text.len(), |length| start + length);
        Some(Run {
            span: start..at,
            cjk,
        })
    })
}

/// The word in lower case without its English ending. Two forms of one word should meet; that the
/// result is a word is not asked.
pub(crate) fn stem(word: &str) -> String {
    let mut stem = word.to_lowercase();
    if !stem.is_ascii() || stem.len() <= 3 {
        return stem;
    }
    if stem.ends_with("ies") {
        stem.truncate(stem.len() - 3);
        stem.push('i');
        return stem;
    }
    if stem.ends_with('s')
        && !stem.ends_with("ss")
        && !stem.ends_with("us")
        && !stem.ends_with("is")
    {
        stem.pop();
    }
    for ending in ["ing", "ed", "er", "ly"] {
        let base = stem.len().saturating_sub(ending.len());
        if base >= 3
            && stem.ends_with(ending)
            && stem[..base].contains(['a', 'e', 'i', 'o', 'u', 'y'])
        {
            stem.truncate(base);
            undouble(&mut stem);
            break;
        }
    }
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    } else if stem.len() > 2 && stem.ends_with('y') {
        stem.pop();
        stem.push('i');
    }
    stem
}

/// `runn` to `run`; `call`, `pass` and `buzz` keep both.
fn undouble(stem: &mut String) {
    let bytes = stem.as_bytes();
    if let [.., a, b] = bytes
        && a == b
        && !b"lsz".contains(b)
    {
        stem.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched<'a>(question: &str, text: &'a str) -> Vec<&'a str> {
        Words::of(question)
            .matches(text)
            .into_iter()
            .map(|span| &text[span])
            .collect()
    }

    #[test]
    fn english_words_meet_in_other_forms() {
        assert_eq!(
            matched(
                "How does it index the cached files?",
                "Indexing a file: indexes, Cache, the"
            ),
            ["Indexing", "file", "indexes", "Cache"]
        );
        assert_eq!(
            matched("running libraries", "a library runs; it ran"),
            ["library", "runs"]
        );
    }

    #[test]
    fn chinese_words_meet_by_pairs() {
        assert_eq!(
            matched(
                "怎样在没有网络的机器上使用？",
                "没有网络时，机器也能使用模型。的在"
            ),
            ["没有网络", "机器", "使用"]
        );
        assert_eq!(matched("猫和GPU", "一只猫在GPU上"), ["猫", "GPU"]);
    }

    #[test]
    fn a_question_of_stop_words_matches_nothing() {
        assert!(Words::of("what is the 的 ?!").is_empty());
        assert_eq!(
            matched("what is the", "what is the answer"),
            Vec::<&str>::new()
        );
    }

    proptest::proptest! {
        #[test]
        fn matches_are_ordered_and_on_boundaries(question in "\\PC{0,20}", text in "\\PC{0,60}") {
            let mut end = 0;
            for span in Words::of(&question).matches(&text) {
                assert!(span.start >= end && !text[span.clone()].is_empty());
                end = span.end;
            }
        }
    }
}
