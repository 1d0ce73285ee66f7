//! What is known of each provider and its models: `providers.json`. A quirk is a line there, not a
//! branch in the code.

use std::sync::OnceLock;

use serde::Deserialize;

/// Works for every service that speaks OpenAI's API.
pub(crate) const GENERIC: &str = "openai-compatible";

/// A provider and its quirks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProviderFacts {
    pub(crate) name: String,
    pub(crate) base_url: Option<String>,
    pub(crate) base_url_variables: Vec<String>,
    /// What in the base URL to replace by what, for conversations.
    pub(crate) chat_path: Option<(String, String)>,
    /// What says where OpenAI's interface is, if the provider has two.
    pub(crate) compatible_url_variables: Vec<String>,
    /// What replaces `/v1`, for texts to go on with.
    pub(crate) completions_path: Option<String>,
    pub(crate) key_variables: Vec<String>,
    /// What names a file with the key.
    pub(crate) key_file_variables: Vec<String>,
    /// Headers, each with the variable that holds its value.
    pub(crate) header_variables: Vec<(String, String)>,
    pub(crate) key_required: bool,
    pub(crate) embeddings: Option<EmbeddingFacts>,
    /// Why there are no embeddings, and who has some.
    pub(crate) no_embeddings: Option<String>,
    pub(crate) chat: Option<ChatFacts>,
    pub(crate) rerank: Option<RerankDialect>,
    pub(crate) models: Vec<ModelFacts>,
    pub(crate) retired: Vec<Retired>,
}

/// How a provider embeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingFacts {
    pub(crate) dialect: EmbeddingDialect,
    /// Texts of one request.
    pub(crate) max_inputs: usize,
    /// Tokens of one text; none if it depends on the model.
    pub(crate) max_tokens: Option<usize>,
    /// Tokens of one request.
    pub(crate) max_request_tokens: Option<usize>,
    pub(crate) tokenizer: String,
    /// Vectors may be asked for in base64, a quarter of the bytes.
    #[serde(default)]
    pub(crate) base64: bool,
    /// An empty text is refused among others, but taken alone.
    #[serde(default)]
    pub(crate) empty_alone: bool,
}

/// The form of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmbeddingDialect {
    OpenAi,
    DashScope,
}

/// The form of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RerankDialect {
    DashScope,
    Cohere,
    Jina,
    Tei,
}

/// How a provider takes conversations.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ChatFacts {
    /// `max_tokens` if not given.
    pub(crate) max_tokens_field: Option<String>,
    /// Knows the role `developer`.
    pub(crate) developer_role: bool,
    /// Beginnings of models that want `developer` instead of `system`.
    pub(crate) developer_models: Vec<String>,
    pub(crate) thinking: ThinkingField,
    /// Thoughts are sent back with the conversation.
    pub(crate) reasoning_in_history: bool,
    /// Thoughts come in a stream or not at all.
    pub(crate) thinking_streams_only: bool,
    /// Beginnings of models that think unless told not to.
    pub(crate) thinks_by_default: Vec<String>,
    /// Takes `top_k` and `repetition_penalty`.
    pub(crate) top_k: bool,
}

/// The parameter that tells a model to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ThinkingField {
    /// `reasoning_effort`: a word.
    #[default]
    ReasoningEffort,
    /// `thinking`: `{"type": "enabled"}`, beside `reasoning_effort`.
    Thinking,
    /// `enable_thinking`: a flag, beside `thinking_budget`.
    EnableThinking,
}

/// What differs for one model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelFacts {
    pub(crate) name: String,
    pub(crate) dimensions: Option<usize>,
    /// Any width up to `dimensions` may be asked for.
    pub(crate) any_width: bool,
    /// No width may be asked for.
    pub(crate) fixed_width: bool,
    /// These widths may be asked for.
    pub(crate) widths: Vec<usize>,
    pub(crate) max_inputs: Option<usize>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) context_length: Option<usize>,
    /// Takes the task in words with a question.
    pub(crate) instruct: bool,
    /// Gives weights of words beside the vector.
    pub(crate) sparse: bool,
}

/// A model that is switched off.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retired {
    pub(crate) name: String,
    pub(crate) since: String,
    pub(crate) hint: String,
}

/// All providers that are known without `wenyi.toml`.
pub(crate) fn providers() -> &'static [ProviderFacts] {
    static TABLE: OnceLock<Vec<ProviderFacts>> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("providers.json"))
            .expect("`providers.json` is well-formed; this is a bug")
    })
}

/// The provider of that name.
pub(crate) fn find(name: &str) -> Option<&'static ProviderFacts> {
    providers().iter().find(|provider| provider.name == name)
}

impl ProviderFacts {
    pub(crate) fn model(&self, name: &str) -> ModelFacts {
        let known = self.models.iter().find(|model| model.name == name);
        known.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for provider in providers() {
            let services = [
                provider.embeddings.is_some(),
                provider.chat.is_some(),
                provider.rerank.is_some(),
            ];
            assert!(services.contains(&true), "{}", provider.name);
            for model in &provider.models {
                let ways = [model.any_width, model.fixed_width, !model.widths.is_empty()];
                assert!(
                    ways.iter().filter(|way| **way).count() <= 1,
                    "{}",
                    model.name
                );
                let dimensions = model.dimensions;
                assert!(model.widths.is_empty() || model.widths.contains(&dimensions.unwrap()));
            }
        }
        assert!(find(GENERIC).is_some());
    }
}
