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

/// `backend` is the implementation that must have been chosen: the crate agrees with itself.
fn agree(folder: &Path, backend: &str, rounds: usize) {
    for special_as_text in [false, true] {
        let options = TokenizerOptions { special_as_text };
        let ours = Tokenizer::open_with(folder, &options).expect("opens");
        assert!(
            format!("{ours:?}").contains(&format!("{backend:?}")),
            "{ours:?}"
        );
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
            // Where characters are dropped the crate gives their place to a neighbour.
            let kept = |c: char| matches!(c, ' '..='~' | '\n' | '\t');
            if text.chars().all(kept) && !text.contains("  ") {
                assert_eq!(offsets, expected.get_offsets(), "{text:?}");
            }
        }
    }
}

#[test]
fn unigram_agrees_on_difficult_texts() {
    agree(&fixture("xlm_roberta"), "unigram", 6_000);
}

#[test]
fn wordpiece_agrees_on_difficult_texts() {
    for name in ["bert", "bert_cls", "mpnet"] {
        agree(&fixture(name), "wordpiece", 2_500);
    }
}

/// Every combination of the normalizer's switches.
#[test]
fn wordpiece_agrees_with_every_switch() {
    let file = std::fs::read_to_string(fixture("bert").join("tokenizer.json")).expect("readable");
    let original: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    for switches in 0..24_u32 {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut changed = original.clone();
        let normalizer = &mut changed["normalizer"];
        normalizer["clean_text"] = (switches & 1 == 1).into();
        normalizer["handle_chinese_chars"] = (switches >> 1 & 1 == 1).into();
        normalizer["lowercase"] = (switches >> 2 & 1 == 1).into();
        normalizer["strip_accents"] = [None, Some(true), Some(false)][switches as usize / 8].into();
        std::fs::write(folder.path().join("tokenizer.json"), changed.to_string()).expect("written");
        agree(folder.path(), "wordpiece", 150);
    }
}

/// The sentencepiece pipelines that converters have written over the years.
#[test]
fn unigram_agrees_with_every_way_to_treat_spaces() {
    let file =
        std::fs::read_to_string(fixture("xlm_roberta").join("tokenizer.json")).expect("readable");
    let original: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    let precompiled = &original["normalizer"];
    let split = &original["pre_tokenizer"];
    let metaspace = &split["pretokenizers"][1];
    let replace = |content: &str| serde_json::json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content});
    let strip = |left: bool, right: bool| serde_json::json!({"type": "Strip", "strip_left": left, "strip_right": right});
    let sequence =
        |steps: &[serde_json::Value]| serde_json::json!({"type": "Sequence", "normalizers": steps});
    for (normalizer, pre_tokenizer) in [
        (precompiled.clone(), metaspace),
        (serde_json::Value::Null, metaspace),
        (serde_json::Value::Null, split),
        (sequence(&[precompiled.clone(), replace(" ")]), metaspace),
        (sequence(&[precompiled.clone(), replace(" ")]), split),
        (
            sequence(&[precompiled.clone(), strip(false, true), replace("▁")]),
            metaspace,
        ),
        (
            sequence(&[precompiled.clone(), strip(true, true), replace(" ")]),
            metaspace,
        ),
        (
            sequence(&[precompiled.clone(), strip(true, false), replace("▁")]),
            metaspace,
        ),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut changed = original.clone();
        changed["normalizer"] = normalizer;
        changed["pre_tokenizer"] = pre_tokenizer.clone();
        std::fs::write(folder.path().join("tokenizer.json"), changed.to_string()).expect("written");
        agree(folder.path(), "unigram", 500);
    }
}

/// Megabytes without a space are one word, yet take time and memory in proportion.
#[test]
fn endless_words_are_no_trouble() {
    let sentence = "今天天气很好，我们一起去图书馆学习人工智能吧。";
    for (name, text) in [
        ("xlm_roberta", sentence.repeat(150_000)),
        ("xlm_roberta", "a".repeat(10_000_000)),
        ("xlm_roberta", " ".repeat(10_000_000)),
        ("xlm_roberta", "<".repeat(10_000_000)),
        ("bert", sentence.repeat(150_000)),
        ("bert", "a".repeat(10_000_000)),
        ("bert", "e\u{301}".repeat(3_000_000)),
    ] {
        let tokenizer = Tokenizer::open(&fixture(name)).expect("opens");
        let tokens = tokenizer.encode(&text).expect("encodes").len();
        assert!(tokens <= text.len(), "{name}");
        // A word's tokens do not depend on its length beyond its ends.
        if text.starts_with(sentence) {
            let one = tokenizer
                .encode(&sentence.repeat(2))
                .expect("encodes")
                .len();
            let two = tokenizer
                .encode(&sentence.repeat(3))
                .expect("encodes")
                .len();
            assert_eq!(tokens, one + (two - one) * (150_000 - 2), "{name}");
        }
    }
}

#[test]
fn long_words_agree_across_segments() {
    let folder = fixture("xlm_roberta");
    let ours = Tokenizer::open(&folder).expect("opens");
    let library = library(&folder, false);
    let mut noise = Noise(7);
    for length in [500, 511, 512, 513, 2_000, 20_000] {
        let mut word = String::new();
        while word.len() < length {
            let fragment = FRAGMENTS[noise.below(FRAGMENTS.len())];
            if !fragment.contains(char::is_whitespace) && !fragment.starts_with(['<', '▁']) {
                word.push_str(fragment);
            }
        }
        let expected = library.encode(word.as_str(), false).expect("encodes");
        assert_eq!(
            ours.encode(&word).expect("encodes"),
            expected.get_ids(),
            "{length}"
        );
    }
}

#[test]
fn one_tokenizer_serves_all_threads() {
    let tokenizer = Tokenizer::open(&fixture("xlm_roberta")).expect("opens");
    let mut noise = Noise(11);
    let texts: Vec<_> = (0..500).map(|_| noise.text()).collect();
    let expected: Vec<_> = texts
        .iter()
        .map(|text| tokenizer.encode(text).expect("ids"))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (text, expected) in texts.iter().zip(&expected) {
                    assert_eq!(&tokenizer.encode(text).expect("ids"), expected);
                }
            });
        }
    });
}
