//! The WordPiece model: the longest piece that a word begins with, again and again.

use crate::{Error, Result};

use super::pieces::{LONG, Pieces, Prefixes, char_len};

/// Pieces that begin a word, pieces that continue one, and the token for all other words.
pub(super) struct WordPiece {
    pieces: Pieces,
    unk_id: u32,
    /// Longer words are unknown.
    max_chars: usize,
}

/// Working memory of [`WordPiece::encode_word`].
#[derive(Default)]
pub(super) struct Split {
    prefixes: Prefixes,
    tokens: Vec<(u32, usize)>,
}

/// What pieces begin with that continue a word.
pub(super) const INSIDE_PREFIX: &str = "##";
/// Longer words are unknown, unless the model says otherwise (BERT's own value).
pub(super) const MAX_WORD_CHARS: usize = 100;

impl WordPiece {
    /// A model of tokens and ids in any order; `None` if ids are shared, are far apart, or a token
    /// has several.
    pub(super) fn of_entries<'a>(
        count: usize,
        entries: impl Iterator<Item = (&'a str, u32)>,
        unk_token: &str,
        max_chars: usize,
    ) -> Option<Self> {
        let limit = count * 2;
        let mut by_id: Vec<Option<&str>> = vec![None; count];
        for (token, id) in entries {
            let id = id as usize;
            if id >= by_id.len() {
                by_id.resize(Some(id + 1).filter(|&length| length <= limit)?, None);
            }
            if by_id[id].replace(token).is_some() {
                return None;
            }
        }
        let pieces = by_id
            .iter()
            .map(|token| Ok((token.unwrap_or_default().as_bytes(), 0.0)));
        let pieces =
            Pieces::with_inside_prefix(INSIDE_PREFIX.as_bytes(), by_id.len(), pieces).ok()?;
        if pieces.is_ambiguous() {
            return None;
        }
        Self::new(pieces, unk_token, max_chars).ok()
    }

    /// A model of `pieces`, which must know their continuation prefix.
    ///
    /// # Errors
    ///
    /// If there is no token `unk_token`.
    pub(super) fn new(pieces: Pieces, unk_token: &str, max_chars: usize) -> Result<Self> {
        let unk_id = pieces
            .find(unk_token.as_bytes())
            .ok_or_else(|| Error::tokenizer(format!("no token `{unk_token}` for unknown words")))?
            .id;
        Ok(Self {
            pieces,
            unk_id,
            max_chars,
        })
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Passes every token of `word` with its length in bytes to `emit`.
    #[inline]
    pub(super) fn encode_word(
        &self,
        word: &[u8],
        split: &mut Split,
        mut emit: impl FnMut(u32, usize),
    ) {
        let too_long = word.len() > self.max_chars
            && word.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() > self.max_chars;
        if too_long {
            return emit(self.unk_id, word.len());
        }
        // Most words are one piece.
        if let Some(found) = self.pieces.find(word) {
            return emit(found.id, word.len());
        }
        let Split { prefixes, tokens } = split;
        prefixes.clear();
        prefixes.extend(word);
        tokens.clear();
        let mut at = 0;
        while at < word.len() {
            let Some((id, length)) = self.longest(word, at, prefixes) else {
                return emit(self.unk_id, word.len());
            };
            tokens.push((id, length));
            at += length;
        }
        for &(id, length) in tokens.iter() {
            emit(id, length);
        }
    }

    /// The longest piece at `at`, and its length.
    fn longest(&self, word: &[u8], at: usize, prefixes: &Prefixes) -> Option<(u32, usize)> {
        let pieces = &self.pieces;
        let inside = at > 0;
        let find = |length: usize| {
            let end = at + length;
            let hash = pieces.span(prefixes, at, end);
            let found = if inside {
                pieces.probe_inside(hash, &word[at..end])
            } else {
                pieces.probe(hash, &word[at..end])
            };
            found.map(|found| (found.id, length))
        };
        let single = char_len(word[at]);
        let remaining = word.len() - at;
        if remaining > single {
            let two = at + single + char_len(word[at + single]);
            let hash = pieces.span(prefixes, at, two);
            let mut lengths = pieces.lengths(hash, remaining, inside);
            if lengths >> LONG != 0 {
                let limit = remaining.min(pieces.max_len());
                if let Some(found) = (LONG..=limit).rev().find_map(find) {
                    return Some(found);
                }
                lengths &= !(1 << LONG);
            }
            while lengths != 0 {
                let length = lengths.ilog2() as usize;
                lengths &= !(1 << length);
                if let Some(found) = find(length) {
                    return Some(found);
                }
            }
        }
        find(single)
    }
}
