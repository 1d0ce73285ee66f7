//! The tokenizer files of a model folder, as Hugging Face lays them out.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer as LibraryTokenizer};

use crate::{Error, Result};

use super::library::Library;
use super::parse::Outline;
use super::template::Template;
use super::{Backend, Tokenizer, TokenizerOptions};

/// Ids of the tokens that have a role, where the model's files name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Fills up batches; some models derive positions from it.
    pub pad: Option<u32>,
    /// Opens a text whose hidden state stands for the whole.
    pub cls: Option<u32>,
    /// Closes or separates texts.
    pub sep: Option<u32>,
    /// Replaces what the vocabulary cannot spell.
    pub unk: Option<u32>,
    /// Hides a token.
    pub mask: Option<u32>,
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Ends a sequence.
    pub eos: Option<u32>,
}

impl SpecialIds {
    /// All that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        [
            self.pad, self.cls, self.sep, self.unk, self.mask, self.bos, self.eos,
        ]
        .into_iter()
        .flatten()
    }
}

pub(super) fn open(folder: &Path, options: &TokenizerOptions) -> Result<(Backend, Template)> {
    let path = folder.join("tokenizer.json");
    match fs::read(&path) {
        Ok(bytes) => read_json(&path, &bytes, options),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match read_vocab_txt(folder)? {
            Some(tokenizer) => library(tokenizer, options),
            None => Err(Error::io(path, error)),
        },
        Err(error) => Err(Error::io(path, error)),
    }
}

fn read_json(path: &Path, bytes: &[u8], options: &TokenizerOptions) -> Result<(Backend, Template)> {
    let json = std::str::from_utf8(bytes)
        .map_err(|error| Error::invalid(path, format!("expected JSON in UTF-8: {error}")))?;
    let outline = Outline::read(json)
        .map_err(|error| Error::invalid(path, format!("expected a tokenizer in JSON: {error}")))?;
    // The library only says that "no variant matched"; name the model type instead.
    match outline.model_type().as_deref() {
        None | Some("BPE" | "WordPiece" | "WordLevel" | "Unigram") => {}
        Some(other) => {
            return Err(Error::unsupported(
                "tokenizer.json: model.type",
                other,
                "`BPE`, `WordPiece`, `WordLevel` or `Unigram`",
            ));
        }
    }
    if let (Some(native), Some(template)) = (outline.native(options), outline.template()) {
        return Ok((Backend::Native(Box::new(native)), template?));
    }
    // Merges whose pieces are longer than any token run over a buffer of the library.
    let tokenizer = std::panic::catch_unwind(|| LibraryTokenizer::from_bytes(bytes))
        .map_err(|_| Error::invalid(path, "vocabulary and merges do not fit together"))?
        .map_err(|error| Error::invalid(path, error.to_string()))?;
    library(tokenizer, options)
}

fn library(tokenizer: LibraryTokenizer, options: &TokenizerOptions) -> Result<(Backend, Template)> {
    let template = Template::probe(tokenizer.get_post_processor())?;
    Ok((
        Backend::Library(Box::new(Library::new(tokenizer, options)?)),
        template,
    ))
}

/// Builds the tokenizer of an older BERT model, which ships its vocabulary as one token a line.
fn read_vocab_txt(folder: &Path) -> Result<Option<LibraryTokenizer>> {
    let path = folder.join("vocab.txt");
    if !path.exists() {
        return Ok(None);
    }
    let vocab = path
        .to_str()
        .ok_or_else(|| Error::invalid(&path, "path is not UTF-8"))
        .and_then(|file| {
            WordPiece::read_file(file).map_err(|error| Error::invalid(&path, error.to_string()))
        })?;
    let config = read_config(&folder.join("tokenizer_config.json"))?;
    let known = |token: &str| {
        vocab.get(token).copied().ok_or_else(|| {
            Error::invalid(
                &path,
                format!("no token `{token}`, expected a BERT vocabulary"),
            )
        })
    };
    let special = |key: &str, default: &str| {
        config
            .get(key)
            .and_then(token_content)
            .unwrap_or(default)
            .to_owned()
    };
    let (cls, sep, unk) = (
        special("cls_token", "[CLS]"),
        special("sep_token", "[SEP]"),
        special("unk_token", "[UNK]"),
    );
    let (cls_id, sep_id, _) = (known(&cls)?, known(&sep)?, known(&unk)?);
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let added: Vec<_> = ["[PAD]", "[MASK]", &unk, &cls, &sep]
        .into_iter()
        .filter(|token| vocab.contains_key(*token))
        .map(|token| AddedToken::from(token, true))
        .collect();
    let model = WordPiece::builder()
        .vocab(vocab.clone())
        .unk_token(unk)
        .build()
        .map_err(|error| Error::invalid(&path, error.to_string()))?;
    let mut tokenizer = LibraryTokenizer::new(model);
    let normalizer = BertNormalizer::new(
        true,
        flag("tokenize_chinese_chars").unwrap_or(true),
        flag("strip_accents"),
        flag("do_lower_case").unwrap_or(true),
    );
    tokenizer
        .with_normalizer(Some(normalizer))
        .and_then(|tokenizer| {
            tokenizer
                .with_pre_tokenizer(Some(BertPreTokenizer))
                .with_decoder(Some(WordPieceDecoder::default()))
                .with_post_processor(Some(BertProcessing::new((sep, sep_id), (cls, cls_id))))
                .add_special_tokens(added)
        })
        .map_err(|error| Error::invalid(&path, error.to_string()))?;
    Ok(Some(tokenizer))
}

/// Ids by role: `tokenizer_config.json`, then `special_tokens_map.json`, then the usual spellings.
pub(super) fn special_ids(folder: &Path, tokenizer: &Tokenizer) -> Result<SpecialIds> {
    let configs = [
        read_config(&folder.join("tokenizer_config.json"))?,
        read_config(&folder.join("special_tokens_map.json"))?,
    ];
    let find = |key: &str, usual: &[&str]| {
        let named = configs
            .iter()
            .filter_map(|config| config.get(key).and_then(token_content));
        named
            .chain(usual.iter().copied())
            .find_map(|token| tokenizer.token_to_id(token))
    };
    Ok(SpecialIds {
        pad: find("pad_token", &["[PAD]", "<pad>"]),
        cls: find("cls_token", &["[CLS]"]),
        sep: find("sep_token", &["[SEP]"]),
        unk: find("unk_token", &["[UNK]", "<unk>"]),
        mask: find("mask_token", &["[MASK]", "<mask>"]),
        bos: find("bos_token", &[]),
        eos: find("eos_token", &[]),
    })
}

/// A JSON file of settings; empty where there is none.
fn read_config(path: &Path) -> Result<Value> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(path, format!("expected JSON: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(Error::io(path, error)),
    }
}

/// Configurations write a token as a string or as an object with its `content`.
fn token_content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
