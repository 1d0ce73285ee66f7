//! Whose model a name means: `provider:model`, an alias, or a name that says it by its beginning.

use std::path::Path;

use crate::config::Config;
use crate::hub::Catalog;

use super::table::{self, GENERIC};
use super::{Error, ErrorKind, Result};

/// A model on this machine.
pub(crate) const LOCAL: &str = "local";

/// Beginnings of models' names and who has them, in lower case. The first part is what LangChain's
/// `init_chat_model` infers, the second what it lacks.
const PREFIXES: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("chatgpt", "openai"),
    ("text-davinci", "openai"),
    ("claude", "anthropic"),
    ("command", "cohere"),
    ("accounts/fireworks", "fireworks"),
    ("gemini", "google-vertexai"),
    ("amazon.", "bedrock"),
    ("anthropic.", "bedrock"),
    ("meta.", "bedrock"),
    ("mistral", "mistralai"),
    ("mixtral", "mistralai"),
    ("deepseek", "deepseek"),
    ("grok", "xai"),
    ("sonar", "perplexity"),
    ("solar", "upstage"),
    ("o4-", "openai"),
    ("gpt4", "openai"),
    ("text-embedding-v", "dashscope"),
    ("text-embedding-async-v", "dashscope"),
    ("text-embedding-", "openai"),
    ("qwen", "dashscope"),
    ("qwq", "dashscope"),
    ("gte-rerank", "dashscope"),
    ("glm", "zhipu"),
    ("rerank-", "cohere"),
    ("jina-reranker", "jina"),
];

/// Providers that LangChain's `init_chat_model` and `init_embeddings` split from a model's name. Of
/// those that are not known here the user is told so, instead of that there is no such model.
const LANGCHAINS: &[&str] = &[
    "anthropic",
    "anthropic-bedrock",
    "azure-ai",
    "azure-openai",
    "baseten",
    "bedrock",
    "bedrock-converse",
    "bedrock-mantle-anthropic",
    "bedrock-mantle-openai",
    "cohere",
    "deepseek",
    "fireworks",
    "google-anthropic-vertex",
    "google-genai",
    "google-vertexai",
    "groq",
    "huggingface",
    "ibm",
    "langsmith",
    "litellm",
    "meta",
    "mistralai",
    "nvidia",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "together",
    "upstage",
    "xai",
];

/// A model's name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `local`, or a provider's name in lower case with hyphens.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
}

impl ModelName {
    /// Understands `name` after following aliases. Only a known provider before the first colon is
    /// one: `qwen3:8b` is a model.
    ///
    /// # Errors
    ///
    /// If nothing tells whose model it is, or aliases go round.
    pub fn resolve(name: &str, config: &Config) -> Result<Self> {
        let name = config
            .resolve_alias(name.trim())
            .map_err(ErrorKind::Config)?;
        if let Some((provider, model)) = name.split_once(':') {
            let provider = normalised(provider);
            if is_provider(&provider, config) {
                if model.trim().is_empty() {
                    return Err(ErrorKind::EmptyModel { provider }.into());
                }
                return Ok(Self {
                    provider,
                    model: model.into(),
                });
            }
        }
        let lower = name.to_lowercase();
        // `org/name` is a repository of models, whatever it begins with.
        let is_repository = name.contains('/') && !lower.starts_with("accounts/");
        if Catalog::embedded().find(name).is_some() || is_repository || is_path(name) {
            return Ok(Self {
                provider: LOCAL.into(),
                model: name.into(),
            });
        }
        let prefix = PREFIXES
            .iter()
            .find(|(prefix, _)| lower.starts_with(prefix));
        if let Some((_, provider)) = prefix {
            return Ok(Self {
                provider: (*provider).into(),
                model: name.into(),
            });
        }
        Err(Error::from(ErrorKind::CannotInfer { model: name.into() }))
    }

    /// True if the model is on this machine, or on its way there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.provider == LOCAL
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.provider, self.model)
    }
}

/// All providers that can be named: the known ones and those of `wenyi.toml`.
pub(crate) fn known(config: &Config) -> Vec<String> {
    let built_in = table::providers()
        .iter()
        .map(|provider| provider.name.clone());
    let mut names: Vec<String> = std::iter::once(LOCAL.to_owned()).chain(built_in).collect();
    names.extend(config.providers().keys().map(|name| normalised(name)));
    names.sort();
    names.dedup();
    names
}

pub(crate) fn normalised(provider: &str) -> String {
    provider.trim().to_lowercase().replace('_', "-")
}

fn is_provider(name: &str, config: &Config) -> bool {
    let inferred =
        || PREFIXES.iter().any(|(_, provider)| *provider == name) || LANGCHAINS.contains(&name);
    name == GENERIC || known(config).iter().any(|known| known == name) || inferred()
}

/// A file or folder that just happens to have the name of a provider's model, such as `o1`, is no
/// model: without a sign of a path in the name, it must look like one.
fn is_path(name: &str) -> bool {
    let written_so = ["./", "../", "/", "~/"]
        .iter()
        .any(|start| name.starts_with(start));
    written_so || (!name.is_empty() && looks_like_a_model(Path::new(name)))
}

fn looks_like_a_model(path: &Path) -> bool {
    let is_gguf = |path: &Path| path.extension().is_some_and(|ending| ending == "gguf");
    if path.is_file() {
        return is_gguf(path);
    }
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut files = files.map(|file| file.path());
    files.any(|file| is_gguf(&file) || file.ends_with("config.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str) -> String {
        let toml = "[aliases]\nfast = \"deepseek:deepseek-v4-flash\"\n\
                    [providers.My_vLLM]\nbase_url = \"http://127.0.0.1:1/v1\"";
        let config = Config::from_lookup(|_| None).with_toml(toml).unwrap();
        ModelName::resolve(name, &config).unwrap().to_string()
    }

    #[test]
    fn names_lead_to_their_providers() {
        let table = [
            ("gpt-4o", "openai:gpt-4o"),
            ("GPT-4o", "openai:GPT-4o"),
            ("openai:ft:gpt-4o:x", "openai:ft:gpt-4o:x"),
            ("OpenAI:gpt-4o", "openai:gpt-4o"),
            ("openai_compatible:m", "openai-compatible:m"),
            ("o1-mini", "openai:o1-mini"),
            ("o4-mini", "openai:o4-mini"),
            ("gpt4", "openai:gpt4"),
            ("chatgpt-4o-latest", "openai:chatgpt-4o-latest"),
            ("deepseek-v4-pro", "deepseek:deepseek-v4-pro"),
            ("claude-sonnet-4", "anthropic:claude-sonnet-4"),
            ("gemini-2.5-pro", "google-vertexai:gemini-2.5-pro"),
            ("amazon.nova", "bedrock:amazon.nova"),
            ("grok-4", "xai:grok-4"),
            ("text-embedding-3-large", "openai:text-embedding-3-large"),
            ("text-embedding-ada-002", "openai:text-embedding-ada-002"),
            ("text-embedding-v4", "dashscope:text-embedding-v4"),
            ("qwen-plus", "dashscope:qwen-plus"),
            ("qwen3:8b", "dashscope:qwen3:8b"),
            ("glm-4.5", "zhipu:glm-4.5"),
            ("bge-m3", "local:bge-m3"),
            ("Qwen3-Embedding-0.6B", "local:Qwen3-Embedding-0.6B"),
            ("intfloat/e5-base", "local:intfloat/e5-base"),
            ("Qwen/Qwen3-8B", "local:Qwen/Qwen3-8B"),
            ("local:./models/甲", "local:./models/甲"),
            ("my-vllm:bge-m3", "my-vllm:bge-m3"),
            ("fast", "deepseek:deepseek-v4-flash"),
        ];
        for (name, expected) in table {
            assert_eq!(resolve(name), expected, "{name}");
        }
    }

    #[test]
    fn providers_that_langchain_knows_are_providers() {
        assert_eq!(resolve("groq:llama-3"), "groq:llama-3");
        assert_eq!(resolve("azure_openai:m"), "azure-openai:m");
        assert_eq!(resolve("ollama:qwen3:8b"), "ollama:qwen3:8b");
        let config = Config::from_lookup(|_| None);
        for provider in LANGCHAINS {
            assert_eq!(normalised(provider), *provider);
        }
        let error = ModelName::resolve("openai:", &config).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::EmptyModel { .. }));
        assert!(error.is_user_error() && error.hint().is_some());
    }

    #[test]
    fn only_what_looks_like_a_model_takes_a_name_from_a_provider() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::write(folder.path().join(name), "{}").unwrap();
        let looks = |name: &str| looks_like_a_model(&folder.path().join(name));
        make("o1");
        std::fs::create_dir(folder.path().join("o3")).unwrap();
        assert!(!looks("o1") && !looks("o3") && !looks("o4"));
        make("o1.gguf");
        make("o3/config.json");
        assert!(looks("o1.gguf") && looks("o3") && looks(""));
    }

    #[test]
    fn a_name_that_says_nothing_is_refused_with_a_hint() {
        let error = ModelName::resolve("mystery", &Config::from_lookup(|_| None)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::CannotInfer { .. }));
        assert!(error.is_user_error() && error.hint().unwrap().contains("mystery"));
    }
}
