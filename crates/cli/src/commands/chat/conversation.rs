//! A conversation until the end of its lines.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use wenyi::chat::{Message, MessageRole};

use super::documents::Documents;
use super::history::History;
use super::lines::{Line, Lines};
use super::memory::Memory;
use super::orders::{COMMANDS, Order, order};
use super::speaker::{Said, Speaker};
use super::{Arguments, Chat};
use crate::exit::{Stopped, tell};
use crate::output::style;
use crate::progress::Terminal;
use crate::{interrupt, model};

/// Who speaks with whom, and what was said.
pub(super) struct Conversation<'a> {
    chat: Chat,
    history: History,
    memory: Memory,
    lines: Lines,
    arguments: &'a Arguments,
}

impl<'a> Conversation<'a> {
    /// Takes up the last conversation, or begins anew.
    pub(super) fn open(chat: Chat, arguments: &'a Arguments) -> anyhow::Result<Self> {
        let is_offline = arguments.models.compute.offline;
        let hub = model::hub(is_offline)?;
        let mut history = History::open(hub.cache_folder(), arguments.new)?;
        let mut memory = Memory::new(hub.cache_folder(), is_offline);
        if arguments.new {
            memory.forget()?;
        }
        if let Some(text) = &arguments.system {
            history.set_system(text)?;
        }
        let questions: Vec<String> = questions(&history).map(Message::text).collect();
        Ok(Self {
            chat,
            history,
            memory,
            lines: Lines::open(questions.iter().map(String::as_str))?,
            arguments,
        })
    }

    /// Talks until there are no more lines.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        self.greet()?;
        let mut ends_on_interrupt = false;
        loop {
            // What the user stopped is over; the conversation is not.
            interrupt::forget();
            let line = self.lines.next()?;
            let is_interrupted = matches!(line, Line::Interrupted);
            match line {
                Line::End => return Ok(()),
                Line::Interrupted if ends_on_interrupt => return Err(stopped("by Ctrl-C")),
                Line::Interrupted => say("Ctrl-C again, Ctrl-D or /quit ends the conversation")?,
                Line::Unreadable(error) => tell(&error.into())?,
                Line::Said(text) => match self.heed(text.trim()) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    // Nobody is there to say whether it goes on, or the program is to end.
                    Err(error)
                        if interrupt::ends()
                            || (interrupt::requested() && !self.lines.are_edited()) =>
                    {
                        return Err(error);
                    }
                    // A conversation survives what goes wrong in a turn.
                    Err(error) => tell(&error)?,
                },
            }
            ends_on_interrupt = is_interrupted;
        }
    }

    fn greet(&self) -> io::Result<()> {
        let taken_up = match questions(&self.history).count() {
            0 => String::new(),
            1 => ", going on after 1 turn".into(),
            turns => format!(", going on after {turns} turns"),
        };
        let source = self.chat.documents.as_ref();
        let source = source.map_or_else(String::new, |documents| {
            format!(", answering from {}", documents.path.display())
        });
        let name = style::stderr().bold(self.chat.speaker.chat.name());
        writeln!(
            io::stderr(),
            "{name}{source}{taken_up}; /help shows the commands"
        )
    }

    /// Does what a line asks for; breaks if that is to end.
    fn heed(&mut self, text: &str) -> anyhow::Result<ControlFlow<()>> {
        match order(text) {
            None if text.is_empty() => {}
            None => self.turn(text)?,
            Some(order) => match order? {
                Order::Quit => return Ok(ControlFlow::Break(())),
                order => self.obey(&order)?,
            },
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Answers, and keeps what was said, be it cut short.
    fn turn(&mut self, text: &str) -> anyhow::Result<()> {
        let Said { message, is_whole } = {
            let messages = match &self.chat.documents {
                Some(_) => self.history.messages().to_vec(),
                None => self.recall(text)?,
            };
            self.chat.answer(messages, text)?
        };
        if is_whole || !message.text().trim().is_empty() {
            self.history.push(Message::user(text), message)?;
        }
        match is_whole {
            true => Ok(()),
            false => Err(stopped("the answer was cut short")),
        }
    }

    /// What of the conversation the model is shown with `question`.
    fn recall(&mut self, question: &str) -> anyhow::Result<Vec<Message>> {
        let speaker = &self.chat.speaker;
        let (messages, budget) = (self.history.messages(), speaker.budget());
        let count = |text: &str| speaker.count(text);
        self.memory.recall(messages, question, budget, &count)
    }

    fn obey(&mut self, order: &Order<'_>) -> anyhow::Result<()> {
        match order {
            Order::Model(name) => {
                let progress = Terminal::new(false);
                self.chat.speaker = Speaker::open(self.arguments, Some(name), &progress)?;
                writeln!(io::stderr(), "{}", self.chat.speaker.chat.name())?;
            }
            Order::System(text) => self.history.set_system(text)?,
            Order::Collection(path) => {
                let open = |path: &PathBuf| open_documents(path, self.arguments);
                self.chat.documents = path.as_ref().map(open).transpose()?;
            }
            Order::Save(path) => self.history.save_text(path)?,
            Order::Clear => {
                self.history.clear()?;
                self.memory.forget()?;
            }
            Order::Help => writeln!(io::stderr(), "{COMMANDS}")?,
            Order::Quit => {}
        }
        Ok(())
    }
}

fn questions(history: &History) -> impl Iterator<Item = &Message> {
    let messages = history.messages().iter();
    messages.filter(|message| message.role == MessageRole::User)
}

fn open_documents(path: &Path, arguments: &Arguments) -> anyhow::Result<Documents> {
    let documents = Documents::open(path, &arguments.models, &Terminal::new(false))?;
    writeln!(io::stderr(), "answering from {}", path.display())?;
    Ok(documents)
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{}", style::stderr().dim(line))
}

fn stopped(message: &str) -> anyhow::Error {
    let message = message.into();
    Stopped { message }.into()
}
