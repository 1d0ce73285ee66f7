//! The vectors of a conversation's turns, kept beside it, so that each turn is embedded once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use wenyi::chat::{Message, Turn, TurnVectors, recall};
use wenyi::embed::{EmbedError, Embedder, EncoderOptions, LocalEmbedder};
use wenyi::hub::DEFAULT_MODEL;

use super::private;
use crate::model;
use crate::progress::Terminal;

/// Finds in a long conversation what a question is about.
pub(super) struct Memory {
    path: PathBuf,
    is_offline: bool,
    /// Opened when a conversation first grows longer than the model can read.
    opened: Option<Opened>,
}

struct Opened {
    embedder: LocalEmbedder,
    kept: Kept,
}

/// Vectors by the text that they stand for.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The model that made them; those of another are of no use.
    model: String,
    vectors: HashMap<String, Vec<f32>>,
}

impl Memory {
    /// The memory of the conversations under `folder`.
    pub(super) fn new(folder: &Path, is_offline: bool) -> Self {
        Self {
            path: folder.join("conversations").join("last-vectors.json"),
            is_offline,
            opened: None,
        }
    }

    /// What of `messages` the model is shown with `question`, within `budget` tokens.
    pub(super) fn recall(
        &mut self,
        messages: &[Message],
        question: &str,
        budget: usize,
        count: &dyn Fn(&str) -> usize,
    ) -> anyhow::Result<Vec<Message>> {
        let mut lazy = Lazy {
            memory: self,
            failure: None,
        };
        let recalled = recall(messages, question, budget, count, &mut lazy);
        match lazy.failure {
            Some(failure) => Err(failure),
            None => Ok(recalled?),
        }
    }

    /// Forgets the turns that it knows, on disk too: the vectors are kept by the turns' text.
    pub(super) fn forget(&mut self) -> anyhow::Result<()> {
        if let Some(opened) = &mut self.opened {
            opened.kept.vectors.clear();
        }
        private::remove(&self.path)
    }

    fn open(&mut self) -> anyhow::Result<&mut Opened> {
        if self.opened.is_none() {
            let hub = model::hub(self.is_offline)?;
            let local = hub.resolve(DEFAULT_MODEL, &Terminal::new(false))?;
            let options = EncoderOptions {
                name: Some(local.id),
                ..EncoderOptions::default()
            };
            let embedder = LocalEmbedder::open(&local.path, &options)?;
            let space = format!("{:?}", embedder.fingerprint());
            // What cannot be read is made again.
            let kept = fs::read(&self.path).ok();
            let kept: Option<Kept> = kept.and_then(|text| serde_json::from_slice(&text).ok());
            let kept = kept.filter(|kept| kept.model == space).unwrap_or(Kept {
                model: space,
                vectors: HashMap::new(),
            });
            self.opened = Some(Opened { embedder, kept });
        }
        self.opened
            .as_mut()
            .context("the embedding model was just opened")
    }

    fn of_turns(&mut self, turns: &[Turn]) -> anyhow::Result<Vec<Vec<f32>>> {
        let Opened { embedder, kept } = self.open()?;
        let texts: Vec<String> = turns.iter().map(Turn::text).collect();
        let is_new = |text: &&String| !kept.vectors.contains_key(*text);
        let new: Vec<&str> = texts.iter().filter(is_new).map(String::as_str).collect();
        if !new.is_empty() {
            let rows = embedder.embed_documents(&new)?;
            let rows: Vec<_> = new
                .iter()
                .map(|text| (*text).to_owned())
                .zip(rows)
                .collect();
            // Turns that were forgotten need no vectors.
            kept.vectors.retain(|text, _| texts.contains(text));
            kept.vectors.extend(rows);
            let written = serde_json::to_vec(&*kept)?;
            let path = self.path.clone();
            private::write(&path, &written)?;
        }
        let Opened { kept, .. } = self.open()?;
        Ok(texts
            .iter()
            .filter_map(|text| kept.vectors.get(text).cloned())
            .collect())
    }
}

/// Opens the memory only if it is asked.
struct Lazy<'a> {
    memory: &'a mut Memory,
    failure: Option<anyhow::Error>,
}

impl Lazy<'_> {
    fn kept<T>(&mut self, result: anyhow::Result<T>, instead: T) -> T {
        match result {
            Ok(value) => value,
            Err(error) => {
                self.failure.get_or_insert(error);
                instead
            }
        }
    }
}

impl TurnVectors for Lazy<'_> {
    fn of_turns(&mut self, turns: &[Turn]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let vectors = self.memory.of_turns(turns);
        Ok(self.kept(vectors, vec![Vec::new(); turns.len()]))
    }

    fn of_question(&mut self, question: &str) -> Result<Vec<f32>, EmbedError> {
        let vector = self.memory.open();
        let vector = vector.and_then(|opened| Ok(opened.embedder.embed_query(question)?));
        Ok(self.kept(vector, Vec::new()))
    }
}
