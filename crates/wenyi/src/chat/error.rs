//! Why a model did not answer.

use super::ToolChoice;
use crate::providers;

/// An error of a conversation.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ChatError(Box<ChatErrorKind>);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatErrorKind {
    /// The model on this machine.
    #[error(transparent)]
    Engine(wenyi_engine::Error),
    /// The provider of the model, or the way to it.
    #[error(transparent)]
    Provider(providers::Error),
    /// The conversation is longer than the model's context.
    #[error("the conversation has {tokens} tokens, `{model}` takes {context_length}")]
    ContextLength {
        /// The model.
        model: String,
        /// Tokens of the conversation and the answer asked for.
        tokens: usize,
        /// Tokens that the model takes.
        context_length: usize,
    },
    /// The model cannot do what was asked.
    #[error("`{model}` does not take `{option}`: expected {expected}")]
    Unsupported {
        /// The model.
        model: String,
        /// What was asked.
        option: &'static str,
        /// What is possible.
        expected: String,
    },
    /// The tool that has to be called is not among those that were offered.
    #[error("`tool_choice` {}", refused(choice, tools))]
    ToolChoice {
        /// What was asked.
        choice: ToolChoice,
        /// The names of the tools.
        tools: Vec<String>,
    },
    /// The answer may not be as long as the shortest of the form that was asked for.
    #[error("`{limit}` {}", too_short(limit, form, *needed, *room))]
    Room {
        /// What sets the limit: `max_tokens`, or `messages` that fill the model's context.
        limit: &'static str,
        /// What asks for the form: `tools` or `response_format`.
        form: &'static str,
        /// Tokens that the shortest answer has.
        needed: usize,
        /// Tokens that the answer may have.
        room: usize,
    },
    /// The answer cannot have the form that was asked for.
    #[error("`{option}`: {source}")]
    Form {
        /// What asks for it.
        option: &'static str,
        /// What is wrong with it.
        source: wenyi_engine::Error,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// Why a choice among `tools` cannot be.
fn refused(choice: &ToolChoice, tools: &[String]) -> String {
    let what = match choice {
        ToolChoice::Function(name) => format!("names `{name}`"),
        other => format!("is `{}`", other.to_json().as_str().unwrap_or_default()),
    };
    match tools {
        [] => format!("{what}, and there are no `tools` to choose from"),
        tools => format!("{what}, expected one of `tools`: `{}`", tools.join("`, `")),
    }
}

/// By how much an answer of a form is too long.
fn too_short(limit: &str, form: &str, needed: usize, room: usize) -> String {
    let room = match limit {
        "max_tokens" => format!("is {room}"),
        _ => format!("leave room for {room} tokens"),
    };
    let shortest = match form {
        "tools" => "the shortest call of `tools`",
        _ => "the shortest text of `response_format`",
    };
    format!("{room}, expected about {needed} at least for {shortest}")
}

impl ChatError {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ChatErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing network or machine.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self.kind() {
            ChatErrorKind::Engine(error) => error.is_user_error(),
            ChatErrorKind::Provider(error) => error.is_user_error(),
            ChatErrorKind::ContextLength { .. }
            | ChatErrorKind::Unsupported { .. }
            | ChatErrorKind::ToolChoice { .. }
            | ChatErrorKind::Room { .. }
            | ChatErrorKind::Form { .. } => true,
            ChatErrorKind::Cancelled => false,
        }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self.kind() {
            ChatErrorKind::Engine(error) => error.hint(),
            ChatErrorKind::Provider(error) => error.hint(),
            ChatErrorKind::ContextLength { .. } => {
                Some("shorten the conversation, or use a model with a longer context".into())
            }
            ChatErrorKind::Unsupported { option, .. } => Some(format!("leave out `{option}`")),
            ChatErrorKind::ToolChoice { tools, .. } => Some(match tools.is_empty() {
                true => "give `tools`, or leave out `tool_choice`".into(),
                false => "name one of these, or leave out `tool_choice`".into(),
            }),
            ChatErrorKind::Room { limit, form, .. } => Some(match *limit {
                "max_tokens" => format!("raise `max_tokens`, or ask for less in `{form}`"),
                _ => "shorten the conversation, or use a model with a longer context".into(),
            }),
            ChatErrorKind::Form { source, .. } => source.hint(),
            ChatErrorKind::Cancelled => None,
        }
    }
}

impl From<ChatErrorKind> for ChatError {
    fn from(kind: ChatErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<wenyi_engine::Error> for ChatError {
    fn from(source: wenyi_engine::Error) -> Self {
        ChatErrorKind::Engine(source).into()
    }
}

impl From<providers::Error> for ChatError {
    fn from(source: providers::Error) -> Self {
        ChatErrorKind::Provider(source).into()
    }
}
