//! Questions to evidence, and from there to answers whose citations are checked.
//!
//! First the [`evidence`](fn@evidence): the passages nearest to a question, of each the sentences that
//! answer, quoted exactly, and a judgement whether they answer at all. Then, if a chat model is
//! there, its answer: cut into claims, each held against the passages before it is shown.
//! [`Rag`] joins both; its retriever, prompt and chat model can be replaced.

mod language;
mod retriever;
mod coverage;
mod wanted;
mod background;
mod quotes;
mod evidence;
mod prompt;
mod follow_up;
mod claims;
mod opposites;
mod tables;
mod check;
mod answer;
mod error;

pub use self::answer::{Answer, AnsweredBy, Claim, RagEvent, RagQuestion};
pub use self::error::RagError;
pub use self::evidence::{Evidence, Quote, Support, evidence};
pub use self::follow_up::FollowUp;
pub use self::language::Language;
pub use self::prompt::{CitingPrompt, PassageText, RagPrompt};
pub use self::retriever::{
    Candidate, CollectionRetriever, EvidenceOptions, PassageRetriever, Retrieved,
};

mod pipeline;
pub use self::pipeline::{Rag, RagOptions, Unsupported};
