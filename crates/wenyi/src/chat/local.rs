//! A chat model on this machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use serde_json::{Map, Value, json};
use wenyi_engine::decoder::{
    Channel, Decoder, Finish, GenerateOptions, Generation, Piece, RenderOptions, SamplingOptions,
};

use super::sessions::Sessions;
use super::{
    ChatDelta, ChatError, ChatErrorKind, ChatModel, ChatOptions, ChatRequest, ChatStream,
    FinishReason, Message, MessageRole, ResponseFormat, Thinking, ToolChoice, Usage,
};

pub use wenyi_engine::decoder::DecoderOptions;

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

    /// The text that the model reads for `request`.
    fn render(&self, request: &ChatRequest) -> Result<String, ChatError> {
        let name = &self.shared.name;
        let messages: Vec<Value> = request
            .messages
            .iter()
            .map(|message| for_template(name, message))
            .collect::<Result<_, _>>()?;
        let uses_tools = request.tool_choice != Some(ToolChoice::None);
        let tools = request.tools.iter().map(|tool| json!(tool));
        let tools: Vec<Value> = tools.filter(|_| uses_tools).collect();
        let mut variables = Map::new();
        if let Some(thinking) = &request.options.thinking {
            variables.insert(
                "enable_thinking".into(),
                (*thinking != Thinking::Off).into(),
            );
        }
        let options = RenderOptions {
            add_generation_prompt: true,
            tools: (!tools.is_empty()).then_some(tools),
            variables,
        };
        let template = self.shared.decoder.template();
        let template = template.ok_or_else(|| unsupported(name, "messages", "a chat template"))?;
        Ok(template.render(&messages, &options)?)
    }
}

/// A message as templates expect it: words alone, arguments of calls as objects.
fn for_template(model: &str, message: &Message) -> Result<Value, ChatError> {
    if message
        .content
        .as_ref()
        .is_some_and(super::Content::has_media)
    {
        return Err(unsupported(model, "content", "text alone"));
    }
    let role = match message.role {
        MessageRole::Developer => json!("system"),
        role => json!(role),
    };
    let mut value = json!({"role": role, "content": message.text()});
    if let Some(thought) = &message.reasoning_content {
        value["reasoning_content"] = json!(thought);
    }
    if !message.tool_calls.is_empty() {
        let call = |call: &super::ToolCall| {
            let arguments = &call.function.arguments;
            let arguments: Value =
                serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
            let function = json!({"name": call.function.name, "arguments": arguments});
            json!({"id": call.id, "type": call.kind, "function": function})
        };
        value["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    for (key, part) in [
        ("name", &message.name),
        ("tool_call_id", &message.tool_call_id),
    ] {
        if let Some(part) = part {
            value[key] = json!(part);
        }
    }
    Ok(value)
}

fn unsupported(model: &str, option: &'static str, expected: &str) -> ChatError {
    ChatErrorKind::Unsupported {
        model: model.to_owned(),
        option,
        expected: expected.to_owned(),
    }
    .into()
}

#[expect(clippy::cast_possible_truncation, reason = "the engine samples in f32")]
fn sampling(options: &ChatOptions) -> SamplingOptions {
    let usual = SamplingOptions::default();
    let number = |value: Option<f64>, usual: f32| value.map_or(usual, |value| value as f32);
    SamplingOptions {
        temperature: number(options.temperature, usual.temperature),
        top_k: options.top_k.map(|count| count as usize),
        top_p: number(options.top_p, usual.top_p),
        min_p: number(options.min_p, usual.min_p),
        repetition_penalty: number(options.repetition_penalty, usual.repetition_penalty),
        presence_penalty: number(options.presence_penalty, usual.presence_penalty),
        frequency_penalty: number(options.frequency_penalty, usual.frequency_penalty),
        seed: options.seed,
        ..usual
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
        let Shared { name, decoder, .. } = &*self.shared;
        // Without a grammar nothing could be promised of these.
        if matches!(
            request.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Function(_))
        ) {
            return Err(unsupported(name, "tool_choice", "`auto` or `none`"));
        }
        if !matches!(request.response_format, None | Some(ResponseFormat::Text)) {
            return Err(unsupported(name, "response_format", "`text`"));
        }
        let prompt = decoder.tokenizer().encode(&self.render(request)?)?;
        let context_length = decoder.context();
        if prompt.is_empty() || prompt.len() >= context_length {
            return Err(ChatErrorKind::ContextLength {
                model: name.clone(),
                tokens: prompt.len(),
                context_length,
            }
            .into());
        }
        let options = GenerateOptions {
            sampling: sampling(&request.options),
            max_tokens: request.options.max_tokens.map(|count| count as usize),
            stop: request.options.stop.clone(),
            ..GenerateOptions::default()
        };
        // The receiver may be slower than the model; it then waits, and holds no more than this.
        let (sender, receiver) = sync_channel(64);
        let shared = Arc::clone(&self.shared);
        let speak = move || shared.speak(&prompt, &options, &sender);
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
    fn speak(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        sender: &SyncSender<Result<ChatDelta, ChatError>>,
    ) {
        let mut on_piece = |piece: &Piece| {
            let mut delta = self.delta();
            match piece.channel {
                Channel::Reasoning => delta.reasoning_content.clone_from(&piece.text),
                Channel::Content => delta.content.clone_from(&piece.text),
            }
            match sender.send(Ok(delta)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let answer = self.sessions.with(&self.decoder, prompt, |session| {
            self.decoder
                .generate(session, prompt, options, &mut on_piece)
        });
        // Nobody is left to tell if these cannot be sent.
        match answer {
            Ok(answer) => {
                let finish_reason = Some(match answer.finish {
                    Finish::Length => FinishReason::Length,
                    Finish::Stop | Finish::Cancelled => FinishReason::Stop,
                });
                let usage = Some(usage(&self.decoder, &answer));
                let delta = ChatDelta {
                    finish_reason,
                    usage,
                    ..self.delta()
                };
                let _ = sender.send(Ok(delta));
            }
            Err(error) => {
                let _ = sender.send(Err(error.into()));
            }
        }
    }

    fn delta(&self) -> ChatDelta {
        ChatDelta {
            model: Some(self.name.clone()),
            ..ChatDelta::default()
        }
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
mod tests {
    use super::*;
    use crate::chat::Message;

    fn model() -> LocalChatModel {
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../engine/tests/fixtures/decoders/llama"
        );
        let options = DecoderOptions {
            threads: Some(1),
            ..DecoderOptions::default()
        };
        LocalChatModel::open(Path::new(fixture), "tiny", &options).unwrap()
    }

    fn request(messages: Vec<Message>) -> ChatRequest {
        ChatRequest::new(messages).with_options(ChatOptions {
            temperature: Some(0.0),
            max_tokens: Some(8),
            ..ChatOptions::default()
        })
    }

    #[test]
    fn a_conversation_goes_on_without_reading_it_again() {
        let model = model();
        let mut messages = vec![Message::user("你好")];
        let reply = model.invoke(&request(messages.clone())).unwrap();
        let usage = reply.usage.unwrap();
        assert_eq!(usage.completion_tokens, 8);
        assert_eq!(usage.cached_tokens, 0);
        assert_eq!(reply.finish_reason, Some(FinishReason::Length));
        assert_eq!(reply.model, "tiny");
        messages.push(reply.message);
        messages.push(Message::user("again"));
        let second = model.invoke(&request(messages)).unwrap().usage.unwrap();
        assert!(
            second.cached_tokens + 8 >= usage.prompt_tokens,
            "{second:?}"
        );
    }

    #[test]
    fn answers_at_the_same_time_do_not_mix() {
        let model = model();
        let questions = ["one", "two", "three", "四", "five", "six"];
        let alone: Vec<String> = questions
            .iter()
            .map(|question| {
                model
                    .invoke(&request(vec![Message::user(*question)]))
                    .unwrap()
                    .text()
            })
            .collect();
        let together: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = questions
                .iter()
                .map(|question| {
                    let request = request(vec![Message::user(*question)]);
                    let model = &model;
                    scope.spawn(move || model.invoke(&request).unwrap().text())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(alone, together);
    }

    #[test]
    fn what_cannot_be_promised_is_refused() {
        let model = model();
        let mut asked = request(vec![Message::user("x")]);
        asked.response_format = Some(ResponseFormat::JsonObject);
        assert!(
            model
                .stream(&asked)
                .is_err_and(|error| error.is_user_error())
        );
        let long = request(vec![Message::user("word ".repeat(400))]);
        let error = model.stream(&long).err().unwrap();
        assert!(matches!(error.kind(), ChatErrorKind::ContextLength { .. }));
        // A receiver that goes away leaves the model free.
        drop(model.stream(&request(vec![Message::user("x")])).unwrap());
        model.invoke(&request(vec![Message::user("x")])).unwrap();
    }
}
