//! What the environment says about models: where they live, and how they may be fetched.

use std::path::PathBuf;
use std::time::Duration;

use super::SourceKind;
use super::error::{Error, ErrorKind, Result};

/// How the hub works. Read from the environment once, so that a test can give another one.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cache: PathBuf,
    pub(crate) offline: bool,
    pub(crate) huggingface_endpoint: String,
    pub(crate) huggingface_token: Option<String>,
    pub(crate) modelscope_endpoint: String,
    pub(crate) pip: Option<String>,
    pub(crate) source: Option<SourceKind>,
    pub(crate) proxy: Option<String>,
    pub(crate) no_proxy: Vec<String>,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) patience: Patience,
}

/// How long the hub waits and how often it tries again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection, its proxy and TLS.
    pub(crate) connect: Duration,
    /// For the first byte of an answer, and between any two reads.
    pub(crate) silence: Duration,
    /// Attempts in a row that bring nothing.
    pub(crate) attempts: u32,
    /// Before the second attempt; doubles from there.
    pub(crate) pause: Duration,
    /// Longest sum of pauses for one file, including what a server asks for in `Retry-After`.
    pub(crate) budget: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(500),
            budget: Duration::from_secs(120),
        }
    }
}

impl Settings {
    /// Reads every setting through `lookup`; an empty variable counts as absent.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| {
            lookup(name)
                .map(|v| v.trim().to_string())
                .filter(|v| !v.is_empty())
        };
        let first = |names: &[&str]| names.iter().find_map(|name| get(name));
        Ok(Self {
            cache: cache_folder(&get)?,
            offline: get("WENYI_OFFLINE")
                .map_or(Ok(false), |value| flag("WENYI_OFFLINE", value))?,
            huggingface_endpoint: endpoint(get("HF_ENDPOINT"), "https://huggingface.co"),
            huggingface_token: get("HF_TOKEN"),
            modelscope_endpoint: endpoint(get("MODELSCOPE_ENDPOINT"), "https://modelscope.cn"),
            pip: get("WENYI_PIP"),
            source: get("WENYI_SOURCE").map(|value| value.parse()).transpose()?,
            proxy: first(&[
                "https_proxy",
                "HTTPS_PROXY",
                "all_proxy",
                "ALL_PROXY",
                "http_proxy",
                "HTTP_PROXY",
            ]),
            no_proxy: first(&["no_proxy", "NO_PROXY"])
                .map(|list| {
                    list.split(',')
                        .map(|host| host.trim().to_string())
                        .collect()
                })
                .unwrap_or_default(),
            certificates: get("SSL_CERT_FILE").map(PathBuf::from),
            patience: Patience::default(),
        })
    }
}

fn endpoint(value: Option<String>, default: &str) -> String {
    value.map_or_else(
        || default.into(),
        |value| value.trim_end_matches('/').into(),
    )
}

fn flag(name: &'static str, value: String) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(ErrorKind::Setting {
            name,
            value,
            expected: "`1` or `0`",
        }
        .into()),
    }
}

fn cache_folder(get: &impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let home = || {
        get("HOME")
            .or_else(|| get("USERPROFILE"))
            .map(PathBuf::from)
    };
    if let Some(folder) = get("WENYI_CACHE") {
        return Ok(expand(&folder, home()));
    }
    // The XDG specification says that a relative path there is to be ignored.
    if let Some(folder) = get("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|f| f.is_absolute())
    {
        return Ok(folder.join("wenyi"));
    }
    home()
        .map(|home| home.join(".cache").join("wenyi"))
        .ok_or_else(|| {
            Error::from(ErrorKind::Setting {
                name: "WENYI_CACHE",
                value: String::new(),
                expected: "a folder for models, since there is no `HOME`",
            })
        })
}

fn expand(path: &str, home: Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn the_cache_follows_the_environment() {
        let cache = |variables: &[(&str, &str)]| settings(variables).expect("settings").cache;
        let home = ("HOME", "/home/用户");
        assert_eq!(cache(&[home]), PathBuf::from("/home/用户/.cache/wenyi"));
        assert_eq!(
            cache(&[home, ("XDG_CACHE_HOME", "/x")]),
            PathBuf::from("/x/wenyi")
        );
        assert_eq!(
            cache(&[home, ("XDG_CACHE_HOME", "relative")]),
            PathBuf::from("/home/用户/.cache/wenyi")
        );
        assert_eq!(
            cache(&[home, ("XDG_CACHE_HOME", "/x"), ("WENYI_CACHE", "~/m")]),
            PathBuf::from("/home/用户/m")
        );
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn offline_is_a_flag_and_nonsense_is_refused() {
        let offline = |value| settings(&[("HOME", "/h"), ("WENYI_OFFLINE", value)]);
        assert!(offline("1").expect("settings").offline);
        assert!(!offline("0").expect("settings").offline);
        assert!(!offline("").expect("settings").offline);
        assert!(offline("maybe").expect_err("nonsense").is_user_error());
    }
}
