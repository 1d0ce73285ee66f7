//! Tokens that are found in the text before it is normalised: special ones and added words.
//!
//! The rules are those of the `tokenizers` crate: the leftmost match counts, of several there the
//! longest; a match may swallow white space beside it.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Deserialize;

/// A token that is matched in the text itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// All added tokens of a vocabulary; some have thousands.
pub(super) struct AddedTokens {
    tokens: Vec<AddedToken>,
    by_id: HashMap<u32, usize>,
    by_content: HashMap<String, usize>,
    /// By the first byte: the lengths of the tokens that begin with it, longest first.
    lengths: Vec<Vec<usize>>,
    special_as_text: bool,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Ordinary text from one byte to another.
    Text(usize, usize),
    /// A token and the bytes that it stands for.
    Token(u32, usize, usize),
}

impl AddedToken {
    /// True if the token is matched as it is written, which is all that [`AddedTokens`] does.
    pub(super) fn is_literal(&self) -> bool {
        !self.normalized && !self.single_word
    }
}

impl AddedTokens {
    pub(super) fn new(mut tokens: Vec<AddedToken>, special_as_text: bool) -> Self {
        tokens.retain(|token| !token.content.is_empty());
        let mut lengths = vec![Vec::new(); 256];
        for token in &tokens {
            let lengths: &mut Vec<usize> = &mut lengths[usize::from(token.content.as_bytes()[0])];
            if !lengths.contains(&token.content.len()) {
                lengths.push(token.content.len());
            }
        }
        for lengths in &mut lengths {
            lengths.sort_unstable_by_key(|&length| Reverse(length));
        }
        // Of tokens spelled alike the last counts.
        let indices = || tokens.iter().enumerate();
        let by_id = indices().map(|(index, token)| (token.id, index)).collect();
        let by_content = indices()
            .map(|(index, token)| (token.content.clone(), index))
            .collect();
        Self {
            by_id,
            by_content,
            tokens,
            lengths,
            special_as_text,
        }
    }

    /// The token with an id.
    pub(super) fn get(&self, id: u32) -> Option<&AddedToken> {
        self.tokens.get(*self.by_id.get(&id)?)
    }

    /// The token with a spelling.
    pub(super) fn find(&self, content: &str) -> Option<&AddedToken> {
        self.tokens.get(*self.by_content.get(content)?)
    }

    /// All of them.
    pub(super) fn all(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The largest id.
    pub(super) fn largest_id(&self) -> Option<u32> {
        self.tokens.iter().map(|token| token.id).max()
    }

    /// Passes on the parts of `text`, in order and without gaps.
    pub(super) fn sections(&self, text: &str, mut emit: impl FnMut(Section)) {
        // The end of the last match that counted, and where to look for the next.
        let (mut done, mut from) = (0, 0);
        while let Some((token, at)) = self.next(text, from) {
            from = at + token.content.len();
            if self.special_as_text && token.special {
                continue;
            }
            let (mut start, mut end) = (at, from);
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                emit(Section::Text(done, start));
            }
            emit(Section::Token(token.id, start, end));
            done = end;
        }
        if done < text.len() {
            emit(Section::Text(done, text.len()));
        }
    }

    fn next(&self, text: &str, mut from: usize) -> Option<(&AddedToken, usize)> {
        let bytes = text.as_bytes();
        loop {
            let begins = |&byte: &u8| !self.lengths[usize::from(byte)].is_empty();
            from += bytes[from..].iter().position(begins)?;
            let lengths = &self.lengths[usize::from(bytes[from])];
            let at = |&length: &usize| self.find(text.get(from..from + length)?);
            if let Some(token) = lengths.iter().find_map(at) {
                return Some((token, from));
            }
            from += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, content: &str) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            special: id < 10,
            ..AddedToken::default()
        }
    }

    fn sections(tokens: &AddedTokens, text: &str) -> Vec<Section> {
        let mut sections = Vec::new();
        tokens.sections(text, |section| sections.push(section));
        sections
    }

    #[test]
    fn the_longest_token_at_the_leftmost_place_counts() {
        let tokens = AddedTokens::new(
            vec![token(1, "<a"), token(2, "<a>"), token(3, "a>b")],
            false,
        );
        assert_eq!(
            sections(&tokens, "x<a>b<a"),
            [
                Section::Text(0, 1),
                Section::Token(2, 1, 4),
                Section::Text(4, 5),
                Section::Token(1, 5, 7)
            ]
        );
    }

    #[test]
    fn stripping_swallows_the_space_beside_a_token() {
        let mask = AddedToken {
            lstrip: true,
            rstrip: true,
            ..token(5, "<m>")
        };
        let tokens = AddedTokens::new(vec![mask], false);
        assert_eq!(
            sections(&tokens, "a \u{3000}<m> <m>b"),
            [
                Section::Text(0, 1),
                Section::Token(5, 1, 9),
                Section::Token(5, 9, 12),
                Section::Text(12, 13)
            ]
        );
    }

    #[test]
    fn special_tokens_may_be_text_but_added_words_stay() {
        let tokens = AddedTokens::new(vec![token(1, "<s>"), token(20, "word")], true);
        assert_eq!(
            sections(&tokens, "<s>word"),
            [Section::Text(0, 3), Section::Token(20, 3, 7)]
        );
    }
}
