//! What is wrong gets the right status in the shape of its dialect, and the server goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Reply, Running, options, read_reply, wait_until};
use wenyi_server::ServerOptions;

const DASHSCOPE: &str = "/api/v1/services/embeddings/text-embedding/text-embedding";

/// Every dialect's shape of an error.
fn check_shape(path: &str, reply: &Reply) {
    let body = reply.json();
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_right = match path {
        _ if path.starts_with("/api/v1/") => {
            text(&body["code"]) && text(&body["message"]) && text(&body["request_id"])
        }
        _ if path.starts_with("/api/") => text(&body["error"]),
        "/v1/rerank" | "/v2/rerank" => text(&body["message"]),
        "/embed" | "/embed_sparse" | "/rerank" | "/predict" | "/similarity" | "/tokenize"
        | "/decode" => text(&body["error"]) && text(&body["error_type"]),
        _ => {
            let error = &body["error"];
            let has = |name| error.get(name).is_some();
            text(&error["message"]) && text(&error["type"]) && has("param") && has("code")
        }
    };
    assert!(is_right, "{path}: {body}");
}

fn routes() -> Vec<(&'static str, Value)> {
    vec![
        ("/v1/embeddings", json!({"model": "bert", "input": "a"})),
        (
            "/compatible-mode/v1/embeddings",
            json!({"model": "bert", "input": "a"}),
        ),
        (
            DASHSCOPE,
            json!({"model": "bert", "input": {"texts": ["a"]}}),
        ),
        (
            "/v2/rerank",
            json!({"model": "cross_encoder", "query": "a", "documents": ["a"]}),
        ),
        (
            "/v1/rerank",
            json!({"model": "cross_encoder", "query": "a", "documents": ["a"]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}),
        ),
        (
            "/v1/completions",
            json!({"model": "chat", "prompt": "a", "max_tokens": 2}),
        ),
        (
            "/api/chat",
            json!({"model": "chat", "messages": [{"role": "user", "content": "a"}],
                "options": {"num_predict": 2}}),
        ),
        (
            "/api/generate",
            json!({"model": "chat", "prompt": "a", "options": {"num_predict": 2}}),
        ),
        ("/api/embed", json!({"model": "bert", "input": "a"})),
        ("/api/embeddings", json!({"model": "bert", "prompt": "a"})),
        ("/embed", json!({"inputs": "a"})),
        ("/embed_sparse", json!({"inputs": "a"})),
        ("/rerank", json!({"query": "a", "texts": ["a"]})),
        ("/predict", json!({"inputs": ["a", "b"]})),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": ["a"]}}),
        ),
        ("/tokenize", json!({"inputs": "a"})),
        ("/decode", json!({"ids": [1]})),
    ]
}

#[test]
fn bodies_that_are_not_json_are_the_senders_mistake_in_every_dialect() {
    let server = Running::start(options());
    let deep = "[".repeat(100_000);
    let deep_closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"model":"bert","input":{deep_closed},"inputs":{deep_closed}}}"#);
    let bodies: [&[u8]; 14] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b"\"text\"",
        b"{}",
        b"NaN",
        b"{\"input\":NaN}",
        b"\xff\xfe{\"input\":\"a\"}",
        b"{\"model\":\"bert\",\"input\":\"\xff\"}",
        deep.as_bytes(),
        deep_closed.as_bytes(),
        deep_field.as_bytes(),
    ];
    for (path, good) in routes() {
        for body in bodies {
            let reply = server.post(path, body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert!(
                [400, 422].contains(&reply.status),
                "{path} {shown}: {}",
                reply.status
            );
            check_shape(path, &reply);
        }
        assert_eq!(server.post(path, good.to_string()).status, 200, "{path}");
    }
}

#[test]
fn fields_of_the_wrong_kind_are_refused_in_every_dialect() {
    let server = Running::start(options());
    let wrong = [
        json!(1),
        json!(true),
        json!({}),
        json!([[["a"]]]),
        json!([1.5]),
        json!([-1]),
        json!([null]),
        json!(["a", 1]),
        json!([{"text": 1}, 2]),
        json!([4_294_967_296_u64]),
    ];
    for (path, good) in routes() {
        let nested = good["input"].is_object() || good["inputs"].is_object();
        for name in ["input", "inputs", "prompt", "documents", "texts", "ids"] {
            if good.get(name).is_none() || nested && name.starts_with("input") {
                continue;
            }
            for value in &wrong {
                let mut body = good.clone();
                body[name] = value.clone();
                let reply = server.post(path, body.to_string());
                assert!(
                    [400, 422].contains(&reply.status),
                    "{path} {body}: {reply:?}"
                );
                check_shape(path, &reply);
            }
        }
        for name in ["model", "query"] {
            if good.get(name).is_some() {
                let mut body = good.clone();
                body[name] = json!({"a": 1});
                let reply = server.post(path, body.to_string());
                assert!(
                    [400, 422].contains(&reply.status),
                    "{path} {body}: {reply:?}"
                );
                check_shape(path, &reply);
            }
        }
    }
}

#[test]
fn unknown_models_routes_and_methods() {
    let server = Running::start(options());
    for (path, good) in routes() {
        if good.get("model").is_some() {
            let mut body = good.clone();
            body["model"] = json!("没有这个模型");
            let reply = server.post(path, body.to_string());
            // DashScope's clients would ask again and again on a 404.
            let expected = if path == DASHSCOPE { 400 } else { 404 };
            assert_eq!(reply.status, expected, "{path}: {reply:?}");
            check_shape(path, &reply);
        }
        let reply = server.send("PUT", path, &[], b"{}");
        let expected = if path == DASHSCOPE { 400 } else { 405 };
        assert_eq!(reply.status, expected, "{path}");
        assert!(
            reply
                .header("allow")
                .is_some_and(|allow| allow.contains("POST"))
        );
        check_shape(path, &reply);
    }
    for path in [
        "/v1/nothing",
        "/api/v1/nothing",
        "/api/nothing",
        "/nothing",
        "/v1/embeddings/",
    ] {
        let reply = server.get(path);
        let is_dashscope = path.starts_with("/api/v1/");
        let expected = if is_dashscope { 400 } else { 404 };
        assert_eq!(reply.status, expected, "{path}");
        if is_dashscope {
            assert_eq!(reply.json()["code"], "InvalidURL");
        }
        check_shape(path, &reply);
    }
    let body = json!({"model": "bert", "input": {"texts": ["a"]},
        "parameters": {"dimension": 10_000}});
    let reply = server.post(DASHSCOPE, body.to_string());
    assert_eq!(reply.status, 400);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("`dimension` is 10000"), "{message}");
}

#[test]
fn openais_words_are_kept_to_the_letter() {
    let server = Running::start(options());
    let input = "'$.input' is invalid. Please check the API reference: \
                 https://platform.openai.com/docs/api-reference.";
    let many: Vec<_> = (0..2049).map(|number| number.to_string()).collect();
    let cases = [
        (json!({"model": "bert", "input": []}), input.to_owned()),
        (json!({"model": "bert", "input": many}), input.to_owned()),
        (
            json!({"model": "bert", "input": [1, 100_277]}),
            input.to_owned(),
        ),
        (
            json!({"model": "bert", "input": "a", "encoding_format": "md5"}),
            "Invalid value for 'encoding_format' = md5. Supported values: ['float', 'base64']."
                .into(),
        ),
        (
            json!({"model": "bert", "input": vec![vec![1; 1000]; 301]}),
            "Requested 301000 tokens, max 300000 tokens per request".into(),
        ),
    ];
    for (body, message) in cases {
        let reply = server.post("/v1/embeddings", body.to_string());
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json()["error"]["message"], message);
        assert_eq!(reply.json()["error"]["param"], Value::Null);
    }
    for (dimensions, status) in [
        (json!(0), 400),
        (json!(10_000), 400),
        (json!(-1), 400),
        (json!(1), 200),
    ] {
        let body = json!({"model": "bert", "input": "a", "dimensions": dimensions});
        let reply = server.post("/v1/embeddings", body.to_string());
        assert_eq!(reply.status, status, "{body}");
    }
    let most: Vec<_> = (0..2048).map(|_| "a").collect();
    let body = json!({"model": "bert", "input": most});
    assert_eq!(server.post("/v1/embeddings", body.to_string()).status, 200);
    for empty in [json!(""), json!([""]), json!(["", "a", ""])] {
        let body = json!({"model": "bert", "input": empty});
        assert_eq!(
            server.post("/v1/embeddings", body.to_string()).status,
            200,
            "{body}"
        );
    }
}

#[test]
fn keys_are_asked_for_everywhere_but_at_the_open_routes() {
    let server = Running::start(ServerOptions {
        keys: vec!["one".into(), "two".into()],
        ..options()
    });
    for (path, good) in routes() {
        let body = good.to_string();
        for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
            let reply = server.send("POST", path, headers, body.as_bytes());
            assert_eq!(reply.status, 401, "{path}");
            // text-embeddings-inference answers without a body.
            if !reply.body.is_empty() {
                check_shape(path, &reply);
            }
        }
        let right = [("authorization", "Bearer two")];
        let reply = server.send("POST", path, &right, body.as_bytes());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/metrics").status, 200);
    assert_eq!(server.get("/v1/models").status, 401);
    let wrong = server
        .send("GET", "/v1/models", &[("authorization", "Bearer x")], b"")
        .json();
    assert_eq!(wrong["error"]["code"], "invalid_api_key");
}

#[test]
fn pages_of_other_hosts_are_not_answered_without_keys() {
    let server = Running::start(options());
    let reply = server.send("GET", "/v1/models", &[("host", "evil.example")], b"");
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[test]
fn large_bodies_are_refused_before_and_while_they_come() {
    let server = Running::start(ServerOptions {
        max_body: 1 << 16,
        ..options()
    });
    for (path, _) in routes() {
        let mut stream = server.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 104857600\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let reply = read_reply(stream);
        assert_eq!(reply.status, 413, "{path}");
        check_shape(path, &reply);
    }
    let mut stream = server.connect();
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    for _ in 0..5 {
        // The server may have answered already.
        let _ = stream.write_all(chunk.as_bytes());
    }
    assert_eq!(read_reply(stream).status, 413);
}

#[test]
fn chunked_garbage_and_broken_heads_end_the_connection_only() {
    let server = Running::start(options());
    let starts: [&[u8]; 4] = [
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
    ];
    for start in starts {
        let mut stream = server.connect();
        stream.write_all(start).unwrap();
        let reply = read_reply(stream);
        assert!((400..500).contains(&reply.status), "{reply:?}");
        // A body that breaks is the handler's to answer, a head nobody's.
        if start.ends_with(b"zz\r\n") {
            check_shape("/v1/embeddings", &reply);
        }
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn clients_that_do_not_take_their_answers_are_let_go() {
    let server = Running::start(ServerOptions {
        read_timeout: Duration::from_millis(300),
        ..options()
    });
    let texts: Vec<_> = (0..2048).map(|_| "a").collect();
    let body = json!({"model": "bert", "input": texts}).to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    );
    let request = head + &body;
    let stream = server.connect();
    stream
        .set_write_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    // Answers fill the system's buffers, then requests do, and then the server gives up.
    let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    wait_until("closed", || {
        let sent = (&stream).write_all(request.as_bytes());
        sent.is_err_and(|error| gone.contains(&error.kind()))
    });
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn clients_that_dawdle_are_let_go() {
    let server = Running::start(ServerOptions {
        read_timeout: Duration::from_millis(300),
        ..options()
    });
    // A head that never ends: hyper closes without a word or with 408.
    let mut stream = server.connect();
    stream
        .write_all(b"POST /v1/embeddings HTTP/1.1\r\nhost: local")
        .unwrap();
    let mut rest = Vec::new();
    // Whether the end comes as a close or as a reset is the system's business.
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    // A body that never ends.
    let mut stream = server.connect();
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    let reply = read_reply(stream);
    assert_eq!(reply.status, 408);
    check_shape("/v1/embeddings", &reply);
}

#[test]
fn what_does_not_fit_the_queue_is_told_when_to_come_again() {
    let server = Running::start(ServerOptions {
        max_queued_tokens: 1,
        cache: 0,
        ..options()
    });
    // An empty queue takes one request of any size; others that come meanwhile are refused.
    let texts: Vec<_> = (0..400)
        .map(|number| format!("{number} {}", "text ".repeat(60)))
        .collect();
    let body = json!({"model": "bert", "input": texts}).to_string();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| server.post("/v1/embeddings", &body));
        let asked: Vec<_> = (0..12).map(|_| ask()).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(replies.iter().any(|reply| reply.status == 200));
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(reply.status, 429);
        assert!(reply.header("retry-after").is_some());
        assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    }
}

#[test]
fn open_requests_are_answered_before_the_end() {
    let mut server = Running::start(options());
    let mut stream = server.connect();
    let body = json!({"model": "bert", "input": "a"}).to_string();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The request is in work once another one on the same server has been counted with it.
    let text = || String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
    wait_until("two requests in work", || {
        text().contains("wenyi_in_flight 2")
    });
    server.begin_stop();
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_reply(stream).status, 200);
    server.stop();
}
