//! Providers on this machine, played with what the real ones send.

mod cancel;
mod chat;
mod embeddings;
mod errors;
mod rerank;
mod server;

use std::time::Duration;

use serde_json::Value;

use super::http::Patience;
use super::{Endpoint, Result};
use crate::chat::{ChatOptions, ChatRequest, Message};
use crate::config::Config;
use crate::embed::EmbedOptions;

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

/// A model of the engine's fixtures, by the name that leads to its folder.
fn local(fixture: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("local:{root}/../engine/tests/fixtures/{fixture}")
}

#[test]
fn models_of_this_machine_have_names_like_others() {
    let config = Config::from_lookup(|_| None);
    let embedder = crate::providers::init_embeddings_with(&local("bert"), &config).unwrap();
    let vectors = embedder.embed(&["文意"], &EmbedOptions::default()).unwrap();
    assert_eq!(vectors.len(), 1);
    let model = crate::providers::init_chat_model_with(&local("decoders/llama"), &config).unwrap();
    let request = ChatRequest {
        messages: vec![Message::user("你好")],
        options: ChatOptions {
            max_tokens: Some(3),
            ..ChatOptions::default()
        },
        ..ChatRequest::default()
    };
    let usage = model.invoke(&request).unwrap().usage.unwrap();
    assert!((1..=3).contains(&usage.completion_tokens));
    let reranker = crate::providers::init_reranker_with(&local("cross_encoder"), &config).unwrap();
    assert_eq!(reranker.rerank("a", &["b", "文"]).unwrap().scores.len(), 2);
    let error = crate::providers::init_chat_model_with("local:./nowhere", &config)
        .err()
        .unwrap();
    assert!(error.is_user_error() && error.hint().is_some(), "{error}");
}
