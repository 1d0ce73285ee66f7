//! Ollama's conversations: `/api/chat` and `/api/generate`, a JSON object a line.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::timeout;
use wenyi::chat::{
    ChatDelta, ChatOptions, ChatRequest, Content, ContentPart, FinishReason, FunctionCall, Message,
    MessageRole, ReplyBuilder, ResponseFormat, Thinking, TokenLogprob, Tool, ToolCall, Usage,
};
use wenyi_engine::decoder::GenerateOptions;

use super::chat::{Sampling, gather, logprobs, ranged};
use super::fields::Fields;
use super::json;
use super::ollama::untagged;
use crate::http::{App, Payload, named, streamed};
use crate::models::{Choice, Prompt, Speaker, Spoken};
use crate::problem::Problem;

/// Which of the two routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Chat,
    Generate,
}

/// `POST /api/chat`.
pub(crate) async fn chat(State(app): State<Arc<App>>, body: Payload) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let told: Option<Vec<Told>> = fields.optional("messages")?;
    let messages = told.unwrap_or_default().into_iter().map(Told::message);
    let messages: Vec<Message> = messages.collect();
    let answer = Answer::begin(&app, &fields, Form::Chat).await?;
    if messages.is_empty() {
        return Ok(answer.loaded());
    }
    let request = ChatRequest {
        tools: fields.optional::<Vec<Tool>>("tools")?.unwrap_or_default(),
        ..request(&fields, messages)?
    };
    let receiver = answer.speaker.speak(vec![request], &answer.speaker)?;
    answer.send(&app, receiver).await
}

/// `POST /api/generate`.
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let prompt: String = fields.optional("prompt")?.unwrap_or_default();
    let system: Option<String> = fields.optional("system")?;
    let is_raw: bool = fields.optional("raw")?.unwrap_or(false);
    for name in ["suffix", "template"] {
        if fields
            .optional::<String>(name)?
            .is_some_and(|text| !text.is_empty())
        {
            return Err(Problem::field(name, "is not taken here"));
        }
    }
    let images: Option<Vec<String>> = fields.optional("images")?;
    let answer = Answer::begin(&app, &fields, Form::Generate).await?;
    if prompt.is_empty() {
        return Ok(answer.loaded());
    }
    let receiver = if is_raw {
        let prompt = raw(&fields, prompt, &answer.speaker).await?;
        answer.speaker.complete(vec![prompt], &answer.speaker)?
    } else {
        let system = system.filter(|text| !text.is_empty()).map(Message::system);
        let question = Told {
            content: prompt,
            images: images.unwrap_or_default(),
            ..Told::default()
        };
        let messages = system.into_iter().chain([question.message()]).collect();
        let request = request(&fields, messages)?;
        answer.speaker.speak(vec![request], &answer.speaker)?
    };
    answer.send(&app, receiver).await
}

/// A message as Ollama spells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    role: MessageRole,
    content: String,
    thinking: Option<String>,
    images: Vec<String>,
    tool_calls: Vec<Called>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Called {
    #[serde(default)]
    id: String,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl Told {
    fn message(self) -> Message {
        let part = |image: &String| ContentPart {
            kind: "image_url".into(),
            extra: Map::from_iter([(
                "image_url".to_owned(),
                json!({"url": format!("data:image/png;base64,{image}")}),
            )]),
            ..ContentPart::default()
        };
        let content = if self.images.is_empty() {
            Content::Text(self.content)
        } else {
            let text = ContentPart {
                kind: "text".into(),
                text: Some(self.content),
                ..ContentPart::default()
            };
            Content::Parts(
                [text]
                    .into_iter()
                    .chain(self.images.iter().map(part))
                    .collect(),
            )
        };
        let calls = self.tool_calls.into_iter().enumerate();
        let calls = calls.map(|(index, call)| ToolCall {
            id: Some(call.id)
                .filter(|id| !id.is_empty())
                .unwrap_or(format!("call_{index}")),
            kind: "function".into(),
            function: FunctionCall {
                name: call.function.name,
                arguments: Value::Object(call.function.arguments).to_string(),
            },
        });
        let is_tool = self.role == MessageRole::Tool;
        Message {
            role: self.role,
            content: Some(content),
            reasoning_content: self.thinking,
            tool_calls: calls.collect(),
            name: self.tool_name,
            tool_call_id: self
                .tool_call_id
                .or_else(|| is_tool.then(|| "call_0".into())),
            ..Message::default()
        }
    }
}

fn request(fields: &Fields<'_>, messages: Vec<Message>) -> Result<ChatRequest, Problem> {
    let (sampling, limit) = sampling(fields)?;
    let format: Option<Value> = fields.optional("format")?;
    let response_format = match format {
        None => None,
        Some(Value::String(name)) if name.is_empty() => None,
        Some(Value::String(name)) if name == "json" => Some(ResponseFormat::JsonObject),
        Some(schema @ Value::Object(_)) => Some(ResponseFormat::JsonSchema {
            name: "format".into(),
            schema,
            strict: true,
        }),
        Some(other) => {
            let reason = format!("is `{other}`, expected `json` or a JSON schema");
            return Err(Problem::field("format", reason));
        }
    };
    let think: Option<Value> = fields.optional("think")?;
    let thinking = match think {
        None => None,
        Some(Value::Bool(true)) => Some(Thinking::On),
        Some(Value::Bool(false)) => Some(Thinking::Off),
        Some(Value::String(effort)) => Some(Thinking::Effort(effort)),
        Some(_) => return Err(Problem::field("think", "is neither a flag nor an effort")),
    };
    let options = ChatOptions {
        thinking,
        logprobs: logprobs(fields)?,
        ..sampling.chat(limit)
    };
    Ok(ChatRequest {
        messages,
        response_format,
        options,
        ..ChatRequest::default()
    })
}

/// `options`, and most tokens of the answer.
fn sampling(fields: &Fields<'_>) -> Result<(Sampling, Option<u32>), Problem> {
    let options = fields.object("options")?;
    // Below 0 there is no limit.
    let limit: Option<i64> = options.whole("num_predict")?;
    let limit = limit
        .filter(|limit| *limit > 0)
        .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let mut sampling = Sampling::parse(&options)?;
    sampling.repetition_penalty = ranged(&options, "repeat_penalty", 0.01, 10.0)?;
    Ok((sampling, limit))
}

async fn raw(
    fields: &Fields<'_>,
    prompt: String,
    speaker: &Arc<Speaker>,
) -> Result<Prompt, Problem> {
    let (sampling, limit) = sampling(fields)?;
    let Some(decoder) = speaker.decoder() else {
        return Err(Problem::field("raw", "is for models on this machine"));
    };
    let ids = decoder.encode_prompt(&prompt);
    let ids = ids.map_err(|error| Problem::field("prompt", error.to_string()))?;
    let (tokens, context_length) = (ids.len(), decoder.context());
    if tokens == 0 || tokens >= context_length {
        return Err(Problem::ContextLength {
            tokens,
            context_length,
        });
    }
    let options = GenerateOptions {
        sampling: sampling.engine(),
        max_tokens: limit.map(|limit| limit as usize),
        stop: sampling.stop,
        split_reasoning: false,
        ..GenerateOptions::default()
    };
    Ok(Prompt { ids, options })
}

/// An answer on its way.
struct Answer {
    form: Form,
    /// As the client spelt it.
    model: String,
    /// As it is served.
    name: String,
    speaker: Arc<Speaker>,
    is_stream: bool,
    started: Instant,
    loaded: Duration,
}

impl Answer {
    async fn begin(app: &App, fields: &Fields<'_>, form: Form) -> Result<Self, Problem> {
        let started = Instant::now();
        let model: String = fields.required("model")?;
        let is_stream = fields.optional("stream")?.unwrap_or(true);
        let (name, choice) = app.models.registry.speaker(Some(&untagged(&model))).await?;
        let speaker = match choice {
            Choice::Here(speaker) => speaker,
            Choice::There(_, remote) => Arc::new(remote.speaker()?),
        };
        Ok(Self {
            form,
            model,
            name,
            speaker,
            is_stream,
            loaded: started.elapsed(),
            started,
        })
    }

    /// What a request without words is for.
    fn loaded(&self) -> Response {
        let mut line = self.line("", "", &[]);
        line["done"] = true.into();
        line["done_reason"] = "load".into();
        named(json(StatusCode::OK, &line), &self.name)
    }

    async fn send(self, app: &App, receiver: Receiver<Spoken>) -> Result<Response, Problem> {
        let name = self.name.clone();
        let response = self.answer(app, receiver).await?;
        Ok(named(response, &name))
    }

    async fn answer(self, app: &App, mut receiver: Receiver<Spoken>) -> Result<Response, Problem> {
        let first = match receiver.recv().await {
            Some((_, Err(problem))) => return Err(problem),
            Some(first) => first,
            None => return Err(Problem::Stopping),
        };
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
            let line = self.last(line, reply.finish_reason.as_ref(), reply.usage);
            return Ok(json(StatusCode::OK, &line));
        }
        let (limit, metrics) = (app.options.request_timeout, app.metrics.clone());
        let (sender, response) = streamed("application/x-ndjson");
        tokio::spawn(async move {
            let mut usage = Usage::default();
            let problem = self.stream(first, receiver, &sender, limit, &mut usage);
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
        first: Spoken,
        mut receiver: Receiver<Spoken>,
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
        let last = self.last(
            self.line("", "", &[]),
            reply.finish_reason.as_ref(),
            reply.usage,
        );
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

    fn last(&self, mut line: Value, finish: Option<&FinishReason>, usage: Option<Usage>) -> Value {
        let usage = usage.unwrap_or_default();
        let total = nanoseconds(self.started.elapsed());
        line["done"] = true.into();
        line["done_reason"] = match finish {
            Some(FinishReason::Length) => "length",
            _ => "stop",
        }
        .into();
        line["total_duration"] = total.into();
        line["load_duration"] = nanoseconds(self.loaded).into();
        line["prompt_eval_count"] = usage.prompt_tokens.into();
        line["eval_count"] = usage.completion_tokens.into();
        line["eval_duration"] = total.saturating_sub(nanoseconds(self.loaded)).into();
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

/// The time in RFC 3339's form, in UTC.
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    rfc3339(since)
}

fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years from March on, so that a leap day is the last of its year; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), expected);
        }
    }
}
