//! `tokenizer.json`, read only as far as our own tokenizers need it.
//!
//! A file that asks for anything else is left to the `tokenizers` crate: every part of the
//! pipeline must be one that is known here, down to its options.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::Result;

use super::TokenizerOptions;
use super::added::{AddedToken, AddedTokens};
use super::bert::BertText;
use super::charsmap::Charsmap;
use super::metaspace::{Spaces, WORD_MARK};
use super::native::{Model, Native};
use super::template::Template;
use super::unigram::Unigram;
use super::wordpiece::{INSIDE_PREFIX, WordPiece};

/// The parts of the file, not yet read.
#[derive(Deserialize)]
pub(super) struct Outline<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct Head {
    r#type: Option<String>,
}

#[derive(Deserialize)]
struct UnigramFile<'a> {
    r#type: Cow<'a, str>,
    unk_id: Option<u32>,
    #[serde(borrow)]
    vocab: Vec<(Text<'a>, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Deserialize)]
struct WordPieceFile<'a> {
    r#type: Cow<'a, str>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    #[serde(borrow)]
    vocab: VocabMap<'a>,
}

/// A vocabulary as a map from spelling to id, in the order of the file.
struct VocabMap<'a>(Vec<(Text<'a>, u32)>);

impl<'de: 'a, 'a> Deserialize<'de> for VocabMap<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Vec<(Text<'de>, u32)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Self)
    }
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer<'a> {
    Precompiled {
        #[serde(borrow)]
        precompiled_charsmap: Cow<'a, str>,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Sequence {
        #[serde(borrow)]
        normalizers: Vec<Normalizer<'a>>,
    },
}

#[derive(Deserialize)]
struct Pattern {
    #[serde(rename = "Regex")]
    regex: Option<String>,
}

impl<'a> Outline<'a> {
    /// Reads the parts of `json` without looking into them.
    pub(super) fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// The type of the model, where the file names it.
    pub(super) fn model_type(&self) -> Option<String> {
        serde_json::from_str::<Head>(self.model.get()).ok()?.r#type
    }

    /// The special tokens around texts.
    pub(super) fn template(&self) -> Option<Result<Template>> {
        let post_processor = match self.post_processor {
            Some(raw) => Some(serde_json::from_str::<PostProcessorWrapper>(raw.get()).ok()?),
            None => None,
        };
        Some(Template::probe(post_processor.as_ref()))
    }

    /// A tokenizer of our own, if every part of the file is one that we know.
    pub(super) fn native(&self, options: &TokenizerOptions) -> Option<Native> {
        if !self.added_tokens.iter().all(AddedToken::is_literal) {
            return None;
        }
        let model = match self.model_type()?.as_str() {
            "Unigram" => self.unigram()?,
            "WordPiece" => self.wordpiece()?,
            _ => return None,
        };
        let decoder = match self.decoder {
            Some(raw) => Some(serde_json::from_str::<DecoderWrapper>(raw.get()).ok()?),
            None => None,
        };
        let added = AddedTokens::new(self.added_tokens.clone(), options.special_as_text);
        Some(Native {
            added,
            model,
            decoder,
        })
    }

    fn unigram(&self) -> Option<Model> {
        let (charsmap, spaces) = self.sentencepiece()?;
        let file: UnigramFile<'_> = serde_json::from_str(self.model.get()).ok()?;
        if file.r#type != "Unigram" || file.byte_fallback {
            return None;
        }
        let pieces = file
            .vocab
            .iter()
            .map(|(piece, score)| Ok((piece.0.as_bytes(), *score)));
        let unigram = Unigram::new(file.vocab.len(), pieces, file.unk_id?).ok()?;
        Some(Model::Unigram {
            charsmap,
            spaces,
            unigram,
        })
    }

    fn wordpiece(&self) -> Option<Model> {
        let normalizer = self.normalizer?.get();
        let kind = |raw: &str| {
            serde_json::from_str::<Head>(raw)
                .ok()
                .and_then(|head| head.r#type)
        };
        if kind(normalizer)? != "BertNormalizer"
            || kind(self.pre_tokenizer?.get())? != "BertPreTokenizer"
        {
            return None;
        }
        let text: BertText = serde_json::from_str(normalizer).ok()?;
        let file: WordPieceFile<'_> = serde_json::from_str(self.model.get()).ok()?;
        if file.r#type != "WordPiece" || file.continuing_subword_prefix != INSIDE_PREFIX {
            return None;
        }
        let entries = file
            .vocab
            .0
            .iter()
            .map(|(token, id)| (token.0.as_ref(), *id));
        let wordpiece = WordPiece::of_entries(
            file.vocab.0.len(),
            entries,
            &file.unk_token,
            file.max_input_chars_per_word,
        )?;
        Some(Model::WordPiece { text, wordpiece })
    }

    /// Normalizer and pre-tokenizer, if they are those of a sentencepiece model.
    fn sentencepiece(&self) -> Option<(Charsmap, Spaces)> {
        let normalizer: Option<Normalizer<'_>> = self
            .normalizer
            .map(|raw| serde_json::from_str(raw.get()))
            .transpose()
            .ok()?;
        let steps = match normalizer {
            None => Vec::new(),
            Some(Normalizer::Sequence { normalizers }) => normalizers,
            Some(step) => vec![step],
        };
        let (charsmap, rest) = match steps.split_first() {
            Some((
                Normalizer::Precompiled {
                    precompiled_charsmap,
                },
                rest,
            )) => (
                Charsmap::new(&from_base64(precompiled_charsmap)?).ok()?,
                rest,
            ),
            _ => (Charsmap::new(&[]).ok()?, &steps[..]),
        };
        let separate = self.separates_words()?;
        let spaces = match rest {
            [] if separate => Spaces::Separate,
            [Normalizer::Replace { pattern, content }] if separate => {
                // A mark as replacement would survive the splitting at white space.
                (pattern.is_run_of_spaces() && content == " ").then_some(Spaces::Separate)?
            }
            [] => Spaces::Keep,
            [Normalizer::Replace { pattern, content }] => collapse(pattern, content, false, false)?,
            [
                Normalizer::Strip {
                    strip_left,
                    strip_right,
                },
                Normalizer::Replace { pattern, content },
            ] if !separate => collapse(pattern, content, *strip_left, *strip_right)?,
            _ => return None,
        };
        Some((charsmap, spaces))
    }

    /// Whether white space is removed before words are marked; `None` for other pre-tokenizers.
    fn separates_words(&self) -> Option<bool> {
        let marks = |step: &PreTokenizerWrapper| {
            matches!(step, PreTokenizerWrapper::Metaspace(metaspace)
                if metaspace.get_split()
                    && metaspace.get_replacement() == WORD_MARK
                    && metaspace.get_prepend_scheme() == PrependScheme::Always)
        };
        match serde_json::from_str(self.pre_tokenizer?.get()).ok()? {
            PreTokenizerWrapper::Sequence(steps) => match steps.as_ref() {
                [PreTokenizerWrapper::WhitespaceSplit(_), last] if marks(last) => Some(true),
                _ => None,
            },
            step if marks(&step) => Some(false),
            _ => None,
        }
    }
}

impl Pattern {
    fn is_run_of_spaces(&self) -> bool {
        self.regex.as_deref() == Some(" {2,}")
    }
}

fn collapse(pattern: &Pattern, content: &str, start: bool, end: bool) -> Option<Spaces> {
    (pattern.is_run_of_spaces() && matches!(content, " " | "▁"))
        .then_some(Spaces::Collapse { start, end })
}

/// Decodes standard base64 with padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.chunks(4) {
        let group = chunk
            .iter()
            .try_fold(0, |group, &byte| Some(group << 6 | digit(byte)?))?;
        let group = group << (6 * (4 - chunk.len()));
        bytes.extend_from_slice(&group.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}
