//! What a question gets: the evidence, and an answer of which every claim was checked.

use std::ops::Range;

use serde::Serialize;

use super::evidence::{Evidence, Support};
use crate::chat::{FinishReason, Message, Usage};

/// A question, and what was said before it.
#[derive(Clone, Debug, Default)]
pub struct RagQuestion {
    /// The question; a follow-up may leave out what was said.
    pub question: String,
    /// The conversation before it, oldest first; instructions in it are not passed on.
    pub history: Vec<Message>,
}

impl From<&str> for RagQuestion {
    fn from(question: &str) -> Self {
        Self {
            question: question.to_owned(),
            history: Vec::new(),
        }
    }
}

impl RagQuestion {
    /// The same after this conversation.
    #[must_use]
    pub fn after(self, history: Vec<Message>) -> Self {
        Self { history, ..self }
    }
}

/// Whose words an answer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The chat model's, checked.
    Model,
    /// The documents' own: no chat model was asked, or nothing that it said holds.
    Quotes,
    /// Nobody's: the documents do not answer.
    Nobody,
}

/// An answer with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The question as it was looked up: a follow-up stands alone here.
    pub question: String,
    /// The answer, with the marks that hold: `[n]` is the passage of that number.
    pub text: String,
    /// Whose words these are.
    pub answered_by: AnsweredBy,
    /// How far the passages carry it: `strong` if they say all of it, `weak` if only some or not
    /// clearly, `none` if nothing of it.
    pub support: Support,
    /// What it says, one by one.
    pub claims: Vec<Claim>,
    /// Claims of the model that were left out because the passages do not support them.
    pub num_left_out: usize,
    /// What the documents say.
    pub evidence: Evidence,
    /// The model that phrased it.
    pub model: Option<String>,
    /// Why the model stopped.
    #[serde(serialize_with = "as_text")]
    pub finish_reason: Option<FinishReason>,
    /// Tokens of the model, where they were counted.
    #[serde(skip)]
    pub usage: Option<Usage>,
}

fn as_text<S: serde::Serializer>(reason: &Option<FinishReason>, to: S) -> Result<S::Ok, S::Error> {
    reason.as_ref().map(FinishReason::as_str).serialize(to)
}

/// A sentence of an answer, a line of a list, or a block of code.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What it says, without marks.
    pub text: String,
    /// Where it stands in the answer's text, in bytes, marks included.
    pub span: Range<usize>,
    /// Whether the passages say so; `none` means that it is the model's own.
    pub support: Support,
    /// The passages that say so: those that the model named, if they do, else the best.
    pub citations: Vec<usize>,
    /// Numbers that the model named, and that do not hold or do not exist.
    pub dropped: Vec<usize>,
}

/// What happens while a question is answered, in this order.
#[derive(Debug)]
pub enum RagEvent<'a> {
    /// The evidence, before a chat model is asked.
    Evidence(&'a Evidence),
    /// The next part of [`Answer::text`]; of a model's answer with the claim that it is.
    Text {
        /// To be appended.
        text: &'a str,
        /// What was found out about it.
        claim: Option<&'a Claim>,
        /// Whose words it is in. A model's sentence can be a quote word for word, and is the model's.
        by: AnsweredBy,
    },
}
