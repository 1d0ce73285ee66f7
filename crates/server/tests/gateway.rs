//! What clients of one interface see of another's providers: errors, counts and what is not served.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::provider::{Provider, reply_json};
use support::{Reply, Running, fixture, options, read_reply};
use wenyi::config::Config;
use wenyi_server::{ServedModel, ServerOptions};

const KEY: &str = "sk-of-the-server";

fn model(name: &str, source: &str) -> ServedModel {
    ServedModel {
        name: name.into(),
        source: source.into(),
    }
}

/// The imitation's `m` in front of the fixtures, and DashScope's models behind the same address.
fn remote(provider: &Provider) -> ServerOptions {
    let address = provider.address;
    let toml = format!(
        "[providers.fake]\nbase_url = \"http://{address}/v1\"\napi_key_env = \"FAKE_KEY\"\n\
         max_retries = 0\n[providers.fake.models.m]\ndimensions = 3\nmax_tokens = 77\n"
    );
    let url = format!("http://{address}/api/v1");
    let lookup = move |name: &str| match name {
        "FAKE_KEY" | "DASHSCOPE_API_KEY" => Some(KEY.to_owned()),
        "DASHSCOPE_HTTP_BASE_URL" => Some(url.clone()),
        _ => None,
    };
    ServerOptions {
        models: vec![
            model("far", "fake:m"),
            model("v4", "dashscope:text-embedding-v4"),
            model("keyless", "openai:text-embedding-3-small"),
            fixture("bert"),
            fixture("cross_encoder"),
            fixture("splade"),
        ],
        chat_models: Vec::new(),
        config: Arc::new(Config::from_lookup(lookup).with_toml(&toml).unwrap()),
        ..options()
    }
}

fn embed(server: &Running, model: &str) -> Reply {
    let body = json!({"model": model, "input": "a"});
    server.post("/v1/embeddings", body.to_string())
}

#[test]
fn an_error_that_came_as_a_success_is_told_without_the_key() {
    let provider = Provider::start(|_, stream| {
        let message = format!("bad key Bearer {KEY}");
        reply_json(
            stream,
            200,
            &json!({"code": "InvalidApiKey", "message": message}),
        );
    });
    let server = Running::start(remote(&provider));
    for parameters in [json!({}), json!({"output_type": "dense&sparse"})] {
        let body = json!({"model": "v4", "input": {"texts": ["a"]}, "parameters": parameters});
        let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
        let reply = server.post(path, body.to_string());
        assert_eq!(reply.status, 502, "{reply:?}");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            text.contains("InvalidApiKey") && !text.contains(KEY),
            "{text}"
        );
    }
}

#[test]
fn clients_are_told_what_it_helps_to_ask_again() {
    let provider = Provider::start(|seen, stream| {
        let text = seen.body["input"][0].as_str().unwrap();
        let (status, code) = text.split_once(' ').unwrap();
        let error = json!({"error": {"message": "m", "code": code}});
        reply_json(stream, status.parse().unwrap(), &error);
    });
    let server = Running::start(remote(&provider));
    for (status, code, ours, kind, word) in [
        (429, "haste", 429, "requests", None),
        (
            429,
            "insufficient_quota",
            429,
            "insufficient_quota",
            Some("false"),
        ),
        (401, "invalid_api_key", 502, "server_error", Some("false")),
        (403, "denied", 502, "server_error", Some("false")),
        (400, "wrong", 400, "invalid_request_error", Some("false")),
        (503, "busy", 503, "server_error", None),
        (200, "odd", 502, "server_error", None),
    ] {
        let body = json!({"model": "far", "input": format!("{status} {code}")});
        let reply = server.post("/v1/embeddings", body.to_string());
        assert_eq!(reply.status, ours, "{reply:?}");
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!(kind), &json!(code))
        );
        assert_eq!(reply.header("x-should-retry"), word, "{status} {code}");
    }
    let reply = embed(&server, "keyless");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[test]
fn what_a_provider_counts_is_what_the_client_is_told() {
    let provider = Provider::start(|_, stream| {
        let data = json!([{"index": 0, "embedding": [1, 0, 0]}]);
        reply_json(
            stream,
            200,
            &json!({"data": data, "usage": {"prompt_tokens": 99}}),
        );
    });
    let server = Running::start(remote(&provider));
    // The second time it comes from the cache.
    for _ in 0..2 {
        let reply = embed(&server, "far").json();
        assert_eq!(
            reply["usage"],
            json!({"prompt_tokens": 99, "total_tokens": 99})
        );
        assert_eq!(reply["wenyi"], Value::Null);
    }
    assert_eq!(provider.seen().len(), 1);
}

#[test]
fn requests_that_clients_have_filled_are_taken() {
    let server = Running::start(options());
    // 300 tokens of cl100k, of which BERT makes 19,200.
    let text = "=".repeat(64 * 300);
    let body = json!({"model": "bert", "input": vec![text; 40], "overflow": "truncate"});
    let reply = server.post("/v1/embeddings", body.to_string());
    assert_eq!(reply.status, 200, "{reply:?}");
    let texts = vec![" a".repeat(50_000); 7];
    let body = json!({"model": "bert", "input": texts, "overflow": "truncate"});
    let reply = server.post("/v1/embeddings", body.to_string());
    assert_eq!(reply.status, 400);
    let error = &reply.json()["error"];
    assert_eq!(error["code"], "max_tokens_per_request");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.ends_with("max 300000 tokens per request"),
        "{message}"
    );
}

#[test]
fn paths_that_are_no_text_are_refused_in_the_dialects_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        storage: Some(folder.path().to_path_buf()),
        ..options()
    });
    for path in ["/v1/models/%ff", "/v1/files/%ff", "/v1/vector_stores/%ff"] {
        let reply = server.get(path);
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
        assert!(reply.json()["error"]["message"].is_string(), "{path}");
    }
    for path in ["/collections/%ff", "/collections/x/points/%ff"] {
        let reply = server.get(path);
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
        assert!(reply.json()["status"]["error"].is_string(), "{path}");
    }
    let counted = String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
    assert!(counted.contains("reason=\"path\"} 5"), "{counted}");
}

#[test]
fn pages_of_an_admitted_origin_may_send_keys_and_read_headers() {
    let server = Running::start(ServerOptions {
        origins: vec!["https://page.example".into()],
        ..options()
    });
    let origin = ("origin", "https://page.example");
    let asked = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-any"),
    ];
    let reply = server.send("OPTIONS", "/v1/embeddings", &asked, b"");
    let allowed = reply.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization,x-any"), "{reply:?}");
    let body = json!({"model": "bert", "input": "a"}).to_string();
    let reply = server.send("POST", "/v1/embeddings", &[origin], body.as_bytes());
    let exposed = reply.header("access-control-expose-headers").unwrap();
    for name in [
        "retry-after",
        "x-request-id",
        "x-wenyi-model",
        "x-wenyi-split",
    ] {
        assert!(exposed.contains(name), "{exposed}");
    }
}

#[test]
fn a_body_that_comes_too_slowly_is_the_clients_fault() {
    let server = Running::start(ServerOptions {
        request_timeout: Duration::from_millis(300),
        ..options()
    });
    for (path, status) in [
        ("/v1/embeddings", 408),
        ("/embed", 408),
        ("/api/embed", 408),
    ] {
        let mut stream = server.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_reply(stream).status, status, "{path}");
    }
}

#[test]
fn tei_tells_whose_fault_it_is() {
    let provider = Provider::start(|seen, stream| {
        let status: u16 = seen.body["input"][0].as_str().unwrap().parse().unwrap();
        reply_json(stream, status, &json!({"error": {"message": "m"}}));
    });
    let server = Running::start(remote(&provider));
    for (theirs, ours, kind) in [
        (400, 422, "Validation"),
        (401, 424, "Backend"),
        (404, 424, "Backend"),
        (429, 429, "Overloaded"),
        (500, 424, "Backend"),
        (503, 424, "Backend"),
    ] {
        let reply = server.post("/embed", json!({"inputs": theirs.to_string()}).to_string());
        assert_eq!(reply.status, ours, "{theirs}: {reply:?}");
        assert_eq!(reply.json()["error_type"], kind, "{theirs}");
    }
    let silent = Provider::start(|_, _| std::thread::sleep(Duration::from_secs(5)));
    let server = Running::start(ServerOptions {
        request_timeout: Duration::from_millis(300),
        ..remote(&silent)
    });
    let reply = server.post("/embed", json!({"inputs": "a"}).to_string());
    assert_eq!(
        (reply.status, &reply.json()["error_type"]),
        (424, &json!("Backend"))
    );
}

#[test]
fn tei_describes_the_model_that_it_embeds_with() {
    let provider = Provider::start(|_, stream| {
        reply_json(stream, 200, &json!({"data": [{"embedding": [1, 0, 0]}]}));
    });
    let server = Running::start(remote(&provider));
    let embedded = server.post("/embed", json!({"inputs": "a"}).to_string());
    assert_eq!(embedded.header("x-wenyi-model"), Some("far"));
    let info = server.get("/info").json();
    assert_eq!(
        (&info["model_id"], &info["max_input_length"]),
        (&json!("far"), &json!(77))
    );
    assert_eq!(info["model_sha"], Value::Null);
    for (path, body) in [
        ("/embed", json!({"inputs": [1, 2]})),
        ("/tokenize", json!({"inputs": "a"})),
        ("/decode", json!({"ids": [1]})),
    ] {
        let reply = server.post(path, body.to_string());
        assert_eq!(reply.status, 422, "{path}: {reply:?}");
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("`far`") && error.contains("API"), "{error}");
    }
    // A reranker in front of it is not what embeds.
    let models = ["cross_encoder", "bert"].map(fixture).into();
    let server = Running::start(ServerOptions {
        models,
        ..options()
    });
    assert_eq!(server.get("/info").json()["model_id"], "bert");
    let models = vec![fixture("cross_encoder")];
    let server = Running::start(ServerOptions {
        models,
        ..options()
    });
    let info = server.get("/info").json();
    assert_eq!(info["model_type"], json!({"reranker": {}}));
}

#[test]
fn tei_cuts_no_text_at_its_start_and_names_fields_rightly() {
    let server = Running::start(options());
    let both = json!({"source_sentence": "a", "sentences": ["a"]});
    let ask = |path: &str, direction: &str, truncate: bool| {
        let more = json!({"truncation_direction": direction, "truncate": truncate});
        let mut body = match path {
            "/rerank" => json!({"query": "a", "texts": ["a"]}),
            "/predict" => json!({"inputs": ["a", "b"]}),
            "/similarity" => json!({"inputs": both, "parameters": more}),
            _ => json!({"inputs": "a"}),
        };
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.post(path, body.to_string())
    };
    for path in [
        "/embed",
        "/embed_sparse",
        "/rerank",
        "/similarity",
        "/predict",
    ] {
        for (direction, truncate, status) in [
            ("right", true, 200),
            ("Right", false, 200),
            ("left", false, 200),
            ("left", true, 422),
            ("sideways", false, 422),
        ] {
            let reply = ask(path, direction, truncate);
            assert_eq!(
                reply.status, status,
                "{path} {direction} {truncate}: {reply:?}"
            );
        }
    }
    let reply = server.post(
        "/embed",
        json!({"inputs": "a", "prompt_name": "nope"}).to_string(),
    );
    assert_eq!(reply.status, 422);
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("the model has no prompt `nope`; it has"),
        "{error}"
    );
    let unknown = server.post("/embed_all", json!({"inputs": "a"}).to_string());
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error_type"], "Validation");
}

#[test]
fn pairs_are_predicted_as_they_are_reranked() {
    let server = Running::start(options());
    let scores = |path: &str, body: Value| server.post(path, body.to_string()).json();
    let mut ranked = scores("/rerank", json!({"query": "a", "texts": ["b", "文"]}));
    let ranked = ranked.as_array_mut().unwrap();
    ranked.sort_by_key(|entry| entry["index"].as_u64());
    let predicted = scores(
        "/predict",
        json!({"inputs": [["a", "b"], ["a", "文"], ["b", "b"]]}),
    );
    for (index, entry) in ranked.iter().enumerate() {
        assert_eq!(predicted[index][0]["score"], entry["score"]);
        assert_eq!(predicted[index][0]["label"], "LABEL_0");
    }
    assert_eq!(predicted.as_array().unwrap().len(), 3);
    let single = scores("/predict", json!({"inputs": ["a", "b"]}));
    assert_eq!(single, predicted[0]);
    let raw = scores(
        "/predict",
        json!({"inputs": ["a", "b"], "raw_scores": true}),
    );
    let logit = raw[0]["score"].as_f64().unwrap();
    let score = single[0]["score"].as_f64().unwrap();
    assert!((1.0 / (1.0 + (-logit).exp()) - score).abs() < 1e-6);
    for wrong in [
        json!("a"),
        json!(["a"]),
        json!([]),
        json!([["a"]]),
        json!(["a", "b", "c"]),
    ] {
        let reply = server.post("/predict", json!({"inputs": wrong}).to_string());
        assert!([400, 422].contains(&reply.status), "{wrong}: {reply:?}");
    }
}

#[test]
fn ollama_shows_a_model() {
    let provider = Provider::start(|_, stream| reply_json(stream, 500, &json!({})));
    let server = Running::start(ServerOptions {
        chat_models: options().chat_models,
        ..remote(&provider)
    });
    let show = |body: Value| server.post("/api/show", body.to_string());
    let bert = show(json!({"model": "bert:latest"})).json();
    assert_eq!(bert["capabilities"], json!(["embedding"]));
    let number = |shown: &Value, what: &str| shown["model_info"][format!("wenyi.{what}")].as_u64();
    assert!(number(&bert, "embedding_length") > Some(0), "{bert}");
    assert!(number(&bert, "context_length") > Some(0), "{bert}");
    let chat = show(json!({"name": "chat"})).json();
    assert_eq!(chat["capabilities"][0], "completion");
    assert!(number(&chat, "context_length") > Some(0), "{chat}");
    let far = show(json!({"model": "far"})).json();
    assert_eq!(
        (
            number(&far, "context_length"),
            number(&far, "embedding_length")
        ),
        (Some(77), None)
    );
    assert_eq!(show(json!({"model": "nobody"})).status, 404);
    assert_eq!(show(json!({})).status, 400);
    assert!(provider.seen().is_empty());
}
