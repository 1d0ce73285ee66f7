//! Text to `input_ids`, and back.
//!
//! A tokenizer comes from a folder ([`Tokenizer::open`]: `tokenizer.json`, or `vocab.txt` of older
//! BERT models) or from the metadata of a GGUF file. [`Tokenizer::encode`] yields the tokens of the
//! text alone; [`Tokenizer::assemble`] and [`Tokenizer::assemble_pair`] truncate them and put the
//! model's special tokens around, so that every reader of the model gets its final ids from one
//! place.

mod folder;
mod parse;
mod gguf;
mod template;
mod added;
mod charsmap;
mod metaspace;
mod pieces;
mod unigram;
mod bert;
mod wordpiece;
mod bpe;
mod native;
mod library;
mod spelling;

use std::fmt;
use std::path::Path;

use crate::weights::gguf::Metadata;
use crate::{Error, ErrorKind, Result};

pub use folder::SpecialIds;
use library::Library;
use native::Native;
pub use spelling::AddedWord;
use template::Template;
pub use template::{PairTemplate, TokenPair};

/// How a tokenizer reads texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenizerOptions {
    /// Treat substrings that look like special tokens (`</s>`, `[SEP]`, `<|im_end|>`) as ordinary
    /// text. By default they become the special tokens, as in the original library.
    pub special_as_text: bool,
}

/// Where a token stands in its text: first byte and one past the last.
pub type Offsets = (usize, usize);

/// Turns text into the token ids of one model. Shared between threads by reference.
pub struct Tokenizer {
    backend: Backend,
    template: Template,
    special_ids: SpecialIds,
    vocab_size: usize,
}

/// Which implementation splits the text.
enum Backend {
    /// Our own, for the models that are used most.
    Native(Box<Native>),
    /// The `tokenizers` crate: knows every `tokenizer.json`.
    Library(Box<Library>),
}

impl Tokenizer {
    /// Opens the tokenizer of a model folder: `tokenizer.json`, or else `vocab.txt`.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, &TokenizerOptions::default())
    }

    /// [`open`](Self::open) with options.
    pub fn open_with(folder: &Path, options: &TokenizerOptions) -> Result<Self> {
        let (backend, template) = folder::open(folder, options)?;
        let mut tokenizer = Self::assembled(backend, template);
        tokenizer.special_ids = folder::special_ids(folder, &tokenizer)?;
        Ok(tokenizer)
    }

    /// Builds the tokenizer that a GGUF file describes.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        Self::from_gguf_with(metadata, &TokenizerOptions::default())
    }

    /// [`from_gguf`](Self::from_gguf) with options.
    pub fn from_gguf_with(metadata: &Metadata, options: &TokenizerOptions) -> Result<Self> {
        let (backend, template, special_ids) = gguf::open(metadata, options)?;
        Ok(Self {
            special_ids,
            ..Self::assembled(backend, template)
        })
    }

    fn assembled(backend: Backend, template: Template) -> Self {
        let around = template.largest_id().map_or(0, |id| id as usize + 1);
        let vocab_size = backend.vocab_size().max(around);
        Self {
            backend,
            template,
            special_ids: SpecialIds::default(),
            vocab_size,
        }
    }

    /// The tokens of `text`, without the special tokens around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the tokens of `text` to `ids`, without the special tokens around it.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        check_length(text)?;
        match &self.backend {
            Backend::Native(native) => {
                native.encode_into(text, ids);
                Ok(())
            }
            Backend::Library(library) => library.encode_into(text, ids),
        }
    }

    /// The tokens of `text` and the byte range of `text` that each of them stands for.
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Offsets>)> {
        check_length(text)?;
        match &self.backend {
            Backend::Native(native) => Ok(native.encode_with_offsets(text)),
            Backend::Library(library) => library.encode_with_offsets(text),
        }
    }

    /// What the model expects before the tokens of one text.
    #[must_use]
    pub fn prefix(&self) -> &[u32] {
        &self.template.prefix
    }

    /// What the model expects after the tokens of one text.
    #[must_use]
    pub fn suffix(&self) -> &[u32] {
        &self.template.suffix
    }

    /// What the model expects around and between two texts.
    #[must_use]
    pub fn pair_template(&self) -> &PairTemplate {
        &self.template.pair
    }

    /// `prefix + ids + suffix`, with `ids` cut on the right so that all fit into `max_length`.
    ///
    /// If the special tokens alone do not fit, they stay whole and `ids` disappears.
    #[must_use]
    pub fn assemble(&self, ids: &[u32], max_length: usize) -> Vec<u32> {
        self.template.assemble(ids, max_length)
    }

    /// The ids and `token_type_ids` of two texts, cut on the right, the longer one first.
    #[must_use]
    pub fn assemble_pair(&self, first: &[u32], second: &[u32], max_length: usize) -> TokenPair {
        self.template.pair.assemble(first, second, max_length)
    }

    /// The text of `ids`, without special tokens if `skip_special`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        match &self.backend {
            Backend::Native(native) => native.decode(ids, skip_special),
            Backend::Library(library) => library.decode(ids, skip_special),
        }
    }

    /// One more than the largest id that the tokenizer can yield.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token by its spelling in the vocabulary.
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.backend {
            Backend::Native(native) => native.token_to_id(token),
            Backend::Library(library) => library.token_to_id(token),
        }
    }

    /// A token's spelling in the vocabulary.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &self.backend {
            Backend::Native(native) => native.id_to_token(id),
            Backend::Library(library) => library.id_to_token(id),
        }
    }

    /// The tokens that are found in a text before it is split: special ones and added words.
    #[must_use]
    pub fn added_words(&self) -> Vec<AddedWord> {
        match &self.backend {
            Backend::Native(native) => native.added_words(),
            Backend::Library(library) => library.added_words(),
        }
    }

    /// The ids of the tokens that have a role, as the model's files name them.
    #[must_use]
    pub fn special_ids(&self) -> &SpecialIds {
        &self.special_ids
    }

    /// The padding token's id, for models whose maths depends on it.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.special_ids.pad
    }
}

impl Backend {
    /// Which implementation it is, for people and tests.
    fn name(&self) -> &'static str {
        match self {
            Self::Native(native) => native.name(),
            Self::Library(_) => "tokenizers",
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Self::Native(native) => native.vocab_size(),
            Self::Library(library) => library.vocab_size(),
        }
    }
}

/// Positions are counted in 32 bits, and a word mark takes three bytes for a space's one.
fn check_length(text: &str) -> Result<()> {
    const LIMIT: usize = 1 << 30;
    if text.len() <= LIMIT {
        return Ok(());
    }
    Err(Error::tokenizer(format!(
        "text has {} bytes, expected at most {LIMIT}",
        text.len()
    )))
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("backend", &self.backend.name())
            .field("vocab_size", &self.vocab_size)
            .field("template", &self.template)
            .field("special_ids", &self.special_ids)
            .finish_non_exhaustive()
    }
}

impl Error {
    /// A tokenizer that cannot be built or that refused a text.
    pub(crate) fn tokenizer(reason: impl Into<String>) -> Self {
        ErrorKind::Tokenizer {
            reason: reason.into(),
        }
        .into()
    }
}
