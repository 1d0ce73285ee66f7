//! Where a provider's API is, what it wants to be told, and how a request is changed to suit it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::http::{Answer, Client, Patience};
use super::name::{known, normalised};
use super::table::{self, ChatFacts, EmbeddingDialect, GENERIC, ProviderFacts, RerankDialect};
use super::{Error, ErrorKind, Result};
use crate::config::{Config, ProviderSettings, Secret};

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
    base_url: String,
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
        let key = key(&name, facts, &settings, config, is_own)?;
        let headers = headers(&name, &settings, key.as_ref())?;
        let patience = Patience {
            silence: settings.timeout.map_or(patience.silence, seconds),
            attempts: settings
                .max_retries
                .map_or(patience.attempts, |retries| retries + 1),
            ..patience
        };
        let client = Client::new(&name, key, patience, config)?;
        Ok(Self(Arc::new(Inner {
            name,
            facts,
            settings,
            base_url,
            headers,
            client,
        })))
    }

    /// The provider's name, as in `provider:model`.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.0.name
    }

    /// Where its API is.
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
            Service::Completions => format!("{}/completions", self.compatible_base()),
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
            if !facts.reasoning_in_history {
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

    /// The failure in an answer's JSON that came as a success, if there is one.
    #[must_use]
    pub fn failure_in(&self, value: &Value) -> Option<Error> {
        let is_failure = value.get("error").is_some_and(|error| !error.is_null());
        is_failure.then(|| self.0.client.told_error(200, value))
    }

    /// True if texts go to DashScope's own interface, which takes more than OpenAI's.
    #[must_use]
    pub fn embeds_natively(&self) -> bool {
        let facts = self.0.facts.embeddings.as_ref();
        facts.is_some_and(|facts| facts.dialect == EmbeddingDialect::DashScope)
    }

    /// Where OpenAI's interface begins.
    fn compatible_base(&self) -> String {
        let base = self.base_url();
        match &self.0.facts.chat_path {
            Some((native, compatible)) => match base.strip_suffix(native.as_str()) {
                Some(host) => format!("{host}{compatible}"),
                None => base.to_owned(),
            },
            None => base.to_owned(),
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
    let setting = |value: &str, origin: String| {
        let value = value.trim().trim_end_matches('/').to_owned();
        if value.starts_with("http://") || value.starts_with("https://") {
            return Ok(value);
        }
        let expected = "a URL that begins with `http://` or `https://`".into();
        Err(Error::from(ErrorKind::Setting {
            name: origin,
            value,
            expected,
        }))
    };
    if let Some(url) = &settings.base_url {
        return setting(url, format!("providers.{name}.base_url"));
    }
    let variables = if is_own {
        facts.base_url_variables.as_slice()
    } else {
        &[]
    };
    if let Some((variable, url)) = config.first_variable(variables) {
        let url = setting(&url, variable)?;
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

fn key(
    name: &str,
    facts: &ProviderFacts,
    settings: &ProviderSettings,
    config: &Config,
    is_own: bool,
) -> Result<Option<Secret>> {
    let named = settings.api_key_env.as_slice();
    let variables = match named {
        [] if is_own => facts.key_variables.as_slice(),
        named => named,
    };
    let found = config
        .first_variable(variables)
        .map(|(_, key)| Secret::new(&key));
    let wanted = facts.key_required && settings.base_url.is_none() || !named.is_empty();
    if found.is_none() && wanted {
        let variable = variables.first().cloned();
        return Err(ErrorKind::MissingKey {
            provider: name.into(),
            variable: variable.unwrap_or_else(|| "api_key_env".into()),
        }
        .into());
    }
    // A line break within would be a header of its own.
    let clean = |key: &Secret| {
        key.expose()
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte))
    };
    if found.as_ref().is_some_and(|key| !clean(key)) {
        return Err(ErrorKind::Setting {
            name: variables.first().cloned().unwrap_or_default(),
            value: "not shown".into(),
            expected: "printable ASCII characters".into(),
        }
        .into());
    }
    Ok(found)
}

fn headers(
    name: &str,
    settings: &ProviderSettings,
    key: Option<&Secret>,
) -> Result<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    match (key, &settings.api_key_header) {
        (Some(key), Some(header)) => headers.push((header.to_lowercase(), key.expose().into())),
        (Some(key), None) => {
            headers.push(("authorization".into(), format!("Bearer {}", key.expose())));
        }
        (None, _) => {}
    }
    for (header, value) in &settings.headers {
        if ureq::http::HeaderName::try_from(header.as_str()).is_err()
            || ureq::http::HeaderValue::try_from(value.as_str()).is_err()
        {
            return Err(ErrorKind::Setting {
                name: format!("providers.{name}.headers"),
                value: header.clone(),
                expected: "a header's name and its value".into(),
            }
            .into());
        }
        headers.push((header.to_lowercase(), value.clone()));
    }
    Ok(headers)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(600))
}
