//! Questions to evidence, and from there to answers whose citations are checked.
//!
//! First the evidence: the passages nearest to a question, of each the sentence that answers best,
//! quoted exactly, and a judgement whether they answer at all.

mod coverage;
mod evidence;

pub use self::evidence::{Evidence, EvidenceOptions, Quote, Support, evidence};
