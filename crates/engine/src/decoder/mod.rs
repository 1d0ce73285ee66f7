//! Hidden states read as the next token: prompts in, text out.
//!
//! Conversations may go on at the same time, each with a [`Session`] of its own: their prompts are read
//! in turns, their answers' steps [`together`].
//!
//! A call goes [`template`] (messages to one text), the tokenizer, [`session`] (tokens through the
//! transformer, each once), [`sampler`] (scores to a token, of those that a [`grammar`] allows) and
//! [`text`] (tokens to whole characters, up to a stop).

mod open;
mod template;
mod session;
mod together;
mod lookup;
mod sampler;
mod grammar;
mod constraint;
mod circles;
mod text;
mod generate;
mod score;
mod embed;
#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod constraint_tests;
#[cfg(test)]
mod gguf_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use crate::Result;
use crate::encoder::Precision;
use crate::kernels::isa::Isa;
use crate::kernels::linear::Linear;
use crate::kernels::team::Team;
use crate::tokenizer::Tokenizer;
use crate::transformer::{Scratch, Transformer};
use crate::weights::Weights;

pub use crate::kernels::kept::CacheFormat;
pub use constraint::{Begins, Constraint};
pub use generate::{Finish, GenerateOptions, Generation, Piece, TokenLogprob};
pub use grammar::{Grammar, compact};
pub use open::{DEFAULT_CONTEXT, DecoderOptions};
pub use sampler::SamplingOptions;
pub use session::Session;
pub use template::{ChatTemplate, RenderOptions, python_json};
pub use text::Channel;

/// A loaded model that writes texts, several at a time.
#[derive(Debug)]
pub struct Decoder {
    path: PathBuf,
    weights: Arc<Weights>,
    precision: Precision,
    /// Shared with the encoders that read the same weights.
    transformer: Arc<Transformer>,
    /// Hidden state to a score for each token.
    head: Linear,
    tokenizer: Arc<Tokenizer>,
    /// The tokens by their bytes, made when a grammar first asks for them.
    vocabulary: OnceLock<Arc<grammar::Vocabulary>>,
    template: Option<ChatTemplate>,
    /// Tokens that end an answer.
    end_ids: Vec<u32>,
    isa: Isa,
    team: Team,
    cache_format: CacheFormat,
    context: usize,
    together: together::Together,
    work: Mutex<Work>,
    alone: Vec<Mutex<Scratch>>,
}

/// Memory of a pass.
#[derive(Debug)]
struct Work {
    scratch: Scratch,
    head_input: crate::kernels::linear::InputScratch,
}

impl Decoder {
    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's chat template; base models have none.
    #[must_use]
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Tokens that end an answer.
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Longest conversation in tokens.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Number of scores of [`Decoder::logits`].
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.transformer.config.vocab_size
    }

    /// Numbers of a token's hidden state.
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.transformer.config.hidden_size
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads in use.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// The tokens of `prompt` as the model expects them at the beginning of a conversation.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the text.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.prefix().to_vec();
        self.tokenizer.encode_into(prompt, &mut ids)?;
        Ok(ids)
    }
}
