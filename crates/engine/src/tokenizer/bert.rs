//! BERT's way from text to words: control characters dropped, white space and punctuation split,
//! every ideograph a word, and (uncased models) accents stripped and letters lowered.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::canonical_combining_class;

use super::Offsets;
use super::metaspace::{Buffer, Words};

/// The switches of the normalizer, as in `tokenizer.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(super) struct BertText {
    /// Drop control characters.
    pub(super) clean_text: bool,
    /// Make every ideograph a word.
    pub(super) handle_chinese_chars: bool,
    /// Decompose and drop accents; as `lowercase` if not given.
    pub(super) strip_accents: Option<bool>,
    /// Lower every letter.
    pub(super) lowercase: bool,
}

/// What is known of a character; see [`traits_of`].
const KNOWN: u8 = 1;
/// Dropped when text is cleaned.
const CONTROL: u8 = 1 << 1;
const SPACE: u8 = 1 << 2;
const PUNCTUATION: u8 = 1 << 3;
const IDEOGRAPH: u8 = 1 << 4;
/// Neither decomposes, nor combines, nor has a lower case.
const INERT: u8 = 1 << 5;

/// Traits of the Basic Multilingual Plane, found out when a character is first met: finding out
/// costs a dozen binary searches, and all at once would delay the start.
static TRAITS: [AtomicU8; 0x1_0000] = [const { AtomicU8::new(0) }; 0x1_0000];

#[inline]
fn traits(c: char) -> u8 {
    let Some(slot) = TRAITS.get(c as usize) else {
        return traits_of(c);
    };
    match slot.load(Ordering::Relaxed) {
        0 => {
            let found = traits_of(c);
            slot.store(found, Ordering::Relaxed);
            found
        }
        found => found,
    }
}

#[cold]
fn traits_of(c: char) -> u8 {
    let mut traits = KNOWN;
    let mut set = |condition: bool, bit: u8| traits |= if condition { bit } else { 0 };
    let control = !matches!(c, '\t' | '\n' | '\r') && c.is_other();
    set(control || matches!(c, '\0' | '\u{fffd}'), CONTROL);
    set(c.is_whitespace(), SPACE);
    set(c.is_ascii_punctuation() || c.is_punctuation(), PUNCTUATION);
    set(is_ideograph(c), IDEOGRAPH);
    let mut decomposed = std::iter::once(c).nfd();
    let whole =
        decomposed.next().is_some_and(|(first, _)| first == c) && decomposed.next().is_none();
    let combines = canonical_combining_class(c) != 0 || c.is_mark_nonspacing();
    set(whole && !combines && c.to_lowercase().eq([c]), INERT);
    traits
}

/// The blocks that BERT treats as Chinese: CJK ideographs, without kana and hangul.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f
        | 0x2_b740..=0x2_b81f | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

impl BertText {
    /// Passes on the words of `text`, with the range of `text` that each byte comes from if that is
    /// asked.
    pub(super) fn split(
        &self,
        text: &str,
        traced: bool,
        buffer: &mut Buffer,
        words: &mut impl Words,
    ) {
        buffer.clear();
        let mut splitter = Splitter {
            text: self,
            buffer,
            words,
            traced,
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() {
                let end = at
                    + bytes[at..]
                        .iter()
                        .take_while(|b| b.is_ascii_alphanumeric())
                        .count();
                splitter.letters(bytes, at..end);
                at = end;
                continue;
            }
            if byte == b' ' {
                splitter.finish();
                at += 1;
                continue;
            }
            let Some(c) = text[at..].chars().next() else {
                break;
            };
            let end = at + c.len_utf8();
            if self.is_settled(c) {
                splitter.settled(c, (at, end));
                at = end;
            } else {
                let end = end + self.unsettled(&text[end..]);
                splitter.unsettled(text, at..end);
                at = end;
            }
        }
        splitter.finish();
    }

    /// True if `c` is the same after normalisation, or is dropped, whatever stands beside it.
    #[inline]
    fn is_settled(&self, c: char) -> bool {
        let traits = traits(c);
        if self.clean_text && traits & CONTROL != 0 {
            // Marks on both sides of it become neighbours.
            return !self.strips_accents();
        }
        traits & INERT != 0 || !(self.lowercase || self.strips_accents())
    }

    fn strips_accents(&self) -> bool {
        self.strip_accents.unwrap_or(self.lowercase)
    }

    /// Length of the stretch at the beginning of `text` that must be normalised as a whole.
    fn unsettled(&self, text: &str) -> usize {
        let stop = |c: char| c.is_ascii_alphanumeric() || c == ' ' || self.is_settled(c);
        text.find(stop).unwrap_or(text.len())
    }
}

/// Cuts text into words.
struct Splitter<'a, W> {
    text: &'a BertText,
    buffer: &'a mut Buffer,
    words: &'a mut W,
    traced: bool,
}

impl<W: Words> Splitter<'_, W> {
    #[inline]
    fn finish(&mut self) {
        if !self.buffer.word.is_empty() {
            self.words.word(&self.buffer.word, &self.buffer.sources);
            self.buffer.clear();
        }
    }

    /// A run of ASCII letters and digits.
    #[inline]
    fn letters(&mut self, bytes: &[u8], range: Range<usize>) {
        let start = self.buffer.word.len();
        self.buffer.word.extend_from_slice(&bytes[range.clone()]);
        if self.text.lowercase {
            self.buffer.word[start..].make_ascii_lowercase();
        }
        if self.traced {
            self.buffer.sources.extend(range.map(|at| (at, at + 1)));
        }
    }

    /// A character that normalisation leaves alone or drops.
    fn settled(&mut self, c: char, source: Offsets) {
        let traits = traits(c);
        if self.text.clean_text && traits & CONTROL != 0 {
            return;
        }
        if self.text.handle_chinese_chars && traits & IDEOGRAPH != 0 {
            self.alone(c, source);
        } else {
            self.char(c, source);
        }
    }

    /// A normalised character.
    fn char(&mut self, c: char, source: Offsets) {
        let traits = traits(c);
        if traits & SPACE != 0 {
            self.finish();
        } else if traits & PUNCTUATION != 0 {
            self.alone(c, source);
        } else {
            self.push(c, source);
        }
    }

    fn alone(&mut self, c: char, source: Offsets) {
        self.finish();
        self.push(c, source);
        self.finish();
    }

    #[inline]
    fn push(&mut self, c: char, source: Offsets) {
        let start = self.buffer.word.len();
        self.buffer
            .word
            .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        if self.traced {
            let length = self.buffer.word.len() - start;
            self.buffer
                .sources
                .extend(std::iter::repeat_n(source, length));
        }
    }

    /// Characters that change, or change each other.
    fn unsettled(&mut self, text: &str, range: Range<usize>) {
        let switches = *self.text;
        let cleaned: Vec<(char, Offsets)> = text[range.clone()]
            .char_indices()
            .filter(|&(_, c)| !switches.clean_text || traits(c) & CONTROL == 0)
            .map(|(at, c)| (c, (range.start + at, range.start + at + c.len_utf8())))
            .collect();
        if !switches.strips_accents() {
            for (c, source) in cleaned {
                self.lowered(c, source, traits(c));
            }
            return;
        }
        // Decomposition says of each character whether it is one more of the same source.
        let mut sources = cleaned.iter();
        let (mut source, mut origin) = ((range.start, range.start), KNOWN);
        for (c, added) in cleaned.iter().map(|&(c, _)| c).nfd() {
            if added <= 0
                && let Some(&(original, next)) = sources.next()
            {
                (source, origin) = (next, traits(original));
            }
            if !c.is_mark_nonspacing() {
                self.lowered(c, source, origin);
            }
        }
    }

    /// A character that came from one with the traits `origin`, to be lowered.
    fn lowered(&mut self, c: char, source: Offsets, origin: u8) {
        let ideograph = self.text.handle_chinese_chars && origin & IDEOGRAPH != 0;
        if ideograph {
            self.finish();
        }
        if self.text.lowercase {
            for c in c.to_lowercase() {
                self.char(c, source);
            }
        } else {
            self.char(c, source);
        }
        if ideograph {
            self.finish();
        }
    }
}
