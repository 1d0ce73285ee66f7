//! `wenyi chat`: a conversation with a model, or one question.

mod speaker;
mod documents;
mod conversation;
mod lines;
mod orders;
mod history;
mod memory;
mod private;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use wenyi::chat::{CacheFormat, ChatReply, Message, Usage};

use crate::answering;
use crate::arguments::{AnsweringArguments, kv_cache_parser};
use crate::exit::UserError;
use crate::output;
use crate::progress::Terminal;

use conversation::Conversation;
use documents::Documents;
use speaker::{Said, Speaker};

/// Talk with a model
///
/// With a question: answers it and ends. Without: a conversation, one line a turn, kept on this
/// machine and taken up again the next time. Of a conversation that grows longer than the model can
/// read, it is shown the latest turns and those that the question is about. With a collection, each
/// answer begins with the sentences of the documents that it comes from, and is checked against
/// them. The default model is tiny and speaks English; choose a larger one with --model. Small models
/// take the likeliest words with a repetition penalty of 1.1, unless something else is set.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The question; without one, a conversation begins
    #[arg(value_name = "QUESTION")]
    question: Vec<String>,

    /// Answer from these documents: a folder or file, or a collection made by `wenyi index
    /// --collection`
    #[arg(short, long, value_name = "PATH|COLLECTION.db")]
    collection: Option<PathBuf>,

    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// 0 for the likeliest words always; above, more surprising
    #[arg(long, value_name = "NUMBER", value_parser = temperature)]
    temperature: Option<f64>,

    /// Choose among the likeliest words that together have this probability
    #[arg(long, value_name = "NUMBER", value_parser = share)]
    top_p: Option<f64>,

    /// Above 1, less of what was said already
    #[arg(long, value_name = "NUMBER", value_parser = penalty)]
    repetition_penalty: Option<f64>,

    /// Longest answer
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,

    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Longest conversation that a model on this machine can follow; its memory grows with it
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,

    /// How a model on this machine keeps what it has read: int8 in half the memory, less exactly
    #[arg(long, value_name = "NAME", default_value = "bf16", value_parser = kv_cache_parser())]
    kv_cache: CacheFormat,

    /// Begin anew instead of taking up the last conversation
    #[arg(long)]
    new: bool,

    /// Print the answer to the question as one JSON document; of documents, `wenyi ask --json` does
    #[arg(long, requires = "question", conflicts_with = "collection")]
    json: bool,

    #[command(flatten)]
    models: AnsweringArguments,
}

const EXAMPLES: &str = "\
Examples:
  wenyi chat
  wenyi chat \"What is the capital of France?\"
  wenyi chat -m qwen2.5-0.5b-instruct \"法国的首都是哪里？\"
  wenyi chat -m models/any.gguf --system \"Answer in one sentence.\"
  wenyi chat --json \"Name three colours.\" --max-tokens 30
  wenyi chat -c docs/
  wenyi chat -c notes.db \"办公室什么时候关门？\"

In a conversation: /model NAME, /system TEXT, /collection PATH, /save FILE, /clear, /help, /quit;
Ctrl-C stops an answer.";

fn temperature(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if (0.0..=10.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 10".into()),
    }
}

fn share(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1.0 => Ok(number),
        _ => Err("expected a number above 0, at most 1".into()),
    }
}

fn penalty(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 10.0 => Ok(number),
        _ => Err("expected a number above 0, at most 10".into()),
    }
}

/// Answers one question, or talks.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = question(&arguments.question)?;
    let progress = Terminal::new(arguments.json);
    let mut chat = Chat {
        documents: None,
        speaker: Speaker::open(arguments, arguments.models.model.as_deref(), &progress)?,
    };
    if let Some(path) = &arguments.collection {
        chat.documents = Some(Documents::open(path, &arguments.models, &progress)?);
    }
    drop(progress);
    let Some(question) = question else {
        return Conversation::open(chat, arguments)?.run();
    };
    let mut messages = Vec::new();
    messages.extend(arguments.system.as_deref().map(Message::system));
    if arguments.json {
        messages.push(Message::user(question));
        return output::json(&Report::of(chat.speaker.reply(messages)?));
    }
    match chat.answer(messages, &question)? {
        Said { is_whole: true, .. } => Ok(()),
        Said { .. } => answering::stopped(),
    }
}

/// The question of the command line; none begins a conversation.
fn question(words: &[String]) -> anyhow::Result<Option<String>> {
    let question = words.join(" ");
    if !words.is_empty() && question.trim().is_empty() {
        let error = UserError::new("the question is empty");
        let hint = "ask something, or leave the question out to begin a conversation";
        return Err(error.with_hint(hint).into());
    }
    Ok((!words.is_empty()).then_some(question))
}

/// Who speaks, and from what.
struct Chat {
    speaker: Speaker,
    documents: Option<Documents>,
}

impl Chat {
    /// Answers `question`, which comes after `messages`, and shows the answer.
    fn answer(&self, mut messages: Vec<Message>, question: &str) -> anyhow::Result<Said> {
        match &self.documents {
            Some(documents) => documents.answer(&self.speaker, &messages, question),
            None => {
                messages.push(Message::user(question));
                self.speaker.answer(messages)
            }
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    text: String,
    /// What a thinking model thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    model: String,
    finish_reason: Option<String>,
    usage: Option<serde_json::Value>,
}

impl Report {
    fn of(reply: ChatReply) -> Self {
        Self {
            text: reply.text(),
            reasoning_content: reply.message.reasoning_content,
            model: reply.model,
            finish_reason: reply.finish_reason.map(|reason| reason.as_str().to_owned()),
            usage: reply.usage.as_ref().map(Usage::to_json),
        }
    }
}
