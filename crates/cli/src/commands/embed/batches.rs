//! The texts of a run, cut into batches that take about a second each.

use std::iter::Enumerate;
use std::time::Duration;
use std::vec;

use crate::texts::Texts;

/// Where texts come from.
pub(super) enum Source {
    /// The command line, and the bytes of all its texts.
    Arguments(Enumerate<vec::IntoIter<String>>, u64),
    /// A file or a pipe.
    Stream(Texts),
}

/// Texts that go through the model together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) texts: Vec<String>,
    /// The line of each text.
    pub(super) lines: Vec<u64>,
    /// Bytes of input that the batch used up.
    pub(super) bytes: u64,
}

impl Source {
    /// The texts of the command line.
    pub(super) fn from_arguments(texts: Vec<String>) -> Self {
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        Self::Arguments(texts.into_iter().enumerate(), bytes)
    }

    /// Bytes of all texts, if known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Arguments(_, size) => Some(*size),
            Self::Stream(texts) => texts.size(),
        }
    }

    /// Names the whole in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Arguments(..) => "the arguments".into(),
            Self::Stream(texts) => texts.name(),
        }
    }

    /// Names the text at `line` in messages.
    pub(super) fn place(&self, line: u64) -> String {
        match self {
            Self::Arguments(..) => format!("text {line}"),
            Self::Stream(texts) => texts.place(line),
        }
    }

    /// The next batch, or nothing at the end.
    pub(super) fn next_batch(&mut self, size: &BatchSize) -> anyhow::Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut text_bytes = 0;
        while text_bytes < size.bytes && batch.texts.len() < BatchSize::TEXTS {
            let Some((line, text, bytes)) = self.next()? else {
                break;
            };
            text_bytes += text.len();
            batch.bytes += bytes;
            batch.texts.push(text);
            batch.lines.push(line);
        }
        Ok((!batch.texts.is_empty()).then_some(batch))
    }

    /// The next text, its line, and the bytes of input that it used up.
    fn next(&mut self) -> anyhow::Result<Option<(u64, String, u64)>> {
        match self {
            Self::Arguments(texts, _) => Ok(texts.next().map(|(index, text)| {
                let bytes = text.len() as u64;
                (index as u64 + 1, text, bytes)
            })),
            Self::Stream(texts) => {
                let before = texts.consumed();
                let next = texts.next()?;
                Ok(next.map(|(line, text)| (line, text, texts.consumed() - before)))
            }
        }
    }
}

/// How much text goes into a batch: enough to keep the cores busy, little enough that progress
/// moves and Ctrl-C acts within about a second, whatever the model's speed.
#[derive(Debug)]
pub(super) struct BatchSize {
    bytes: usize,
}

impl BatchSize {
    /// Bounds the batch where texts are empty or nearly so.
    const TEXTS: usize = 4096;
    /// Some 500 tokens: a second's work for a large model on a small machine.
    const SMALLEST: usize = 2 << 10;
    /// Some 250,000 tokens, 1.5 KB of vector for each short text: a few megabytes.
    const LARGEST: usize = 1 << 20;

    /// Moves the size towards batches of half a second to two seconds.
    pub(super) fn adapt(&mut self, elapsed: Duration) {
        if elapsed < Duration::from_millis(500) {
            self.bytes = (self.bytes * 2).min(Self::LARGEST);
        } else if elapsed > Duration::from_secs(2) {
            self.bytes = (self.bytes / 2).max(Self::SMALLEST);
        }
    }
}

impl Default for BatchSize {
    fn default() -> Self {
        Self {
            bytes: 4 * Self::SMALLEST,
        }
    }
}
