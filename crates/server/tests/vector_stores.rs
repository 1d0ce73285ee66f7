//! OpenAI's vector stores: what a search finds, by meaning and by words.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{Reply, Running, options, wait_until};
use wenyi_server::ServerOptions;

const FILES: [(&str, &str); 4] = [
    ("disk.txt", "Error E4711 means that the disk is full."),
    ("lunch.txt", "Lunch is served at noon."),
    ("keys.txt", "Keys are rotated every month."),
    ("诗.txt", "春眠不觉晓，处处闻啼鸟。"),
];

fn upload(server: &Running, name: &str, text: &str) -> String {
    let parts = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
         --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n\
         {text}\r\n--x--\r\n"
    );
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    let reply = server.send("POST", "/v1/files", &kind, parts.as_bytes());
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// A store with all files, once they can be searched.
fn filled(server: &Running) -> String {
    let ids: Vec<String> = FILES
        .iter()
        .map(|(name, text)| upload(server, name, text))
        .collect();
    let made = server.post("/v1/vector_stores", json!({"file_ids": ids}).to_string());
    let store = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/vector_stores/{store}");
    wait_until("the files can be searched", || {
        let described = server.send("GET", &path, &[], b"").json();
        described["file_counts"]["completed"] == FILES.len()
    });
    store
}

fn ask(server: &Running, store: &str, query: &str, ranking: Value) -> Reply {
    let body = json!({"query": query, "ranking_options": ranking});
    let path = format!("/v1/vector_stores/{store}/search");
    server.post(&path, body.to_string())
}

/// The hits' names and scores, best first.
fn found(server: &Running, store: &str, query: &str, ranking: Value) -> Vec<(String, f64)> {
    let reply = ask(server, store, query, ranking);
    assert_eq!(reply.status, 200, "{}", reply.json());
    let hits = reply.json()["data"].clone();
    let hit = |hit: &Value| {
        let name = hit["filename"].as_str().unwrap().to_owned();
        (name, hit["score"].as_f64().unwrap())
    };
    let hits: Vec<_> = hits.as_array().unwrap().iter().map(hit).collect();
    assert!(hits.is_sorted_by(|a, b| a.1 >= b.1), "{hits:?}");
    assert!(
        hits.iter().all(|(_, score)| (0.0..=1.0).contains(score)),
        "{hits:?}"
    );
    hits
}

#[test]
fn words_and_meaning_find_together() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        storage: Some(folder.path().join("storage")),
        ..options()
    });
    let store = filled(&server);
    let ask = |query: &str, ranking: Value| found(&server, &store, query, ranking);
    let by_name = |hits: Vec<(String, f64)>| hits.into_iter().collect::<BTreeMap<_, _>>();

    // By the vectors alone, which of a model without sense mean nothing.
    let vectors = by_name(ask("E4711", json!({"ranker": "none"})));
    let hybrid = by_name(ask("E4711", Value::Null));
    assert_eq!(hybrid.len(), FILES.len());
    for (name, score) in &hybrid {
        match name.as_str() {
            "disk.txt" => assert!(*score > vectors[name], "{hybrid:?} {vectors:?}"),
            _ => assert!(
                (score - vectors[name]).abs() < 1e-6,
                "{hybrid:?} {vectors:?}"
            ),
        }
    }
    let auto = json!({"ranker": "auto"});
    assert_eq!(by_name(ask("E4711", auto)), hybrid);

    let words = json!({"hybrid_search": {"embedding_weight": 0, "text_weight": 3}});
    for (query, name) in [
        ("E4711", "disk.txt"),
        ("闻啼鸟", "诗.txt"),
        ("rotate", "keys.txt"),
    ] {
        let hits = ask(query, words.clone());
        assert_eq!(hits[0].0, name);
        assert!(hits[0].1 > 0.1 && hits[1].1 == 0.0, "{hits:?}");
    }
    let mut least = words.clone();
    least["score_threshold"] = 0.1.into();
    assert_eq!(ask("E4711", least).len(), 1);
    let meaning = json!({
        "ranker": "default-2024-11-15",
        "hybrid_search": {"embedding_weight": 2, "text_weight": 0},
    });
    for (name, score) in ask("E4711", meaning) {
        assert!((score - vectors[&name]).abs() < 1e-6);
    }
}

#[test]
fn rankings_that_cannot_be_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        storage: Some(folder.path().join("storage")),
        ..options()
    });
    let made = server.post("/v1/vector_stores", "{}").json();
    let store = made["id"].as_str().unwrap();
    for (ranking, word) in [
        (json!({"ranker": "magic"}), "magic"),
        (json!({"score_threshold": 1.5}), "score_threshold"),
        (
            json!({"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}),
            "text_weight",
        ),
        (
            json!({"hybrid_search": {"embedding_weight": -1, "text_weight": 1}}),
            "embedding_weight",
        ),
    ] {
        let reply = ask(&server, store, "a", ranking);
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["param"]),
            (400, &json!("ranking_options"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    }
}
