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
            let word = &question[run.span];
            if run.cjk {
                cjk_pieces(word).for_each(|piece| terms.add_ideographs(piece));
            } else if !STOP_WORDS.contains(&word.to_lowercase().as_str()) {
                let key = terms.key(Key::Stem(stem(word)));
                terms.add(vec![key], false);
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
            self.add(keys, true);
        }
    }

    /// A single ideograph says too little to be looked for: it has no pair.
    fn add(&mut self, keys: Vec<usize>, is_ideograph: bool) {
        if !keys.is_empty() {
            self.terms.push(Term { keys, is_ideograph });
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

    /// The share of the question, by the rarity of its words among `candidates`, that the first
    /// `num_passages` of them speak of. `None` if it has no words that they could have: none that
    /// carry meaning, or words of another language.
    pub(super) fn coverage(&self, candidates: &[String], num_passages: usize) -> Option<f32> {
        /// Less than one word that is rare.
        const LEAST_WEIGHT: f32 = 1.0;
        let languages = Languages::of(candidates);
        let found: Vec<Vec<bool>> = candidates.iter().map(|text| self.found_in(text)).collect();
        let passages = &found[..num_passages.min(found.len())];
        let (mut covered, mut total) = (0.0, 0.0);
        let (mut any_word, mut all_covered) = (false, true);
        for term in &self.terms {
            if !languages.may_have(term) {
                continue;
            }
            let rarity =
                |key: &usize| rarity(found.iter().filter(|f| f[*key]).count(), found.len());
            let mut weight = term.keys.iter().map(rarity).fold(f32::INFINITY, f32::min);
            if term.is_ideograph {
                // Words have about two.
                weight /= 2.0;
            }
            total += weight;
            any_word |= !term.is_ideograph;
            let has = |found: &Vec<bool>| term.keys.iter().any(|key| found[*key]);
            match passages.iter().any(has) {
                true => covered += weight,
                false => all_covered = false,
            }
        }
        match total >= LEAST_WEIGHT {
            true => Some(covered / total),
            // "What is ownership?" in a book on it: a word that all near passages have weighs next to
            // nothing, and they speak of nothing else.
            false => (any_word && all_covered).then_some(1.0),
        }
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
        Terms::of(question).coverage(&passages, 1)
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
    fn a_question_without_words_has_no_coverage() {
        assert_eq!(coverage("Why is it so?", &["Because."]), None);
        assert_eq!(coverage("？？", &["Because."]), None);
    }
}
