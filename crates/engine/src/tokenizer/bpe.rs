//! sentencepiece's BPE, as GGUF files of Llama-2, Mistral and Gemma models describe it: pieces with
//! scores, of which the best pair of neighbours merges first, and bytes for what no piece covers.

use std::collections::BinaryHeap;

use crate::{Error, Result};

use super::Offsets;
use super::metaspace::WORD_MARK;
use super::pieces::{Pieces, Prefixes};

/// No neighbour.
const NONE: u32 = u32::MAX;

/// Pieces with scores, and a token for every byte.
pub(super) struct Bpe {
    pieces: Pieces,
    /// By id: whether the token is made by merging (not special, not a byte).
    merges: Vec<bool>,
    /// The tokens `<0x00>` to `<0xFF>`, where there are any.
    bytes: Option<Box<[u32; 256]>>,
    unk_id: u32,
    /// Put a word mark before the text, unless it is empty.
    add_space_prefix: bool,
}

/// Working memory of [`Bpe::encode`].
#[derive(Default)]
pub(super) struct MergeQueue {
    text: Vec<u8>,
    sources: Vec<Offsets>,
    prefixes: Prefixes,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Merge>,
}

/// A stretch of text that is one token so far; `end == start` once it has been merged away.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
}

/// Two neighbours that form a piece: the best score first, then the leftmost.
#[derive(Clone, Copy, PartialEq)]
struct Merge {
    score: f64,
    left: u32,
    right: u32,
    /// Length of both together, to notice that one has changed since.
    length: u32,
}

impl Eq for Merge {}

impl Ord for Merge {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Bpe {
    /// A model of `pieces`; `merges` says of each id whether merging may yield it.
    ///
    /// # Errors
    ///
    /// If `unk_id` is no piece.
    pub(super) fn new(
        pieces: Pieces,
        merges: Vec<bool>,
        unk_id: u32,
        add_space_prefix: bool,
    ) -> Result<Self> {
        if unk_id as usize >= pieces.len() {
            return Err(Error::tokenizer(format!(
                "unknown token has id {unk_id}, expected one of the {} pieces",
                pieces.len()
            )));
        }
        let mut bytes = Box::new([0; 256]);
        let mut complete = true;
        for (byte, id) in bytes.iter_mut().enumerate() {
            match pieces.find(format!("<0x{byte:02X}>").as_bytes()) {
                Some(found) => *id = found.id,
                None => complete = false,
            }
        }
        Ok(Self {
            pieces,
            merges,
            bytes: complete.then_some(bytes),
            unk_id,
            add_space_prefix,
        })
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Passes on the tokens of `text` with the range of bytes that each stands for.
    pub(super) fn encode(
        &self,
        text: &str,
        queue: &mut MergeQueue,
        mut emit: impl FnMut(u32, Offsets),
    ) {
        self.begin(text, queue);
        self.merge(queue);
        let MergeQueue {
            text,
            sources,
            symbols,
            ..
        } = queue;
        let mut unknown: Option<Offsets> = None;
        for symbol in symbols.iter().filter(|symbol| symbol.end > symbol.start) {
            let (start, end) = (symbol.start as usize, symbol.end as usize);
            let range = (sources[start].0, sources[end - 1].1);
            let found = self.pieces.find(&text[start..end]);
            if found.is_none() && self.bytes.is_none() {
                unknown = Some((unknown.map_or(range.0, |range| range.0), range.1));
                continue;
            }
            if let Some(range) = unknown.take() {
                emit(self.unk_id, range);
            }
            match (found, &self.bytes) {
                (Some(found), _) => emit(found.id, range),
                (None, Some(bytes)) => {
                    for &byte in &text[start..end] {
                        emit(bytes[usize::from(byte)], range);
                    }
                }
                (None, None) => {}
            }
        }
        if let Some(range) = unknown {
            emit(self.unk_id, range);
        }
    }

    /// Writes `text` with word marks for spaces, one symbol a character.
    fn begin(&self, text: &str, queue: &mut MergeQueue) {
        let MergeQueue {
            text: marked,
            sources,
            prefixes,
            symbols,
            queue,
        } = queue;
        marked.clear();
        sources.clear();
        symbols.clear();
        queue.clear();
        let mut push = |c: char, source: Offsets| {
            let start = marked.len();
            marked.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            sources.resize(marked.len(), source);
            let index = symbols.len() as u32;
            symbols.push(Symbol {
                start: start as u32,
                end: marked.len() as u32,
                previous: index.wrapping_sub(1),
                next: index + 1,
            });
        };
        if self.add_space_prefix && !text.is_empty() {
            push(WORD_MARK, (0, 0));
        }
        for (at, c) in text.char_indices() {
            push(
                if c == ' ' { WORD_MARK } else { c },
                (at, at + c.len_utf8()),
            );
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        prefixes.clear();
        prefixes.extend(marked);
    }

    fn merge(&self, queue: &mut MergeQueue) {
        for index in 1..queue.symbols.len() as u32 {
            self.offer(queue, index - 1, index);
        }
        while let Some(Merge {
            left,
            right,
            length,
            ..
        }) = queue.queue.pop()
        {
            let (left_symbol, right_symbol) =
                (queue.symbols[left as usize], queue.symbols[right as usize]);
            let stale = left_symbol.start == left_symbol.end
                || left_symbol.next != right
                || right_symbol.end - left_symbol.start != length;
            if stale {
                continue;
            }
            queue.symbols[left as usize].end = right_symbol.end;
            queue.symbols[left as usize].next = right_symbol.next;
            queue.symbols[right as usize].start = right_symbol.end;
            if right_symbol.next != NONE {
                queue.symbols[right_symbol.next as usize].previous = left;
                self.offer(queue, left, right_symbol.next);
            }
            if left_symbol.previous != NONE {
                self.offer(queue, left_symbol.previous, left);
            }
        }
    }

    /// Queues the merge of two neighbours if they form a piece.
    fn offer(&self, queue: &mut MergeQueue, left: u32, right: u32) {
        let start = queue.symbols[left as usize].start as usize;
        let end = queue.symbols[right as usize].end as usize;
        if end - start > self.pieces.max_len() {
            return;
        }
        let hash = self.pieces.span(&queue.prefixes, start, end);
        if let Some(found) = self.pieces.probe(hash, &queue.text[start..end])
            && self
                .merges
                .get(found.id as usize)
                .is_some_and(|&merges| merges)
        {
            let length = (end - start) as u32;
            queue.queue.push(Merge {
                score: found.score,
                left,
                right,
                length,
            });
        }
    }
}
