//! How much of what a question asks for its passages speak of.
//!
//! A cosine says how near a text is, not whether it answers: the nearest passage of a book on Rust
//! to a question about Kubernetes is still a passage on Rust. What such a question asks for is in no
//! passage, and that shows in its rare words.

use std::collections::HashMap;

use crate::retrieve::words::{STOP_WORDS, cjk_pieces, runs, stem};

/// A word, or two neighbouring ideographs.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum Key {
    Stem(String),
    Pair(char, char),
}

/// A part of the question: a word, or an ideograph with the pairs that it belongs to. An ideograph
/// is found if one of its pairs is, because a pair may straddle two words.
struct Term {
    keys: Vec<usize>,
    is_ideograph: bool,
    /// A word that is written with a capital inside of the sentence, or a number.
    is_name: bool,
}

impl Term {
    fn is_in(&self, found: &[bool]) -> bool {
        self.keys.iter().any(|key| found[*key])
    }
}

/// The words of a question, to be looked for.
pub(super) struct Terms {
    keys: HashMap<Key, usize>,
    terms: Vec<Term>,
}

impl Terms {
    pub(super) fn of(question: &str) -> Self {
        let mut terms = Self {
            keys: HashMap::new(),
            terms: Vec::new(),
        };
        for run in runs(question) {
            let is_first = !question[..run.span.start].contains(char::is_alphanumeric);
            let word = &question[run.span];
            if run.cjk {
                cjk_pieces(word).for_each(|piece| terms.add_ideographs(piece));
            } else if !STOP_WORDS.contains(&word.to_lowercase().as_str()) {
                let key = terms.key(Key::Stem(stem(word)));
                let is_name = word.starts_with(|c: char| c.is_ascii_digit())
                    || !is_first && word.starts_with(char::is_uppercase);
                terms.terms.push(Term {
                    keys: vec![key],
                    is_ideograph: false,
                    is_name,
                });
            }
        }
        terms
    }

    fn add_ideographs(&mut self, piece: &str) {
        let characters: Vec<char> = piece.chars().collect();
        let pairs: Vec<usize> = characters
            .windows(2)
            .map(|pair| self.key(Key::Pair(pair[0], pair[1])))
            .collect();
        for index in 0..characters.len() {
            let before = index.checked_sub(1).and_then(|before| pairs.get(before));
            let keys: Vec<usize> = before
                .into_iter()
                .chain(pairs.get(index))
                .copied()
                .collect();
            // A single ideograph says too little to be looked for: it has no pair.
            if !keys.is_empty() {
                self.terms.push(Term {
                    keys,
                    is_ideograph: true,
                    is_name: false,
                });
            }
        }
    }

    fn key(&mut self, key: Key) -> usize {
        let next = self.keys.len();
        *self.keys.entry(key).or_insert(next)
    }

    /// Which keys `text` has.
    fn found_in(&self, text: &str) -> Vec<bool> {
        let mut found = vec![false; self.keys.len()];
        let mut mark = |key: &Key| {
            if let Some(index) = self.keys.get(key) {
                found[*index] = true;
            }
        };
        for run in runs(text) {
            let word = &text[run.span];
            if run.cjk {
                let pairs = word.chars().zip(word.chars().skip(1));
                pairs.for_each(|(a, b)| mark(&Key::Pair(a, b)));
            } else {
                mark(&Key::Stem(stem(word)));
            }
        }
        found
    }

    /// The question's words as `texts` have them, the passages first.
    pub(super) fn among(&self, texts: &[String]) -> Known<'_> {
        Known {
            terms: self,
            languages: Languages::of(texts),
            found: texts.iter().map(|text| self.found_in(text)).collect(),
        }
    }
}

/// The words of a question, and which texts have them.
pub(super) struct Known<'a> {
    terms: &'a Terms,
    languages: Languages,
    found: Vec<Vec<bool>>,
}

impl Known<'_> {
    /// How much a word tells: its rarity among the texts.
    fn weight(&self, term: &Term) -> f32 {
        let having = |key: &usize| self.found.iter().filter(|found| found[*key]).count();
        let rarities = term
            .keys
            .iter()
            .map(|key| rarity(having(key), self.found.len()));
        let weight = rarities.fold(f32::INFINITY, f32::min);
        // Words have about two ideographs.
        if term.is_ideograph {
            weight / 2.0
        } else {
            weight
        }
    }

    /// The share of the question, by the rarity of its words, that the first `num_passages` of the texts
    /// speak of. `None` if it has no words that they could have: none that carry meaning, or words of
    /// another language.
    pub(super) fn coverage(&self, num_passages: usize) -> Option<f32> {
        /// Less than one word that is rare.
        const LEAST_WEIGHT: f32 = 1.0;
        let passages = &self.found[..num_passages.min(self.found.len())];
        let (mut covered, mut total) = (0.0, 0.0);
        let (mut any_word, mut all_covered) = (false, true);
        let is_there = |term: &Term| passages.iter().any(|found| term.is_in(found));
        let is_literal = self.terms.terms.iter().all(is_there);
        for term in &self.terms.terms {
            let is_there = is_there(term);
            // Words of another language say something only where all stand there after all.
            if !is_literal && !self.languages.may_have(term) {
                continue;
            }
            let weight = self.weight(term);
            total += weight;
            any_word |= !term.is_ideograph;
            if is_there {
                covered += weight;
            } else {
                all_covered = false;
            }
        }
        match total >= LEAST_WEIGHT {
            true => Some(covered / total),
            // "What is ownership?" in a book on it: a word that all near passages have weighs next to
            // nothing, and they speak of nothing else.
            false => (any_word && all_covered).then_some(1.0),
        }
    }

    /// The share of the question, by the rarity of its words, that stands in `text`.
    pub(super) fn share(&self, text: &str) -> f32 {
        let found = self.terms.found_in(text);
        let (mut covered, mut total) = (0.0, 0.0);
        for term in &self.terms.terms {
            let weight = self.weight(term);
            total += weight;
            if term.is_in(&found) {
                covered += weight;
            }
        }
        if total > 0.0 { covered / total } else { 0.0 }
    }

    /// True if the question names something, or a number, that the first `num_passages` of the texts do not
    /// have although they are written in its script.
    pub(super) fn misses_a_name(&self, num_passages: usize) -> bool {
        let passages = &self.found[..num_passages.min(self.found.len())];
        let names = self.terms.terms.iter().filter(|term| term.is_name);
        let mut missed = names.filter(|term| !passages.iter().any(|found| term.is_in(found)));
        self.languages.words && missed.next().is_some()
    }
}

/// Inverse document frequency, as BM25 has it.
#[expect(clippy::cast_precision_loss, reason = "counts of passages")]
fn rarity(having: usize, of: usize) -> f32 {
    let (having, of) = (having as f32, of as f32);
    (1.0 + (of - having + 0.5) / (having + 0.5)).ln()
}

/// Which words the passages are written in.
struct Languages {
    ideographs: bool,
    words: bool,
}

impl Languages {
    fn of(texts: &[String]) -> Self {
        let (mut ideographs, mut words) = (0_usize, 0_usize);
        for run in texts
            .iter()
            .flat_map(|text| runs(text).map(move |run| (run, text)))
        {
            let (run, text) = run;
            if run.cjk {
                ideographs += text[run.span].chars().count();
            } else {
                words += 1;
            }
        }
        // Chinese texts are full of English names, English texts have hardly any Chinese.
        Self {
            ideographs: ideographs * 20 >= words,
            words: words >= ideographs,
        }
    }

    /// True if the passages would have the word if they spoke of the thing.
    fn may_have(&self, term: &Term) -> bool {
        if term.is_ideograph {
            self.ideographs
        } else {
            self.words
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(question: &str, passages: &[&str]) -> Option<f32> {
        let passages: Vec<String> = passages.iter().map(|text| (*text).to_owned()).collect();
        Terms::of(question).among(&passages).coverage(1)
    }

    #[test]
    fn a_question_is_covered_by_its_words_in_any_form() {
        let passages = [
            "The tests that are ignored run alone.",
            "Nothing.",
            "Nothing either.",
        ];
        assert_eq!(
            coverage("How do I run ignored tests?", &passages),
            Some(1.0)
        );
        let half = coverage("How do I run ignored kubernetes?", &passages).unwrap();
        assert!((0.4..0.8).contains(&half), "{half}");
        assert_eq!(coverage("Kubernetes ingress?", &passages), Some(0.0));
    }

    #[test]
    fn chinese_is_covered_by_neighbouring_characters() {
        let passages = [
            "怎样更换密钥：运行命令即可。",
            "办公室在节假日关闭。",
            "备份保留三十天。",
        ];
        assert_eq!(coverage("如何更换密钥？", &passages), Some(1.0));
        assert_eq!(coverage("微信小程序的价格？", &passages), Some(0.0));
        let part = coverage("怎样更换轮胎？", &passages).unwrap();
        assert!((0.3..0.7).contains(&part), "{part}");
    }

    #[test]
    fn words_of_another_language_say_nothing() {
        let chinese = ["用命令 `admin rotate` 更换密钥，旧密钥一天内仍然有效，不需要重新启动。"];
        assert_eq!(coverage("How are the secrets replaced?", &chinese), None);
        // But those that stand there do.
        assert_eq!(coverage("admin rotate", &chinese), Some(1.0));
        assert_eq!(coverage("How do tyres rotate?", &chinese), None);
        let english = ["Keys are rotated with `admin rotate`; the old key stays valid for a day."];
        assert_eq!(coverage("怎样更换密钥？", &english), None);
        assert_eq!(
            coverage("怎样配置 Kubernetes ingress？", &english),
            Some(0.0)
        );
    }

    #[test]
    fn a_word_that_all_passages_have_covers_a_question_without_others() {
        let book = [
            "Ownership is a set of rules.",
            "Ownership moves.",
            "Borrowing lends what ownership keeps.",
        ];
        assert_eq!(coverage("What is ownership?", &book), Some(1.0));
        let last = ["Nothing.", "Ownership moves.", "Of ownership."];
        assert_eq!(coverage("What is ownership?", &last), None);
        // With another word that nothing has, it is the share that counts.
        let share = coverage("Does ownership cost rent?", &book).unwrap();
        assert!(share < 0.2, "{share}");
    }

    #[test]
    fn a_name_or_a_number_that_no_passage_has_is_missed() {
        let misses = |question: &str, passage: &str| {
            let terms = Terms::of(question);
            terms.among(&[passage.to_owned()]).misses_a_name(1)
        };
        let table = "| Country | Allowance |\n| Japan | 55 |";
        assert!(misses("What is the allowance for Italy?", table));
        assert!(!misses("What is the allowance for Japan?", table));
        assert!(!misses("Allowance abroad?", table));
        assert!(misses("What changed in 2031?", table));
        assert!(!misses(
            "What is the allowance for Italy?",
            "意大利的补贴是四十一欧元。"
        ));
    }

    #[test]
    fn a_sentence_has_a_share_of_the_question() {
        let texts = ["Keys are rotated by hand.", "Keys open doors.", "Keys."];
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let terms = Terms::of("How are keys rotated?");
        let known = terms.among(&texts);
        assert!(known.share(&texts[0]) > 0.99);
        assert!(known.share(&texts[1]) < 0.3, "the rare word counts");
        assert!(known.share("Nothing.") < 0.01);
    }

    #[test]
    fn a_question_without_words_has_no_coverage() {
        assert_eq!(coverage("Why is it so?", &["Because."]), None);
        assert_eq!(coverage("？？", &["Because."]), None);
    }
}
