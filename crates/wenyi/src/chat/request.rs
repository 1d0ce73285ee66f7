//! What is asked of a model: the conversation and how to go on with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Message, Tool};

/// A conversation, the tools at hand, and how to answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it must call; the model decides if not given.
    pub tool_choice: Option<ToolChoice>,
    /// The form of the answer; free text if not given.
    pub response_format: Option<ResponseFormat>,
    /// How to answer.
    pub options: ChatOptions,
}

impl ChatRequest {
    /// Goes on with `messages`, with the model's own defaults.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    /// Asks one question.
    #[must_use]
    pub fn ask(question: impl Into<String>) -> Self {
        Self::new(vec![Message::user(question)])
    }

    /// The same with these options.
    #[must_use]
    pub fn with_options(self, options: ChatOptions) -> Self {
        Self { options, ..self }
    }
}

/// How to answer. What is `None` is left to the model's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Above 1 more surprising, 0 always the likeliest.
    pub temperature: Option<f64>,
    /// Choose among the likeliest tokens that together have this probability.
    pub top_p: Option<f64>,
    /// Choose among this many tokens. Not known to OpenAI and DeepSeek.
    pub top_k: Option<u32>,
    /// Choose among tokens at least this likely, relative to the likeliest. Local servers only.
    pub min_p: Option<f64>,
    /// Tokens of the answer, those of its reasoning included.
    pub max_tokens: Option<u32>,
    /// Tokens of conversation and answer together, if fewer than the model takes. Models on this machine
    /// only.
    pub context: Option<u32>,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// Same seed, same answer, as far as the provider can.
    pub seed: Option<u64>,
    /// −2 to 2: above 0, less of what was said already.
    pub presence_penalty: Option<f64>,
    /// −2 to 2: above 0, less of what was said often.
    pub frequency_penalty: Option<f64>,
    /// Above 1, less of what was said already. Qwen and local servers.
    pub repetition_penalty: Option<f64>,
    /// Added to the scores of tokens, −100 to 100; the ids are those of the model's own tokenizer.
    pub logit_bias: BTreeMap<u32, f64>,
    /// Report each token's probability, and those of so many likeliest ones in its place.
    pub logprobs: Option<u32>,
    /// Whether and how long to think first.
    pub thinking: Option<Thinking>,
    /// Whether several tools may be called at once.
    pub parallel_tool_calls: Option<bool>,
    /// Fields put into the request as they are, for what only one provider knows.
    pub extra: Map<String, Value>,
}

/// How a reasoning model thinks before it answers; each provider has its own parameter for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Thinking {
    /// Answer at once.
    Off,
    /// Think as long as the model's default.
    On,
    /// Think with an effort by name: `low`, `medium`, `high`, `max`, ….
    Effort(String),
    /// Think for at most so many tokens.
    Budget(u32),
}

/// Which tool the model calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// The one of this name.
    Function(String),
}

impl ToolChoice {
    /// As in the API's JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Auto => "auto".into(),
            Self::None => "none".into(),
            Self::Required => "required".into(),
            Self::Function(name) => {
                serde_json::json!({"type": "function", "function": {"name": name}})
            }
        }
    }

    /// From the API's JSON; `None` if it is none of the forms.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("auto") => Some(Self::Auto),
            Some("none") => Some(Self::None),
            // `any` is what other APIs call it, and clients send it.
            Some("required" | "any") => Some(Self::Required),
            Some(_) => None,
            None => Some(Self::Function(
                value.pointer("/function/name")?.as_str()?.to_owned(),
            )),
        }
    }
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// Free text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// A name for the schema.
        name: String,
        /// The schema.
        schema: Value,
        /// Hold the model to the schema while it writes; models on this machine always are.
        strict: bool,
    },
    /// A text that the regular expression describes as a whole. Models on this machine only.
    Regex(String),
}

impl ResponseFormat {
    /// As in the API's JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text => serde_json::json!({"type": "text"}),
            Self::JsonObject => serde_json::json!({"type": "json_object"}),
            Self::JsonSchema {
                name,
                schema,
                strict,
            } => serde_json::json!({"type": "json_schema",
                "json_schema": {"name": name, "schema": schema, "strict": strict}}),
            Self::Regex(regex) => serde_json::json!({"type": "regex", "regex": regex}),
        }
    }

    /// From the API's JSON; `None` if it is none of the forms.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        match value.get("type")?.as_str()? {
            "text" => Some(Self::Text),
            "json_object" => Some(Self::JsonObject),
            "regex" => Some(Self::Regex(value.get("regex")?.as_str()?.to_owned())),
            "json_schema" => {
                let inner = value.get("json_schema")?;
                Some(Self::JsonSchema {
                    name: inner.get("name")?.as_str()?.to_owned(),
                    schema: inner.get("schema")?.clone(),
                    strict: inner
                        .get("strict")
                        .and_then(Value::as_bool)
                        .unwrap_or(false),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn choices_and_formats_go_to_json_and_back() {
        for choice in [
            ToolChoice::Auto,
            ToolChoice::None,
            ToolChoice::Required,
            ToolChoice::Function("查".into()),
        ] {
            assert_eq!(ToolChoice::from_json(&choice.to_json()), Some(choice));
        }
        assert_eq!(ToolChoice::from_json(&json!("sometimes")), None);
        for format in [
            ResponseFormat::Text,
            ResponseFormat::JsonObject,
            ResponseFormat::Regex("[0-9]+".into()),
            ResponseFormat::JsonSchema {
                name: "Joke".into(),
                schema: json!({"type": "object"}),
                strict: true,
            },
        ] {
            assert_eq!(ResponseFormat::from_json(&format.to_json()), Some(format));
        }
        assert_eq!(ResponseFormat::from_json(&json!({"type": "yaml"})), None);
    }
}
