//! Texts to measure on where the user brings none: the same ones every time, English and Chinese,
//! of a length in tokens that is asked for.

use wenyi::embed::{EmbedError, Embedder};

/// Everyday words; most are one token for most models, so that lengths come out as asked.
const ENGLISH: [&str; 40] = [
    "the", "river", "runs", "past", "old", "house", "where", "people", "meet", "in", "summer",
    "and", "talk", "about", "work", "music", "food", "their", "children", "a", "long", "road",
    "leads", "from", "city", "to", "small", "town", "with", "green", "fields", "around", "it",
    "every", "morning", "train", "brings", "news", "books", "bread",
];
const CHINESE: [&str; 20] = [
    "河流",
    "经过",
    "老房子",
    "夏天",
    "人们",
    "在这里",
    "见面",
    "谈论",
    "工作",
    "音乐",
    "和",
    "孩子",
    "一条",
    "长长的",
    "路",
    "从城市",
    "通向",
    "小镇",
    "每天早上",
    "火车",
];

/// Makes texts; the same seed makes the same texts.
pub(super) struct Generator<'a> {
    embedder: &'a dyn Embedder,
    state: u64,
    made: u64,
}

impl<'a> Generator<'a> {
    pub(super) fn new(embedder: &'a dyn Embedder) -> Self {
        Self {
            embedder,
            state: 0x9e37_79b9_7f4a_7c15,
            made: 0,
        }
    }

    /// The shortest text of at least `tokens` tokens, special ones included, or the longest that the
    /// model takes. Every fourth text is Chinese.
    pub(super) fn text(&mut self, tokens: usize) -> Result<String, EmbedError> {
        let tokens = tokens.min(self.embedder.max_length().saturating_sub(1));
        let is_chinese = self.made % 4 == 3;
        self.made += 1;
        let mut text = String::new();
        while self.embedder.count_tokens(&text)? < tokens {
            if is_chinese {
                text.push_str(self.one_of(&CHINESE));
            } else {
                text.push_str(if text.is_empty() { "" } else { " " });
                text.push_str(self.one_of(&ENGLISH));
            }
        }
        Ok(text)
    }

    /// Sentences of 8 to 28 tokens, as people write them.
    pub(super) fn sentences(&mut self, count: usize) -> Result<Vec<String>, EmbedError> {
        (0..count)
            .map(|_| {
                let length = 8 + self.next(21);
                self.text(length)
            })
            .collect()
    }

    /// Passages of 256 tokens.
    pub(super) fn passages(&mut self, count: usize) -> Result<Vec<String>, EmbedError> {
        (0..count).map(|_| self.text(256)).collect()
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.next(words.len())]
    }

    /// A number below `bound`: xorshift64 (Marsaglia 2003), enough to mix words.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below a usize"
    )]
    fn next(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % bound as u64) as usize
    }
}
