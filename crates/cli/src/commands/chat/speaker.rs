//! The model that speaks, and how.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use wenyi::chat::{
    ChatDelta, ChatModel, ChatOptions, ChatReply, ChatRequest, DecoderOptions, FinishReason,
    LocalChatModel, Message, ReplyBuilder, without_circles,
};
use wenyi::rag::Language;

use super::Arguments;
use crate::answering::{self, Show, stopped};
use crate::output::flow::Flow;
use crate::output::printable::printable;
use crate::output::{self, style};
use crate::progress::Terminal;
use crate::{interrupt, model};

/// A model and how it answers.
pub(super) struct Speaker {
    pub(super) chat: Arc<dyn ChatModel>,
    local: Option<LocalChatModel>,
    /// It loses its way in long prompts, and invents.
    pub(super) is_small: bool,
    /// The user named it.
    pub(super) is_named: bool,
    pub(super) options: ChatOptions,
    /// The user's: that of small models does not suit answers that quote.
    pub(super) repetition_penalty: Option<f64>,
}

/// An answer that was shown.
pub(super) struct Said {
    pub(super) message: Message,
    /// False if the user cut it short.
    pub(super) is_whole: bool,
}

impl Speaker {
    /// Opens the model called `name`, else the default one; fetches it first if it is not here.
    pub(super) fn open(
        arguments: &Arguments,
        name: Option<&str>,
        progress: &Terminal,
    ) -> anyhow::Result<Self> {
        let chosen = model::chat_model_name(name)?;
        let keeping = DecoderOptions {
            context: arguments.context,
            cache: arguments.kv_cache,
            ..DecoderOptions::default()
        };
        let opened = model::open_chat(&arguments.models.chat(), &chosen, keeping, progress)?;
        Ok(Self {
            chat: opened.chat,
            local: opened.local,
            is_small: opened.is_small,
            is_named: name.is_some(),
            options: options(arguments, opened.is_small),
            repetition_penalty: arguments.repetition_penalty,
        })
    }

    /// Tokens that a conversation may have before an answer to it.
    pub(super) fn budget(&self) -> usize {
        /// Share of the context that is kept for the answer, unless its length is asked for.
        const ANSWER: usize = 4;
        /// What every provider's model reads.
        const ELSEWHERE: usize = 16_384;
        let context = self.chat.context_length().unwrap_or(ELSEWHERE);
        let answer = self
            .options
            .max_tokens
            .map_or(context / ANSWER, |most| most as usize);
        context.saturating_sub(answer)
    }

    /// Tokens of `text`; of a model elsewhere, about so many.
    pub(super) fn count(&self, text: &str) -> usize {
        /// A Chinese character, or most of an English word.
        const BYTES: usize = 3;
        let ids = self.local.as_ref().map(|local| {
            let tokenizer = local.decoder().tokenizer();
            tokenizer.encode(text).map(|ids| ids.len())
        });
        match ids {
            Some(Ok(count)) => count,
            Some(Err(_)) => text.len(),
            None => text.len().div_ceil(BYTES),
        }
    }

    /// The whole answer, for programs.
    pub(super) fn reply(&self, messages: Vec<Message>) -> anyhow::Result<ChatReply> {
        let mut reply = ReplyBuilder::default();
        for delta in without_circles(self.chat.stream(&self.request(messages))?) {
            stopped()?;
            reply.push(&delta?);
        }
        Ok(reply.finish())
    }

    fn request(&self, messages: Vec<Message>) -> ChatRequest {
        ChatRequest::new(messages).with_options(self.options.clone())
    }

    /// Prints the answer as it comes, and returns it.
    pub(super) fn answer(&self, messages: Vec<Message>) -> anyhow::Result<Said> {
        let language = messages.last().map(Message::text).unwrap_or_default();
        let show = Show::new(style::stderr(), Language::of(&language));
        let mut voice = Voice::default();
        let mut reply = ReplyBuilder::default();
        let mut is_whole = true;
        for delta in without_circles(self.chat.stream(&self.request(messages))?) {
            if interrupt::requested() {
                is_whole = false;
                break;
            }
            let delta = delta?;
            voice.say(&delta)?;
            reply.push(&delta);
        }
        voice.end()?;
        let reply = reply.finish();
        match reply.finish_reason {
            Some(FinishReason::Repetition) => writeln!(io::stderr(), "{}", show.repeats())?,
            Some(FinishReason::Length) if self.options.max_tokens.is_none() => {
                writeln!(io::stderr(), "{}", show.cut_off())?;
            }
            _ => {}
        }
        let mut message = reply.message;
        // What was thought is not read again in the next turn.
        message.reasoning_content = None;
        Ok(Said { message, is_whole })
    }
}

/// Prints what a model says where answers go, and what it thinks where the program speaks for itself.
struct Voice {
    answer: Flow,
    thoughts: Flow,
    thinks: bool,
}

impl Default for Voice {
    fn default() -> Self {
        let is_watched = io::stderr().is_terminal();
        Self {
            answer: output::flow(),
            thoughts: Flow::new(is_watched.then(output::width)),
            thinks: false,
        }
    }
}

impl Voice {
    fn say(&mut self, delta: &ChatDelta) -> io::Result<()> {
        if !delta.reasoning_content.is_empty() {
            let thought = self.thoughts.push(&printable(&delta.reasoning_content));
            write!(io::stderr(), "{thought}")?;
            self.thinks = true;
        }
        if !delta.content.is_empty() {
            self.stop_thinking()?;
        }
        answering::write(&self.answer.push(&printable(&delta.content)))
    }

    fn stop_thinking(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.thinks) {
            writeln!(io::stderr(), "{}\n", self.thoughts.rest())?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop_thinking()?;
        answering::write(&(self.answer.rest() + "\n"))
    }
}

/// What the user set; a small model that nothing was set for is kept to its likeliest words, since
/// among others it soon loses the thread, and from repeating them.
fn options(arguments: &Arguments, is_small: bool) -> ChatOptions {
    /// Enough to leave a circle, and too little to keep a name from being said twice.
    const REPETITION_PENALTY: f64 = 1.1;
    let asked = ChatOptions {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        repetition_penalty: arguments.repetition_penalty,
        seed: arguments.seed,
        ..ChatOptions::default()
    };
    let chosen = match is_small && asked == ChatOptions::default() {
        true => ChatOptions {
            temperature: Some(0.0),
            repetition_penalty: Some(REPETITION_PENALTY),
            ..ChatOptions::default()
        },
        false => asked,
    };
    ChatOptions {
        max_tokens: arguments.max_tokens,
        ..chosen
    }
}
