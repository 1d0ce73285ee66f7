//! Providers on this machine, played with what the real ones send.

mod chat;
mod embeddings;
mod errors;
mod rerank;
mod server;

use std::time::Duration;

use serde_json::Value;

use super::http::Patience;
use super::{Endpoint, Result};
use crate::config::Config;

const KEY: &str = "sk-test-secret-key";

/// As in life, but hardly any pauses.
fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(30),
        silence: Duration::from_secs(60),
        attempts: 4,
        pause: Duration::from_millis(1),
        budget: Duration::from_secs(60),
    }
}

/// The endpoint of `provider` at `url`, as the environment would say.
fn endpoint(provider: &str, url: &str) -> Result<Endpoint> {
    endpoint_with(provider, url, "")
}

fn endpoint_with(provider: &str, url: &str, toml: &str) -> Result<Endpoint> {
    let url = url.to_owned();
    let config = Config::from_lookup(move |name| match name {
        "OPENAI_API_KEY" | "DASHSCOPE_API_KEY" | "DEEPSEEK_API_KEY" | "COHERE_API_KEY"
        | "JINA_API_KEY" => Some(KEY.into()),
        "OPENAI_BASE_URL" | "DEEPSEEK_API_BASE" | "JINA_BASE_URL" => Some(format!("{url}/v1")),
        "COHERE_BASE_URL" => Some(url.clone()),
        "DASHSCOPE_HTTP_BASE_URL" => Some(format!("{url}/api/v1")),
        _ => None,
    });
    Endpoint::open_with(provider, &config.with_toml(toml).unwrap(), patience())
}

/// A recorded error: status and body.
fn cassette(name: &str) -> (u16, Value) {
    let all: Value = serde_json::from_str(include_str!("cassettes.json")).unwrap();
    let one = &all[name];
    (one["status"].as_u64().unwrap() as u16, one["body"].clone())
}
