//! The Unigram model: the split of a word into pieces with the largest sum of scores.
//!
//! Viterbi over the characters of a word. Sums are `f64` and ties go to the earlier start, as in
//! the reference implementation, so that the ids are the same to the last one.

use crate::{Error, Result};

use super::pieces::{Found, LONG, Pieces, Prefixes, char_len};

/// How much worse than the worst piece a character is that no piece covers (sentencepiece's
/// `kUnkPenalty`).
const UNK_PENALTY: f64 = 10.0;
/// A word longer than this many bytes is settled in segments, cut where no piece reaches across,
/// so that the working memory stays in the cache.
const SEGMENT: usize = 512;

/// Pieces with scores, and the token for what they do not cover.
pub(super) struct Unigram {
    pieces: Pieces,
    unk_id: u32,
    unk_score: f64,
}

/// Working memory of [`Unigram::encode_word`].
#[derive(Default)]
pub(super) struct Lattice {
    prefixes: Prefixes,
    nodes: Vec<Node>,
    path: Vec<Node>,
}

/// The best way to reach a position.
#[derive(Clone, Copy)]
struct Node {
    score: f64,
    /// Length of its last piece; 0 as long as the position has not been reached.
    length: u32,
    id: u32,
}

impl Node {
    /// Takes another way here if it is better; of equal ones the first stays.
    #[inline]
    fn improve(&mut self, score: f64, id: u32, length: usize) {
        if self.length == 0 || score > self.score {
            *self = Self {
                score,
                length: length as u32,
                id,
            };
        }
    }
}

const UNREACHED: Node = Node {
    score: 0.0,
    length: 0,
    id: 0,
};

impl Unigram {
    /// A model of `pieces` with scores, in the order of their ids.
    ///
    /// # Errors
    ///
    /// If `unk_id` is no piece, or a score is not a log-probability.
    pub(super) fn new<'a>(
        count: usize,
        pieces: impl Iterator<Item = Result<(&'a [u8], f64)>>,
        unk_id: u32,
    ) -> Result<Self> {
        if unk_id as usize >= count {
            return Err(Error::tokenizer(format!(
                "unknown token has id {unk_id}, expected one of the {count} pieces"
            )));
        }
        let mut worst = f64::INFINITY;
        let checked = pieces.zip(0_u32..).map(|(piece, id)| {
            let (piece, score) = piece?;
            worst = worst.min(score);
            // With positive scores two unknown characters might beat the piece that they form,
            // which the reference then finds again when it looks the pair up.
            if score.is_finite() && score <= 0.0 {
                Ok((piece, score))
            } else {
                Err(Error::tokenizer(format!(
                    "piece {id} has score {score}, expected a log-probability"
                )))
            }
        });
        let pieces = Pieces::new(count, checked)?;
        Ok(Self {
            pieces,
            unk_id,
            unk_score: worst - UNK_PENALTY,
        })
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Passes every token of `word`, which must be UTF-8, with its length in bytes to `emit`.
    /// Neighbouring unknown characters are one token.
    pub(super) fn encode_word(
        &self,
        word: &[u8],
        lattice: &mut Lattice,
        mut emit: impl FnMut(u32, usize),
    ) {
        let mut rest = word;
        let mut score = 0.0;
        let mut unknown = 0;
        while !rest.is_empty() {
            let end = self.forward(rest, score, lattice);
            score = lattice.nodes[end].score;
            lattice.backward(end);
            for node in lattice.path.iter().rev() {
                let length = node.length as usize;
                if node.id == self.unk_id {
                    unknown += length;
                } else {
                    if unknown > 0 {
                        emit(self.unk_id, std::mem::take(&mut unknown));
                    }
                    emit(node.id, length);
                }
            }
            rest = &rest[end..];
        }
        if unknown > 0 {
            emit(self.unk_id, unknown);
        }
    }

    /// Finds the best way to every position up to the end of `text`, or of its first segment,
    /// which it returns.
    fn forward(&self, text: &[u8], score: f64, lattice: &mut Lattice) -> usize {
        let Lattice {
            prefixes, nodes, ..
        } = lattice;
        // Two characters are looked at even if no piece is as long.
        let reach = self.pieces.max_len().max(8);
        let mut known = 0;
        prefixes.clear();
        nodes.clear();
        nodes.push(Node { score, ..UNREACHED });
        let mut position = 0;
        // The furthest end of a piece so far: if it is the position, nothing reaches across.
        let mut furthest = 0;
        while position < text.len() {
            if position >= SEGMENT && position == furthest {
                return position;
            }
            if position + reach > known && known < text.len() {
                let next = text.len().min(position + reach + SEGMENT);
                prefixes.extend(&text[known..next]);
                nodes.resize(next + 1, UNREACHED);
                known = next;
            }
            let (longest, single) = self.relax(text, position, prefixes, nodes);
            furthest = furthest.max(position + longest);
            position += single;
        }
        position
    }

    /// Tries every piece that begins at `position`; returns the length of the longest and of the
    /// character there.
    #[inline]
    fn relax(
        &self,
        text: &[u8],
        position: usize,
        prefixes: &Prefixes,
        nodes: &mut [Node],
    ) -> (usize, usize) {
        let pieces = &self.pieces;
        let here = nodes[position].score;
        let mut attempt = |length: usize| {
            let end = position + length;
            let found = pieces.probe(pieces.span(prefixes, position, end), &text[position..end]);
            if let Some(Found { id, score }) = found {
                nodes[end].improve(here + score, id, length);
            }
            found.is_some()
        };
        let single = char_len(text[position]);
        let covered = attempt(single);
        let remaining = text.len() - position;
        let mut longest = single;
        if remaining > single {
            let two = position + single + char_len(text[position + single]);
            let mut lengths =
                pieces.lengths(pieces.span(prefixes, position, two), remaining, false);
            let long = lengths >> LONG != 0;
            lengths &= !(1 << LONG);
            while lengths != 0 {
                let length = lengths.trailing_zeros() as usize;
                lengths &= lengths - 1;
                if attempt(length) {
                    longest = length;
                }
            }
            if long {
                let limit = remaining.min(pieces.max_len());
                longest = (LONG..=limit)
                    .filter(|&length| attempt(length))
                    .last()
                    .unwrap_or(longest);
            }
        }
        if !covered {
            nodes[position + single].improve(here + self.unk_score, self.unk_id, single);
        }
        (longest, single)
    }
}

impl Lattice {
    /// Leaves the best way to `end`, last piece first, in `path`.
    fn backward(&mut self, end: usize) {
        self.path.clear();
        let mut position = end;
        while position > 0 {
            let node = self.nodes[position];
            self.path.push(node);
            position -= node.length as usize;
        }
    }
}
