//! A conversation goes in, an answer comes out, whole or piece by piece: one trait for every model
//! that speaks, on this machine or far away.

mod message;
mod request;
mod reply;
mod error;
mod tools;
mod calls;
mod bare;
mod quoted;
mod meant;
mod prepare;
mod local;
mod sessions;
mod memory;
mod circles;

pub use crate::providers::{init_chat_model, init_chat_model_with};
pub use circles::without_circles;
pub use error::{ChatError, ChatErrorKind};
pub use local::{CacheFormat, DEFAULT_CHAT_MODEL, DecoderOptions, LocalChatModel};
pub use memory::{Turn, TurnVectors, recall, turns};
pub use message::{
    Content, ContentPart, FunctionCall, FunctionDefinition, Message, MessageRole, Tool, ToolCall,
};
pub use reply::{
    ChatDelta, ChatReply, FinishReason, ReplyBuilder, Timing, TokenLogprob, ToolCallDelta, Usage,
};
pub use request::{ChatOptions, ChatRequest, ResponseFormat, Thinking, ToolChoice};

/// An answer as it comes; dropping it ends the work behind it. After an error it is at its end.
pub type ChatStream<'a> = Box<dyn Iterator<Item = Result<ChatDelta, ChatError>> + Send + 'a>;

/// A model that speaks. Blocking: a server calls it from a thread of its own.
pub trait ChatModel: Send + Sync {
    /// The model's name as a user gives it, such as `deepseek:deepseek-v4-flash`.
    fn name(&self) -> &str;

    /// Tokens of conversation and answer together, where that is known.
    fn context_length(&self) -> Option<usize>;

    /// Goes on with the conversation; the answer comes in pieces as the model speaks.
    ///
    /// # Errors
    ///
    /// If the request cannot be served; what fails later comes as the last item of the stream.
    fn stream<'a>(&'a self, request: &ChatRequest) -> Result<ChatStream<'a>, ChatError>;

    /// Goes on with the conversation; the answer comes as a whole.
    ///
    /// # Errors
    ///
    /// If the request cannot be served, or the model fails on the way.
    fn invoke(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let mut reply = ReplyBuilder::default();
        for delta in self.stream(request)? {
            reply.push(&delta?);
        }
        Ok(reply.finish())
    }
}
