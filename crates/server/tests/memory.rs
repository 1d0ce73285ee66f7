//! Models come into memory when they are asked for, and leave it again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Running, options, wait_until};
use wenyi_server::ServerOptions;

fn in_memory(server: &Running) -> Vec<String> {
    let models = server.get("/api/ps").json()["models"].clone();
    let models = models.as_array().unwrap().iter();
    models
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

fn use_all(server: &Running) {
    let score = json!({"model": "cross_encoder", "query": "a", "documents": ["b"]});
    assert_eq!(server.post("/v2/rerank", score.to_string()).status, 200);
    let talk =
        json!({"model": "chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1});
    assert_eq!(
        server.post("/v1/chat/completions", talk.to_string()).status,
        200
    );
    let embed = json!({"model": "bert", "input": "a"});
    assert_eq!(server.post("/v1/embeddings", embed.to_string()).status, 200);
}

#[test]
fn what_nobody_asks_for_leaves_memory_and_comes_back() {
    let server = Running::start(ServerOptions {
        idle: Some(Duration::from_millis(200)),
        ..options()
    });
    for _ in 0..2 {
        use_all(&server);
        wait_until("empty", || in_memory(&server).is_empty());
    }
}

#[test]
fn no_more_models_are_in_memory_than_may_be() {
    let server = Running::start(ServerOptions {
        max_loaded: 1,
        ..options()
    });
    wait_until("ready", || server.get("/ready").status == 200);
    use_all(&server);
    use_all(&server);
    // A model that was just used may not have been given back when the next one came.
    assert!(in_memory(&server).len() <= 2);
}

#[test]
fn models_leave_when_memory_is_short() {
    let server = Running::start(ServerOptions {
        // More than any machine has.
        memory_reserve: u64::MAX,
        ..options()
    });
    use_all(&server);
    if cfg!(target_os = "linux") {
        wait_until("empty", || in_memory(&server).is_empty());
    }
    use_all(&server);
}
