//! The last conversation, on disk as the JSON of its messages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use wenyi::chat::{Message, MessageRole};

use super::private;
use crate::exit::UserError;

/// A conversation and the file that keeps it; every change is written at once.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    messages: Vec<Message>,
}

impl History {
    /// The conversation kept under `folder`; an empty one if there is none or `new`.
    pub(super) fn open(folder: &Path, new: bool) -> anyhow::Result<Self> {
        let path = folder.join("conversations").join("last.json");
        let messages = match fs::read(&path) {
            Ok(text) if !new => serde_json::from_slice(&text).map_err(|error| {
                let message = format!("`{}` is no conversation: {error}", path.display());
                UserError::new(message).with_hint("`wenyi chat --new` begins anew")
            })?,
            _ => Vec::new(),
        };
        Ok(Self { path, messages })
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a turn.
    pub(super) fn push(&mut self, question: Message, answer: Message) -> anyhow::Result<()> {
        self.messages.extend([question, answer]);
        self.write()
    }

    /// Replaces the instructions; empty takes them away.
    pub(super) fn set_system(&mut self, text: &str) -> anyhow::Result<()> {
        self.messages
            .retain(|message| message.role != MessageRole::System);
        if !text.is_empty() {
            self.messages.insert(0, Message::system(text));
        }
        self.write()
    }

    /// Forgets everything but the instructions.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        self.messages
            .retain(|message| message.role == MessageRole::System);
        self.write()
    }

    /// Writes the conversation to `path` for people to read.
    pub(super) fn save_text(&self, path: &Path) -> anyhow::Result<()> {
        let text: String = self
            .messages
            .iter()
            .map(|message| {
                let role = format!("{:?}", message.role).to_lowercase();
                format!("{role}: {}\n\n", message.text())
            })
            .collect();
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn write(&self) -> anyhow::Result<()> {
        private::write(&self.path, &serde_json::to_vec_pretty(&self.messages)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_taken_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path(), false).unwrap();
        history.set_system("Be brief.").unwrap();
        history
            .push(Message::user("你好"), Message::assistant("Hello."))
            .unwrap();
        let again = History::open(folder.path(), false).unwrap();
        assert_eq!(again.messages(), history.messages());
        assert_eq!(again.messages().len(), 3);
        assert!(
            History::open(folder.path(), true)
                .unwrap()
                .messages()
                .is_empty()
        );
        history.clear().unwrap();
        assert_eq!(
            History::open(folder.path(), false)
                .unwrap()
                .messages()
                .len(),
            1
        );
        let text = folder.path().join("saved.txt");
        history.save_text(&text).unwrap();
        assert_eq!(fs::read_to_string(text).unwrap(), "system: Be brief.\n\n");
    }
}
