//! `wenyi chat`: a conversation with a model, or one question.

mod history;
mod memory;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use wenyi::chat::{
    ChatModel, ChatOptions, ChatRequest, DEFAULT_CHAT_MODEL, DecoderOptions, LocalChatModel,
    Message, MessageRole, ReplyBuilder,
};

use crate::arguments::ModelArguments;
use crate::exit::{Stopped, UserError};
use crate::output::style::{self, Style};
use crate::progress::Terminal;
use crate::{interrupt, model};

use history::History;
use memory::Memory;

/// Talk with a model
///
/// With a question: answers it and ends. Without: a conversation, one line a turn, kept on this
/// machine and taken up again the next time. Of a conversation that grows longer than the model can
/// read, it is shown the latest turns and those that the question is about. The default model is tiny and speaks English; choose a
/// larger one with --model.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The question; without one, a conversation begins
    #[arg(value_name = "QUESTION")]
    question: Vec<String>,

    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// 0 for the likeliest words always; above, more surprising
    #[arg(long, value_name = "NUMBER", value_parser = temperature)]
    temperature: Option<f64>,

    /// Longest answer
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,

    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Longest conversation that the model can follow; its memory grows with it
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,

    /// Begin anew instead of taking up the last conversation
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    model: ModelArguments,
}

const EXAMPLES: &str = "\
Examples:
  wenyi chat
  wenyi chat \"What is the capital of France?\"
  wenyi chat -m qwen2.5-0.5b-instruct \"法国的首都是哪里？\"
  wenyi chat -m models/any.gguf --system \"Answer in one sentence.\"

In a conversation: /model NAME, /system TEXT, /save FILE, /clear, /help, /quit.";

const COMMANDS: &str = "\
/model NAME   go on with another model
/system TEXT  instructions for the model; without TEXT, none
/save FILE    write the conversation to a file
/clear        forget the conversation
/quit         end (so does Ctrl-D)";

fn temperature(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if (0.0..=10.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 10".into()),
    }
}

/// Answers one question, or talks.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new(false);
    let chat = Chat {
        model: open(arguments, arguments.model.model.as_deref(), &progress)?,
        options: ChatOptions {
            temperature: arguments.temperature,
            max_tokens: arguments.max_tokens,
            seed: arguments.seed,
            ..ChatOptions::default()
        },
    };
    if arguments.question.is_empty() {
        return talk(chat, arguments);
    }
    let mut messages = Vec::new();
    messages.extend(arguments.system.as_deref().map(Message::system));
    messages.push(Message::user(arguments.question.join(" ")));
    chat.answer(messages)?;
    Ok(())
}

/// Opens the model called `name`, else the default one; fetches it first if it is not here.
fn open(
    arguments: &Arguments,
    name: Option<&str>,
    progress: &Terminal,
) -> anyhow::Result<LocalChatModel> {
    let hub = model::hub(arguments.model.offline)?;
    let local = hub.resolve(name.unwrap_or(DEFAULT_CHAT_MODEL), progress)?;
    let options = DecoderOptions {
        precision: arguments.model.precision,
        threads: arguments.model.threads,
        context: arguments.context,
        ..DecoderOptions::default()
    };
    Ok(LocalChatModel::open(&local.path, &local.id, &options)?)
}

/// A model and how it answers.
struct Chat {
    model: LocalChatModel,
    options: ChatOptions,
}

impl Chat {
    /// Tokens that a conversation may have before an answer to it.
    fn budget(&self) -> usize {
        /// Share of the context that is kept for the answer, unless its length is asked for.
        const ANSWER: usize = 4;
        let context = self.model.decoder().context();
        let answer = self
            .options
            .max_tokens
            .map_or(context / ANSWER, |most| most as usize);
        context.saturating_sub(answer)
    }

    fn count(&self, text: &str) -> usize {
        let ids = self.model.decoder().tokenizer().encode(text);
        ids.map_or(text.len(), |ids| ids.len())
    }

    /// Prints the answer as it comes, and returns it.
    fn answer(&self, messages: Vec<Message>) -> anyhow::Result<Message> {
        let request = ChatRequest::new(messages).with_options(self.options.clone());
        let mut stdout = io::stdout().lock();
        let mut reply = ReplyBuilder::default();
        let mut thinks = false;
        for delta in self.model.stream(&request)? {
            if interrupt::requested() {
                writeln!(stdout)?;
                let message = "the answer was cut short".into();
                return Err(Stopped { message }.into());
            }
            let delta = delta?;
            if !delta.reasoning_content.is_empty() {
                // Thoughts are not the answer, so they do not go where the answer goes.
                write!(io::stderr(), "{}", delta.reasoning_content)?;
                thinks = true;
            }
            if !delta.content.is_empty() && std::mem::take(&mut thinks) {
                writeln!(io::stderr(), "\n")?;
            }
            write!(stdout, "{}", delta.content)?;
            stdout.flush()?;
            reply.push(&delta);
        }
        writeln!(stdout)?;
        let mut message = reply.finish().message;
        // What was thought is not read again in the next turn.
        message.reasoning_content = None;
        Ok(message)
    }
}

/// What a line that begins with `/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Order<'a> {
    Model(&'a str),
    System(&'a str),
    Save(PathBuf),
    Clear,
    Help,
    Quit,
}

fn order(line: &str) -> Option<Result<Order<'_>, UserError>> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let needs = |what: &str| {
        let message = format!("`{name}` needs {what}");
        Err(UserError::new(message).with_hint("/help shows the commands"))
    };
    Some(match (name.strip_prefix('/')?, rest) {
        ("model", "") => needs("a model's name"),
        ("model", name) => Ok(Order::Model(name)),
        ("system", text) => Ok(Order::System(text)),
        ("save", "") => needs("a file's name"),
        ("save", path) => Ok(Order::Save(path.into())),
        ("clear", _) => Ok(Order::Clear),
        ("help" | "?", _) => Ok(Order::Help),
        ("quit" | "exit" | "q", _) => Ok(Order::Quit),
        _ => {
            let message = format!("`{name}` is no command");
            Err(UserError::new(message).with_hint("/help shows the commands"))
        }
    })
}

/// A conversation until the end of the input.
fn talk(mut chat: Chat, arguments: &Arguments) -> anyhow::Result<()> {
    let hub = model::hub(arguments.model.offline)?;
    let mut history = History::open(hub.cache_folder(), arguments.new)?;
    if let Some(text) = &arguments.system {
        history.set_system(text)?;
    }
    let mut memory = Memory::new(hub.cache_folder(), arguments.model.offline);
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
                    writeln!(io::stderr(), "{}: {error:#}", style.error("error"))?;
                }
            }
            Some(Ok(Order::Quit)) => return Ok(()),
            Some(Ok(order)) => {
                if let Err(error) = obey(&order, &mut chat, &mut history, arguments) {
                    writeln!(io::stderr(), "{}: {error:#}", style.error("error"))?;
                }
            }
            Some(Err(error)) => writeln!(io::stderr(), "{}: {error}", style.error("error"))?,
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
    let name = style.bold(chat.model.name());
    writeln!(io::stderr(), "{name}{taken_up}; /help shows the commands")
}

fn turn(chat: &Chat, history: &mut History, memory: &mut Memory, text: &str) -> anyhow::Result<()> {
    let count = |text: &str| chat.count(text);
    let mut messages = memory.recall(history.messages(), text, chat.budget(), &count)?;
    messages.push(Message::user(text));
    let answer = chat.answer(messages)?;
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
            chat.model = open(arguments, Some(name), &Terminal::new(false))?;
            writeln!(io::stderr(), "{}", chat.model.name())?;
        }
        Order::System(text) => history.set_system(text)?,
        Order::Save(path) => history.save_text(path)?,
        Order::Clear => history.clear()?,
        Order::Help => writeln!(io::stderr(), "{COMMANDS}")?,
        Order::Quit => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_questions() {
        assert!(order("what is /model?").is_none());
        assert_eq!(
            order("/model  qwen3-0.6b ").unwrap().unwrap(),
            Order::Model("qwen3-0.6b")
        );
        assert_eq!(order("/system").unwrap().unwrap(), Order::System(""));
        assert!(order("/save").unwrap().is_err());
        assert!(order("/frobnicate").unwrap().is_err());
    }
}
