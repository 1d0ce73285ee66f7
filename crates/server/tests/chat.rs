//! Conversations with a model on this machine, in the dialects that have them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Reply, Running, options};
use wenyi::embed::Precision;
use wenyi_server::ServerOptions;

const CHAT: &str = "/v1/chat/completions";

fn asked(extra: &Value) -> String {
    let mut body = json!({"model": "chat", "temperature": 0, "max_tokens": 6,
        "messages": [{"role": "system", "content": "短"}, {"role": "user", "content": "你好 world"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// The body of a chunked answer.
fn unchunked(reply: &Reply) -> String {
    let mut rest = &reply.body[..];
    let mut text = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

fn events(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    let text = unchunked(reply);
    let events = text.split_terminator("\n\n");
    events
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

#[test]
fn an_answer_is_the_same_whole_and_in_pieces() {
    let server = Running::start(options());
    let whole = server.post(CHAT, asked(&json!({})));
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "chat");
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "length");
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], 6);
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = events(&server.post(CHAT, asked(&options)));
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = chunks
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let (last, chunks) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 6);
    let first = &chunks[0]["choices"][0]["delta"];
    assert_eq!(*first, json!({"role": "assistant", "content": ""}));
    let mut streamed = String::new();
    for chunk in chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        assert_eq!(chunk["usage"], Value::Null);
        streamed += chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
    }
    assert_eq!(streamed, text);
    let end = &chunks.last().unwrap()["choices"][0];
    assert_eq!(end["finish_reason"], "length");
    assert_eq!(end["delta"], json!({}));
}

#[test]
fn several_answers_come_side_by_side() {
    let server = Running::start(ServerOptions {
        // In 16 bits, a prompt that has been read before can be rounded in another way.
        precision: Some(Precision::F32),
        ..options()
    });
    let extra = json!({"n": 3, "temperature": 1, "seed": 7});
    let choices = server.post(CHAT, asked(&extra)).json()["choices"].clone();
    let indices: Vec<_> = choices
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["index"].clone())
        .collect();
    assert_eq!(indices, [0, 1, 2]);
    let again = server.post(CHAT, asked(&extra)).json()["choices"].clone();
    assert_eq!(choices, again, "the same seed, the same answers");
    let streamed = json!({"n": 2, "stream": true});
    let events = events(&server.post(CHAT, asked(&streamed)));
    assert_eq!(
        events
            .iter()
            .filter(|event| event.contains(r#""role":"assistant""#))
            .count(),
        2
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| event.contains(r#""finish_reason":"length""#))
            .count(),
        2
    );
}

#[test]
fn texts_go_on() {
    let server = Running::start(options());
    for base in ["/v1", "/compatible-mode/v1"] {
        let body = json!({"model": "chat", "prompt": ["The sense", "文意"], "max_tokens": 4, "temperature": 0});
        let reply = server.post(&format!("{base}/completions"), body.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        let reply = reply.json();
        assert_eq!(reply["object"], "text_completion");
        assert_eq!(reply["choices"].as_array().unwrap().len(), 2);
        assert_eq!(reply["usage"]["completion_tokens"], 8);
        let body = json!({"model": "chat", "prompt": "The sense", "max_tokens": 4, "temperature": 0,
            "stream": true});
        let events = events(&server.post(&format!("{base}/completions"), body.to_string()));
        let pieces = events
            .iter()
            .filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let pieces: Vec<String> = pieces
            .map(|piece| piece["choices"][0]["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(reply["choices"][0]["text"], pieces.concat());
    }
}

#[test]
fn ollama_answers_a_line_at_a_time() {
    let server = Running::start(options());
    let openai = server.post(CHAT, asked(&json!({}))).json();
    let text = openai["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut body: Value = serde_json::from_str(&asked(&json!({"model": "chat:latest"}))).unwrap();
    body["options"] = json!({"temperature": 0, "num_predict": 6});
    let reply = server.post("/api/chat", body.to_string());
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = unchunked(&reply)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: String = lines
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, text);
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("length"))
    );
    assert_eq!(last["eval_count"], 6);
    body["stream"] = false.into();
    let whole = server.post("/api/chat", body.to_string()).json();
    assert_eq!(whole["message"]["content"], text);

    let generate = json!({"model": "chat", "system": "短", "prompt": "你好 world", "stream": false,
        "options": {"temperature": 0, "num_predict": 6}});
    let reply = server.post("/api/generate", generate.to_string()).json();
    assert_eq!(reply["response"], text);
    let raw = json!({"model": "chat", "prompt": "The sense", "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": 4}});
    let completion =
        json!({"model": "chat", "prompt": "The sense", "max_tokens": 4, "temperature": 0});
    let completion = server
        .post("/v1/completions", completion.to_string())
        .json();
    let raw = server.post("/api/generate", raw.to_string()).json();
    assert_eq!(raw["response"], completion["choices"][0]["text"]);
    let nothing = server
        .post("/api/chat", json!({"model": "chat"}).to_string())
        .json();
    assert_eq!(nothing["done_reason"], "load");
}

#[test]
fn what_cannot_be_answered_is_told_before_anything_else() {
    let server = Running::start(options());
    let long = "word ".repeat(5000);
    for (extra, status, code) in [
        (json!({"messages": []}), 400, Value::Null),
        (json!({"messages": "x"}), 400, Value::Null),
        (
            json!({"messages": [{"role": "nobody", "content": "x"}]}),
            400,
            Value::Null,
        ),
        (json!({"model": "nothing"}), 404, json!("model_not_found")),
        (json!({"model": "bert"}), 400, Value::Null),
        (json!({"temperature": 3}), 400, Value::Null),
        (json!({"n": 0}), 400, Value::Null),
        (json!({"max_tokens": 0}), 400, Value::Null),
        (json!({"stop": [1]}), 400, Value::Null),
        (json!({"logit_bias": {"5": 1}}), 400, Value::Null),
        (
            json!({"messages": [{"role": "user", "content": long}]}),
            400,
            json!("context_length_exceeded"),
        ),
    ] {
        for stream in [false, true] {
            let mut extra = extra.clone();
            extra["stream"] = stream.into();
            let reply = server.post(CHAT, asked(&extra));
            assert_eq!(reply.status, status, "{reply:?}");
            assert_eq!(reply.json()["error"]["code"], code);
        }
    }
    // A model to talk with gives no vectors.
    let body = json!({"model": "chat", "input": "x"}).to_string();
    assert_eq!(server.post("/v1/embeddings", body).status, 400);
}
