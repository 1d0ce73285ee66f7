//! Where a provider's API is, what it wants to be told, and how a request is changed to suit it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::access;
use super::http::{Answer, Client, Patience};
use super::name::{known, normalised};
use super::table::{self, ChatFacts, EmbeddingDialect, GENERIC, ProviderFacts, RerankDialect};
use super::{Error, ErrorKind, Result};
use crate::config::{Config, ProviderSettings, split_userinfo};

/// What a provider is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// Vectors.
    Embeddings,
    /// Conversations.
    Chat,
    /// Texts that go on.
    Completions,
    /// Scores.
    Rerank,
}

impl Service {
    fn as_str(self) -> &'static str {
        match self {
            Self::Embeddings => "embeddings",
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Rerank => "reranking",
        }
    }
}

/// A provider, ready to be asked. Cheap to clone; its `Debug` shows no key.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    name: String,
    facts: &'static ProviderFacts,
    settings: ProviderSettings,
    /// Without name and password; these go into a header.
    base_url: String,
    /// Where OpenAI's interface begins, if that was said apart from the base URL.
    compatible_url: Option<String>,
    headers: Vec<(String, String)>,
    client: Client,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("provider", &self.0.name)
            .field("base_url", &self.0.base_url)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The provider of that name, as the environment and `wenyi.toml` say. Opens no connection.
    ///
    /// # Errors
    ///
    /// If there is none, or its base URL or key is missing.
    pub fn open(provider: &str, config: &Config) -> Result<Self> {
        Self::open_with(provider, config, Patience::default())
    }

    pub(crate) fn open_with(provider: &str, config: &Config, patience: Patience) -> Result<Self> {
        let name = normalised(provider);
        let mut set = config.providers().iter();
        let settings = set.find(|(known, _)| normalised(known) == name);
        let settings = settings.map(|(_, settings)| settings.clone());
        let kind = settings.as_ref().and_then(|s| s.kind.clone());
        let kind = match (kind, &settings) {
            (Some(kind), _) => normalised(&kind),
            (None, Some(_)) if table::find(&name).is_none() => GENERIC.into(),
            _ => name.clone(),
        };
        let facts = table::find(&kind).ok_or_else(|| ErrorKind::UnknownProvider {
            provider: kind,
            known: known(config),
        })?;
        let settings = settings.unwrap_or_default();
        let is_own = facts.name == name;
        let base_url = base_url(&name, facts, &settings, config, is_own)?;
        let (base_url, userinfo) = split_userinfo(&base_url);
        let compatible_url = compatible_url(facts, &settings, config, is_own)?;
        let key = access::key(&name, facts, &settings, config, is_own)?;
        let variables: &[_] = if is_own { &facts.header_variables } else { &[] };
        let headers = access::headers(&name, &settings, key.as_ref(), userinfo)?
            .with_variables(variables, config)?;
        let patience = Patience {
            silence: settings.timeout.map_or(patience.silence, seconds),
            attempts: settings
                .max_retries
                .map_or(patience.attempts, |retries| retries + 1),
            ..patience
        };
        let client = Client::new(&name, headers.secrets, patience, config)?;
        Ok(Self(Arc::new(Inner {
            name,
            facts,
            settings,
            base_url,
            compatible_url,
            headers: headers.pairs,
            client,
        })))
    }

    /// The provider's name, as in `provider:model`.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.0.name
    }

    /// Where its API is, without the name and password that the setting may hold.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The headers that go with every request, the key among them: to be sent, not to be shown.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.0.headers
    }

    /// Where to send requests for a service.
    ///
    /// # Errors
    ///
    /// If the provider has no such service.
    pub fn url(&self, service: Service) -> Result<String> {
        self.must_have(service)?;
        let base = self.base_url();
        let (name, root) = (&self.0.facts.name, base.strip_suffix("/v1").unwrap_or(base));
        Ok(match service {
            Service::Embeddings if name == "dashscope" => {
                format!("{base}/services/embeddings/text-embedding/text-embedding")
            }
            Service::Embeddings => format!("{base}/embeddings"),
            Service::Chat => format!("{}/chat/completions", self.compatible_base()),
            Service::Completions => format!("{}/completions", self.completions_base()),
            Service::Rerank => match self.rerank_dialect()? {
                RerankDialect::DashScope => {
                    format!("{base}/services/rerank/text-rerank/text-rerank")
                }
                RerankDialect::Cohere => format!("{root}/v2/rerank"),
                RerankDialect::Jina => format!("{root}/v1/rerank"),
                RerankDialect::Tei => format!("{root}/rerank"),
            },
        })
    }

    /// Changes the body of a request to `/chat/completions`, in OpenAI's form, into what this
    /// provider takes: the field for the limit of tokens, the roles, thoughts in the history.
    ///
    /// # Errors
    ///
    /// If the provider has no conversations, or the model was retired.
    pub fn adapt_chat(&self, body: &mut Map<String, Value>) -> Result<()> {
        self.must_have(Service::Chat)?;
        let model = body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.must_be_alive(&model)?;
        let facts = self.chat_facts();
        let field = facts.max_tokens_field.as_deref().unwrap_or("max_tokens");
        let limits = ["max_completion_tokens", "max_tokens"].map(|name| body.remove(name));
        if let Some(limit) = limits.into_iter().flatten().find(|limit| !limit.is_null()) {
            body.insert(field.into(), limit);
        }
        // Another service at this provider's name is one of the many that take more than it does.
        let is_at_home = self.0.facts.base_url.as_deref() == Some(self.base_url());
        let keeps_reasoning = facts.reasoning_in_history || !is_at_home;
        let wants_developer = facts
            .developer_models
            .iter()
            .any(|start| model.starts_with(start));
        let messages = body.get_mut("messages").and_then(Value::as_array_mut);
        for message in messages
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            match message.get("role").and_then(Value::as_str) {
                Some("developer") if !facts.developer_role => {
                    message.insert("role".into(), "system".into());
                }
                Some("system") if wants_developer => {
                    message.insert("role".into(), "developer".into());
                }
                _ => {}
            }
            if !keeps_reasoning {
                message.remove("reasoning_content");
            }
        }
        Ok(())
    }

    /// Sends `body` once and gives back whatever comes, of any status: for a server that passes
    /// requests on. Blocks until the first byte of the answer.
    ///
    /// # Errors
    ///
    /// If the provider has no such service, or cannot be reached.
    pub fn forward(&self, service: Service, body: &[u8]) -> Result<Answer> {
        self.0
            .client
            .send(&self.url(service)?, self.headers(), body)
    }

    /// What an answer of [`Self::forward`] with a status of failure says, its keys removed. Reads the
    /// whole answer.
    #[must_use]
    pub fn failure(&self, service: Service, answer: Answer) -> Error {
        let url = self.url(service).unwrap_or_default();
        self.0.client.status_error(&url, answer)
    }

    /// The failure in an answer's JSON that came as a success, if there is one: an `error`, or
    /// DashScope's `code` in place of all that an answer consists of.
    #[must_use]
    pub fn failure_in(&self, value: &Value) -> Option<Error> {
        let has_error = || value.get("error").is_some_and(|error| !error.is_null());
        let has_code = || match value.get("code") {
            Some(Value::String(code)) => !code.is_empty(),
            Some(Value::Number(code)) => code.as_u64() != Some(0),
            _ => false,
        };
        let is_answer = || {
            let parts = ["output", "choices", "data", "results"];
            parts
                .iter()
                .any(|part| value.get(part).is_some_and(|part| !part.is_null()))
        };
        let is_failure = has_error() || has_code() && !is_answer();
        is_failure.then(|| self.0.client.told_error(200, value))
    }

    /// Tokens that a text for `model` may have, where that is set or known.
    #[must_use]
    pub fn max_text_tokens(&self, model: &str) -> Option<usize> {
        let set = self.0.settings.models.get(model);
        let facts = self.0.facts.embeddings.as_ref();
        set.and_then(|settings| settings.max_tokens)
            .or_else(|| self.0.facts.model(model).max_tokens)
            .or_else(|| facts?.max_tokens)
    }

    /// True if texts go to DashScope's own interface, which takes more than OpenAI's.
    #[must_use]
    pub fn embeds_natively(&self) -> bool {
        let facts = self.0.facts.embeddings.as_ref();
        facts.is_some_and(|facts| facts.dialect == EmbeddingDialect::DashScope)
    }

    /// Where OpenAI's interface begins.
    fn compatible_base(&self) -> String {
        if let Some(url) = &self.0.compatible_url {
            return url.clone();
        }
        let base = self.base_url();
        match &self.0.facts.chat_path {
            Some((native, compatible)) => match base.strip_suffix(native.as_str()) {
                Some(host) => format!("{host}{compatible}"),
                None => base.to_owned(),
            },
            None => base.to_owned(),
        }
    }

    /// Where texts are gone on with, which DeepSeek has beside the rest.
    fn completions_base(&self) -> String {
        let base = self.compatible_base();
        let Some(path) = &self.0.facts.completions_path else {
            return base;
        };
        let root = base.strip_suffix("/v1").unwrap_or(&base);
        match root.ends_with(path.as_str()) {
            true => root.to_owned(),
            false => format!("{root}{path}"),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn facts(&self) -> &'static ProviderFacts {
        self.0.facts
    }

    pub(crate) fn settings(&self) -> &ProviderSettings {
        &self.0.settings
    }

    /// What is known of conversations; the generic provider's facts if it has none of its own.
    pub(crate) fn chat_facts(&self) -> &'static ChatFacts {
        static NONE: std::sync::OnceLock<ChatFacts> = std::sync::OnceLock::new();
        let facts = self.0.facts.chat.as_ref();
        facts.unwrap_or_else(|| NONE.get_or_init(ChatFacts::default))
    }

    pub(crate) fn rerank_dialect(&self) -> Result<RerankDialect> {
        let Some(named) = &self.0.settings.rerank else {
            return self
                .0
                .facts
                .rerank
                .ok_or_else(|| self.has_no(Service::Rerank));
        };
        serde_json::from_value(Value::from(named.as_str())).map_err(|_| {
            ErrorKind::Setting {
                name: format!("providers.{}.rerank", self.0.name),
                value: named.clone(),
                expected: "`jina`, `cohere`, `tei` or `dashscope`".into(),
            }
            .into()
        })
    }

    pub(crate) fn must_be_alive(&self, model: &str) -> Result<()> {
        let Some(retired) = self.0.facts.retired.iter().find(|old| old.name == model) else {
            return Ok(());
        };
        Err(ErrorKind::Retired {
            provider: self.0.name.clone(),
            model: model.into(),
            since: retired.since.clone(),
            hint: retired.hint.clone(),
        }
        .into())
    }

    fn must_have(&self, service: Service) -> Result<()> {
        let facts = self.0.facts;
        let has = match service {
            Service::Embeddings => facts.embeddings.is_some(),
            Service::Chat | Service::Completions => facts.chat.is_some(),
            Service::Rerank => facts.rerank.is_some() || self.0.settings.rerank.is_some(),
        };
        if has {
            Ok(())
        } else {
            Err(self.has_no(service))
        }
    }

    fn has_no(&self, service: Service) -> Error {
        let told = self
            .0
            .facts
            .no_embeddings
            .clone()
            .filter(|_| service == Service::Embeddings);
        let others = table::providers().iter().filter(|facts| match service {
            Service::Embeddings => facts.embeddings.is_some(),
            Service::Chat | Service::Completions => facts.chat.is_some(),
            Service::Rerank => facts.rerank.is_some(),
        });
        let names: Vec<&str> = others.map(|facts| facts.name.as_str()).collect();
        ErrorKind::NoSuchService {
            provider: self.0.name.clone(),
            service: service.as_str(),
            hint: told.unwrap_or_else(|| format!("these have it: {}", names.join(", "))),
        }
        .into()
    }
}

/// `variables` count only for the provider whose own they are: a second one must not send its texts
/// to the first one's server.
fn base_url(
    name: &str,
    facts: &ProviderFacts,
    settings: &ProviderSettings,
    config: &Config,
    is_own: bool,
) -> Result<String> {
    if let Some(url) = &settings.base_url {
        return address(url, format!("providers.{name}.base_url"));
    }
    let variables = if is_own {
        facts.base_url_variables.as_slice()
    } else {
        &[]
    };
    if let Some((variable, url)) = config.first_variable(variables) {
        let url = address(&url, variable)?;
        // Both of DashScope's roots are given, and one leads to the other.
        return Ok(match &facts.chat_path {
            Some((native, compatible)) => match url.strip_suffix(compatible.as_str()) {
                Some(host) => format!("{host}{native}"),
                None => url,
            },
            None => url,
        });
    }
    facts.base_url.clone().ok_or_else(|| {
        let name = variables.first().cloned();
        Error::from(ErrorKind::Setting {
            name: name.unwrap_or_else(|| format!("providers.{}.base_url", facts.name)),
            value: String::new(),
            expected: "the URL of the server, `/v1` included".into(),
        })
    })
}

/// Where OpenAI's interface is, where a variable says it apart. A `base_url` of `wenyi.toml` leads to
/// another server than the environment's.
fn compatible_url(
    facts: &ProviderFacts,
    settings: &ProviderSettings,
    config: &Config,
    is_own: bool,
) -> Result<Option<String>> {
    if !is_own || settings.base_url.is_some() {
        return Ok(None);
    }
    let found = config.first_variable(&facts.compatible_url_variables);
    let found = found.map(|(variable, url)| address(&url, variable));
    Ok(found.transpose()?.map(|url| split_userinfo(&url).0))
}

/// The URL in a setting called `origin`.
fn address(value: &str, origin: String) -> Result<String> {
    let value = value.trim().trim_end_matches('/').to_owned();
    if value.starts_with("http://") || value.starts_with("https://") {
        return Ok(value);
    }
    let expected = "a URL that begins with `http://` or `https://`".into();
    Err(Error::from(ErrorKind::Setting {
        name: origin,
        value: split_userinfo(&value).0,
        expected,
    }))
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(600))
}
