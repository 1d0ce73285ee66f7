//! Models behind an API: from a name such as `dashscope:text-embedding-v4` to vectors, answers and
//! scores.
//!
//! [`ModelName`] says whose a model is, [`Endpoint`] where its provider is and what it wants; what
//! is peculiar to one provider stands in `providers.json`.

mod table;
mod name;
mod http;
mod endpoint;
mod tokens;
mod vectors;
mod embedder;
mod sse;
mod chat;
mod rerank;
mod error;
#[cfg(test)]
mod tests;

use crate::chat::{ChatError, ChatModel};
use crate::config::Config;
use crate::embed::{EmbedError, Embedder, EncoderOptions, LocalEmbedder};
use crate::hub::Hub;
use crate::progress::Silent;
use crate::rerank::{RerankError, Reranker};

pub use chat::RemoteChat;
pub use embedder::RemoteEmbedder;
pub use endpoint::{Endpoint, Service};
pub use error::{Error, ErrorKind, Result};
pub use http::Answer;
pub use name::ModelName;
pub use rerank::RemoteReranker;

/// An embedding model by name, such as `openai:text-embedding-3-small`, `dashscope:text-embedding-v4`
/// or `local:bge-m3`; see [`ModelName::resolve`]. Reads [`Config::load`], and fetches a local model
/// that is not on this machine yet.
///
/// # Errors
///
/// If the name, the settings or the key say nothing useful, or the model cannot be had.
pub fn init_embeddings(name: &str) -> Result<Box<dyn Embedder>, EmbedError> {
    init_embeddings_with(name, &Config::load().map_err(Error::from)?)
}

/// As [`init_embeddings`], with settings of the caller's.
///
/// # Errors
///
/// As [`init_embeddings`].
pub fn init_embeddings_with(name: &str, config: &Config) -> Result<Box<dyn Embedder>, EmbedError> {
    let name = ModelName::resolve(name, config)?;
    if !name.is_local() {
        let endpoint = Endpoint::open(&name.provider, config)?;
        return Ok(Box::new(RemoteEmbedder::open(endpoint, &name.model)?));
    }
    let from_hub = |error: crate::hub::Error| EmbedError::Provider {
        provider: name::LOCAL.into(),
        source: error.into(),
    };
    let hub = Hub::from_env().map_err(from_hub)?;
    let local = hub.resolve(&name.model, &Silent).map_err(from_hub)?;
    let options = EncoderOptions {
        name: Some(local.id),
        ..EncoderOptions::default()
    };
    Ok(Box::new(LocalEmbedder::open(&local.path, &options)?))
}

/// A provider's model that speaks, by name, such as `deepseek:deepseek-v4-flash` or `qwen-plus`.
/// Reads [`Config::load`]; opens no connection.
///
/// # Errors
///
/// If the name, the settings or the key say nothing useful, or the name is that of a local model.
pub fn init_chat_model(name: &str) -> Result<Box<dyn ChatModel>, ChatError> {
    init_chat_model_with(name, &Config::load().map_err(Error::from)?)
}

/// As [`init_chat_model`], with settings of the caller's.
///
/// # Errors
///
/// As [`init_chat_model`].
pub fn init_chat_model_with(name: &str, config: &Config) -> Result<Box<dyn ChatModel>, ChatError> {
    let name = ModelName::resolve(name, config)?;
    let endpoint = Endpoint::open(&name.provider, config)?;
    Ok(Box::new(RemoteChat::open(endpoint, &name.model)?))
}

/// A provider's reranking model by name, such as `cohere:rerank-v3.5`. Reads [`Config::load`]; opens
/// no connection. For a local one see [`crate::rerank::LocalReranker`].
///
/// # Errors
///
/// As [`init_chat_model`].
pub fn init_reranker(name: &str) -> Result<Box<dyn Reranker>, RerankError> {
    init_reranker_with(name, &Config::load().map_err(Error::from)?)
}

/// As [`init_reranker`], with settings of the caller's.
///
/// # Errors
///
/// As [`init_reranker`].
pub fn init_reranker_with(name: &str, config: &Config) -> Result<Box<dyn Reranker>, RerankError> {
    let name = ModelName::resolve(name, config)?;
    let endpoint = Endpoint::open(&name.provider, config)?;
    Ok(Box::new(RemoteReranker::open(endpoint, &name.model)?))
}
