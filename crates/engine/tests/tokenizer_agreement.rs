//! Our own tokenizers against the `tokenizers` crate, on texts made to be difficult.

use std::path::{Path, PathBuf};

use wenyi_engine::tokenizer::{Tokenizer, TokenizerOptions};

/// Fragments that meet every branch: scripts, spaces, clusters, ligatures, controls, look-alikes.
const FRAGMENTS: &[&str] = &[
    "the",
    "Quick",
    "BROWN",
    "fox",
    "tion",
    "'s",
    "don't",
    "3.14",
    "1_000",
    "e",
    "x",
    "ﬁ",
    "№",
    "今天",
    "天气",
    "图书馆",
    "，",
    "。",
    "《",
    "》",
    "人工智能",
    "文",
    "々",
    "〇",
    "㍿",
    "①",
    "ｆｕｌｌ",
    "！",
    "こんにちは",
    "カ",
    "ｶﾞ",
    "が",
    "か\u{3099}",
    "한국어",
    "각",
    "\u{1112}\u{1161}\u{11ab}",
    "é",
    "e\u{301}",
    "ñ",
    "A\u{30a}",
    "Å",
    "İ",
    "ß",
    "ǅ",
    "Σ",
    "ς",
    "ﬃ",
    "½",
    "™",
    "¨",
    "´",
    "ﷺ",
    "Привет",
    "ё",
    "й",
    "и\u{306}",
    "שלום",
    "مرحبا",
    "لا",
    "नमस्ते",
    "क्ष",
    "ไทย",
    "ำ",
    "தமிழ்",
    "👩\u{200d}👩\u{200d}👧",
    "🇨🇳",
    "🇨",
    "👍🏽",
    "❤\u{fe0f}",
    "1\u{fe0f}\u{20e3}",
    "𝒳",
    "𠮷",
    "丽",
    "\u{fffd}",
    "\u{e000}",
    "\u{10ffff}",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\u{a0}",
    "\u{3000}",
    "\u{2003}",
    "\u{2028}",
    "\u{85}",
    "\u{200b}",
    "\u{200d}",
    "\u{feff}",
    "\u{ad}",
    "\u{0}",
    "\u{7}",
    "\u{1f}",
    "\u{7f}",
    "\u{301}",
    "\u{327}\u{301}",
    "\u{600}",
    "\u{200e}",
    "▁",
    "▁▁",
    "##",
    "#",
    "-",
    "—",
    "…",
    "“",
    "”",
    "!",
    "?",
    "{",
    "}",
    "/",
    "\\",
    "@",
    "$",
    "€",
    "^",
    "`",
    "|",
    "~",
    "<",
    ">",
    "[",
    "]",
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask>",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "[MASK]",
    "[PAD]",
    "supercalifragilisticexpialidocious",
    "antidisestablishmentarianism",
    "word",
    "ing",
    "un",
];

/// Deterministic noise (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    fn char(&mut self) -> char {
        let limit = [0x80, 0x250, 0x3100, 0x1_0000, 0x11_0000][self.below(5)];
        char::from_u32(self.below(limit) as u32).unwrap_or('文')
    }

    fn text(&mut self) -> String {
        let length = 1 + self.below(24);
        let wild = self.below(4) == 0;
        let mut text = String::new();
        for _ in 0..length {
            if wild && self.below(2) == 0 {
                text.push(self.char());
            } else {
                text.push_str(FRAGMENTS[self.below(FRAGMENTS.len())]);
                if self.below(3) == 0 {
                    text.push(' ');
                }
            }
        }
        text
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn library(folder: &Path, special_as_text: bool) -> tokenizers::Tokenizer {
    let mut library =
        tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).expect("opens");
    library.with_truncation(None).expect("no truncation");
    library.with_padding(None);
    library.set_encode_special_tokens(special_as_text);
    library
}

fn agree(folder: &Path, rounds: usize) {
    for special_as_text in [false, true] {
        let options = TokenizerOptions { special_as_text };
        let ours = Tokenizer::open_with(folder, &options).expect("opens");
        let library = library(folder, special_as_text);
        let mut noise = Noise(0x5eed + u64::from(special_as_text));
        let every_char = (0..0x11_0000).filter_map(char::from_u32).map(String::from);
        let texts = every_char
            .step_by(97)
            .chain((0..rounds).map(|_| noise.text()));
        for text in texts {
            let expected = library.encode(text.as_str(), false).expect("encodes");
            assert_eq!(
                ours.encode(&text).expect("encodes"),
                expected.get_ids(),
                "{text:?}"
            );
            let decoded = ours.decode(expected.get_ids(), false).expect("decodes");
            assert_eq!(
                decoded,
                library.decode(expected.get_ids(), false).expect("decodes")
            );
            let decoded = ours.decode(expected.get_ids(), true).expect("decodes");
            assert_eq!(
                decoded,
                library.decode(expected.get_ids(), true).expect("decodes")
            );
            let (ids, offsets) = ours.encode_with_offsets(&text).expect("encodes");
            assert_eq!(ids, expected.get_ids(), "{text:?}");
            if text.is_ascii() && !text.contains(['\0', '\r']) {
                assert_eq!(offsets, expected.get_offsets(), "{text:?}");
            }
        }
    }
}

#[test]
fn unigram_agrees_on_difficult_texts() {
    agree(&fixture("xlm_roberta"), 20_000);
}
