//! Answers as Ollama prints them, whole or a line at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::timeout;
use wenyi::chat::{
    ChatDelta, ChatReply, FinishReason, ReplyBuilder, Timing, TokenLogprob, ToolCall, Usage,
};
use wenyi_engine::decoder::Decoder;

use super::super::chat::gather;
use super::super::fields::Fields;
use super::super::json;
use super::super::ollama::untagged;
use super::Form;
use super::parse::Context;
use super::time::now;
use crate::http::{App, named, streamed};
use crate::models::{Choice, Speaker, Spoken};
use crate::problem::Problem;

/// The tokens of the context that an answer had, where the request speaks of them.
const CONTEXT: HeaderName = HeaderName::from_static("x-wenyi-context");

/// An answer on its way.
pub(super) struct Answer {
    form: Form,
    /// As the client spelt it.
    model: String,
    /// As it is served.
    name: String,
    pub(super) speaker: Arc<Speaker>,
    pub(super) context: Context,
    is_stream: bool,
    started: Instant,
    loaded: Duration,
}

impl Answer {
    pub(super) async fn begin(app: &App, fields: &Fields<'_>, form: Form) -> Result<Self, Problem> {
        let started = Instant::now();
        let model: String = fields.required("model")?;
        let is_stream = fields.optional("stream")?.unwrap_or(true);
        let (name, choice) = app.models.registry.speaker(Some(&untagged(&model))).await?;
        let speaker = match choice {
            Choice::Here(speaker) => speaker,
            Choice::There(_, remote) => Arc::new(remote.speaker()?),
        };
        let context = Context::parse(fields, speaker.decoder().map(Decoder::context))?;
        Ok(Self {
            form,
            model,
            name,
            speaker,
            context,
            is_stream,
            loaded: started.elapsed(),
            started,
        })
    }

    /// What a request without words is for.
    pub(super) fn loaded(&self) -> Response {
        let mut line = self.line("", "", &[]);
        line["done"] = true.into();
        line["done_reason"] = "load".into();
        self.signed(json(StatusCode::OK, &line))
    }

    /// The response with the model's name, and with the context that there was if one was asked for.
    fn signed(&self, response: Response) -> Response {
        let mut response = named(response, &self.name);
        let told = self.context.told();
        if let Some(value) = told.and_then(|told| HeaderValue::try_from(told).ok()) {
            response.headers_mut().insert(CONTEXT, value);
        }
        response
    }

    pub(super) async fn send(
        self,
        app: &App,
        receiver: Receiver<Spoken>,
    ) -> Result<Response, Problem> {
        let answer = Arc::new(self);
        let response = answer.clone().answer(app, receiver).await?;
        Ok(answer.signed(response))
    }

    async fn answer(
        self: Arc<Self>,
        app: &App,
        mut receiver: Receiver<Spoken>,
    ) -> Result<Response, Problem> {
        let first = match receiver.recv().await {
            Some((_, Err(problem))) => return Err(problem),
            Some(first) => first,
            None => return Err(Problem::Stopping),
        };
        // What tells least wrongly when a provider's model had read the prompt.
        let heard = self.started.elapsed();
        if !self.is_stream {
            let mut replies = gather(first, receiver, 1).await?;
            let reply = replies.pop().unwrap_or_default().finish();
            let thought = reply
                .message
                .reasoning_content
                .as_deref()
                .unwrap_or_default();
            let mut line = self.line(&reply.text(), thought, &reply.message.tool_calls);
            put_logprobs(&mut line, &reply.logprobs);
            let usage = reply.usage.unwrap_or_default();
            app.metrics.chat(&self.name, &usage);
            let line = self.last(line, &reply, heard);
            return Ok(json(StatusCode::OK, &line));
        }
        let (limit, metrics) = (app.options.request_timeout, app.metrics.clone());
        let (sender, response) = streamed("application/x-ndjson");
        tokio::spawn(async move {
            let mut usage = Usage::default();
            let receiver = (first, receiver, heard);
            let problem = self.stream(receiver, &sender, limit, &mut usage);
            let problem = problem.await;
            metrics.chat(&self.name, &usage);
            if let Some(problem) = problem {
                let _ = sender
                    .send(line(&json!({"error": problem.to_string()})))
                    .await;
            }
        });
        Ok(response)
    }

    /// Sends everything; a problem if it did not come to the end.
    async fn stream(
        &self,
        (first, mut receiver, heard): (Spoken, Receiver<Spoken>, Duration),
        sender: &Sender<Bytes>,
        limit: Duration,
        usage: &mut Usage,
    ) -> Option<Problem> {
        let mut next = Some(first);
        // Calls are told whole, once they are.
        let mut all = ReplyBuilder::default();
        while let Some((_, piece)) = next {
            let delta = match piece {
                Ok(delta) => delta,
                Err(problem) => return Some(problem),
            };
            *usage = delta.usage.unwrap_or(*usage);
            if !delta.content.is_empty() || !delta.reasoning_content.is_empty() {
                let mut piece = self.line(&delta.content, &delta.reasoning_content, &[]);
                put_logprobs(&mut piece, &delta.logprobs);
                sender.send(line(&piece)).await.ok()?;
            }
            all.push(&ChatDelta {
                content: String::new(),
                reasoning_content: String::new(),
                ..delta
            });
            next = tokio::select! {
                next = timeout(limit, receiver.recv()) => match next {
                    Ok(next) => next,
                    Err(_) => return Some(Problem::Deadline(limit)),
                },
                () = sender.closed() => return None,
            };
        }
        let reply = all.finish();
        if reply.finish_reason.is_none() {
            let reason = "the answer broke off".into();
            return Some(Problem::Internal { reason });
        }
        if !reply.message.tool_calls.is_empty() {
            let piece = self.line("", "", &reply.message.tool_calls);
            sender.send(line(&piece)).await.ok()?;
        }
        let last = self.last(self.line("", "", &[]), &reply, heard);
        let _ = sender.send(line(&last)).await;
        None
    }

    fn line(&self, text: &str, thought: &str, calls: &[ToolCall]) -> Value {
        let mut line = json!({"model": self.model, "created_at": now(), "done": false});
        match self.form {
            Form::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if !thought.is_empty() {
                    message["thinking"] = thought.into();
                }
                if !calls.is_empty() {
                    message["tool_calls"] = calls.iter().enumerate().map(called).collect();
                }
                line["message"] = message;
            }
            Form::Generate => {
                line["response"] = text.into();
                if !thought.is_empty() {
                    line["thinking"] = thought.into();
                }
            }
        }
        line
    }

    /// The last line; the first piece of the answer was `heard` so long after the request.
    fn last(&self, mut line: Value, reply: &ChatReply, heard: Duration) -> Value {
        let usage = reply.usage.unwrap_or_default();
        let total = self.started.elapsed();
        let timing = reply.timing.unwrap_or(Timing {
            prompt: heard.saturating_sub(self.loaded),
            answer: total.saturating_sub(heard),
        });
        line["done"] = true.into();
        line["done_reason"] = match reply.finish_reason {
            Some(FinishReason::Length) => "length",
            _ => "stop",
        }
        .into();
        line["total_duration"] = nanoseconds(total).into();
        line["load_duration"] = nanoseconds(self.loaded).into();
        line["prompt_eval_count"] = usage.prompt_tokens.into();
        line["prompt_eval_duration"] = nanoseconds(timing.prompt).into();
        line["eval_count"] = usage.completion_tokens.into();
        line["eval_duration"] = nanoseconds(timing.answer).into();
        line
    }
}

fn put_logprobs(line: &mut Value, tokens: &[TokenLogprob]) {
    if !tokens.is_empty() {
        line["logprobs"] = tokens.iter().map(TokenLogprob::to_json).collect();
    }
}

fn called((index, call): (usize, &ToolCall)) -> Value {
    let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap_or(json!({}));
    json!({"id": call.id, "function": {"index": index, "name": call.function.name,
        "arguments": arguments}})
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
