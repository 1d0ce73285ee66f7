//! The `tokenizers` crate behind our interface: every `tokenizer.json` that has no path of its own.

use tokenizers::{AddedToken, Tokenizer, TruncationParams};

use crate::{Error, Result};

use super::{AddedWord, Offsets, TokenizerOptions};

/// A tokenizer of the `tokenizers` crate, without truncation, padding or special tokens.
pub(super) struct Library(Tokenizer);

impl Library {
    /// Takes over `tokenizer`. Truncation and padding that its file asks for are switched off:
    /// length is the encoder's concern, and a batch is never padded.
    pub(super) fn new(mut tokenizer: Tokenizer, options: &TokenizerOptions) -> Result<Self> {
        tokenizer
            .with_truncation(None::<TruncationParams>)
            .map_err(failed)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(options.special_as_text);
        Ok(Self(tokenizer))
    }

    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = self.0.encode_fast(text, false).map_err(failed)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    pub(super) fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Offsets>)> {
        let encoding = self.0.encode(text, false).map_err(failed)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.0.decode(ids, skip_special).map_err(failed)
    }

    pub(super) fn added_words(&self) -> Vec<AddedWord> {
        let words = self.0.get_added_tokens_decoder().into_iter();
        let word = |(id, token): (u32, AddedToken)| AddedWord {
            id,
            text: token.content,
            is_special: token.special,
        };
        words.map(word).collect()
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.0
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&id| id as usize + 1)
    }

    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    pub(super) fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::tokenizer(error.to_string())
}
