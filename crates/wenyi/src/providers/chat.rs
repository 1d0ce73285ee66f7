//! A provider's model as a [`ChatModel`].

use std::io::Read;

use serde_json::{Map, Value, json};

use super::endpoint::{Endpoint, Service};
use super::sse::Events;
use super::table::ThinkingField;
use super::{Error, ErrorKind, Result};
use crate::chat::{
    ChatDelta, ChatError, ChatErrorKind, ChatModel, ChatReply, ChatRequest, ChatStream,
    FinishReason, Message, ReplyBuilder, Thinking, TokenLogprob, ToolCallDelta, Usage,
};

/// A provider's model that speaks.
#[derive(Debug)]
pub struct RemoteChat {
    endpoint: Endpoint,
    url: String,
    model: String,
    name: String,
}

impl RemoteChat {
    /// The model `model` of the provider behind `endpoint`. Opens no connection.
    ///
    /// # Errors
    ///
    /// If the provider has no conversations, or the model was retired.
    pub fn open(endpoint: Endpoint, model: &str) -> Result<Self> {
        let url = endpoint.url(Service::Chat)?;
        endpoint.must_be_alive(model)?;
        let name = format!("{}:{model}", endpoint.provider());
        Ok(Self {
            endpoint,
            url,
            model: model.into(),
            name,
        })
    }

    /// The body of a request.
    fn body(&self, request: &ChatRequest, stream: bool) -> Result<Vec<u8>, ChatError> {
        let mut body = Map::new();
        body.insert("model".into(), self.model.as_str().into());
        body.insert("messages".into(), json!(request.messages));
        body.insert("stream".into(), stream.into());
        if stream {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
        self.put_options(&mut body, request)?;
        if !request.tools.is_empty() {
            body.insert("tools".into(), json!(request.tools));
        }
        let choice = request.tool_choice.as_ref().map(|choice| choice.to_json());
        put(&mut body, "tool_choice", choice);
        let format = request
            .response_format
            .as_ref()
            .map(|format| format.to_json());
        put(&mut body, "response_format", format);
        if let Some(thinking) = &request.options.thinking {
            self.put_thinking(&mut body, thinking)?;
        }
        body.extend(request.options.extra.clone());
        self.endpoint.adapt_chat(&mut body)?;
        Ok(Value::Object(body).to_string().into_bytes())
    }

    fn put_options(
        &self,
        body: &mut Map<String, Value>,
        request: &ChatRequest,
    ) -> Result<(), ChatError> {
        let options = &request.options;
        put(body, "temperature", options.temperature);
        put(body, "top_p", options.top_p);
        put(body, "max_tokens", options.max_tokens);
        put(body, "seed", options.seed);
        put(body, "presence_penalty", options.presence_penalty);
        put(body, "frequency_penalty", options.frequency_penalty);
        put(body, "parallel_tool_calls", options.parallel_tool_calls);
        if let Some(count) = options.logprobs {
            body.insert("logprobs".into(), true.into());
            put(body, "top_logprobs", Some(count).filter(|count| *count > 0));
        }
        if !options.logit_bias.is_empty() {
            body.insert("logit_bias".into(), json!(options.logit_bias));
        }
        if !options.stop.is_empty() {
            body.insert("stop".into(), json!(options.stop));
        }
        if options.context.is_some() {
            return Err(ChatErrorKind::Unsupported {
                model: self.name.clone(),
                option: "context",
                expected: "the context that the provider gives the model".into(),
            }
            .into());
        }
        let local = [
            ("top_k", options.top_k.map(Value::from)),
            ("min_p", options.min_p.map(Value::from)),
            (
                "repetition_penalty",
                options.repetition_penalty.map(Value::from),
            ),
        ];
        for (name, value) in local {
            if value.is_some() && !self.endpoint.chat_facts().top_k {
                return Err(ChatErrorKind::Unsupported {
                    model: self.name.clone(),
                    option: name,
                    expected: "`temperature`, `top_p` and penalties".into(),
                }
                .into());
            }
            put(body, name, value);
        }
        Ok(())
    }

    fn put_thinking(
        &self,
        body: &mut Map<String, Value>,
        thinking: &Thinking,
    ) -> Result<(), ChatError> {
        let unsupported = |expected: &str| {
            let (model, expected) = (self.name.clone(), expected.into());
            ChatError::from(ChatErrorKind::Unsupported {
                model,
                option: "thinking",
                expected,
            })
        };
        match (self.endpoint.chat_facts().thinking, thinking) {
            (ThinkingField::ReasoningEffort, Thinking::On) => {}
            (ThinkingField::ReasoningEffort, Thinking::Off) => {
                body.insert("reasoning_effort".into(), "none".into());
            }
            (ThinkingField::EnableThinking, Thinking::Effort(_)) => {
                return Err(unsupported("on, off, or a number of tokens"));
            }
            (ThinkingField::EnableThinking, thinking) => {
                body.insert(
                    "enable_thinking".into(),
                    (*thinking != Thinking::Off).into(),
                );
                if let Thinking::Budget(tokens) = thinking {
                    body.insert("thinking_budget".into(), (*tokens).into());
                }
            }
            (_, Thinking::Budget(_)) => return Err(unsupported("on, off, or an effort by name")),
            (field, thinking) => {
                if field == ThinkingField::Thinking {
                    let kind = if *thinking == Thinking::Off {
                        "disabled"
                    } else {
                        "enabled"
                    };
                    body.insert("thinking".into(), json!({"type": kind}));
                }
                if let Thinking::Effort(effort) = thinking {
                    body.insert("reasoning_effort".into(), effort.as_str().into());
                }
            }
        }
        Ok(())
    }

    /// True if the model would refuse to answer as a whole, because it thinks.
    fn must_stream(&self, request: &ChatRequest) -> bool {
        let facts = self.endpoint.chat_facts();
        let thinks = match &request.options.thinking {
            Some(thinking) => *thinking != Thinking::Off,
            None => facts
                .thinks_by_default
                .iter()
                .any(|start| self.model.starts_with(start)),
        };
        facts.thinking_streams_only && thinks
    }

    /// A whole answer from the API's JSON.
    fn reply(&self, bytes: &[u8]) -> Result<ChatReply> {
        let client = self.endpoint.client();
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(|error| client.malformed(error.to_string()))?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(client.told_error(200, &value));
        }
        let Some(choice) = value.pointer_mut("/choices/0").map(Value::take) else {
            return Err(client.malformed("it has no `choices`"));
        };
        let message = choice.get("message").cloned().unwrap_or_default();
        let message: Message = serde_json::from_value(message)
            .map_err(|error| client.malformed(format!("its message: {error}")))?;
        let text = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let finish_reason = choice.get("finish_reason").and_then(Value::as_str);
        Ok(ChatReply {
            id: text("id"),
            model: text("model"),
            message,
            finish_reason: finish_reason.map(FinishReason::from),
            usage: value.get("usage").and_then(Usage::from_json),
            timing: None,
            logprobs: TokenLogprob::list(&choice),
            extra: match value.get("system_fingerprint") {
                Some(mark) => Map::from_iter([("system_fingerprint".to_owned(), mark.clone())]),
                None => Map::new(),
            },
        })
    }
}

impl ChatModel for RemoteChat {
    fn name(&self) -> &str {
        &self.name
    }

    fn context_length(&self) -> Option<usize> {
        let set = self.endpoint.settings().models.get(&self.model);
        let set = set.and_then(|settings| settings.context_length);
        set.or_else(|| self.endpoint.facts().model(&self.model).context_length)
    }

    fn stream<'a>(&'a self, request: &ChatRequest) -> Result<ChatStream<'a>, ChatError> {
        let body = self.body(request, true)?;
        let client = self.endpoint.client();
        let answer = client.send_until(&self.url, self.endpoint.headers(), &body)?;
        let kind = answer.header("content-type").unwrap_or_default();
        if kind.starts_with("application/json") {
            // Some servers answer as a whole all the same.
            let mut bytes = Vec::new();
            let mut body = answer.body;
            body.read_to_end(&mut bytes)
                .map_err(|error| client.read_error(&self.url, 0, error))?;
            let whole = whole_as_delta(self.reply(&bytes)?);
            return Ok(Box::new(std::iter::once(Ok(whole))));
        }
        if kind.starts_with("text/html") {
            return Err(client.malformed("a web page instead of a stream").into());
        }
        Ok(Box::new(Stream {
            chat: self,
            events: Events::new(answer.body),
            is_complete: false,
            ended: false,
        }))
    }

    fn invoke(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        if self.must_stream(request) {
            let mut reply = ReplyBuilder::default();
            for delta in self.stream(request)? {
                reply.push(&delta?);
            }
            return Ok(reply.finish());
        }
        let body = self.body(request, false)?;
        let client = self.endpoint.client();
        let bytes = client.exchange(&self.url, self.endpoint.headers(), &body)?;
        Ok(self.reply(&bytes)?)
    }
}

/// An answer on its way.
struct Stream<'a> {
    chat: &'a RemoteChat,
    events: Events<Box<dyn Read + Send>>,
    /// A reason to stop has come, so what may follow is the usage only.
    is_complete: bool,
    ended: bool,
}

impl Stream<'_> {
    fn piece(&mut self) -> Result<Option<ChatDelta>> {
        let client = self.chat.endpoint.client();
        let received = self.events.received;
        let data = self.events.next();
        let data = data.map_err(|error| client.read_error(&self.chat.url, received, error))?;
        match data.as_deref().map(str::trim) {
            Some("[DONE]") => Ok(None),
            Some(data) => {
                let value: Value = serde_json::from_str(data)
                    .map_err(|error| client.malformed(format!("a piece of its stream: {error}")))?;
                if value.get("error").is_some_and(|error| !error.is_null()) {
                    return Err(client.told_error(200, &value));
                }
                let delta = delta(&value);
                self.is_complete |= delta.finish_reason.is_some();
                Ok(Some(delta))
            }
            None if self.is_complete => Ok(None),
            None => Err(Error::from(ErrorKind::Interrupted {
                provider: client.provider().into(),
                received: self.events.received,
                reason: "the stream ended before the answer".into(),
            })),
        }
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<ChatDelta, ChatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = self.piece().transpose();
        self.ended = !matches!(piece, Some(Ok(_)));
        piece.map(|piece| piece.map_err(ChatError::from))
    }
}

fn delta(value: &Value) -> ChatDelta {
    let text =
        |holder: &Value, name: &str| holder.get(name).and_then(Value::as_str).map(str::to_owned);
    let choice = value.pointer("/choices/0").unwrap_or(&Value::Null);
    let piece = choice.get("delta").unwrap_or(&Value::Null);
    let calls = piece.get("tool_calls").and_then(Value::as_array);
    let calls = calls
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(place, call)| ToolCallDelta {
            // Some servers leave the index out where there is one call only.
            index: call
                .get("index")
                .and_then(Value::as_u64)
                .map_or(place, |index| index as usize),
            id: text(call, "id"),
            name: call
                .pointer("/function/name")
                .and_then(Value::as_str)
                .map(str::to_owned),
            arguments: call
                .pointer("/function/arguments")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        });
    ChatDelta {
        id: text(value, "id"),
        model: text(value, "model"),
        content: text(piece, "content").unwrap_or_default(),
        // vLLM and Ollama call it `reasoning`.
        reasoning_content: text(piece, "reasoning_content")
            .or_else(|| text(piece, "reasoning"))
            .unwrap_or_default(),
        tool_calls: calls.collect(),
        finish_reason: text(choice, "finish_reason").map(|reason| reason.as_str().into()),
        usage: value.get("usage").and_then(Usage::from_json),
        timing: None,
        logprobs: TokenLogprob::list(choice),
    }
}

fn whole_as_delta(reply: ChatReply) -> ChatDelta {
    let calls = reply.message.tool_calls.iter().enumerate();
    ChatDelta {
        content: reply.text(),
        reasoning_content: reply.message.reasoning_content.clone().unwrap_or_default(),
        tool_calls: calls
            .map(|(index, call)| ToolCallDelta {
                index,
                id: Some(call.id.clone()),
                name: Some(call.function.name.clone()),
                arguments: call.function.arguments.clone(),
            })
            .collect(),
        id: Some(reply.id),
        model: Some(reply.model),
        finish_reason: reply.finish_reason,
        usage: reply.usage,
        timing: reply.timing,
        logprobs: reply.logprobs,
    }
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.into(), value.into());
    }
}
