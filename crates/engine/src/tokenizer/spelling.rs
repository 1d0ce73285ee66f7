//! The bytes that each token of a generating model stands for.
//!
//! Decoding one token alone cannot tell: a character may be cut, and the first space of a text is
//! taken off.

use std::collections::HashMap;

use super::Tokenizer;

/// A token that is found in a text as it is written, before the rest is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedWord {
    /// The token.
    pub id: u32,
    /// Its spelling in a text.
    pub text: String,
    /// It steers the model and is no part of a text.
    pub is_special: bool,
}

/// How a vocabulary spells bytes.
enum Spelling {
    /// A printable character for each byte, as GPT-2 has it.
    Bytes(HashMap<char, u8>),
    /// sentencepiece's: `▁` for a space, `<0x0A>` for a byte.
    Pieces,
}

impl Tokenizer {
    /// The bytes of tokens `0..count`; none for special tokens and for ids without a token.
    #[must_use]
    pub fn spellings(&self, count: usize) -> Vec<Vec<u8>> {
        let mut bytes = vec![Vec::new(); count];
        let is_pieces = self.token_to_id("<0x0A>").is_some() || self.token_to_id("Ċ").is_none();
        let spelling = if is_pieces {
            Spelling::Pieces
        } else {
            Spelling::Bytes(byte_characters())
        };
        for (id, bytes) in (0_u32..).zip(&mut bytes) {
            if let Some(token) = self.id_to_token(id) {
                *bytes = spelling.bytes(&token);
            }
        }
        for word in self.added_words() {
            if let Some(bytes) = bytes.get_mut(word.id as usize) {
                *bytes = if word.is_special {
                    Vec::new()
                } else {
                    word.text.into_bytes()
                };
            }
        }
        bytes
    }
}

impl Spelling {
    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::Bytes(characters) => {
                let bytes: Option<Vec<u8>> = token
                    .chars()
                    .map(|character| characters.get(&character).copied())
                    .collect();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::Pieces => match byte_of(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }
}

/// The byte that `<0x0A>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2;
    u8::from_str_radix(digits, 16).ok().filter(|_| is_byte)
}

/// GPT-2's table: printable bytes are themselves, the others follow from 256 on.
fn byte_characters() -> HashMap<char, u8> {
    let mut next = 256_u32;
    let mut characters = HashMap::with_capacity(256);
    for byte in 0..=u8::MAX {
        let code = if matches!(byte, 33..=126 | 161..=172 | 174..=255) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        characters.extend(char::from_u32(code).map(|character| (character, byte)));
    }
    characters
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn spellings_of_a_texts_tokens_are_the_text() {
        let text = "The café 文意，\n\t“x” 🙂 naïve 1234 {\"a\": [1]}";
        for name in ["llama3", "qwen3", "gemma3", "llama", "gpt2"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders");
            let tokenizer = Tokenizer::open(&Path::new(folder).join(name)).unwrap();
            let spellings = tokenizer.spellings(tokenizer.vocab_size());
            let ids = tokenizer.encode(text).unwrap();
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|id| spellings[*id as usize].clone())
                .collect();
            let spelt = String::from_utf8(bytes).unwrap();
            assert_eq!(spelt.trim_start(), text, "{name}");
        }
    }

    #[test]
    fn every_byte_has_a_character() {
        let characters = byte_characters();
        assert_eq!(characters.len(), 256);
        assert_eq!(characters[&'Ċ'], b'\n');
        assert_eq!(characters[&'Ġ'], b' ');
    }
}
