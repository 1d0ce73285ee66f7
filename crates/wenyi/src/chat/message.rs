//! What is said: messages, tools and their calls, in the shape of OpenAI's chat completions, which
//! every provider here speaks. Serialised, they are that JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MessageRole {
    /// Instructions for the whole conversation.
    System,
    /// The same for OpenAI's reasoning models.
    Developer,
    /// The person.
    #[default]
    User,
    /// The model.
    Assistant,
    /// The result of a tool's call.
    Tool,
    /// The same in the older form, with `name` instead of `tool_call_id`.
    Function,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: MessageRole,
    /// What is said; none, sent as `null`, where the model only calls tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// Name of the speaker, or of the function for [`MessageRole::Function`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a reasoning model thought before it spoke. DeepSeek wants it back after a tool's call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tools that the model calls.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tool_calls: Vec<ToolCall>,
    /// The call that this message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Fields that not every provider knows, such as DeepSeek's `prefix`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// Instructions.
    #[must_use]
    pub fn system(text: impl Into<String>) -> Self {
        Self::of(MessageRole::System, text)
    }

    /// What the person says.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::of(MessageRole::User, text)
    }

    /// What the model said.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::of(MessageRole::Assistant, text)
    }

    /// The result of the tool's call `tool_call_id`.
    #[must_use]
    pub fn tool(tool_call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            tool_call_id: Some(tool_call_id.into()),
            ..Self::of(MessageRole::Tool, text)
        }
    }

    /// All that is said in words; empty if nothing is.
    #[must_use]
    pub fn text(&self) -> String {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }

    fn of(role: MessageRole, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            ..Self::default()
        }
    }
}

/// The content of a message: a text, or parts of which some may be images or sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Several parts.
    Parts(Vec<ContentPart>),
}

impl Content {
    /// The words in it, those of several parts joined.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts
                .iter()
                .filter_map(|part| part.text.as_deref())
                .collect(),
        }
    }

    /// True if there is anything in it that is no text.
    #[must_use]
    pub fn has_media(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Parts(parts) => parts.iter().any(|part| part.kind != "text"),
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A part of a message: `{"type": "text", "text": …}`, `{"type": "image_url", "image_url": …}`, ….
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContentPart {
    /// `text`, `image_url`, `input_audio`, `file`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// The words of a text part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A tool that the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Name of this call, for the message that answers it.
    pub id: String,
    /// `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// Which one, and with what.
    pub function: FunctionCall,
}

/// A function and what it is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// JSON as the model wrote it, which may be malformed.
    pub arguments: String,
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What it is.
    pub function: FunctionDefinition,
}

/// A function, described for a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionDefinition {
    /// Its name.
    pub name: String,
    /// What it does and when to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Hold the model to the schema while it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl Tool {
    /// A function; `parameters` is the JSON schema of its arguments.
    #[must_use]
    pub fn function(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Value,
    ) -> Self {
        Self {
            kind: function(),
            function: FunctionDefinition {
                name: name.into(),
                description: Some(description.into()),
                parameters: Some(parameters),
                strict: None,
            },
        }
    }
}

fn function() -> String {
    "function".into()
}

/// Some servers send `"tool_calls": null` where there are none.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<ToolCall>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_the_json_of_the_api() {
        let call = ToolCall {
            id: "call_1".into(),
            kind: "function".into(),
            function: FunctionCall {
                name: "f".into(),
                arguments: "{}".into(),
            },
        };
        let asking = Message {
            role: MessageRole::Assistant,
            tool_calls: vec![call],
            ..Message::default()
        };
        let expected = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
        assert_eq!(serde_json::to_value(&asking).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Message>(expected).unwrap(), asking);
    }

    #[test]
    fn what_is_not_known_survives() {
        let sent = json!({"role": "assistant", "content": "```python\n", "prefix": true});
        let message: Message = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&message).unwrap(), sent);
        let parts = json!([{"type": "text", "text": "看"}, {"type": "image_url",
            "image_url": {"url": "data:,"}}]);
        let content: Content = serde_json::from_value(parts.clone()).unwrap();
        assert!(content.has_media());
        assert_eq!(content.text(), "看");
        assert_eq!(serde_json::to_value(&content).unwrap(), parts);
    }
}
