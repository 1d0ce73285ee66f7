//! Tokenizers from the metadata of a GGUF file (`tokenizer.ggml.*`).

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken as LibraryToken, DecoderWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    Tokenizer as LibraryTokenizer,
};

use crate::weights::gguf::Metadata;
use crate::{Error, Result};

use super::added::{AddedToken, AddedTokens};
use super::bert::BertText;
use super::bpe::Bpe;
use super::charsmap::Charsmap;
use super::folder::SpecialIds;
use super::library::Library;
use super::metaspace::{Spaces, WORD_MARK};
use super::native::{Model, Native};
use super::pieces::Pieces;
use super::template::Template;
use super::unigram::Unigram;
use super::wordpiece::{INSIDE_PREFIX, MAX_WORD_CHARS, WordPiece};
use super::{Backend, TokenizerOptions};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// Values of `tokenizer.ggml.token_type`.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// What the parts of a tokenizer are read from.
struct Reader<'a> {
    metadata: &'a Metadata,
    /// The kind of model, by the format's name.
    model: &'a str,
    options: TokenizerOptions,
    /// Number of tokens.
    count: usize,
    /// Kind of every token; empty if the file does not say.
    types: Vec<i32>,
    special_ids: SpecialIds,
}

/// Builds the tokenizer that the metadata describes.
pub(super) fn open(
    metadata: &Metadata,
    options: &TokenizerOptions,
) -> Result<(Backend, Template, SpecialIds)> {
    let model = metadata
        .str(MODEL)?
        .ok_or_else(|| missing(metadata, MODEL))?;
    let reader = Reader::new(metadata, model, options)?;
    let backend = match model {
        "t5" => reader.unigram()?,
        "bert" => reader.wordpiece()?,
        "gpt2" => reader.byte_level()?,
        "llama" => reader.sentencepiece_bpe()?,
        other => {
            return Err(Error::unsupported(
                MODEL,
                other,
                "`bert`, `t5`, `gpt2` or `llama`",
            ));
        }
    };
    Ok((backend, reader.template()?, reader.special_ids))
}

fn missing(metadata: &Metadata, key: &str) -> Error {
    Error::invalid(
        metadata.path(),
        format!("no `{key}`, expected the model's tokenizer"),
    )
}

impl<'a> Reader<'a> {
    fn new(metadata: &'a Metadata, model: &'a str, options: &TokenizerOptions) -> Result<Self> {
        let tokens = metadata
            .strings(TOKENS)?
            .ok_or_else(|| missing(metadata, TOKENS))?;
        let types = metadata.i32s(TYPES)?.unwrap_or_default();
        let reader = Self {
            metadata,
            model,
            options: *options,
            count: tokens.len(),
            types,
            special_ids: special_ids(metadata)?,
        };
        if !reader.types.is_empty() {
            reader.expect_length(TYPES, reader.types.len())?;
        }
        Ok(reader)
    }

    fn expect_length(&self, key: &str, length: usize) -> Result<()> {
        if length == self.count {
            return Ok(());
        }
        Err(self.invalid(format!(
            "`{key}` has {length} entries, expected {} as tokens",
            self.count
        )))
    }

    fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::invalid(self.metadata.path(), reason)
    }

    /// Every token as the format spells it, read from the file as it is asked for.
    fn tokens(&self) -> Result<impl Iterator<Item = Result<&'a str>>> {
        self.metadata
            .strings(TOKENS)?
            .ok_or_else(|| missing(self.metadata, TOKENS))
    }

    fn scored(&self) -> Result<impl Iterator<Item = Result<(&'a [u8], f64)>>> {
        let scores = self
            .metadata
            .f32s(SCORES)?
            .ok_or_else(|| missing(self.metadata, SCORES))?;
        self.expect_length(SCORES, scores.len())?;
        let scored = self.tokens()?.zip(scores);
        Ok(scored.map(|(token, score)| Ok((token?.as_bytes(), f64::from(score)))))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self
            .metadata
            .bool(&format!("tokenizer.ggml.{key}"))?
            .unwrap_or(default))
    }

    fn unk_id(&self) -> Result<u32> {
        self.special_ids.unk.ok_or_else(|| {
            self.invalid(
                "no `tokenizer.ggml.unknown_token_id`, expected the id of the unknown token",
            )
        })
    }

    fn is_added(&self, id: usize) -> bool {
        match self.types.get(id) {
            Some(kind) => matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED),
            None => {
                self.types.is_empty()
                    && self.special_ids.all().any(|special| special as usize == id)
            }
        }
    }

    /// The tokens that are found in the text itself, spelled as the model has them.
    fn added<'t>(&self, spelling: impl Fn(u32) -> Option<&'t [u8]>) -> Vec<AddedToken> {
        let ids = (0..self.count as u32).filter(|&id| self.is_added(id as usize));
        let added = ids.filter_map(|id| {
            let content = std::str::from_utf8(spelling(id)?).ok()?.to_owned();
            let special = self.types.get(id as usize) != Some(&USER_DEFINED);
            // The format has no field for it: RoBERTa and its kin strip before their mask, which
            // begins with `<`; Gemma has a `<mask>` too, but of another kind.
            let lstrip = content == "<mask>" && self.model != "llama";
            Some(AddedToken {
                id,
                content,
                lstrip,
                special,
                ..AddedToken::default()
            })
        });
        added.collect()
    }

    fn native(&self, model: Model, decoder: &str) -> Result<Backend> {
        let decoder = serde_json::from_str::<DecoderWrapper>(decoder)
            .map_err(|error| Error::tokenizer(format!("decoder: {error}")))?;
        let added = AddedTokens::new(
            self.added(|id| model.pieces().get(id)),
            self.options.special_as_text,
        );
        Ok(Backend::Native(Box::new(Native {
            added,
            model,
            decoder: Some(decoder),
        })))
    }

    fn unigram(&self) -> Result<Backend> {
        let blob = self
            .metadata
            .bytes("tokenizer.ggml.precompiled_charsmap")?
            .unwrap_or_default();
        let charsmap = Charsmap::new(blob)?;
        let spaces = if self.flag("remove_extra_whitespaces", true)? {
            Spaces::Separate
        } else {
            Spaces::Keep
        };
        if !self.flag("add_space_prefix", true)? {
            return Err(Error::unsupported(
                "tokenizer.ggml.add_space_prefix",
                "false",
                "`true` for a `t5` tokenizer",
            ));
        }
        let unigram = Unigram::new(self.count, self.scored()?, self.unk_id()?)?;
        self.native(
            Model::Unigram {
                charsmap,
                spaces,
                unigram,
            },
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
        )
    }

    /// The format marks the beginnings of words; the model itself marks what continues one.
    fn wordpiece(&self) -> Result<Backend> {
        let mut tokens = Vec::with_capacity(self.count);
        let (mut cased, mut normal) = (0_usize, 0_usize);
        for token in self.tokens()? {
            let token = token?;
            let special = token.starts_with('[') && token.ends_with(']') && token.len() > 1;
            tokens.push(match token.strip_prefix(WORD_MARK) {
                Some(word) => word.to_owned(),
                None if special => token.to_owned(),
                None => format!("{INSIDE_PREFIX}{token}"),
            });
            if !special {
                normal += 1;
                cased += usize::from(token.contains(|c: char| c.is_ascii_uppercase()));
            }
        }
        // The format does not say whether letters are lowered; an uncased vocabulary has no
        // capitals, save for a stray one.
        let lowercase = cased * 100 < normal;
        let text = BertText {
            clean_text: true,
            handle_chinese_chars: true,
            strip_accents: None,
            lowercase,
        };
        let id = self.unk_id().unwrap_or_default() as usize;
        let unk_token = tokens.get(id).filter(|_| self.special_ids.unk.is_some());
        let unk_token = unk_token.map_or("[UNK]", String::as_str).to_owned();
        let entries = tokens.iter().map(String::as_str).zip(0..);
        let wordpiece = WordPiece::of_entries(self.count, entries, &unk_token, MAX_WORD_CHARS)
            .ok_or_else(|| {
                self.invalid(format!("`{TOKENS}` has a token twice, or no `{unk_token}`"))
            })?;
        self.native(
            Model::WordPiece { text, wordpiece },
            r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###,
        )
    }

    fn sentencepiece_bpe(&self) -> Result<Backend> {
        let pieces = Pieces::new(self.count, self.scored()?)?;
        let merges = (0..self.count)
            .map(|id| !matches!(self.types.get(id), Some(&(UNKNOWN | CONTROL | BYTE))))
            .collect();
        let prefix = self.flag("add_space_prefix", true)?;
        let bpe = Bpe::new(pieces, merges, self.unk_id()?, prefix)?;
        let strip = if prefix {
            r#",{"type":"Strip","content":" ","start":1,"stop":0}"#
        } else {
            ""
        };
        let replace = r#"{"type":"Replace","pattern":{"String":"▁"},"content":" "}"#;
        let rest = r#"{"type":"ByteFallback"},{"type":"Fuse"}"#;
        self.native(
            Model::Bpe(bpe),
            &format!(r#"{{"type":"Sequence","decoders":[{replace},{rest}{strip}]}}"#),
        )
    }

    fn byte_level(&self) -> Result<Backend> {
        let pre = self
            .metadata
            .str("tokenizer.ggml.pre")?
            .unwrap_or("default");
        let split = PreTokenization::named(pre).ok_or_else(|| {
            Error::unsupported(
                "tokenizer.ggml.pre",
                pre,
                format!("one of {}", PreTokenization::known()),
            )
        })?;
        let tokens = self.tokens()?.collect::<Result<Vec<_>>>()?;
        let ids = tokens.iter().zip(0..);
        let vocab = ids
            .map(|(token, id)| ((*token).to_owned(), id))
            .collect::<Vocab>();
        let merges = self.merges(&vocab)?;
        let failed = |error: tokenizers::Error| self.invalid(error.to_string());
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .ignore_merges(split.ignore_merges)
            .build()
            .map_err(failed)?;
        let mut tokenizer = LibraryTokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(split.pre_tokenizer()?));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        if split.nfc {
            tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
        }
        let added = self
            .added(|id| Some(tokens.get(id as usize)?.as_bytes()))
            .into_iter()
            .map(|token| {
                LibraryToken::from(token.content, token.special)
                    .normalized(false)
                    .lstrip(token.lstrip)
            });
        tokenizer.add_tokens(added).map_err(failed)?;
        Ok(Backend::Library(Box::new(Library::new(
            tokenizer,
            &self.options,
        )?)))
    }

    /// The merges, each checked: the library would index past a buffer for some that are wrong.
    fn merges(&self, vocab: &Vocab) -> Result<Vec<(String, String)>> {
        let lines = self
            .metadata
            .strings(MERGES)?
            .ok_or_else(|| missing(self.metadata, MERGES))?;
        let mut merges = Vec::with_capacity(lines.len());
        for (line, index) in lines.zip(0..) {
            let line = line?;
            // A piece may itself begin with the separator.
            let gap = line
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == ' ')
                .map(|(at, _)| at);
            let (left, right) = gap.map_or((line, ""), |gap| (&line[..gap], &line[gap + 1..]));
            let whole = format!("{left}{right}");
            for piece in [left, right, &whole] {
                if !vocab.contains_key(piece) {
                    return Err(self.invalid(format!(
                        "merge {index} is `{line}`, but there is no token `{piece}`"
                    )));
                }
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        Ok(merges)
    }

    /// The special tokens around texts. What a file leaves open is filled in as its kind has it.
    fn template(&self) -> Result<Template> {
        let architecture = self
            .metadata
            .str("general.architecture")?
            .unwrap_or_default();
        let pre = self.metadata.str("tokenizer.ggml.pre")?.unwrap_or_default();
        let model = self.model;
        let encoder = architecture.contains("bert");
        let begins =
            encoder || model == "llama" || matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
        let ends = encoder || model == "t5";
        let ids = &self.special_ids;
        let bos = if model == "bert" {
            ids.cls
        } else {
            ids.bos.or(ids.cls)
        };
        let eos = if encoder {
            ids.sep.or(ids.eos)
        } else {
            ids.eos
        };
        let prefix = self.around("add_bos_token", begins, bos)?;
        let suffix = if self.flag("add_sep_token", false)? {
            self.around("add_sep_token", true, ids.sep.or(eos))?
        } else {
            self.around("add_eos_token", ends, eos)?
        };
        Ok(match model {
            "t5" if encoder => Template::roberta(prefix, suffix),
            _ => Template::around(prefix, suffix),
        })
    }

    fn around(&self, key: &str, default: bool, id: Option<u32>) -> Result<Vec<u32>> {
        if !self.flag(key, default)? {
            return Ok(Vec::new());
        }
        match id {
            Some(id) if (id as usize) < self.count => Ok(vec![id]),
            Some(id) => Err(self.invalid(format!(
                "`tokenizer.ggml.{key}` asks for token {id}, but there are {} tokens",
                self.count
            ))),
            None if self
                .metadata
                .get(&format!("tokenizer.ggml.{key}"))
                .is_some() =>
            {
                Err(self.invalid(format!(
                    "`tokenizer.ggml.{key}` is set, but no token has that role"
                )))
            }
            None => Ok(Vec::new()),
        }
    }
}

fn special_ids(metadata: &Metadata) -> Result<SpecialIds> {
    let id = |role: &str| metadata.u32(&format!("tokenizer.ggml.{role}_token_id"));
    // The format's first writers misspelled `separator`, and readers kept it.
    let sep = match id("seperator")? {
        Some(id) => Some(id),
        None => id("separator")?,
    };
    Ok(SpecialIds {
        pad: id("padding")?,
        cls: id("cls")?,
        sep,
        unk: id("unknown")?,
        mask: id("mask")?,
        bos: id("bos")?,
        eos: id("eos")?,
    })
}

/// How a byte-level tokenizer cuts text before merging.
struct PreTokenization {
    /// Each isolates its matches in what the ones before left.
    patterns: &'static [&'static str],
    /// Take a word whole if it is a token.
    ignore_merges: bool,
    /// Compose characters first; the format has no field for it, the models' own files do it.
    nfc: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Letters of alphabets with cases.
const CASED: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const CJK: &str = "[一-龥\u{800}-一가-\u{d7ff}]+";

impl PreTokenization {
    /// By the value of `tokenizer.ggml.pre`.
    fn named(pre: &str) -> Option<Self> {
        let plain = |patterns| Self {
            patterns,
            ignore_merges: false,
            nfc: false,
        };
        Some(match pre {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "roberta-bpe" | "jina-v1-en"
            | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" | "trillion" => plain(&[GPT2]),
            // Real files say so too if their converter did not know the model.
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => plain(&[r"\p{N}", GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => Self {
                ignore_merges: true,
                ..plain(&[LLAMA3])
            },
            "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => plain(&[LLAMA3]),
            "qwen2" | "deepseek-r1-qwen" => Self {
                nfc: true,
                ..plain(&[QWEN2])
            },
            "stablelm2" => plain(&[QWEN2]),
            "deepseek-llm" => plain(&[
                "[\r\n]",
                CASED,
                r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
                r"\s+$",
                CJK,
                r"\p{N}",
            ]),
            "deepseek-coder" => plain(&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"]),
            "deepseek-v3" => plain(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3]),
            _ => return None,
        })
    }

    fn known() -> &'static str {
        "`gpt-2`, `default`, `smollm`, `llama-bpe`, `qwen2`, `stablelm2`, `deepseek-llm`, \
         `deepseek-coder`, `deepseek-v3` and models of their kind"
    }

    fn pre_tokenizer(&self) -> Result<Sequence> {
        let mut steps = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| Error::tokenizer(format!("split pattern: {error}")))?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        let bytes = ByteLevel::default()
            .add_prefix_space(false)
            .use_regex(false);
        steps.push(PreTokenizerWrapper::ByteLevel(bytes));
        Ok(Sequence::new(steps))
    }
}
