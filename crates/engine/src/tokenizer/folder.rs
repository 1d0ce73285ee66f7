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
use super::template::Template;
use super::{Tokenizer, TokenizerOptions};

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

pub(super) fn open(folder: &Path, options: &TokenizerOptions) -> Result<(Library, Template)> {
    let path = folder.join("tokenizer.json");
    let tokenizer = match fs::read(&path) {
        Ok(bytes) => parse(&path, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match read_vocab_txt(folder)? {
            Some(tokenizer) => tokenizer,
            None => return Err(Error::io(path, error)),
        },
        Err(error) => return Err(Error::io(path, error)),
    };
    let template = Template::probe(tokenizer.get_post_processor())?;
    Ok((Library::new(tokenizer, options)?, template))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<LibraryTokenizer> {
    check_model_type(path, bytes)?;
    LibraryTokenizer::from_bytes(bytes).map_err(|error| Error::invalid(path, error.to_string()))
}

/// The library only says that "no variant matched"; name the model type instead.
fn check_model_type(path: &Path, bytes: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Outline {
        model: Model,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        r#type: Option<String>,
    }
    let outline: Outline = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(path, format!("expected a tokenizer in JSON: {error}")))?;
    match outline.model.r#type.as_deref() {
        None | Some("BPE" | "WordPiece" | "WordLevel" | "Unigram") => Ok(()),
        Some(other) => Err(Error::unsupported(
            "tokenizer.json: model.type",
            other,
            "`BPE`, `WordPiece`, `WordLevel` or `Unigram`",
        )),
    }
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
