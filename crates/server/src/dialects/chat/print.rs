//! Answers of conversations and of texts that go on, whole and as server-sent events.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::timeout;
use wenyi::chat::{ChatDelta, ChatReply, FinishReason, TokenLogprob, ToolCallDelta, Usage};

use super::super::openai;
use super::parse::Streams;
use crate::http::{App, streamed};
use crate::models::Spoken;
use crate::problem::Problem;

/// Which of the two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Text,
}

/// What every part of an answer begins with.
#[derive(Clone, Debug)]
pub(super) struct Head {
    form: Form,
    id: String,
    created: u64,
    pub(super) model: String,
}

impl Head {
    pub(super) fn new(form: Form, model: String) -> Self {
        let kind = if form == Form::Chat {
            "chatcmpl"
        } else {
            "cmpl"
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            form,
            id: format!("{kind}-{}", uuid::Uuid::new_v4().simple()),
            created: since.map_or(0, |time| time.as_secs()),
            model,
        }
    }

    fn object(&self, is_chunk: bool, choices: Vec<Value>) -> Value {
        let object = match (self.form, is_chunk) {
            (Form::Chat, false) => "chat.completion",
            (Form::Chat, true) => "chat.completion.chunk",
            (Form::Text, _) => "text_completion",
        };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices})
    }

    fn chunk(&self, index: usize, piece: Value, finish: Option<&FinishReason>) -> Value {
        let finish = finish.map(FinishReason::as_str);
        let mut choice = json!({"index": index, "logprobs": null, "finish_reason": finish});
        match self.form {
            Form::Chat => choice["delta"] = piece,
            Form::Text => choice["text"] = piece,
        }
        self.object(true, vec![choice])
    }
}

/// The answer as a whole.
pub(super) fn whole(head: &Head, replies: Vec<ChatReply>) -> Value {
    let usage = total(replies.iter().map(|reply| reply.usage));
    let choices = replies.into_iter().enumerate().map(|(index, reply)| {
        let finish = reply
            .finish_reason
            .as_ref()
            .map_or("stop", FinishReason::as_str);
        let logprobs = logprobs(&reply.logprobs);
        let mut choice = json!({"index": index, "logprobs": logprobs, "finish_reason": finish});
        match head.form {
            Form::Chat => choice["message"] = message(&reply),
            Form::Text => choice["text"] = reply.text().into(),
        }
        choice
    });
    let mut whole = head.object(false, choices.collect());
    whole["usage"] = usage.to_json();
    whole
}

/// Tokens with their probabilities; `null` if they were not asked for.
fn logprobs(tokens: &[TokenLogprob]) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let content: Vec<Value> = tokens.iter().map(TokenLogprob::to_json).collect();
    json!({"content": content, "refusal": null})
}

fn message(reply: &ChatReply) -> Value {
    let mut message = json!(reply.message);
    message["refusal"] = Value::Null;
    message
}

/// The tokens of several answers to one prompt, which is counted once.
pub(super) fn total(usages: impl Iterator<Item = Option<Usage>>) -> Usage {
    let mut total = Usage::default();
    for usage in usages.flatten() {
        total.prompt_tokens = total.prompt_tokens.max(usage.prompt_tokens);
        total.cached_tokens = total.cached_tokens.max(usage.cached_tokens);
        total.completion_tokens += usage.completion_tokens;
        total.reasoning_tokens += usage.reasoning_tokens;
    }
    total.total_tokens = total.prompt_tokens + total.completion_tokens;
    total
}

/// The answer as it grows; whoever goes away ends it.
pub(super) fn stream(
    app: &Arc<App>,
    head: Head,
    first: Spoken,
    receiver: Receiver<Spoken>,
    count: usize,
    streams: Streams,
) -> Response {
    let (limit, metrics) = (app.options.request_timeout, app.metrics.clone());
    let (sender, response) = streamed("text/event-stream; charset=utf-8");
    let mut events = Events {
        head,
        sender,
        has_usage: streams.has_usage,
        usages: vec![None; count],
        is_finished: vec![false; count],
    };
    tokio::spawn(async move {
        let problem = events.run(first, receiver, limit).await;
        let usage = total(events.usages.iter().copied());
        metrics.chat(&events.head.model, &usage);
        if let Some(problem) = problem {
            // Clients look for the error in an event of its own; what follows would be no answer.
            let _ = events.send(&openai::error(&problem)).await;
        }
    });
    response
}

struct Events {
    head: Head,
    sender: Sender<Bytes>,
    has_usage: bool,
    usages: Vec<Option<Usage>>,
    is_finished: Vec<bool>,
}

/// The client went away.
struct Gone;

impl Events {
    /// Sends everything; a problem if it did not come to the end.
    async fn run(
        &mut self,
        first: Spoken,
        mut receiver: Receiver<Spoken>,
        limit: Duration,
    ) -> Option<Problem> {
        if self.head.form == Form::Chat {
            for index in 0..self.usages.len() {
                let piece = json!({"role": "assistant", "content": ""});
                self.chunk(index, piece, None).await.ok()?;
            }
        }
        let mut next = Some(first);
        while let Some((index, piece)) = next {
            match piece {
                Ok(delta) => self.piece(index, delta).await.ok()?,
                Err(problem) => return Some(problem),
            }
            next = tokio::select! {
                next = timeout(limit, receiver.recv()) => match next {
                    Ok(next) => next,
                    Err(_) => return Some(Problem::Deadline(limit)),
                },
                () = self.sender.closed() => return None,
            };
        }
        if !self.is_finished.iter().all(|is_finished| *is_finished) {
            let reason = "the answer broke off".into();
            return Some(Problem::Internal { reason });
        }
        if self.has_usage {
            let mut last = self.head.object(true, Vec::new());
            last["usage"] = total(self.usages.iter().copied()).to_json();
            self.send(&last).await.ok()?;
        }
        let _ = self
            .sender
            .send(Bytes::from_static(b"data: [DONE]\n\n"))
            .await;
        None
    }

    async fn piece(&mut self, index: usize, delta: ChatDelta) -> Result<(), Gone> {
        self.usages[index] = delta.usage.or(self.usages[index]);
        let is_chat = self.head.form == Form::Chat;
        let tokens = &delta.logprobs;
        if !delta.reasoning_content.is_empty() && is_chat {
            let piece = json!({"reasoning_content": delta.reasoning_content});
            self.piece_chunk(index, piece, tokens).await?;
        }
        if !delta.content.is_empty() {
            let piece = match self.head.form {
                Form::Chat => json!({"content": delta.content}),
                Form::Text => json!(delta.content),
            };
            self.piece_chunk(index, piece, tokens).await?;
        }
        if !delta.tool_calls.is_empty() && is_chat {
            let calls: Vec<Value> = delta.tool_calls.iter().map(call).collect();
            self.piece_chunk(index, json!({"tool_calls": calls}), tokens)
                .await?;
        }
        if let Some(reason) = &delta.finish_reason {
            self.is_finished[index] = true;
            let piece = if is_chat { json!({}) } else { json!("") };
            self.chunk(index, piece, Some(reason)).await?;
        }
        Ok(())
    }

    /// More of an answer, and the tokens that it is made of.
    async fn piece_chunk(
        &self,
        index: usize,
        piece: Value,
        tokens: &[TokenLogprob],
    ) -> Result<(), Gone> {
        let mut chunk = self.head.chunk(index, piece, None);
        chunk["choices"][0]["logprobs"] = logprobs(tokens);
        if self.has_usage {
            chunk["usage"] = Value::Null;
        }
        self.send(&chunk).await
    }

    async fn chunk(
        &self,
        index: usize,
        piece: Value,
        finish: Option<&FinishReason>,
    ) -> Result<(), Gone> {
        let mut chunk = self.head.chunk(index, piece, finish);
        if self.has_usage {
            chunk["usage"] = Value::Null;
        }
        self.send(&chunk).await
    }

    async fn send(&self, value: &impl serde::Serialize) -> Result<(), Gone> {
        let text = serde_json::to_string(value).unwrap_or_default();
        let event = Bytes::from(format!("data: {text}\n\n"));
        self.sender.send(event).await.map_err(|_| Gone)
    }
}

fn call(delta: &ToolCallDelta) -> Value {
    let mut function = json!({"arguments": delta.arguments});
    if let Some(name) = &delta.name {
        function["name"] = json!(name);
    }
    let mut call = json!({"index": delta.index, "function": function});
    if let Some(id) = &delta.id {
        call["id"] = json!(id);
        call["type"] = json!("function");
    }
    call
}
