//! A chat model on this machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use wenyi_engine::ErrorKind;
use wenyi_engine::decoder::{Channel, Decoder, Finish, GenerateOptions, Generation, Piece};
use wenyi_engine::encoder::{EncoderOptions, Pooling};

use crate::embed::LocalEmbedder;

use super::prepare::{Prepared, prepare};
use super::sessions::Sessions;
use super::tools::unsupported;
use super::{
    ChatDelta, ChatError, ChatErrorKind, ChatModel, ChatRequest, ChatStream, FinishReason, Timing,
    TokenLogprob, Usage,
};

pub use wenyi_engine::decoder::{CacheFormat, DecoderOptions};

/// The chat model that is used when none is named: the smallest that packages carry.
pub const DEFAULT_CHAT_MODEL: &str = "smollm2-135m-instruct";

/// A local model as a [`ChatModel`]. What it has read of a conversation it does not read again.
#[derive(Clone, Debug)]
pub struct LocalChatModel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    decoder: Decoder,
    sessions: Sessions,
}

impl LocalChatModel {
    /// Opens a model folder or a GGUF file and calls it `name`; see
    /// [`crate::hub::Hub::resolve`] for models by name.
    ///
    /// # Errors
    ///
    /// As [`Decoder::open`]; and if the model has no chat template.
    pub fn open(path: &Path, name: &str, options: &DecoderOptions) -> Result<Self, ChatError> {
        let decoder = Decoder::open(path, options)?;
        if decoder.template().is_none() {
            return Err(unsupported(
                name,
                "messages",
                "a model with a chat template",
            ));
        }
        let shared = Shared {
            name: name.to_owned(),
            decoder,
            sessions: Sessions::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The engine behind it.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.shared.decoder
    }

    /// Goes on with `prompt`, a text's tokens; `on_piece` sees the text as it grows and may stop it.
    /// What another prompt or conversation has in common with its beginning is not read again.
    ///
    /// # Errors
    ///
    /// As [`Decoder::generate`].
    pub fn complete(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(&Piece) -> ControlFlow<()>,
    ) -> Result<Generation, wenyi_engine::Error> {
        let Shared {
            decoder, sessions, ..
        } = &*self.shared;
        sessions.with(decoder, prompt, |session| {
            decoder.generate(session, prompt, options, on_piece)
        })
    }

    /// The same model as an embedder, from the weights that are in memory already. Its pooling is
    /// `pooling`, or else the files', or else the last token's state. Models made to talk alone are no
    /// rival to an embedding model, however.
    ///
    /// # Errors
    ///
    /// As [`Decoder::encoder`].
    pub fn embedder(&self, pooling: Option<Pooling>) -> Result<LocalEmbedder, ChatError> {
        let options = EncoderOptions {
            pooling,
            name: Some(self.shared.name.clone()),
            ..EncoderOptions::default()
        };
        Ok(self.shared.decoder.encoder(&options)?.into())
    }
}

impl ChatModel for LocalChatModel {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn context_length(&self) -> Option<usize> {
        Some(self.shared.decoder.context())
    }

    fn stream<'a>(&'a self, request: &ChatRequest) -> Result<ChatStream<'a>, ChatError> {
        let prepared = prepare(&self.shared.name, &self.shared.decoder, request)?;
        // The receiver may be slower than the model; it then waits, and holds no more than this.
        let (sender, receiver) = sync_channel(64);
        let shared = Arc::clone(&self.shared);
        let speak = move || shared.speak(prepared, &sender);
        let thread = std::thread::Builder::new().name("wenyi-chat".into());
        // The thread ends by itself once the receiver is gone.
        let started = thread.spawn(speak);
        started.map_err(|source| {
            wenyi_engine::Error::from(wenyi_engine::ErrorKind::Io {
                path: "thread".into(),
                source,
            })
        })?;
        Ok(Box::new(receiver.into_iter()))
    }
}

impl Shared {
    /// Answers, and sends the answer as it grows.
    fn speak(&self, prepared: Prepared, sender: &SyncSender<Result<ChatDelta, ChatError>>) {
        let mut prepared = prepared;
        let started = Instant::now();
        let decided = self.decide(&mut prepared);
        let decided = decided.map(|()| started.elapsed());
        let answer = decided.and_then(|took| Ok((self.answer(&mut prepared, sender)?, took)));
        // Nobody is left to tell if these cannot be sent.
        let (answer, decided) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let _ = sender.send(Err(failure(error, &prepared)));
                return;
            }
        };
        let mut last = self.delta();
        let mut is_called = prepared.calls.is_some_and(|calls| calls.is_complete());
        if let Some(bare) = &mut prepared.bare {
            last.tool_calls.extend(bare.finish());
            (last.content, last.logprobs) = bare.release();
            is_called |= !last.tool_calls.is_empty();
        }
        let delta = ChatDelta {
            finish_reason: Some(match answer.finish {
                // A limit behind the last letter of a call without marks has cut nothing off.
                Finish::Length if last.tool_calls.is_empty() => FinishReason::Length,
                _ if is_called => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            }),
            usage: Some(usage(&self.decoder, &answer)),
            timing: Some(Timing {
                prompt: decided + answer.prompt_duration,
                answer: answer.answer_duration,
            }),
            ..last
        };
        let _ = sender.send(Ok(delta));
    }

    fn answer(
        &self,
        prepared: &mut Prepared,
        sender: &SyncSender<Result<ChatDelta, ChatError>>,
    ) -> Result<Generation, wenyi_engine::Error> {
        let Prepared {
            ids,
            options,
            calls,
            bare,
            ..
        } = prepared;
        let mut on_piece = |piece: &Piece| {
            let mut delta = self.delta();
            let mut logprobs: Vec<_> = piece.logprobs.iter().map(TokenLogprob::from).collect();
            match (piece.channel, &mut *calls) {
                (Channel::Reasoning, _) => delta.reasoning_content.clone_from(&piece.text),
                (Channel::Call, Some(calls)) => {
                    if let Some(bare) = &mut *bare {
                        // What was held back comes before.
                        (delta.content, delta.logprobs) = bare.release();
                    }
                    delta.tool_calls = calls.push(&piece.text);
                }
                (Channel::Content | Channel::Call, _) => {
                    (delta.content, logprobs) = match &mut *bare {
                        Some(bare) => bare.push(&piece.text, logprobs),
                        None => (piece.text.clone(), logprobs),
                    };
                }
            }
            delta.logprobs.extend(logprobs);
            match sender.send(Ok(delta)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        self.sessions.with(&self.decoder, ids, |session| {
            self.decoder.generate(session, ids, options, &mut on_piece)
        })
    }

    /// Finds out, where there are passages, whether the conversation without them leads to a call.
    fn decide(&self, prepared: &mut Prepared) -> Result<(), wenyi_engine::Error> {
        let Some(mut decision) = prepared.decision.take() else {
            return Ok(());
        };
        let mut name = None;
        let (calls, bare) = (&mut decision.calls, &mut decision.bare);
        let mut on_piece = |piece: &Piece| {
            match piece.channel {
                Channel::Call => {
                    let deltas = calls.push(&piece.text).into_iter();
                    name = deltas.filter_map(|delta| delta.name).next();
                }
                Channel::Content => {
                    bare.push(&piece.text, Vec::new());
                    name = bare.name().map(str::to_owned);
                }
                Channel::Reasoning => {}
            }
            match name {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        };
        let (ids, options) = (&decision.ids, &decision.options);
        self.sessions.with(&self.decoder, ids, |session| {
            self.decoder.generate(session, ids, options, &mut on_piece)
        })?;
        // An object that names the tool last.
        let last = decision.bare.finish().and_then(|call| call.name);
        let name = name.or(last);
        let constraint = decision.constraint(&self.decoder, name.as_deref())?;
        let reader = prepared.bare.take();
        prepared.bare = name.and_then(|name| Some(reader?.only(&name)));
        prepared.options.constraint = Some(constraint);
        Ok(())
    }

    fn delta(&self) -> ChatDelta {
        ChatDelta {
            model: Some(self.name.clone()),
            ..ChatDelta::default()
        }
    }
}

/// What an error of the engine means to the one who asked.
fn failure(error: wenyi_engine::Error, prepared: &Prepared) -> ChatError {
    let Prepared { limit, form, .. } = *prepared;
    match *error.kind() {
        ErrorKind::FormRoom { needed, room } => ChatErrorKind::Room {
            limit,
            form,
            needed,
            room,
        }
        .into(),
        ErrorKind::Grammar { .. } => ChatErrorKind::Form {
            option: form,
            source: error,
        }
        .into(),
        _ => error.into(),
    }
}

fn usage(decoder: &Decoder, answer: &Generation) -> Usage {
    let (prompt, completion) = (answer.prompt_tokens as u64, answer.ids.len() as u64);
    // The tags around it belong to neither part, so the count is that of the text alone.
    let thought = decoder.tokenizer().encode(&answer.reasoning);
    Usage {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt + completion,
        cached_tokens: answer.cached_tokens as u64,
        reasoning_tokens: thought.map_or(0, |ids| ids.len() as u64),
    }
}

#[cfg(test)]
mod tests;
