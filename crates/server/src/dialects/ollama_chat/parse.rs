//! Requests as Ollama spells them.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use wenyi::chat::{
    ChatOptions, ChatRequest, Content, ContentPart, FunctionCall, Message, MessageRole,
    ResponseFormat, Thinking, ToolCall,
};
use wenyi_engine::decoder::GenerateOptions;

use super::super::chat::{Sampling, logprobs, ranged};
use super::super::fields::Fields;
use super::answer::Answer;
use crate::models::Prompt;
use crate::problem::Problem;

/// A message as Ollama spells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
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
    pub(super) fn by_user(content: String, images: Vec<String>) -> Self {
        Self {
            content,
            images,
            ..Self::default()
        }
    }

    pub(super) fn message(self) -> Message {
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

/// The request for an answer to `messages`, in a context of so many tokens.
pub(super) fn request(
    fields: &Fields<'_>,
    messages: Vec<Message>,
    context: Option<u32>,
) -> Result<ChatRequest, Problem> {
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
        context,
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

/// A text to go on with as it is.
pub(super) fn raw(fields: &Fields<'_>, prompt: String, answer: &Answer) -> Result<Prompt, Problem> {
    let (sampling, limit) = sampling(fields)?;
    let Some(decoder) = answer.speaker.decoder() else {
        return Err(Problem::field("raw", "is for models on this machine"));
    };
    let ids = decoder.encode_prompt(&prompt);
    let ids = ids.map_err(|error| Problem::field("prompt", error.to_string()))?;
    let asked = answer.context.asked.map(|context| context as usize);
    let (tokens, context_length) = (ids.len(), asked.unwrap_or(decoder.context()));
    if tokens == 0 || tokens >= context_length {
        return Err(Problem::ContextLength {
            tokens,
            context_length,
        });
    }
    let room = context_length - tokens;
    let options = GenerateOptions {
        sampling: sampling.engine(),
        max_tokens: Some(limit.map_or(room, |limit| room.min(limit as usize))),
        stop: sampling.stop,
        split_reasoning: false,
        ..GenerateOptions::default()
    };
    Ok(Prompt { ids, options })
}

/// `options.num_ctx`: what a conversation and its answer may have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    /// Tokens that the model is held to, if fewer than it takes.
    pub(super) asked: Option<u32>,
    /// Whether the request says something of it.
    is_given: bool,
    /// Tokens that the model takes, where that is known.
    most: Option<usize>,
}

impl Context {
    /// What the request says; of more than the `most` that the model takes it gets those, as from
    /// Ollama, which has no other answer to it than a line in its log.
    pub(super) fn parse(fields: &Fields<'_>, most: Option<usize>) -> Result<Self, Problem> {
        let number: Option<i64> = fields.object("options")?.whole("num_ctx")?;
        // 0 is Ollama's word for the model's own.
        let Some(number) = number.filter(|number| *number != 0) else {
            return Ok(Self::default());
        };
        let Ok(wanted) = u64::try_from(number) else {
            let reason = format!("is {number}, expected at least 1, or 0 for the model's own");
            return Err(Problem::field("options.num_ctx", reason));
        };
        let fits = |most: usize| wanted < most as u64;
        Ok(Self {
            asked: most.and_then(|most| u32::try_from(wanted).ok().filter(|_| fits(most))),
            is_given: true,
            most,
        })
    }

    /// For the header of an answer: the tokens that there were, if the request says something of them.
    pub(super) fn told(&self) -> Option<String> {
        let tokens = self.asked.map(|asked| asked as usize).or(self.most);
        let told = tokens.map_or_else(|| "provider".to_owned(), |tokens| tokens.to_string());
        self.is_given.then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_kept_to_as_far_as_there_is_one() {
        let parse = |number: &str, most| {
            let body = format!("{{\"options\": {{\"num_ctx\": {number}}}}}");
            let context = Context::parse(&Fields::parse(body.as_bytes()).unwrap(), most);
            context.map(|context| (context.asked, context.told()))
        };
        let told = |told: &str| Some(told.to_owned());
        assert_eq!(parse("100", Some(512)).unwrap(), (Some(100), told("100")));
        assert_eq!(parse("512", Some(512)).unwrap(), (None, told("512")));
        assert_eq!(parse("1e12", Some(512)).unwrap(), (None, told("512")));
        assert_eq!(parse("100", None).unwrap(), (None, told("provider")));
        for unsaid in ["0", "null"] {
            assert_eq!(parse(unsaid, Some(512)).unwrap(), (None, None));
        }
        let problem = parse("-1", Some(512)).unwrap_err().to_string();
        assert!(
            problem.starts_with("`options.num_ctx` is -1, expected"),
            "{problem}"
        );
    }
}
