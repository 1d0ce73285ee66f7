//! The model that speaks, and how.

use std::io::{self, Write};
use std::sync::Arc;

use wenyi::chat::{
    ChatModel, ChatOptions, ChatReply, ChatRequest, DecoderOptions, FinishReason, LocalChatModel,
    Message, ReplyBuilder, without_circles,
};
use wenyi::rag::Language;

use super::Arguments;
use crate::answering::{Show, stopped};
use crate::interrupt;
use crate::model;
use crate::output::style;
use crate::progress::Terminal;

/// A model and how it answers.
pub(super) struct Speaker {
    pub(super) chat: Arc<dyn ChatModel>,
    local: Option<LocalChatModel>,
    /// It loses its way in long prompts, and invents.
    pub(super) is_small: bool,
    /// The user named it.
    pub(super) is_named: bool,
    pub(super) options: ChatOptions,
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
    pub(super) fn answer(&self, messages: Vec<Message>) -> anyhow::Result<Message> {
        let language = messages.last().map(Message::text).unwrap_or_default();
        let show = Show::new(style::stderr(), Language::of(&language));
        let request = self.request(messages);
        let mut stdout = io::stdout().lock();
        let mut reply = ReplyBuilder::default();
        let mut thinks = false;
        for delta in without_circles(self.chat.stream(&request)?) {
            if interrupt::requested() {
                writeln!(stdout)?;
            }
            stopped()?;
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
        Ok(message)
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
