//! What opens a provider: its key, from a variable or a file, and the headers that carry it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::table::ProviderFacts;
use super::{ErrorKind, Result};
use crate::config::{Config, ProviderSettings, Secret};

/// The headers of every request, and what in them must not be shown.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) pairs: Vec<(String, String)>,
    pub(super) secrets: Vec<Secret>,
}

/// The provider's key, if it has one.
pub(super) fn key(
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
    let found = config.first_variable(variables);
    let found = match found.map(|(variable, key)| (variable, Secret::new(&key))) {
        None if is_own && named.is_empty() => key_of_file(facts, config)?,
        found => found,
    };
    let wanted = facts.key_required && settings.base_url.is_none() || !named.is_empty();
    if found.is_none() && wanted {
        let variable = variables.first().cloned();
        return Err(ErrorKind::MissingKey {
            provider: name.into(),
            variable: variable.unwrap_or_else(|| "api_key_env".into()),
        }
        .into());
    }
    let Some((origin, key)) = found else {
        return Ok(None);
    };
    // A line break within would be a header of its own.
    let mut bytes = key.expose().bytes();
    if !bytes.all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(ErrorKind::Setting {
            name: origin,
            value: "not shown".into(),
            expected: "printable ASCII characters".into(),
        }
        .into());
    }
    Ok(Some(key))
}

/// The key in the file that a variable names, with the variable.
fn key_of_file(facts: &ProviderFacts, config: &Config) -> Result<Option<(String, Secret)>> {
    let Some((variable, path)) = config.first_variable(&facts.key_file_variables) else {
        return Ok(None);
    };
    let read = std::fs::read_to_string(&path).map(|text| Secret::new(&text));
    match read {
        Ok(key) if !key.expose().is_empty() => Ok(Some((variable, key))),
        _ => Err(ErrorKind::Setting {
            name: variable,
            value: path,
            expected: "a file that holds the key".into(),
        }
        .into()),
    }
}

/// The headers that `key`, the settings and the `name:password` of the base URL make.
pub(super) fn headers(
    name: &str,
    settings: &ProviderSettings,
    key: Option<&Secret>,
    userinfo: Option<&str>,
) -> Result<Headers> {
    let mut headers = Headers::default();
    match (key, &settings.api_key_header) {
        (Some(key), Some(header)) => headers.push(header, key.expose()),
        (Some(key), None) => headers.push("authorization", &format!("Bearer {}", key.expose())),
        (None, _) => {}
    }
    for (header, value) in &settings.headers {
        if !is_header(header, value) {
            return Err(ErrorKind::Setting {
                name: format!("providers.{name}.headers"),
                value: header.clone(),
                expected: "a header's name and its value".into(),
            }
            .into());
        }
        headers.push(header, value);
    }
    if let Some(userinfo) = userinfo {
        let password = userinfo.split_once(':').map_or(userinfo, |(_, word)| word);
        headers.secrets.push(Secret::new(password));
        let has_other = headers
            .pairs
            .iter()
            .any(|(name, _)| name == "authorization");
        if !has_other {
            let user = format!(
                "{userinfo}{}",
                if userinfo.contains(':') { "" } else { ":" }
            );
            headers.push("authorization", &format!("Basic {}", STANDARD.encode(user)));
        }
    }
    Ok(headers)
}

impl Headers {
    /// What is in a header may be a key of any form: neither the whole nor the part after a scheme
    /// such as `Bearer` is shown.
    fn push(&mut self, name: &str, value: &str) {
        self.secrets.push(value.into());
        if let Some((_, credentials)) = value.trim().split_once(' ') {
            self.secrets.push(credentials.into());
        }
        self.pairs.push((name.to_lowercase(), value.to_owned()));
    }

    /// The same with headers whose values are in variables.
    pub(super) fn with_variables(
        mut self,
        wanted: &[(String, String)],
        config: &Config,
    ) -> Result<Self> {
        for (header, variable) in wanted {
            let Some(value) = config.variable(variable) else {
                continue;
            };
            if !is_header(header, &value) {
                return Err(ErrorKind::Setting {
                    name: variable.clone(),
                    value,
                    expected: "a header's value".into(),
                }
                .into());
            }
            // `wenyi.toml` says it nearer.
            if self.pairs.iter().all(|(name, _)| name != header) {
                self.pairs.push((header.clone(), value));
            }
        }
        Ok(self)
    }
}

fn is_header(name: &str, value: &str) -> bool {
    ureq::http::HeaderName::try_from(name).is_ok()
        && ureq::http::HeaderValue::try_from(value).is_ok()
}
