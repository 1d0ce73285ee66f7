//! Hidden states read as meaning: embeddings, relevance scores, sparse vectors.
//!
//! A call goes [`plan`] (texts to windows of ids), the transformer (windows to hidden states, many
//! at a time), [`pooling`] and dense layers or a head. A text's result does not depend on its company.

mod options;
mod description;
mod open;
mod plan;
mod run;
mod windows;
mod pooling;
mod dense;
mod heads;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock};

use self::dense::Dense;
use self::heads::Head;
use crate::Result;
use crate::kernels::isa::Isa;
use crate::kernels::team::Team;
use crate::tokenizer::Tokenizer;
use crate::transformer::{Scratch, Transformer};
use crate::weights::Weights;

pub use description::{ModelDescription, Output, Pooling};
pub use open::EncoderOptions;
pub(crate) use open::{Trunk, default_precision, threads};
pub use options::{
    EmbedOptions, Embeddings, Fingerprint, Overflow, Precision, Relevance, Role, SparseEmbedding,
    TokenUsage,
};
pub use plan::{Planned, Window};

/// A loaded model that reads texts. Calls from several threads wait for each other.
#[derive(Debug)]
pub struct Encoder {
    /// Shared with the decoder of the same model, if it was made from one.
    transformer: Arc<Transformer>,
    tokenizer: Arc<Tokenizer>,
    description: ModelDescription,
    head: Head,
    dense: Vec<Dense>,
    isa: Isa,
    precision: Precision,
    name: String,
    /// Kept for the fingerprint; the transformer reads its token table from it too.
    weights: Arc<Weights>,
    /// Hash of what makes the space, computed when first asked for.
    fingerprint: OnceLock<Fingerprint>,
    team: Team,
    /// Memory for passes that one member runs alone, one for each.
    alone: Vec<Mutex<Scratch>>,
    /// Memory for passes that all members share.
    together: Mutex<Scratch>,
}

impl Encoder {
    /// What the model's files say.
    #[must_use]
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Longest text in tokens, special ones and prompt included.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.description.max_length
    }

    /// Width of the vectors before Matryoshka truncation.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dense
            .last()
            .map_or(self.description.hidden_size, Dense::outputs)
    }

    /// The numbers that the linear layers multiply in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
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

    /// Tokens of `text`, special ones included, prompt not.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the text.
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        let specials = self.tokenizer.prefix().len() + self.tokenizer.suffix().len();
        Ok(self.tokenizer.encode(text)?.len() + specials)
    }
}
