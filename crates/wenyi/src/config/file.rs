//! `wenyi.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use super::ConfigError;
use super::secret::without_userinfo;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) defaults: Defaults,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) providers: BTreeMap<String, ProviderSettings>,
    /// Tables of others, such as the server's.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, serde_json::Value>,
}

/// What to use where no model is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// For embeddings.
    pub embeddings: Option<String>,
    /// For conversations.
    pub chat: Option<String>,
    /// For reranking.
    pub rerank: Option<String>,
}

/// `[providers.NAME]`: corrects what is known of a provider, or describes one that is not.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// The known provider that it works like; `openai-compatible` if not given.
    pub kind: Option<String>,
    /// Where its API is, `/v1` included.
    pub base_url: Option<String>,
    /// The variable that holds the key. Keys themselves do not go into this file.
    pub api_key_env: Option<String>,
    /// The header that takes the key as it is; `Authorization: Bearer` if not given.
    pub api_key_header: Option<String>,
    /// More headers for every request.
    pub headers: BTreeMap<String, String>,
    /// Seconds that it may say nothing.
    pub timeout: Option<f64>,
    /// How often a request is tried again.
    pub max_retries: Option<u32>,
    /// Requests at once, where a call needs several.
    pub concurrency: Option<usize>,
    /// The form of its reranking: `jina`, `cohere`, `tei` or `dashscope`.
    pub rerank: Option<String>,
    /// `[providers.NAME.models.MODEL]`.
    pub models: BTreeMap<String, ModelSettings>,
}

/// What is set for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Width of its vectors; asked of the provider if it can be chosen.
    pub dimensions: Option<usize>,
    /// Tokens that a text may have.
    pub max_tokens: Option<usize>,
    /// Texts of one request.
    pub max_inputs: Option<usize>,
    /// Tokens of one request.
    pub max_request_tokens: Option<usize>,
    /// Put before every question.
    pub query_prompt: Option<String>,
    /// Put before every document.
    pub document_prompt: Option<String>,
    /// The task in words, for models that are told it with every question.
    pub instruct: Option<String>,
    /// `cl100k` or `o200k`, if it is one of these.
    pub tokenizer: Option<String>,
    /// Tokens of a conversation.
    pub context_length: Option<usize>,
}

/// Shows which headers there are and no value of any, and of the base URL neither name nor password.
impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSettings")
            .field("kind", &self.kind)
            .field("base_url", &self.base_url.as_deref().map(without_userinfo))
            .field("api_key_env", &self.api_key_env)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&super::read(path)?, path)
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            ConfigError::Malformed {
                path: path.into(),
                line: text[..start.min(text.len())].matches('\n').count() + 1,
                // `Display` would show the line itself, which may hold a key by mistake.
                reason: error.message().to_owned(),
            }
        })
    }
}
