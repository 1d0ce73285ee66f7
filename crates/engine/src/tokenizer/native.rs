//! The tokenizers that are our own: exact like the `tokenizers` crate, but quick to open and to run.

use std::cell::RefCell;

use tokenizers::{Decoder, DecoderWrapper};

use crate::{Error, Result};

use super::added::{AddedToken, AddedTokens, Section};
use super::bert::BertText;
use super::bpe::{Bpe, MergeQueue};
use super::charsmap::Charsmap;
use super::metaspace::{self, Spaces, Words};
use super::pieces::Pieces;
use super::unigram::{Lattice, Unigram};
use super::wordpiece::{Split, WordPiece};
use super::{AddedWord, Offsets};

/// A tokenizer of our own.
pub(super) struct Native {
    pub(super) added: AddedTokens,
    pub(super) model: Model,
    pub(super) decoder: Option<DecoderWrapper>,
}

/// Splits a word into tokens, with working memory of its own.
trait WordModel {
    /// Passes every token of `word` with its length in bytes to `emit`.
    fn tokens(&mut self, word: &[u8], emit: impl FnMut(u32, usize));
}

impl WordModel for (&Unigram, &mut Lattice) {
    #[inline]
    fn tokens(&mut self, word: &[u8], emit: impl FnMut(u32, usize)) {
        self.0.encode_word(word, self.1, emit);
    }
}

impl WordModel for (&WordPiece, &mut Split) {
    #[inline]
    fn tokens(&mut self, word: &[u8], emit: impl FnMut(u32, usize)) {
        self.0.encode_word(word, self.1, emit);
    }
}

/// How text between added tokens is split.
pub(super) enum Model {
    /// sentencepiece's Unigram, as XLM-RoBERTa and T5 have it.
    Unigram {
        charsmap: Charsmap,
        spaces: Spaces,
        unigram: Unigram,
    },
    /// BERT's WordPiece.
    WordPiece {
        text: BertText,
        wordpiece: WordPiece,
    },
    /// sentencepiece's BPE, as Llama-2 and Gemma have it.
    Bpe(Bpe),
}

impl Model {
    pub(super) fn pieces(&self) -> &Pieces {
        match self {
            Self::Unigram { unigram, .. } => unigram.pieces(),
            Self::WordPiece { wordpiece, .. } => wordpiece.pieces(),
            Self::Bpe(bpe) => bpe.pieces(),
        }
    }
}

/// Working memory of a thread, kept from text to text.
#[derive(Default)]
struct Scratch {
    lattice: Lattice,
    buffer: metaspace::Buffer,
    queue: MergeQueue,
    split: Split,
}

/// Longer texts, in bytes, do not leave their working memory behind.
const KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Native {
    pub(super) fn name(&self) -> &'static str {
        match self.model {
            Model::Unigram { .. } => "unigram",
            Model::WordPiece { .. } => "wordpiece",
            Model::Bpe(_) => "bpe",
        }
    }

    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        with_scratch(text, |scratch| {
            self.added.sections(text, |section| match section {
                Section::Token(id, ..) => ids.push(id),
                Section::Text(start, end) => {
                    self.encode_section(&text[start..end], None, scratch, &mut |id, _| {
                        ids.push(id);
                    });
                }
            });
        });
    }

    pub(super) fn encode_with_offsets(&self, text: &str) -> (Vec<u32>, Vec<Offsets>) {
        let (mut ids, mut offsets) = (Vec::new(), Vec::new());
        let mut emit = |id, range| {
            ids.push(id);
            offsets.push(range);
        };
        with_scratch(text, |scratch| {
            self.added.sections(text, |section| match section {
                Section::Token(id, start, end) => emit(id, (start, end)),
                Section::Text(start, end) => {
                    self.encode_section(&text[start..end], Some(start), scratch, &mut emit);
                }
            });
        });
        (ids, offsets)
    }

    /// Passes on the tokens of a text without added tokens, with their ranges if the place of the
    /// text is given.
    fn encode_section(
        &self,
        text: &str,
        base: Option<usize>,
        scratch: &mut Scratch,
        emit: &mut impl FnMut(u32, Offsets),
    ) {
        let Scratch {
            lattice,
            buffer,
            queue,
            split,
        } = scratch;
        let traced = base.is_some();
        let base = base.unwrap_or(0);
        match &self.model {
            Model::Unigram {
                charsmap,
                spaces,
                unigram,
            } => {
                let mut words = EachWord {
                    model: (unigram, lattice),
                    base,
                    emit,
                };
                metaspace::split(text, charsmap, *spaces, traced, buffer, &mut words);
            }
            Model::WordPiece {
                text: switches,
                wordpiece,
            } => {
                let mut words = EachWord {
                    model: (wordpiece, split),
                    base,
                    emit,
                };
                switches.split(text, traced, buffer, &mut words);
            }
            Model::Bpe(bpe) => {
                bpe.encode(text, queue, |id, (start, end)| {
                    emit(id, (base + start, base + end));
                });
            }
        }
    }

    pub(super) fn vocab_size(&self) -> usize {
        let added = self.added.largest_id().map_or(0, |id| id as usize + 1);
        self.model.pieces().len().max(added)
    }

    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        let added = self.added.find(token).map(|token| token.id);
        added.or_else(|| {
            self.model
                .pieces()
                .find(token.as_bytes())
                .map(|found| found.id)
        })
    }

    pub(super) fn id_to_token(&self, id: u32) -> Option<String> {
        let added = self.added.get(id).map(|token| token.content.clone());
        added.or_else(|| {
            self.model
                .pieces()
                .get(id)
                .map(|piece| String::from_utf8_lossy(piece).into_owned())
        })
    }

    pub(super) fn added_words(&self) -> Vec<AddedWord> {
        let tokens = self.added.all().iter();
        let word = |token: &AddedToken| AddedWord {
            id: token.id,
            text: token.content.clone(),
            is_special: token.special,
        };
        tokens.map(word).collect()
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let keep = |id: &u32| !skip_special || !self.added.get(*id).is_some_and(|t| t.special);
        let tokens: Vec<_> = ids
            .iter()
            .copied()
            .filter(keep)
            .filter_map(|id| self.id_to_token(id))
            .collect();
        match &self.decoder {
            Some(decoder) => decoder
                .decode(tokens)
                .map_err(|error| Error::tokenizer(error.to_string())),
            None => Ok(tokens.join(" ")),
        }
    }
}

fn with_scratch(text: &str, run: impl FnOnce(&mut Scratch)) {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            run(&mut scratch);
            if text.len() > KEPT {
                *scratch = Scratch::default();
            }
        }
        Err(_) => run(&mut Scratch::default()),
    });
}

/// Passes on the tokens of each word.
struct EachWord<'a, M, F> {
    model: M,
    /// Where the text begins that the sources count from.
    base: usize,
    emit: &'a mut F,
}

impl<M: WordModel, F: FnMut(u32, Offsets)> Words for EachWord<'_, M, F> {
    #[inline]
    fn word(&mut self, word: &[u8], sources: &[Offsets]) {
        let Self { model, base, emit } = self;
        let mut at = 0;
        model.tokens(word, |id, length| {
            let source = |index: usize| sources.get(index).copied().unwrap_or_default();
            emit(
                id,
                (*base + source(at).0, *base + source(at + length - 1).1),
            );
            at += length;
        });
    }
}
