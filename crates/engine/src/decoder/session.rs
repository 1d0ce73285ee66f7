//! A conversation: its tokens, and their keys and values.

use std::sync::PoisonError;

use super::together::{Request, Writing};
use super::{Decoder, Work};
use crate::kernels::rows::{Rows, padded};
use crate::transformer::cache::KvCache;
use crate::transformer::{Batch, Hidden, Reading};
use crate::{Error, ErrorKind, Result};

/// New tokens that go through the model at a time: enough that each weight read is used hundreds of
/// times, few enough that activations stay in cache and memory stays bounded.
const CHUNK: usize = 512;

/// As [`CHUNK`] while answers are being written, which wait for each chunk.
const SMALL_CHUNK: usize = 128;

/// One conversation with a [`Decoder`]; what it has read is not read again.
#[derive(Debug)]
pub struct Session {
    cache: KvCache,
    /// The tokens whose keys and values are kept.
    ids: Vec<u32>,
}

impl Session {
    /// The tokens that the model has read.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cache.capacity()
    }

    /// Takes over the first `length` tokens of `other`, a conversation with the same model that has
    /// at least so many, instead of reading them again.
    ///
    /// # Panics
    ///
    /// If `other` has fewer tokens, or another capacity.
    pub fn copy_beginning(&mut self, other: &Session, length: usize) {
        self.cache.copy_beginning(&other.cache, length);
        self.ids.clear();
        self.ids.extend_from_slice(&other.ids[..length]);
    }

    /// The keys and values, which the session is without until it gets them back.
    pub(super) fn take_cache(&mut self) -> KvCache {
        std::mem::take(&mut self.cache)
    }

    /// What [`Session::take_cache`] took, with `ids` more tokens.
    pub(super) fn give_back(&mut self, cache: KvCache, ids: &[u32]) {
        self.cache = cache;
        self.ids.extend_from_slice(ids);
    }

    /// Forgets all tokens from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.cache.truncate(length);
        self.ids.truncate(length);
    }
}

impl Decoder {
    /// An empty conversation of at most `tokens` tokens; its memory is [`Decoder::session_bytes`].
    ///
    /// # Errors
    ///
    /// If `tokens` is 0 or above the model's context.
    pub fn session(&self, tokens: usize) -> Result<Session> {
        if tokens == 0 || tokens > self.context {
            let (value, expected) = (tokens.to_string(), format!("1 to {}", self.context));
            return Err(ErrorKind::Option {
                option: "session",
                value,
                expected,
            }
            .into());
        }
        Ok(Session {
            cache: KvCache::new(&self.transformer, tokens, self.cache_format),
            ids: Vec::new(),
        })
    }

    /// Bytes of the keys and values of a conversation of `tokens` tokens.
    #[must_use]
    pub fn session_bytes(&self, tokens: usize) -> usize {
        self.transformer.cache_bytes(tokens, self.cache_format)
    }

    /// Makes `session` hold all of `ids` but what it must read again, given that the conversation
    /// will grow to `total` tokens; returns how many of `ids` it holds. The last is never held, so
    /// that there are scores to read.
    ///
    /// # Errors
    ///
    /// If `ids` is empty, or the session has no room for `total` tokens.
    pub fn resume(&self, session: &mut Session, ids: &[u32], total: usize) -> Result<usize> {
        let total = total.max(ids.len());
        if ids.is_empty() || total > session.capacity() {
            return Err(ErrorKind::ContextLength {
                tokens: total,
                context: session.capacity(),
            }
            .into());
        }
        session.cache.plan(&self.transformer, total);
        session.ids.truncate(session.cache.length());
        let common = session.ids.iter().zip(ids);
        let common = common.take_while(|(held, id)| held == id).count();
        session.truncate(common.min(ids.len() - 1));
        Ok(session.ids.len())
    }

    /// Reads `ids` after what `session` holds; the scores of the token that follows,
    /// `[vocab_size]`.
    ///
    /// # Errors
    ///
    /// If `ids` is empty, an id is not in the vocabulary, or the session is full.
    pub fn read(&self, session: &mut Session, ids: &[u32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        let size = if self.together.is_busy() {
            SMALL_CHUNK
        } else {
            CHUNK
        };
        for (index, chunk) in ids.chunks(size).enumerate() {
            let is_last = (index + 1) * size >= ids.len();
            let rows = if is_last {
                chunk.len() - 1..chunk.len()
            } else {
                0..0
            };
            logits = self.pass(session, chunk, rows)?;
        }
        self.must_hold(session, ids)?;
        Ok(logits)
    }

    /// The scores of the token that follows `id`, the next token of an answer, `[vocab_size]`.
    ///
    /// # Errors
    ///
    /// As [`Decoder::read`].
    pub fn step(&self, session: &mut Session, id: u32) -> Result<Vec<f32>> {
        self.step_all(None, session, &[id])
    }

    /// The scores after each of `ids`, the next tokens of an answer, `[ids, vocab_size]`. Steps of
    /// several answers at a time are taken together.
    pub(super) fn step_all(
        &self,
        writing: Option<&Writing<'_>>,
        session: &mut Session,
        ids: &[u32],
    ) -> Result<Vec<f32>> {
        self.must_take(session, ids)?;
        self.together.step(self, writing, session, ids)
    }

    fn must_hold(&self, session: &Session, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(ErrorKind::ContextLength {
                tokens: session.ids.len(),
                context: session.capacity(),
            }
            .into());
        }
        Ok(())
    }

    /// As [`Decoder::read`], with the scores after every one of `ids`, `[ids, vocab_size]`.
    ///
    /// # Errors
    ///
    /// As [`Decoder::read`].
    pub fn read_all(&self, session: &mut Session, ids: &[u32]) -> Result<Vec<f32>> {
        let mut logits = Vec::with_capacity(ids.len() * self.vocab_size());
        for chunk in ids.chunks(CHUNK) {
            logits.extend(self.pass(session, chunk, 0..chunk.len())?);
        }
        Ok(logits)
    }

    /// Takes one chunk of a prompt through the model; the scores of its tokens `rows`.
    fn pass(
        &self,
        session: &mut Session,
        ids: &[u32],
        rows: std::ops::Range<usize>,
    ) -> Result<Vec<f32>> {
        self.must_take(session, ids)?;
        self.together.give_way();
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work {
            scratch,
            head_input,
        } = &mut *work;
        let mut batch = Batch::default();
        batch.push_after(session.cache.length(), ids);
        let caches = &mut [&mut session.cache];
        let hidden = self.transformer.forward_cached(
            &self.team,
            (&batch, Reading::Prompt),
            caches,
            scratch,
            &self.alone,
        )?;
        session.ids.extend_from_slice(ids);
        Ok(self.score(&hidden, rows, head_input))
    }

    /// Takes the next tokens of several answers through the model; the scores after each, one list
    /// for each request.
    pub(super) fn answer(&self, requests: &mut [Request]) -> Vec<Result<Vec<f32>>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work {
            scratch,
            head_input,
        } = &mut *work;
        let mut batch = Batch::default();
        for request in &*requests {
            batch.push_after(request.cache.length(), &request.ids);
        }
        let lengths: Vec<usize> = requests.iter().map(|request| request.ids.len()).collect();
        let mut caches: Vec<_> = requests.iter_mut().map(|one| &mut one.cache).collect();
        let hidden = self.transformer.forward_cached(
            &self.team,
            (&batch, Reading::Answer),
            &mut caches,
            scratch,
            &self.alone,
        );
        let hidden = match hidden {
            Ok(hidden) => hidden,
            Err(error) => {
                // Reading the token table failed, which it will again for whoever tries.
                let reason = error.to_string();
                let failure = |_| Err(Error::invalid(self.transformer.path(), &reason));
                return lengths.into_iter().map(failure).collect();
            }
        };
        let scores = self.score(&hidden, 0..batch.num_tokens(), head_input);
        let mut rest = scores.as_slice();
        let split = lengths.into_iter().map(|length| {
            let (own, others) = rest.split_at(length * self.vocab_size());
            rest = others;
            Ok(own.to_vec())
        });
        split.collect()
    }

    /// Refuses tokens that there is no room for, or that are none.
    fn must_take(&self, session: &Session, ids: &[u32]) -> Result<()> {
        let tokens = session.ids.len() + ids.len();
        let context = session.capacity();
        if tokens > context {
            return Err(ErrorKind::ContextLength { tokens, context }.into());
        }
        let vocab_size = self.vocab_size();
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(ErrorKind::TokenizerMismatch {
                id: *id,
                vocab_size,
            }
            .into()),
        }
    }

    /// The scores after the tokens `rows`, `[rows, vocab_size]`.
    fn score(
        &self,
        hidden: &Hidden<'_>,
        rows: std::ops::Range<usize>,
        input: &mut crate::kernels::linear::InputScratch,
    ) -> Vec<f32> {
        /// Rows scored at a time: a vocabulary of 256k scores takes 1 MB a row.
        const ROWS: usize = 32;
        let (width, vocab) = (self.transformer.config.hidden_size, self.vocab_size());
        let mut logits = Vec::with_capacity(rows.len() * vocab);
        let mut next = rows.start;
        while next < rows.end {
            let block = next..(next + ROWS).min(rows.end);
            let mut from = vec![0.0; block.len() * padded(width)];
            for (row, token) in from.chunks_exact_mut(padded(width)).zip(block.clone()) {
                row[..width].copy_from_slice(hidden.token(token));
            }
            let mut to = vec![0.0; block.len() * padded(vocab)];
            let from = Rows::new(&mut from, block.len(), padded(width));
            let shared = Rows::new(&mut to, block.len(), padded(vocab));
            let lent = input.lend(block.len(), width);
            self.head
                .apply_together(self.isa, &self.team, block.len(), (from, shared), lent);
            for row in to.chunks_exact(padded(vocab)) {
                logits.extend_from_slice(&row[..vocab]);
            }
            next = block.end;
        }
        logits
    }
}
