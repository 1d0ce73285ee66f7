//! Character maps (CMaps): which bytes are one code, and what a code stands for.

use std::collections::{BTreeMap, HashMap};

/// Entries of one map; a font has at most 65,536 glyphs.
const MOST_ENTRIES: usize = 1 << 17;

/// A map that a file brings along: codes to text (`ToUnicode`) or to glyphs (`Encoding`).
#[derive(Debug, Default)]
pub(super) struct CMap {
    /// `(bytes, first, last)` of the code spaces.
    spaces: Vec<(usize, u32, u32)>,
    text: HashMap<u32, String>,
    /// Entries read so far, those of the same code counted again.
    num_entries: usize,
    /// The first code of a range to its last and the glyph of the first.
    glyph_ranges: BTreeMap<u32, (u32, u32)>,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Hex(Vec<u8>),
    Number(u32),
    Word(&'a [u8]),
    Open,
    Close,
}

impl CMap {
    pub(super) fn parse(source: &[u8]) -> Self {
        let mut map = Self::default();
        let mut tokens = Tokens { rest: source };
        while let Some(token) = tokens.next() {
            match token {
                Token::Word(b"begincodespacerange") => map.read_spaces(&mut tokens),
                Token::Word(b"beginbfchar") => map.read_chars(&mut tokens),
                Token::Word(b"beginbfrange") => map.read_ranges(&mut tokens),
                Token::Word(b"begincidchar") => map.read_glyphs(&mut tokens, false),
                Token::Word(b"begincidrange") => map.read_glyphs(&mut tokens, true),
                _ => {}
            }
        }
        map
    }

    fn read_spaces(&mut self, tokens: &mut Tokens<'_>) {
        while let (Some(Token::Hex(low)), Some(Token::Hex(high))) = (tokens.next(), tokens.next()) {
            if (1..=4).contains(&low.len()) && self.spaces.len() < 64 {
                self.spaces.push((low.len(), code(&low), code(&high)));
            }
        }
    }

    fn read_chars(&mut self, tokens: &mut Tokens<'_>) {
        while let Some(Token::Hex(from)) = tokens.next() {
            match tokens.next() {
                Some(Token::Hex(to)) => self.insert(code(&from), &units(&to)),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn read_ranges(&mut self, tokens: &mut Tokens<'_>) {
        while let (Some(Token::Hex(low)), Some(Token::Hex(high))) = (tokens.next(), tokens.next()) {
            let (low, high) = (code(&low), code(&high));
            match tokens.next() {
                Some(Token::Hex(to)) => self.insert_range(low, high, units(&to)),
                Some(Token::Open) => {
                    let mut from = low;
                    while let Some(Token::Hex(to)) = tokens.next() {
                        self.insert(from, &units(&to));
                        from = from.saturating_add(1);
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn insert(&mut self, code: u32, units: &[u16]) {
        if self.num_entries < MOST_ENTRIES {
            self.num_entries += 1;
            self.text.insert(code, String::from_utf16_lossy(units));
        }
    }

    fn insert_range(&mut self, low: u32, high: u32, mut units: Vec<u16>) {
        for code in low..=high {
            if self.num_entries == MOST_ENTRIES {
                return;
            }
            self.insert(code, &units);
            if let Some(last) = units.last_mut() {
                *last = last.wrapping_add(1);
            }
        }
    }

    fn read_glyphs(&mut self, tokens: &mut Tokens<'_>, ranges: bool) {
        while let Some(Token::Hex(low)) = tokens.next() {
            let low = code(&low);
            let high = match (ranges, ranges.then(|| tokens.next()).flatten()) {
                (false, _) => low,
                (true, Some(Token::Hex(high))) => code(&high),
                (true, _) => return,
            };
            let Some(Token::Number(glyph)) = tokens.next() else {
                return;
            };
            if self.glyph_ranges.len() < MOST_ENTRIES {
                self.glyph_ranges.insert(low, (high, glyph));
            }
        }
    }

    /// True if the map tells the text of any code.
    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// The text of `code`.
    pub(super) fn text(&self, code: u32) -> Option<String> {
        self.text.get(&code).cloned()
    }

    /// The glyph of `code`.
    pub(super) fn glyph(&self, code: u32) -> Option<u32> {
        let (low, (high, glyph)) = self.glyph_ranges.range(..=code).next_back()?;
        (code <= *high).then(|| glyph.saturating_add(code - low))
    }

    /// The code at the start of `bytes` and its length; two bytes where no space fits.
    pub(super) fn next_code(&self, bytes: &[u8]) -> (u32, usize) {
        for length in 1..=bytes.len().min(4) {
            let code = code(&bytes[..length]);
            let fits = |&(bytes, low, high): &(usize, u32, u32)| {
                bytes == length && in_space(code, low, high, length)
            };
            if self.spaces.iter().any(fits) {
                return (code, length);
            }
        }
        let length = self.spaces.iter().map(|space| space.0).min().unwrap_or(2);
        let length = length.min(bytes.len());
        (code(&bytes[..length]), length)
    }
}

/// Code spaces bound each byte by itself.
fn in_space(code: u32, low: u32, high: u32, length: usize) -> bool {
    (0..length).all(|index| {
        let byte = |value: u32| (value >> (8 * index)) & 0xFF;
        (byte(low)..=byte(high)).contains(&byte(code))
    })
}

fn code(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |code, &byte| (code << 8) | u32::from(byte))
}

/// UTF-16, big-endian; a single byte is a character of its own.
fn units(bytes: &[u8]) -> Vec<u16> {
    match bytes {
        [byte] => vec![u16::from(*byte)],
        _ => bytes
            .chunks_exact(2)
            .take(64)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect(),
    }
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            match first {
                b'%' => {
                    let end = after
                        .iter()
                        .position(|&byte| byte == b'\n' || byte == b'\r');
                    self.rest = &after[end.unwrap_or(after.len())..];
                }
                b'<' if after.first() != Some(&b'<') => {
                    let end = after
                        .iter()
                        .position(|&byte| byte == b'>')
                        .unwrap_or(after.len());
                    self.rest = after.get(end + 1..).unwrap_or_default();
                    return Some(Token::Hex(hex(&after[..end])));
                }
                b'[' => {
                    self.rest = after;
                    return Some(Token::Open);
                }
                b']' => {
                    self.rest = after;
                    return Some(Token::Close);
                }
                _ if first.is_ascii_alphanumeric() => {
                    let end = self
                        .rest
                        .iter()
                        .position(|byte| !byte.is_ascii_alphanumeric())
                        .unwrap_or(self.rest.len());
                    let (word, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    let number = std::str::from_utf8(word)
                        .ok()
                        .and_then(|word| word.parse().ok());
                    return Some(number.map_or(Token::Word(word), Token::Number));
                }
                _ => self.rest = after,
            }
        }
    }
}

fn hex(digits: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .iter()
        .filter_map(|&digit| char::from(digit).to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4) | pair.get(1).copied().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chars_ranges_and_lists() {
        let map = CMap::parse(
            b"1 begincodespacerange <0000> <FFFF> endcodespacerange\n\
              2 beginbfchar <0001> <4E2D> <0002> <00660069> endbfchar\n\
              2 beginbfrange <0010> <0012> <6587> <0020> <0021> [<0041> <D840DC00>] endbfrange",
        );
        let text = |code| map.text(code).unwrap_or_default();
        assert_eq!(
            [1, 2, 0x12, 0x20, 0x21].map(text).join(","),
            "中,fi,斉,A,𠀀"
        );
        assert_eq!(map.text(3), None);
        assert_eq!(map.next_code(&[0x4E, 0x2D, 0]), (0x4E2D, 2));
    }

    #[test]
    fn code_spaces_of_one_and_two_bytes() {
        let map = CMap::parse(
            b"2 begincodespacerange <00> <80> <8140> <FEFE> endcodespacerange\n\
              1 begincidrange <20> <7e> 814 endcidrange",
        );
        assert_eq!(map.next_code(b"A\xB0\xA1"), (0x41, 1));
        assert_eq!(map.next_code(b"\xB0\xA1A"), (0xB0A1, 2));
        assert_eq!(map.glyph(0x21), Some(815));
    }

    #[test]
    fn garbage_is_no_map() {
        for garbage in [
            &b"beginbfchar <"[..],
            b"beginbfrange <1> [",
            b"<<<<",
            b"begincidchar 1",
        ] {
            assert!(!CMap::parse(garbage).has_text());
        }
    }
}
