//! How long work reports itself and learns that it should stop.

/// What a stage counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a download.
    Bytes,
    /// Files of a folder.
    Files,
    /// Tokens that go through a model.
    Tokens,
    /// Texts, chunks, vectors.
    Items,
}

/// Where long work reports to. Called from worker threads; must be cheap.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` is `None` if it cannot be known.
    fn start(&self, stage: &str, total: Option<u64>, unit: Unit);
    /// `amount` more of the current stage is done.
    fn advance(&self, amount: u64);
    /// The current stage is over.
    fn finish(&self);
    /// Something the user should know, such as a file that was passed over.
    fn note(&self, message: &str);
    /// True once the user asked to stop; long work then ends cleanly at its next step.
    fn is_cancelled(&self) -> bool;
}

/// Reports to nobody and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
