//! A vocabulary that finds its pieces in running text.
//!
//! Pieces lie end to end in one buffer, in the order of their ids. A piece is looked up by a
//! polynomial hash, which of any span of a text follows from two prefix hashes at the cost of one
//! product. So building costs one insertion a piece (a trie would cost one a character, too slow
//! for 250,000 pieces at start-up), and the candidate lengths at a position are independent
//! probes that the CPU overlaps, where a trie walks.

use crate::{Error, Result};

/// Base of the polynomial hash; any odd number with well mixed bits would do.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Spreads a polynomial hash, whose low bits only see low bits, to the top of the word.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;
/// A slot without a piece.
const EMPTY: u32 = 0;
/// Lengths of this many bytes and more share the last bit of a length mask.
pub(super) const LONG: usize = 63;
/// Bits of the index of length masks: 65,536 masks for some 40,000 pairs of characters in the
/// largest vocabularies in use.
const MASK_BITS: u32 = 16;
/// `log2` of the parts of a slot that the filter tells apart.
const FILTER: u32 = 3;
/// Ids take at most this many bits of a slot, so that a hash has at least eight.
const MAX_COUNT_BITS: u32 = 24;
/// The longest piece that the hash serves; real ones have at most some hundred bytes.
const MAX_PIECE: usize = 4096;

/// The pieces of a vocabulary by id, by spelling, and by where they may begin in a text.
pub(super) struct Pieces {
    /// All pieces, end to end.
    bytes: Vec<u8>,
    /// Where each piece begins in `bytes`; one more at the end.
    starts: Vec<u32>,
    /// The score of each piece.
    scores: Vec<f64>,
    /// One more than an id in the low `id_bits`, and above them as much of the hash as has room:
    /// at four bytes a slot, the largest vocabularies stay in the second-level cache.
    slots: Vec<u32>,
    id_bits: u32,
    /// `64 - log2(slots.len())`.
    shift: u32,
    /// One bit for every [`FILTER`]th part of a slot, set if a piece hashes there: small enough for
    /// the cache, it settles fifteen of sixteen probes for what is no piece.
    filter: Vec<u64>,
    /// By the first two characters of a piece: bit `n` is set if such a piece has `n` bytes.
    lengths: Vec<u64>,
    /// The same for pieces inside a word, counted without their prefix.
    inside_lengths: Vec<u64>,
    /// What pieces inside a word begin with (`##`); empty if they look like any other.
    inside: &'static [u8],
    inside_hash: u64,
    /// Some spelling has more than one id.
    ambiguous: bool,
    max_len: usize,
    /// `BASE` to the power of the index.
    powers: Vec<u64>,
}

/// A piece that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) score: f64,
}

/// Hashes of all prefixes of a text; see [`Pieces::span`].
#[derive(Default)]
pub(super) struct Prefixes(Vec<u64>);

impl Prefixes {
    /// Starts over with the empty prefix.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.push(0);
    }

    /// Adds the prefixes that `bytes` leads to.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let mut hash = self.0.last().copied().unwrap_or(0);
        self.0.extend(bytes.iter().map(|&byte| {
            hash = step(hash, byte);
            hash
        }));
    }
}

impl Pieces {
    /// Takes `count` (at most) pieces and scores in the order of their ids. Of equal pieces the last one counts.
    ///
    /// # Errors
    ///
    /// If there is none, or one is too long or there are more bytes than 32 bits can address.
    pub(super) fn new<'a>(
        count: usize,
        pieces: impl Iterator<Item = Result<(&'a [u8], f64)>>,
    ) -> Result<Self> {
        Self::with_inside_prefix(b"", count, pieces)
    }

    /// [`new`](Self::new), with what pieces begin with that occur inside a word only.
    pub(super) fn with_inside_prefix<'a>(
        inside: &'static [u8],
        count: usize,
        pieces: impl Iterator<Item = Result<(&'a [u8], f64)>>,
    ) -> Result<Self> {
        if count >> MAX_COUNT_BITS != 0 {
            return Err(Error::tokenizer(format!(
                "{count} pieces, expected fewer than 2^24"
            )));
        }
        let slots = (count * 2).next_power_of_two().max(16);
        let mut built = Self {
            bytes: Vec::with_capacity(count * 11),
            starts: Vec::with_capacity(count + 1),
            scores: Vec::with_capacity(count),
            slots: vec![EMPTY; slots],
            id_bits: usize::BITS - count.leading_zeros(),
            shift: 64 - slots.trailing_zeros(),
            filter: vec![0; (slots << FILTER) / 64],
            lengths: vec![0; 1 << MASK_BITS],
            inside_lengths: vec![0; if inside.is_empty() { 0 } else { 1 << MASK_BITS }],
            inside,
            inside_hash: inside.iter().fold(0, |hash, &byte| step(hash, byte)),
            ambiguous: false,
            max_len: 0,
            powers: Vec::new(),
        };
        built.starts.push(0);
        for (piece, id) in pieces.zip(0..) {
            let (piece, score) = piece?;
            built.push(id, piece, score)?;
        }
        built.powers = std::iter::successors(Some(1_u64), |power| Some(power.wrapping_mul(BASE)))
            .take(built.max_len + 1)
            .collect();
        Ok(built)
    }

    fn push(&mut self, id: u32, piece: &[u8], score: f64) -> Result<()> {
        if piece.len() > MAX_PIECE {
            return Err(Error::tokenizer(format!(
                "piece {id} has {} bytes, expected at most {MAX_PIECE}",
                piece.len()
            )));
        }
        self.bytes.extend_from_slice(piece);
        self.starts.push(self.end()?);
        self.scores.push(score);
        if piece.is_empty() {
            return Ok(());
        }
        self.max_len = self.max_len.max(piece.len());
        let (two, hash) = hash_piece(piece);
        if let Some(two) = two {
            self.lengths[mask_index(two)] |= 1 << piece.len().min(LONG);
        }
        let inside = Some(self.inside).filter(|inside| !inside.is_empty());
        if let Some(rest) = inside.and_then(|inside| piece.strip_prefix(inside))
            && !rest.is_empty()
            && let Some(two) = hash_piece(rest).0
        {
            self.inside_lengths[mask_index(two)] |= 1 << rest.len().min(LONG);
        }
        let at = self.slot_of(hash, b"", piece);
        self.ambiguous |= self.slots[at] != EMPTY;
        self.slots[at] = self.tag(hash) | (id + 1);
        let part = spread(hash) >> (self.shift - FILTER);
        self.filter[part as usize / 64] |= 1 << (part % 64);
        Ok(())
    }

    fn end(&self) -> Result<u32> {
        u32::try_from(self.bytes.len())
            .map_err(|_| Error::tokenizer("vocabulary has more than 4 GiB of text"))
    }

    /// Number of pieces.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// True if some spelling has more than one id.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Length in bytes of the longest piece.
    pub(super) fn max_len(&self) -> usize {
        self.max_len
    }

    /// The spelling of a piece; `None` for ids without one.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let (&start, &end) = (self.starts.get(id)?, self.starts.get(id + 1)?);
        (start < end).then(|| &self.bytes[start as usize..end as usize])
    }

    /// The piece with a spelling.
    pub(super) fn find(&self, piece: &[u8]) -> Option<Found> {
        if piece.is_empty() {
            return None;
        }
        self.probe(hash_piece(piece).1, piece)
    }

    /// The hash of the bytes from `start` to `end`, which must be at most `max_len` apart.
    #[inline]
    pub(super) fn span(&self, prefixes: &Prefixes, start: usize, end: usize) -> u64 {
        prefixes.0[end].wrapping_sub(prefixes.0[start].wrapping_mul(self.powers[end - start]))
    }

    /// The piece that is exactly `text`, whose hash is `hash`.
    #[inline]
    pub(super) fn probe(&self, hash: u64, text: &[u8]) -> Option<Found> {
        if self.is_filtered(hash) {
            return None;
        }
        self.found(self.slot_of(hash, b"", text))
    }

    /// The piece inside a word that is exactly `text`, whose hash is `hash`.
    #[inline]
    pub(super) fn probe_inside(&self, hash: u64, text: &[u8]) -> Option<Found> {
        let before = self.inside_hash.wrapping_mul(*self.powers.get(text.len())?);
        let hash = before.wrapping_add(hash);
        if self.is_filtered(hash) {
            return None;
        }
        self.found(self.slot_of(hash, self.inside, text))
    }

    /// True if there is surely no piece with that hash.
    #[inline]
    fn is_filtered(&self, hash: u64) -> bool {
        let part = spread(hash) >> (self.shift - FILTER);
        self.filter[part as usize / 64] >> (part % 64) & 1 == 0
    }

    #[inline]
    fn found(&self, at: usize) -> Option<Found> {
        let id = self.id_in(self.slots[at])?;
        Some(Found {
            id,
            score: self.scores[id as usize],
        })
    }

    #[inline]
    fn id_in(&self, slot: u32) -> Option<u32> {
        (slot & ((1 << self.id_bits) - 1)).checked_sub(1)
    }

    /// What a slot has of a hash, in its place.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        // The top of the hash chose the slot; this is from the middle.
        ((spread(hash) >> 16) as u32) << self.id_bits
    }

    /// The slot that holds `prefix` and `piece`, or the empty one where they belong.
    #[inline]
    fn slot_of(&self, hash: u64, prefix: &[u8], piece: &[u8]) -> usize {
        let wanted = self.tag(hash);
        let mut at = (spread(hash) >> self.shift) as usize;
        loop {
            let slot = self.slots[at];
            let Some(id) = self.id_in(slot) else {
                return at;
            };
            if slot >> self.id_bits == wanted >> self.id_bits && self.holds(id, prefix, piece) {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn holds(&self, id: u32, prefix: &[u8], piece: &[u8]) -> bool {
        let id = id as usize;
        let held = &self.bytes[self.starts[id] as usize..self.starts[id + 1] as usize];
        if held.len() != prefix.len() + piece.len() {
            return false;
        }
        let (before, rest) = held.split_at(prefix.len());
        (prefix.is_empty() || before == prefix) && same(rest, piece)
    }

    /// The lengths of at most `limit` that a piece (`inside` a word, without its prefix) may have
    /// whose first two characters hash to `two`: bit `n` stands for `n` bytes, bit [`LONG`] for that many and more.
    #[inline]
    pub(super) fn lengths(&self, two: u64, limit: usize, inside: bool) -> u64 {
        let fitting = if limit < LONG {
            (2 << limit) - 1
        } else {
            u64::MAX
        };
        let lengths = if inside {
            &self.inside_lengths
        } else {
            &self.lengths
        };
        lengths
            .get(mask_index(two))
            .map_or(0, |lengths| lengths & fitting)
    }
}

/// Bytes of the UTF-8 character that begins with `first`.
#[inline]
pub(super) fn char_len(first: u8) -> usize {
    match first {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

#[inline]
fn step(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1)
}

/// The hash of the first two characters, if there are as many, and of the whole.
fn hash_piece(piece: &[u8]) -> (Option<u64>, u64) {
    let first = char_len(piece[0]);
    let two = piece.get(first).map(|&second| first + char_len(second));
    match two.and_then(|two| piece.split_at_checked(two)) {
        Some((start, rest)) => {
            let hash = hash_on(0, start);
            (Some(hash), hash_on(hash, rest))
        }
        None => (None, hash_on(0, piece)),
    }
}

/// [`step`] over all bytes, four at once: one after the other, each would wait for the product of
/// the one before.
fn hash_on(hash: u64, bytes: &[u8]) -> u64 {
    const SQUARE: u64 = BASE.wrapping_mul(BASE);
    const CUBE: u64 = SQUARE.wrapping_mul(BASE);
    const FOURTH: u64 = SQUARE.wrapping_mul(SQUARE);
    let (chunks, rest) = bytes.as_chunks::<4>();
    let hash = chunks.iter().fold(hash, |hash, chunk| {
        let [a, b, c, d] = chunk.map(|byte| u64::from(byte) + 1);
        let sum = a.wrapping_mul(CUBE).wrapping_add(b.wrapping_mul(SQUARE));
        let sum = sum.wrapping_add(c.wrapping_mul(BASE)).wrapping_add(d);
        hash.wrapping_mul(FOURTH).wrapping_add(sum)
    });
    rest.iter().fold(hash, |hash, &byte| step(hash, byte))
}

#[inline]
fn spread(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(SPREAD)
}

#[inline]
fn mask_index(two: u64) -> usize {
    (spread(two) >> (64 - MASK_BITS)) as usize
}

/// Equality of slices of the same, mostly small, length; a call of `memcmp` costs more.
#[inline]
fn same(left: &[u8], right: &[u8]) -> bool {
    let eight = |bytes: &[u8]| {
        bytes
            .first_chunk::<8>()
            .map(|chunk| u64::from_le_bytes(*chunk))
    };
    let last = |bytes: &[u8]| {
        bytes
            .last_chunk::<8>()
            .map(|chunk| u64::from_le_bytes(*chunk))
    };
    match left.len() {
        0..8 => left.iter().zip(right).all(|(left, right)| left == right),
        8..=16 => eight(left) == eight(right) && last(left) == last(right),
        _ => left == right,
    }
}
