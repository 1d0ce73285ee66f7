//! Tokens, counted as the provider counts them, or estimated where its tokenizer is not to be had.

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

/// A tokenizer that a provider's models use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenizer {
    /// OpenAI's embedding models and GPT-4.
    Cl100k,
    /// GPT-4o and later.
    O200k,
    /// Qwen's vocabulary was grown from cl100k by Chinese and other words, with every digit a token
    /// of its own (Qwen technical report, arXiv 2309.16609, section 2.2). So cl100k's count with
    /// digits counted one by one is, but for rare texts, not below Qwen's. For other models it is
    /// a guess.
    QwenEstimate,
}

impl Tokenizer {
    /// By the name that settings and the table use.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "cl100k" => Some(Self::Cl100k),
            "o200k" => Some(Self::O200k),
            "qwen-estimate" => Some(Self::QwenEstimate),
            _ => None,
        }
    }

    /// True if the provider may count differently.
    pub(crate) fn is_estimate(self) -> bool {
        self == Self::QwenEstimate
    }

    /// Tokens of `text`.
    pub(crate) fn count(self, text: &str) -> usize {
        let tokens = self.bpe().encode_ordinary(text).len();
        match self {
            Self::QwenEstimate => tokens.max(1) + self.more_digits(text),
            _ => tokens,
        }
    }

    /// Tokens that a prompt adds; none if there is none.
    pub(crate) fn count_prompt(self, prompt: &str) -> usize {
        if prompt.is_empty() {
            0
        } else {
            self.count(prompt)
        }
    }

    /// Cuts `text` into windows of at most `limit` tokens each, at ends of characters; one window if
    /// it fits.
    pub(crate) fn windows(self, text: &str, limit: usize) -> Vec<&str> {
        let mut windows = Vec::new();
        let mut rest = text;
        while self.count(rest) > limit {
            let end = self.longest_start(rest, limit);
            windows.push(&rest[..end]);
            rest = &rest[end..];
        }
        if !rest.is_empty() || windows.is_empty() {
            windows.push(rest);
        }
        windows
    }

    /// Bytes of the longest start of `text`, about, that has at most `limit` tokens; one character
    /// at least.
    fn longest_start(self, text: &str, limit: usize) -> usize {
        // More than 16 bytes a token are rare, so this bounds the work on a very long text.
        let mut end = floor(text, limit.saturating_mul(16).min(text.len()));
        let first = text.chars().next().map_or(0, char::len_utf8);
        loop {
            let tokens = self.count(&text[..end]);
            if tokens <= limit || end <= first {
                return end.max(first);
            }
            // In proportion, and a little less, so that few rounds suffice.
            let guess = end * limit / tokens;
            end = floor(text, guess.min(end - 1).max(first));
        }
    }

    /// Digits beyond the first of each group of up to three, which cl100k makes one token.
    fn more_digits(self, text: &str) -> usize {
        let mut more = 0;
        let mut run = 0;
        for c in text.chars() {
            run = if c.is_numeric() { run + 1 } else { 0 };
            more += usize::from(run % 3 != 1 && run > 0);
        }
        more
    }

    fn bpe(self) -> &'static CoreBPE {
        match self {
            Self::Cl100k | Self::QwenEstimate => cl100k_base_singleton(),
            Self::O200k => o200k_base_singleton(),
        }
    }
}

/// The nearest end of a character at or before `index`.
fn floor(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_those_of_the_models() {
        // From OpenAI's cookbook on counting tokens.
        assert_eq!(Tokenizer::Cl100k.count("tiktoken is great!"), 6);
        assert_eq!(Tokenizer::Cl100k.count(""), 0);
        assert_eq!(Tokenizer::Cl100k.count("杏"), 2);
        assert_eq!(Tokenizer::QwenEstimate.count("123456"), 6);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "杏".repeat(600);
        let windows = Tokenizer::Cl100k.windows(&text, 101);
        assert!(
            windows
                .iter()
                .all(|window| Tokenizer::Cl100k.count(window) <= 101)
        );
        assert!(windows.len() <= 13, "{}", windows.len());
        assert_eq!(windows.concat(), text);
    }

    proptest! {
        #[test]
        fn windows_are_the_text(text in "[a-z0-9 杏你好\u{1f600}]{0,200}", limit in 4_usize..20) {
            for tokenizer in [Tokenizer::Cl100k, Tokenizer::QwenEstimate] {
                let windows = tokenizer.windows(&text, limit);
                prop_assert_eq!(windows.concat(), text.as_str());
                for window in windows {
                    prop_assert!(tokenizer.count(window) <= limit);
                }
            }
        }
    }
}
