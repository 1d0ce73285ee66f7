//! `wenyi chat`: a conversation with a model, or one question.

mod documents;
mod history;
mod memory;
mod orders;
mod speaker;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wenyi::chat::{CacheFormat, ChatReply, Message, MessageRole, Usage};

use crate::arguments::{AnsweringArguments, kv_cache_parser};
use crate::exit::{Stopped, tell};
use crate::output;
use crate::output::style::{self, Style};
use crate::progress::Terminal;
use crate::{interrupt, model};

use documents::Documents;
use history::History;
use memory::Memory;
use orders::{COMMANDS, Order, order};
use speaker::Speaker;

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
    #[arg(long, value_name = "TOKENS")]
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

In a conversation: /model NAME, /system TEXT, /collection PATH, /save FILE, /clear, /help, /quit.";

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
    let progress = Terminal::new(arguments.json);
    let mut chat = Chat {
        documents: None,
        speaker: Speaker::open(arguments, arguments.models.model.as_deref(), &progress)?,
    };
    if let Some(path) = &arguments.collection {
        chat.documents = Some(Documents::open(path, &arguments.models, &progress)?);
    }
    drop(progress);
    if arguments.question.is_empty() {
        return talk(chat, arguments);
    }
    let question = arguments.question.join(" ");
    let mut messages = Vec::new();
    messages.extend(arguments.system.as_deref().map(Message::system));
    if arguments.json {
        messages.push(Message::user(question));
        return output::json(&Report::of(chat.speaker.reply(messages)?));
    }
    match &chat.documents {
        Some(documents) => documents.answer(&chat.speaker, &messages, &question)?,
        None => {
            messages.push(Message::user(question));
            chat.speaker.answer(messages)?
        }
    };
    Ok(())
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

/// Who speaks, and from what.
struct Chat {
    speaker: Speaker,
    documents: Option<Documents>,
}

/// A conversation until the end of the input.
fn talk(mut chat: Chat, arguments: &Arguments) -> anyhow::Result<()> {
    let hub = model::hub(arguments.models.compute.offline)?;
    let mut history = History::open(hub.cache_folder(), arguments.new)?;
    if let Some(text) = &arguments.system {
        history.set_system(text)?;
    }
    let mut memory = Memory::new(hub.cache_folder(), arguments.models.compute.offline);
    let style = style::stderr();
    greet(&chat, &history, &style)?;
    let mut line = String::new();
    loop {
        if io::stdin().is_terminal() {
            write!(io::stderr(), "{} ", style.accent(">"))?;
        }
        line.clear();
        if io::stdin().lock().read_line(&mut line)? == 0 || interrupt::requested() {
            return Ok(());
        }
        let text = line.trim();
        match order(text) {
            None if text.is_empty() => {}
            None => {
                if let Err(error) = turn(&chat, &mut history, &mut memory, text) {
                    // A conversation survives what goes wrong in a turn, but not Ctrl-C.
                    if error.is::<Stopped>() {
                        return Err(error);
                    }
                    tell(&error)?;
                }
            }
            Some(Ok(Order::Quit)) => return Ok(()),
            Some(Ok(order)) => {
                if let Err(error) = obey(&order, &mut chat, &mut history, arguments) {
                    tell(&error)?;
                }
            }
            Some(Err(error)) => tell(&error.into())?,
        }
    }
}

fn greet(chat: &Chat, history: &History, style: &Style) -> io::Result<()> {
    let turns = history.messages().iter();
    let turns = turns
        .filter(|message| message.role == MessageRole::User)
        .count();
    let taken_up = match turns {
        0 => String::new(),
        1 => ", going on after 1 turn".into(),
        turns => format!(", going on after {turns} turns"),
    };
    let source = chat.documents.as_ref();
    let source = source.map_or_else(String::new, |documents| {
        format!(", answering from {}", documents.path.display())
    });
    let name = style.bold(chat.speaker.chat.name());
    writeln!(
        io::stderr(),
        "{name}{source}{taken_up}; /help shows the commands"
    )
}

fn turn(chat: &Chat, history: &mut History, memory: &mut Memory, text: &str) -> anyhow::Result<()> {
    let Chat { speaker, documents } = chat;
    let answer = match documents {
        Some(documents) => documents.answer(speaker, history.messages(), text)?,
        None => {
            let count = |text: &str| speaker.count(text);
            let mut messages = memory.recall(history.messages(), text, speaker.budget(), &count)?;
            messages.push(Message::user(text));
            speaker.answer(messages)?
        }
    };
    history.push(Message::user(text), answer)
}

fn obey(
    order: &Order<'_>,
    chat: &mut Chat,
    history: &mut History,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    match order {
        Order::Model(name) => {
            chat.speaker = Speaker::open(arguments, Some(name), &Terminal::new(false))?;
            writeln!(io::stderr(), "{}", chat.speaker.chat.name())?;
        }
        Order::System(text) => history.set_system(text)?,
        Order::Collection(path) => {
            let open = |path: &PathBuf| open_documents(path, arguments);
            chat.documents = path.as_ref().map(open).transpose()?;
        }
        Order::Save(path) => history.save_text(path)?,
        Order::Clear => history.clear()?,
        Order::Help => writeln!(io::stderr(), "{COMMANDS}")?,
        Order::Quit => {}
    }
    Ok(())
}

fn open_documents(path: &Path, arguments: &Arguments) -> anyhow::Result<Documents> {
    let documents = Documents::open(path, &arguments.models, &Terminal::new(false))?;
    writeln!(io::stderr(), "answering from {}", path.display())?;
    Ok(documents)
}
