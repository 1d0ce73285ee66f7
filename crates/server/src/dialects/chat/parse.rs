//! Requests for conversations and for texts that go on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use wenyi::chat::{ChatOptions, ChatRequest, Message, ResponseFormat, Thinking, Tool, ToolChoice};
use wenyi_engine::decoder::SamplingOptions;

use super::super::fields::Fields;
use crate::problem::Problem;

/// Answers to one request.
const MAX_COUNT: usize = 16;
/// Texts that end an answer; OpenAI takes 4, DeepSeek 16.
const MAX_STOPS: usize = 16;

/// How the answer is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(super) is_wanted: bool,
    pub(super) has_usage: bool,
}

pub(super) fn streams(fields: &Fields<'_>) -> Result<Streams, Problem> {
    let options = fields.object("stream_options")?;
    let has_usage: Option<bool> = options.optional("include_usage")?;
    Ok(Streams {
        is_wanted: fields.optional("stream")?.unwrap_or(false),
        has_usage: has_usage.unwrap_or(false),
    })
}

pub(super) fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, Problem> {
    let messages: Vec<Message> = fields.required("messages")?;
    if messages.is_empty() {
        return Err(Problem::field("messages", "is empty"));
    }
    Ok(messages)
}

/// The request and how many answers to it are wanted.
pub(super) fn request(fields: &Fields<'_>) -> Result<(ChatRequest, usize), Problem> {
    let sampling = Sampling::parse(fields)?;
    let choice: Option<Value> = fields.optional("tool_choice")?;
    let format: Option<Value> = fields.optional("response_format")?;
    let request = ChatRequest {
        messages: messages(fields)?,
        tools: fields.optional::<Vec<Tool>>("tools")?.unwrap_or_default(),
        tool_choice: choice.as_ref().map(tool_choice).transpose()?,
        response_format: format.as_ref().map(response_format).transpose()?,
        options: ChatOptions {
            thinking: thinking(fields)?,
            logprobs: logprobs(fields)?,
            parallel_tool_calls: fields.optional("parallel_tool_calls")?,
            ..sampling.chat(limit(fields)?)
        },
    };
    Ok((request, count(fields)?))
}

/// The same request several times; seeds differ, or all answers would be the same.
pub(super) fn several(request: ChatRequest, count: usize) -> Vec<ChatRequest> {
    let shifted = |index: usize| {
        let mut request = request.clone();
        let seed = request.options.seed;
        request.options.seed = seed.map(|seed| seed.wrapping_add(index as u64));
        request
    };
    (0..count).map(shifted).collect()
}

fn tool_choice(value: &Value) -> Result<ToolChoice, Problem> {
    const EXPECTED: &str =
        r#"`auto`, `none`, `required` or `{"type": "function", "function": {"name": …}}`"#;
    ToolChoice::from_json(value).ok_or_else(|| unknown("tool_choice", value, EXPECTED))
}

fn response_format(value: &Value) -> Result<ResponseFormat, Problem> {
    let expected = || match value["type"].as_str() {
        Some("json_schema") => {
            r#"`{"type": "json_schema", "json_schema": {"name": …, "schema": …}}`"#
        }
        Some("regex") => r#"`{"type": "regex", "regex": …}`"#,
        _ => "an object whose `type` is `text`, `json_object`, `json_schema` or `regex`",
    };
    ResponseFormat::from_json(value).ok_or_else(|| unknown("response_format", value, expected()))
}

/// A value that is none of those `expected`.
fn unknown(name: &'static str, value: &Value, expected: &str) -> Problem {
    /// Characters of a value that are told; a schema may have thousands.
    const TOLD: usize = 100;
    let text = value.to_string();
    let mut told: String = text.chars().take(TOLD).collect();
    if told.len() < text.len() {
        told.push('…');
    }
    Problem::field(name, format!("is `{told}`, expected {expected}"))
}

/// How many of the likeliest tokens are told of for each token, if any is.
pub(crate) fn logprobs(fields: &Fields<'_>) -> Result<Option<u32>, Problem> {
    /// OpenAI's own limit.
    const MOST: u32 = 20;
    let is_wanted: Option<bool> = fields.optional("logprobs")?;
    let count: Option<u32> = fields.optional("top_logprobs")?;
    if count.is_some() && is_wanted != Some(true) {
        return Err(Problem::field(
            "top_logprobs",
            "needs `logprobs` to be true",
        ));
    }
    if let Some(count) = count.filter(|count| *count > MOST) {
        let reason = format!("is {count}, expected 0 to {MOST}");
        return Err(Problem::field("top_logprobs", reason));
    }
    Ok(is_wanted
        .filter(|is_wanted| *is_wanted)
        .map(|_| count.unwrap_or(0)))
}

/// Biases by token, of the model's own tokenizer.
fn logit_bias(fields: &Fields<'_>) -> Result<BTreeMap<u32, f64>, Problem> {
    let bias: Option<BTreeMap<u32, f64>> = fields.optional("logit_bias")?;
    let bias = bias.unwrap_or_default();
    if let Some((id, value)) = bias
        .iter()
        .find(|(_, value)| !(-100.0..=100.0).contains(*value))
    {
        let reason = format!("has {value} for token {id}, expected -100 to 100");
        return Err(Problem::field("logit_bias", reason));
    }
    Ok(bias)
}

/// Tokens of the answer, under either of their names.
pub(super) fn limit(fields: &Fields<'_>) -> Result<Option<u32>, Problem> {
    for name in ["max_completion_tokens", "max_tokens"] {
        match fields.whole::<u32>(name)? {
            Some(0) => return Err(Problem::field(name, "is 0, expected at least 1")),
            Some(limit) => return Ok(Some(limit)),
            None => {}
        }
    }
    Ok(None)
}

/// What the request calls fields that have several names.
pub(super) fn names(
    fields: &Fields<'_>,
) -> Result<&'static [(&'static str, &'static str)], Problem> {
    let is_newer = fields.whole::<u32>("max_completion_tokens")?.is_some();
    Ok(match is_newer {
        true => &[("max_tokens", "max_completion_tokens")],
        false => &[],
    })
}

pub(super) fn count(fields: &Fields<'_>) -> Result<usize, Problem> {
    let count = fields.whole("n")?.unwrap_or(1);
    if (1..=MAX_COUNT).contains(&count) {
        return Ok(count);
    }
    let reason = format!("is {count}, expected 1 to {MAX_COUNT}");
    Err(Problem::field("n", reason))
}

/// How OpenAI, Qwen, DeepSeek and vLLM ask for thought.
fn thinking(fields: &Fields<'_>) -> Result<Option<Thinking>, Problem> {
    if let Some(effort) = fields.optional::<String>("reasoning_effort")? {
        let is_off = effort == "none";
        return Ok(Some(if is_off {
            Thinking::Off
        } else {
            Thinking::Effort(effort)
        }));
    }
    let template = fields.object("chat_template_kwargs")?;
    let flag: Option<bool> = match fields.optional("enable_thinking")? {
        None => template.optional("enable_thinking")?,
        flag => flag,
    };
    if let Some(is_on) = flag {
        return Ok(Some(if is_on { Thinking::On } else { Thinking::Off }));
    }
    let kind: Option<String> = fields.object("thinking")?.optional("type")?;
    Ok(kind.map(|kind| match &*kind {
        "disabled" => Thinking::Off,
        _ => Thinking::On,
    }))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Several(Vec<String>),
}

/// How tokens are chosen and when they end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) logit_bias: BTreeMap<u32, f64>,
}

impl Sampling {
    pub(crate) fn parse(fields: &Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            temperature: ranged(fields, "temperature", 0.0, 2.0)?,
            top_p: ranged(fields, "top_p", 0.0, 1.0)?,
            top_k: fields.whole("top_k")?,
            min_p: ranged(fields, "min_p", 0.0, 1.0)?,
            presence_penalty: ranged(fields, "presence_penalty", -2.0, 2.0)?,
            frequency_penalty: ranged(fields, "frequency_penalty", -2.0, 2.0)?,
            repetition_penalty: ranged(fields, "repetition_penalty", 0.01, 10.0)?,
            seed: seed(fields)?,
            stop: stops(fields)?,
            logit_bias: logit_bias(fields)?,
        })
    }

    pub(crate) fn chat(self, max_tokens: Option<u32>) -> ChatOptions {
        ChatOptions {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k.filter(|count| *count > 0),
            min_p: self.min_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: self.stop,
            logit_bias: self.logit_bias,
            max_tokens,
            ..ChatOptions::default()
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the engine samples in f32")]
    pub(crate) fn engine(&self) -> SamplingOptions {
        let usual = SamplingOptions::default();
        let number = |value: Option<f64>, usual: f32| value.map_or(usual, |value| value as f32);
        let biases = self.logit_bias.iter();
        SamplingOptions {
            temperature: number(self.temperature, usual.temperature),
            top_k: self
                .top_k
                .filter(|count| *count > 0)
                .map(|count| count as usize),
            top_p: number(self.top_p, usual.top_p),
            min_p: number(self.min_p, usual.min_p),
            repetition_penalty: number(self.repetition_penalty, usual.repetition_penalty),
            presence_penalty: number(self.presence_penalty, usual.presence_penalty),
            frequency_penalty: number(self.frequency_penalty, usual.frequency_penalty),
            logit_bias: biases.map(|(id, bias)| (*id, *bias as f32)).collect(),
            seed: self.seed,
        }
    }
}

/// A number between `least` and `most`.
pub(crate) fn ranged(
    fields: &Fields<'_>,
    name: &'static str,
    least: f64,
    most: f64,
) -> Result<Option<f64>, Problem> {
    let value: Option<f64> = fields.optional(name)?;
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            let reason = format!("is {value}, expected {least} to {most}");
            Err(Problem::field(name, reason))
        }
        value => Ok(value),
    }
}

fn seed(fields: &Fields<'_>) -> Result<Option<u64>, Problem> {
    // OpenAI's is signed.
    let seed: Option<i64> = fields.whole("seed")?;
    Ok(seed.map(i64::cast_unsigned))
}

fn stops(fields: &Fields<'_>) -> Result<Vec<String>, Problem> {
    let mut stops = match fields.optional("stop")? {
        None => Vec::new(),
        Some(Stops::One(stop)) => vec![stop],
        Some(Stops::Several(stops)) => stops,
    };
    stops.retain(|stop| !stop.is_empty());
    if stops.len() > MAX_STOPS {
        let (field, received, limit) = ("stop", stops.len(), MAX_STOPS);
        return Err(Problem::TooManyInputs {
            field,
            received,
            limit,
        });
    }
    Ok(stops)
}
