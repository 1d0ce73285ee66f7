//! What a model answers: whole, or in pieces as it speaks.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Content, FunctionCall, Message, MessageRole, ToolCall};

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatReply {
    /// The provider's name for this answer.
    pub id: String,
    /// The model that answered, in the provider's words.
    pub model: String,
    /// What it said, thought, and wants to call.
    pub message: Message,
    /// Why it stopped; none if the provider did not say.
    pub finish_reason: Option<FinishReason>,
    /// Tokens, where the provider counted them.
    pub usage: Option<Usage>,
    /// How long it took; models on this machine only.
    pub timing: Option<Timing>,
    /// The answer's tokens with their probabilities, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// What only one provider says, such as `system_fingerprint`.
    pub extra: Map<String, Value>,
}

impl ChatReply {
    /// What it said in words.
    #[must_use]
    pub fn text(&self) -> String {
        self.message.text()
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// It was complete, or a stop text came.
    Stop,
    /// The limit of tokens.
    Length,
    /// It waits for the results of its calls.
    ToolCalls,
    /// The provider would not let it go on.
    ContentFilter,
    /// It began to run in circles, and was ended there: see [`super::without_circles`].
    Repetition,
    /// Another reason, in the provider's words.
    Other(String),
}

impl FinishReason {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Repetition => "repetition",
            Self::Other(reason) => reason,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(reason: &str) -> Self {
        match reason {
            "stop" => Self::Stop,
            "length" => Self::Length,
            // The older name, from before several calls were possible.
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            "repetition" => Self::Repetition,
            other => Self::Other(other.into()),
        }
    }
}

/// Tokens of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the conversation so far, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the answer, its reasoning included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Tokens of the prompt that the provider still knew, and charges less for.
    pub cached_tokens: u64,
    /// Tokens of the answer that were thought and not said.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// From the API's JSON; `None` if it is no object (most chunks of a stream say `null`).
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let usage = value.as_object()?;
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let detail = |path: &str| value.pointer(path).and_then(Value::as_u64);
        let prompt_tokens = count("prompt_tokens").unwrap_or(0);
        let completion_tokens = count("completion_tokens").unwrap_or(0);
        Some(Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: count("total_tokens").unwrap_or(prompt_tokens + completion_tokens),
            cached_tokens: detail("/prompt_tokens_details/cached_tokens")
                // DeepSeek's older name.
                .or_else(|| count("prompt_cache_hit_tokens"))
                .unwrap_or(0),
            reasoning_tokens: detail("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
        })
    }

    /// As in the API's JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        })
    }
}

/// How long a model worked on an answer, without the time that it waited for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Reading the prompt.
    pub prompt: Duration,
    /// Writing the answer.
    pub answer: Duration,
}

/// The next piece of an answer. Texts are to be appended to what came before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatDelta {
    /// The provider's name for the answer, where this piece has it.
    pub id: Option<String>,
    /// The model that answers, where this piece has it.
    pub model: Option<String>,
    /// More of what it says; empty if this piece has none.
    pub content: String,
    /// More of what it thinks; empty if this piece has none.
    pub reasoning_content: String,
    /// The tokens of this piece with their probabilities, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// More of its calls.
    pub tool_calls: Vec<ToolCallDelta>,
    /// Why the answer ended, in its last piece but the usage.
    pub finish_reason: Option<FinishReason>,
    /// Tokens of the whole call, in the last piece.
    pub usage: Option<Usage>,
    /// How long the whole call took, in the last piece; models on this machine only.
    pub timing: Option<Timing>,
}

/// A token of an answer, and how likely it was before temperature and the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprob {
    /// Its text; a part of a character is `\u{FFFD}`.
    pub token: String,
    /// The bytes of its text.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens in its place, best first; their own lists are empty.
    pub top: Vec<TokenLogprob>,
}

impl From<&wenyi_engine::decoder::TokenLogprob> for TokenLogprob {
    fn from(token: &wenyi_engine::decoder::TokenLogprob) -> Self {
        Self {
            token: token.text.clone(),
            bytes: token.bytes.clone(),
            logprob: token.logprob.into(),
            top: token.top.iter().map(Self::from).collect(),
        }
    }
}

impl TokenLogprob {
    /// As in the API's JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = self.alone();
        value["top_logprobs"] = self.top.iter().map(Self::alone).collect();
        value
    }

    /// Those of a choice in the API's JSON.
    pub(crate) fn list(choice: &Value) -> Vec<Self> {
        let list = choice
            .pointer("/logprobs/content")
            .and_then(Value::as_array);
        list.into_iter().flatten().map(Self::from_json).collect()
    }

    fn from_json(value: &Value) -> Self {
        let list = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        let token = value
            .get("token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
        Self {
            token: token.to_owned(),
            bytes: list("bytes").filter_map(byte).collect(),
            logprob: value
                .get("logprob")
                .and_then(Value::as_f64)
                .unwrap_or(f64::NEG_INFINITY),
            top: list("top_logprobs").map(Self::from_json).collect(),
        }
    }

    fn alone(&self) -> Value {
        json!({"token": self.token, "logprob": self.logprob, "bytes": self.bytes})
    }
}

/// The next piece of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which call of the answer.
    pub index: usize,
    /// Its name, in its first piece.
    pub id: Option<String>,
    /// The function's name, in its first piece.
    pub name: Option<String>,
    /// More of its arguments.
    pub arguments: String,
}

/// Puts an answer together from its pieces.
#[derive(Clone, Debug, Default)]
pub struct ReplyBuilder {
    reply: ChatReply,
    content: String,
    reasoning_content: String,
    calls: Vec<(usize, ToolCall)>,
}

impl ReplyBuilder {
    /// Adds the next piece.
    pub fn push(&mut self, delta: &ChatDelta) {
        self.content.push_str(&delta.content);
        self.reasoning_content.push_str(&delta.reasoning_content);
        self.reply.logprobs.extend_from_slice(&delta.logprobs);
        for call in &delta.tool_calls {
            self.push_call(call);
        }
        let reply = &mut self.reply;
        if let Some(id) = delta.id.as_ref().filter(|_| reply.id.is_empty()) {
            reply.id.clone_from(id);
        }
        if let Some(model) = delta.model.as_ref().filter(|_| reply.model.is_empty()) {
            reply.model.clone_from(model);
        }
        if delta.finish_reason.is_some() {
            reply.finish_reason.clone_from(&delta.finish_reason);
        }
        // The last one is the whole: some servers count along in every piece.
        reply.usage = delta.usage.or(reply.usage);
        reply.timing = delta.timing.or(reply.timing);
    }

    /// The answer as far as it came.
    #[must_use]
    pub fn finish(mut self) -> ChatReply {
        self.calls.sort_by_key(|(index, _)| *index);
        let calls: Vec<ToolCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        let silent = self.content.is_empty() && !calls.is_empty();
        self.reply.message = Message {
            role: MessageRole::Assistant,
            content: (!silent).then_some(Content::Text(self.content)),
            reasoning_content: Some(self.reasoning_content).filter(|text| !text.is_empty()),
            tool_calls: calls,
            ..Message::default()
        };
        self.reply
    }

    fn push_call(&mut self, delta: &ToolCallDelta) {
        let known = self
            .calls
            .iter()
            .position(|(index, _)| *index == delta.index);
        let known = known.unwrap_or_else(|| {
            let call = ToolCall {
                kind: "function".into(),
                ..ToolCall::default()
            };
            self.calls.push((delta.index, call));
            self.calls.len() - 1
        });
        let call = &mut self.calls[known].1;
        if let Some(id) = delta.id.as_ref().filter(|id| !id.is_empty()) {
            call.id.clone_from(id);
        }
        let FunctionCall { name, arguments } = &mut call.function;
        if let Some(piece) = delta.name.as_ref().filter(|piece| !piece.is_empty()) {
            name.clone_from(piece);
        }
        arguments.push_str(&delta.arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_a_whole() {
        let mut builder = ReplyBuilder::default();
        for (thought, said) in [("想", ""), ("一想", ""), ("", "你"), ("", "好")] {
            builder.push(&ChatDelta {
                content: said.into(),
                reasoning_content: thought.into(),
                model: Some("m".into()),
                ..ChatDelta::default()
            });
        }
        builder.push(&ChatDelta {
            finish_reason: Some("stop".into()),
            ..ChatDelta::default()
        });
        let reply = builder.finish();
        assert_eq!(reply.text(), "你好");
        assert_eq!(reply.message.reasoning_content.as_deref(), Some("想一想"));
        assert_eq!(reply.finish_reason, Some(FinishReason::Stop));
        assert_eq!(reply.model, "m");
    }

    #[test]
    fn calls_that_arrive_interleaved_are_told_apart() {
        let piece = |index, name: Option<&str>, arguments: &str| ChatDelta {
            tool_calls: vec![ToolCallDelta {
                index,
                id: name.map(|name| format!("call_{name}")),
                name: name.map(Into::into),
                arguments: arguments.into(),
            }],
            ..ChatDelta::default()
        };
        let mut builder = ReplyBuilder::default();
        for delta in [
            piece(1, Some("b"), ""),
            piece(0, Some("a"), "{"),
            piece(1, None, "[]"),
            piece(0, None, "}"),
        ] {
            builder.push(&delta);
        }
        let message = builder.finish().message;
        assert_eq!(message.content, None);
        let calls: Vec<_> = message
            .tool_calls
            .iter()
            .map(|call| (call.id.as_str(), call.function.arguments.as_str()))
            .collect();
        assert_eq!(calls, [("call_a", "{}"), ("call_b", "[]")]);
    }

    #[test]
    fn probabilities_go_to_json_and_back() {
        let top = TokenLogprob {
            token: "文".into(),
            bytes: "文".into(),
            logprob: -0.5,
            top: Vec::new(),
        };
        let token = TokenLogprob {
            top: vec![top.clone()],
            ..top
        };
        let choice = json!({"logprobs": {"content": [token.to_json()]}});
        assert_eq!(TokenLogprob::list(&choice), [token]);
        assert!(TokenLogprob::list(&json!({"logprobs": null})).is_empty());
    }

    #[test]
    fn usage_is_read_in_every_dialect() {
        let deepseek = json!({"prompt_tokens": 10, "completion_tokens": 5,
            "prompt_cache_hit_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}});
        let usage = Usage::from_json(&deepseek).unwrap();
        assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (4, 3));
        assert_eq!(usage.total_tokens, 15);
        assert_eq!(Usage::from_json(&usage.to_json()), Some(usage));
        assert_eq!(Usage::from_json(&Value::Null), None);
    }
}
