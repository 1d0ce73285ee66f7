//! Speculative decoding by looking up: answers that quote their sources repeat what was read, so
//! the tokens that followed the last ones before are tried, several in one pass.
//!
//! Each token is still chosen from the scores that it would have been chosen from, so an answer is the
//! same as without; what was tried in vain is forgotten.

use super::together::Writing;
use super::{Decoder, Session};
use crate::Result;

/// Tokens that must have come in the same order before.
const KEY: usize = 3;

/// Most tokens to try at a time: each costs products, while the weights are read once for all.
const MOST: usize = 8;

/// An answer's conversation so far, and the tokens that are tried ahead of it.
pub(super) struct Ahead<'a> {
    writing: Writing<'a>,
    /// Everything read and written; empty if nothing is to be looked up.
    known: Vec<u32>,
    is_on: bool,
    tried: Vec<u32>,
    /// The scores after the last token and after each that is tried.
    scores: Vec<f32>,
    /// How many of the tried came true.
    right: usize,
    /// Tokens held before the pass.
    base: usize,
    /// How many to try next time.
    reach: usize,
}

impl<'a> Ahead<'a> {
    /// Nothing tried yet, after `prompt`; `is_on` if anything is to be tried.
    pub(super) fn new(decoder: &'a Decoder, prompt: &[u32], is_on: bool) -> Self {
        Self {
            writing: decoder.together.write(),
            known: if is_on { prompt.to_vec() } else { Vec::new() },
            is_on,
            tried: Vec::new(),
            scores: Vec::new(),
            right: 0,
            base: 0,
            reach: MOST / 2,
        }
    }

    /// The scores after `id`, the answer's next token; at most `room` may follow it.
    pub(super) fn next(
        &mut self,
        decoder: &Decoder,
        session: &mut Session,
        id: u32,
        room: usize,
    ) -> Result<Vec<f32>> {
        if self.is_on {
            self.known.push(id);
        }
        if self.tried.get(self.right) == Some(&id) {
            self.right += 1;
            return Ok(self.scores_now(decoder));
        }
        self.forget(session);
        let most = self.reach.min(room.saturating_sub(1));
        self.tried = repeated(&self.known, most).to_vec();
        self.base = session.ids().len();
        let ids = [&[id][..], &self.tried].concat();
        self.scores = decoder.step_all(Some(&self.writing), session, &ids)?;
        Ok(self.scores_now(decoder))
    }

    fn scores_now(&self, decoder: &Decoder) -> Vec<f32> {
        let width = decoder.vocab_size();
        self.scores[self.right * width..][..width].to_vec()
    }

    /// Leaves in `session` only what the answer has.
    pub(super) fn forget(&mut self, session: &mut Session) {
        if self.tried.is_empty() {
            return;
        }
        if self.right < self.tried.len() {
            session.truncate(self.base + 1 + self.right);
            self.reach = (self.right + 1).min(MOST);
        } else {
            self.reach = MOST;
        }
        self.tried.clear();
        self.right = 0;
    }
}

/// What followed the last [`KEY`] of `known` when they came before, at most `most` tokens.
fn repeated(known: &[u32], most: usize) -> &[u32] {
    let Some(key) = known.len().checked_sub(KEY).filter(|start| *start > 0) else {
        return &[];
    };
    let found = known[..known.len() - 1]
        .windows(KEY)
        .rposition(|window| window == &known[key..]);
    let Some(found) = found else { return &[] };
    let follows = &known[found + KEY..];
    &follows[..most.min(follows.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_is_found_the_latest_first() {
        let known = [1, 2, 3, 9, 9, 1, 2, 3, 4, 5, 6, 1, 2, 3];
        assert_eq!(repeated(&known, 8), [4, 5, 6, 1, 2, 3]);
        assert_eq!(repeated(&known, 2), [4, 5]);
        assert!(repeated(&known[..5], 8).is_empty());
        assert_eq!(repeated(&[7, 7, 7, 7], 8), [7]);
        assert!(repeated(&[1, 2, 3], 8).is_empty());
        assert!(repeated(&[], 8).is_empty());
    }
}
