//! Models behind an API: from a name such as `dashscope:text-embedding-v4` to vectors, answers and
//! scores.
//!
//! [`ModelName`] says whose a model is, [`Endpoint`] where its provider is and what it wants; what
//! is peculiar to one provider stands in `providers.json`.

mod table;
mod name;
mod cancel;
mod http;
mod access;
mod endpoint;
mod tokens;
mod vectors;
mod windows;
mod embedder;
mod native;
mod sse;
mod chat;
mod rerank;
mod error;
#[cfg(test)]
mod tests;

use crate::chat::{ChatError, ChatModel, DecoderOptions, LocalChatModel};
use crate::config::Config;
use crate::embed::{EmbedError, Embedder, EncoderOptions, LocalEmbedder};
use crate::hub::{Hub, LocalModel};
use crate::progress::Silent;
use crate::rerank::{LocalReranker, RerankError, Reranker};

pub use cancel::cancellable;
pub use chat::RemoteChat;
pub use embedder::RemoteEmbedder;
pub use endpoint::{Endpoint, Service};
pub use error::{Error, ErrorKind, Result};
pub use http::Answer;
pub use name::ModelName;
pub use native::{NativeEmbeddings, NativeOptions, OutputType};
pub use rerank::{RemoteReranker, RerankOptions};

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
    let local = local(&name)?;
    let options = EncoderOptions {
        name: Some(local.id),
        ..EncoderOptions::default()
    };
    Ok(Box::new(LocalEmbedder::open(&local.path, &options)?))
}

/// The folder of a model of this machine; fetched if it is not here yet.
fn local(name: &ModelName) -> Result<LocalModel> {
    Ok(Hub::from_env()?.resolve(&name.model, &Silent)?)
}

/// A model that speaks, by name, such as `deepseek:deepseek-v4-flash`, `qwen-plus` or
/// `local:smollm2-135m-instruct`. Reads [`Config::load`]; opens no connection, but for a local
/// model that is not on this machine yet.
///
/// # Errors
///
/// If the name, the settings or the key say nothing useful, or the model cannot be had.
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
    if name.is_local() {
        let local = local(&name)?;
        let model = LocalChatModel::open(&local.path, &local.id, &DecoderOptions::default())?;
        return Ok(Box::new(model));
    }
    let endpoint = Endpoint::open(&name.provider, config)?;
    Ok(Box::new(RemoteChat::open(endpoint, &name.model)?))
}

/// A reranking model by name, such as `cohere:rerank-v3.5` or `local:./folder`. Reads
/// [`Config::load`]; opens no connection, but for a local model that is not on this machine yet.
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
    if name.is_local() {
        let local = local(&name)?;
        let options = EncoderOptions {
            name: Some(local.id),
            ..EncoderOptions::default()
        };
        return Ok(Box::new(LocalReranker::open(&local.path, &options)?));
    }
    let endpoint = Endpoint::open(&name.provider, config)?;
    Ok(Box::new(RemoteReranker::open(endpoint, &name.model)?))
}
