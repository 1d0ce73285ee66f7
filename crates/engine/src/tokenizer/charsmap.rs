//! The character rules that sentencepiece compiles into a model (`precompiled_charsmap`).
//!
//! The blob is a double-array trie over UTF-8 (a `u32` length in bytes, then as many bytes of
//! units) and a text of replacements, each closed by NUL, that the trie's values point into.
//! Rules apply to a grapheme cluster of less than six bytes as a whole, or else to each character,
//! and the shortest key that the cluster begins with wins: so does the reference implementation,
//! which was fitted to the behaviour of the original models.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::{Error, Result};

use super::Offsets;
use super::metaspace::WORD_MARK;

/// Clusters of this many bytes and more are looked up character by character.
const CLUSTER_LIMIT: usize = 6;

/// Code points of the Basic Multilingual Plane, in words of 64: in UTF-8, those of one word differ
/// in their last byte alone.
const BMP_WORDS: usize = 0x1_0000 / 64;

/// Receives a text as it is normalised, in order.
pub(super) trait Sink {
    /// Characters that stay as they are, from byte `at` of the text on; no space, no word mark.
    fn plain(&mut self, text: &str, at: usize);
    /// Any other character, with the range of the text that it comes from.
    fn char(&mut self, c: char, source: Offsets);
}

/// Normalisation rules of a sentencepiece model.
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
    /// No rule, no space, no word mark, and a cluster of its own beside others of the kind.
    plain: CharSet,
    /// As `plain`, but with rules, spaces and word marks.
    simple: CharSet,
}

/// A set of characters of the Basic Multilingual Plane.
struct CharSet(Vec<u64>);

impl CharSet {
    fn has(&self, code: usize) -> bool {
        self.0
            .get(code / 64)
            .is_some_and(|word| word >> (code % 64) & 1 == 1)
    }
}

impl Charsmap {
    /// Reads the blob of a model; an empty one has no rules.
    ///
    /// # Errors
    ///
    /// If it is cut off or its replacements are not UTF-8.
    pub(super) fn new(blob: &[u8]) -> Result<Self> {
        let (units, replacements) = parse(blob)
            .map_err(|reason| Error::tokenizer(format!("`precompiled_charsmap` {reason}")))?;
        let mut charsmap = Self {
            units,
            replacements,
            plain: CharSet(Vec::new()),
            simple: CharSet(words_of(is_simple)),
        };
        let kept = words_of(|c| is_simple(c) && !c.is_whitespace() && c != WORD_MARK);
        let plain = kept
            .iter()
            .enumerate()
            .map(|(word, kept)| kept & !charsmap.rules(word));
        charsmap.plain = CharSet(plain.collect());
        Ok(charsmap)
    }

    /// Normalises `text` into `sink`.
    pub(super) fn normalize(&self, text: &str, sink: &mut impl Sink) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let run = self.plain_run(bytes, at);
            if run.end == bytes.len() {
                sink.plain(&text[at..], at);
                return;
            }
            let (code, length) = decode(bytes, run.end);
            let next = run.end + length;
            let alone = self.is_simple(code) && self.begins_cluster(bytes, next);
            if alone {
                emit_plain(text, at..run.end, sink);
                self.replace(text, run.end..next, sink);
                at = next;
            } else {
                // What follows may belong to the last character of the run.
                let start = if self.is_simple(code) {
                    run.end
                } else {
                    run.last
                };
                emit_plain(text, at..start, sink);
                at = self.clusters_end(bytes, start);
                self.normalize_clusters(text, start..at, sink);
            }
        }
    }

    fn plain_run(&self, bytes: &[u8], start: usize) -> Run {
        let mut run = Run {
            last: start,
            end: start,
        };
        while run.end < bytes.len() {
            let (code, length) = decode(bytes, run.end);
            if !self.plain.has(code) {
                break;
            }
            run.last = run.end;
            run.end += length;
        }
        run
    }

    /// The end of the stretch from `start` on that has to be cut into clusters.
    fn clusters_end(&self, bytes: &[u8], start: usize) -> usize {
        let (code, length) = decode(bytes, start);
        let mut before = self.is_simple(code);
        let mut at = start + length;
        while at < bytes.len() {
            let (code, length) = decode(bytes, at);
            let here = self.is_simple(code);
            if before && here {
                break;
            }
            before = here;
            at += length;
        }
        at
    }

    fn begins_cluster(&self, bytes: &[u8], at: usize) -> bool {
        at == bytes.len() || self.is_simple(decode(bytes, at).0)
    }

    fn is_simple(&self, code: usize) -> bool {
        // Planes 2 and 3 hold ideographs alone.
        self.simple.has(code) || (0x2_0000..0x4_0000).contains(&code)
    }

    fn normalize_clusters(&self, text: &str, range: Range<usize>, sink: &mut impl Sink) {
        for (index, cluster) in text[range.clone()].grapheme_indices(true) {
            let start = range.start + index;
            if cluster.len() < CLUSTER_LIMIT && self.transform(cluster).is_some() {
                self.replace(text, start..start + cluster.len(), sink);
                continue;
            }
            for (index, c) in cluster.char_indices() {
                let start = start + index;
                self.replace(text, start..start + c.len_utf8(), sink);
            }
        }
    }

    /// Passes on what the rules make of a range, or the range itself.
    fn replace(&self, text: &str, range: Range<usize>, sink: &mut impl Sink) {
        let original = &text[range.clone()];
        for c in self.transform(original).unwrap_or(original).chars() {
            sink.char(c, (range.start, range.end));
        }
    }

    /// What the shortest key replaces that `text` begins with.
    fn transform(&self, text: &str) -> Option<&str> {
        let mut node = self.root()?;
        // NUL ends a text for sentencepiece.
        for byte in text.bytes().take_while(|&byte| byte != 0) {
            let leaf;
            (node, leaf) = self.step(node, byte)?;
            if leaf {
                let value = self.units.get(node)? & 0x7fff_ffff;
                let replacement = self.replacements.get(value as usize..)?;
                return replacement.split('\0').next();
            }
        }
        None
    }

    fn root(&self) -> Option<usize> {
        Some(offset(*self.units.first()?))
    }

    /// The node behind `byte`, and whether a key ends there.
    fn step(&self, node: usize, byte: u8) -> Option<(usize, bool)> {
        let at = node ^ usize::from(byte);
        let unit = *self.units.get(at)?;
        // Bit 31 marks a leaf's value, which is no label.
        (unit & 0x8000_00ff == u32::from(byte)).then(|| (at ^ offset(unit), unit >> 8 & 1 == 1))
    }

    /// Which of the 64 characters of a word have a rule.
    fn rules(&self, word: usize) -> u64 {
        let (Some(first), Some(mut node)) = (char::from_u32(word as u32 * 64), self.root()) else {
            return 0;
        };
        let mut buffer = [0; 4];
        let Some((last, prefix)) = first.encode_utf8(&mut buffer).as_bytes().split_last() else {
            return 0;
        };
        for &byte in prefix {
            match self.step(node, byte) {
                None => return 0,
                Some((_, true)) => return u64::MAX,
                Some((next, false)) => node = next,
            }
        }
        let ends = |byte: u8| byte != 0 && self.step(node, byte).is_some_and(|(_, leaf)| leaf);
        (0..64)
            .filter(|bit| ends(last + bit))
            .fold(0, |rules, bit| rules | 1 << bit)
    }
}

/// A run of plain characters.
struct Run {
    /// Where its last character begins; its start if it is empty.
    last: usize,
    end: usize,
}

fn emit_plain(text: &str, range: Range<usize>, sink: &mut impl Sink) {
    if !range.is_empty() {
        sink.plain(&text[range.clone()], range.start);
    }
}

/// The code point that begins at `at`, and its bytes.
#[inline]
fn decode(bytes: &[u8], at: usize) -> (usize, usize) {
    let first = usize::from(bytes[at]);
    let low = |index: usize| usize::from(bytes[at + index] & 0x3f);
    match first {
        0..0x80 => (first, 1),
        0x80..0xe0 => ((first & 0x1f) << 6 | low(1), 2),
        0xe0..0xf0 => ((first & 0xf) << 12 | low(1) << 6 | low(2), 3),
        _ => ((first & 0x7) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
    }
}

fn words_of(member: impl Fn(char) -> bool) -> Vec<u64> {
    let has = |code: usize| {
        u32::try_from(code)
            .ok()
            .and_then(char::from_u32)
            .is_some_and(&member)
    };
    let word = |word: usize| {
        (0..64)
            .filter(|bit| has(word * 64 + bit))
            .fold(0, |bits, bit| bits | 1 << bit)
    };
    (0..BMP_WORDS).map(word).collect()
}

/// True if there is always a cluster boundary between `c` and another such character: all scripts
/// without combining marks, left out with a wide margin wherever there are some.
fn is_simple(c: char) -> bool {
    matches!(u32::from(c),
        0x09..=0x0c | 0x0e..=0x7e | 0xa0..=0xac | 0xae..=0x2ff | 0x370..=0x482 | 0x48a..=0x58f
        | 0x10d0..=0x10ff | 0x1e00..=0x1fff | 0x2010..=0x2027 | 0x202f..=0x205f
        | 0x2070..=0x20cf | 0x2100..=0x2bff | 0x2e80..=0x3029 | 0x3030..=0x3098
        | 0x309b..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfb1d | 0xff01..=0xff9d)
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

fn parse(blob: &[u8]) -> Result<(Vec<u32>, String), String> {
    if blob.is_empty() {
        return Ok(Default::default());
    }
    let cut = || format!("is cut off after {} bytes", blob.len());
    let (size, rest) = blob.split_first_chunk::<4>().ok_or_else(cut)?;
    let size = u32::from_le_bytes(*size) as usize;
    let (units, replacements) = rest.split_at_checked(size).ok_or_else(cut)?;
    let (units, odd) = units.as_chunks::<4>();
    if !odd.is_empty() {
        return Err(format!(
            "has a trie of {size} bytes, expected a multiple of 4"
        ));
    }
    let replacements = std::str::from_utf8(replacements)
        .map_err(|error| format!("has replacements that are not UTF-8: {error}"))?;
    Ok((
        units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
        replacements.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The property that the fast path stands on, for every simple character beside a few others.
    #[test]
    fn simple_characters_are_clusters_of_their_own() {
        let others = [
            'a',
            ' ',
            '文',
            '한',
            '각',
            '\u{3030}',
            '©',
            '\u{a0}',
            '가',
            '\u{20000}',
        ];
        for c in (0..0x1_0000)
            .filter_map(char::from_u32)
            .filter(|&c| is_simple(c))
        {
            for other in others {
                for pair in [[c, other], [other, c], [c, c]] {
                    let pair = pair.iter().collect::<String>();
                    assert_eq!(pair.graphemes(true).count(), 2, "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn a_broken_blob_is_refused() {
        for (blob, reason) in [
            (&b"\x04\0"[..], "cut off"),
            (b"\x08\0\0\0\0\0\0\0", "cut off"),
            (b"\x02\0\0\0\0\0\0\0", "multiple of 4"),
            (b"\0\0\0\0\xff", "UTF-8"),
        ] {
            let error = Charsmap::new(blob).err().expect("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
