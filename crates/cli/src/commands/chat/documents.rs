//! Answers from documents: the evidence first, then what the model makes of it, checked.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wenyi::chat::{ChatOptions, Message, MessageRole};
use wenyi::embed::Embedder;
use wenyi::rag::{
    Answer, CitingPrompt, Evidence, FollowUp, Language, PassageText, Rag, RagOptions, RagPrompt,
    RagQuestion, Support,
};
use wenyi_store::Collection;

use super::speaker::{Said, Speaker};
use crate::answering::{self, Show};
use crate::arguments::AnsweringArguments;
use crate::commands::index::IndexingArguments;
use crate::interrupt;
use crate::model;
use crate::output::style;
use crate::progress::Terminal;

/// What a conversation answers from.
pub(super) struct Documents {
    /// As the user named it.
    pub(super) path: PathBuf,
    embedder: Arc<dyn Embedder>,
    collection: Arc<Collection>,
    is_offline: bool,
    /// The user knows that the model does not speak the language.
    is_told: Cell<bool>,
}

impl Documents {
    /// A collection as it is, or documents, of which what is new is indexed first.
    pub(super) fn open(
        path: &Path,
        models: &AnsweringArguments,
        progress: &Terminal,
    ) -> anyhow::Result<Self> {
        let documents = crate::question::Documents {
            path,
            no_index: false,
            indexing: &IndexingArguments::default(),
        };
        let opened = documents.open(&models.embedding(), progress)?;
        Ok(Self {
            path: path.to_owned(),
            embedder: Arc::from(opened.embedder),
            collection: Arc::new(opened.collection),
            is_offline: models.compute.offline,
            is_told: Cell::new(false),
        })
    }

    /// Shows the evidence and the answer to `question`, which comes after `history`; returns the
    /// answer.
    pub(super) fn answer(
        &self,
        speaker: &Speaker,
        history: &[Message],
        question: &str,
    ) -> anyhow::Result<Said> {
        let language = Language::of(question);
        let speaks = speaker.is_named
            || model::speaks(speaker.chat.name(), language.code(), self.is_offline)?;
        let rag = self.rag(speaker, speaks, instructions(history));
        let asked = RagQuestion::from(question).after(history.to_vec());
        let evidence = rag.evidence(&asked)?;
        let show = Show::new(style::stdout(), language);
        if evidence.question != question {
            let line = show.looked_up(&evidence.question);
            writeln!(io::stderr(), "{}", style::stderr().dim(&line))?;
        }
        answering::write(&show.evidence(&evidence))?;
        if evidence.support == Support::None {
            return Ok(whole(language.not_in_these_documents()));
        }
        if !speaks {
            if !self.is_told.replace(true) {
                writeln!(io::stderr(), "{}", show.no_model(speaker.chat.name()))?;
            }
            return Ok(whole(quotes(&evidence)));
        }
        let answer = answering::answer(&rag, evidence, show)?;
        Ok(Said {
            message: Message::assistant(without_marks(&answer)),
            is_whole: !interrupt::requested(),
        })
    }

    fn rag(&self, speaker: &Speaker, speaks: bool, instructions: String) -> Rag {
        let usual = RagOptions::default();
        let options = RagOptions {
            // A small model does not say a question anew, it says something else.
            follow_up: match speaker.is_small || !speaks {
                true => FollowUp::RecentTurns,
                false => FollowUp::Rewrite,
            },
            chat: ChatOptions {
                temperature: speaker.options.temperature.or(usual.chat.temperature),
                max_tokens: speaker.options.max_tokens.or(usual.chat.max_tokens),
                top_p: speaker.options.top_p,
                repetition_penalty: speaker.repetition_penalty.or(usual.chat.repetition_penalty),
                seed: speaker.options.seed,
                ..usual.chat
            },
            ..usual
        };
        let rag = Rag::over(self.embedder.clone(), self.collection.clone()).with_options(options);
        let (rag, passages) = match (speaks, speaker.is_small) {
            (false, _) => return rag,
            (_, true) => (
                rag.with_small_chat_model(speaker.chat.clone()),
                PassageText::Quotes,
            ),
            _ => (
                rag.with_chat_model(speaker.chat.clone()),
                PassageText::Whole,
            ),
        };
        rag.with_prompt(Arc::new(Instructed {
            prompt: CitingPrompt { passages },
            instructions,
        }))
    }
}

fn whole(text: impl Into<String>) -> Said {
    let message = Message::assistant(text.into());
    Said {
        message,
        is_whole: true,
    }
}

/// What `/system` and `--system` say.
fn instructions(history: &[Message]) -> String {
    let told = history
        .iter()
        .filter(|message| message.role == MessageRole::System);
    told.map(Message::text).collect::<Vec<_>>().join("\n")
}

/// The evidence as an answer.
fn quotes(evidence: &Evidence) -> String {
    let quotes = evidence.quotes.iter();
    let quotes = quotes.map(|quote| quote.text.trim());
    quotes.collect::<Vec<_>>().join("\n\n")
}

/// What was said. The numbers of passages mean nothing in a later turn, and a model that reads marks
/// sets some of its own, where nobody checks them.
fn without_marks(answer: &Answer) -> String {
    let (mut said, mut at) = (String::new(), 0);
    for claim in &answer.claims {
        said.push_str(&answer.text[at..claim.span.start]);
        // A claim's span begins with its text.
        said.push_str(&claim.text);
        at = claim.span.end;
    }
    said + &answer.text[at..]
}

/// [`CitingPrompt`] with the user's instructions behind its own.
struct Instructed {
    prompt: CitingPrompt,
    instructions: String,
}

impl RagPrompt for Instructed {
    fn messages(&self, question: &str, evidence: &Evidence) -> Vec<Message> {
        let mut messages = self.prompt.messages(question, evidence);
        if let Some(first) = messages
            .first_mut()
            .filter(|_| !self.instructions.is_empty())
        {
            *first = Message::system(format!("{}\n{}", first.text(), self.instructions));
        }
        messages
    }
}
