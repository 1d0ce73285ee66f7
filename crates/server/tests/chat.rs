//! Conversations with a model on this machine, in the dialects that have them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Running, events, options, unchunked};
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
        (json!({"logit_bias": {"5": 101}}), 400, Value::Null),
        (json!({"logit_bias": {"word": 1}}), 400, Value::Null),
        (json!({"top_logprobs": 2}), 400, Value::Null),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            400,
            Value::Null,
        ),
        (json!({"tool_choice": "required"}), 400, Value::Null),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x",
                "schema": {"type": "integer", "minimum": 2, "maximum": 1}}}}),
            400,
            Value::Null,
        ),
        (
            json!({"response_format": {"type": "regex", "regex": "(open"}}),
            400,
            Value::Null,
        ),
        // Six tokens are too few for any text of this form.
        (
            json!({"response_format": {"type": "regex", "regex": "[a-z0-9]{200}"}}),
            400,
            Value::Null,
        ),
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
}

#[test]
fn a_model_to_talk_with_gives_vectors_too() {
    let server = Running::start(options());
    let listed = server.get("/v1/models").json();
    let mut models = listed["data"].as_array().unwrap().iter();
    let chat = models.find(|model| model["id"] == "chat").unwrap();
    assert_eq!(
        chat["capabilities"],
        json!(["completion", "tools", "embedding"])
    );
    let embed = |input: Value| {
        let body = json!({"model": "chat", "input": input}).to_string();
        let reply = server.post("/v1/embeddings", body);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["data"].clone()
    };
    let both = embed(json!(["文意", "the sense"]));
    assert_eq!(both[0]["embedding"], embed(json!("文意"))[0]["embedding"]);
    assert_ne!(both[0]["embedding"], both[1]["embedding"]);
    assert_eq!(server.post(CHAT, asked(&json!({}))).status, 200);
}

#[test]
fn probabilities_come_with_their_tokens() {
    let server = Running::start(options());
    let extra = json!({"logprobs": true, "top_logprobs": 2, "logit_bias": {"300": 5}});
    let whole = server.post(CHAT, asked(&extra)).json();
    let content = whole["choices"][0]["logprobs"]["content"].clone();
    let tokens = content.as_array().unwrap();
    assert_eq!(tokens.len(), 6);
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }
    let bytes = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().clone());
    let bytes: Vec<u8> = bytes.map(|byte| byte.as_u64().unwrap() as u8).collect();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes).trim(), text.trim());
    let mut streamed = extra.clone();
    streamed["stream"] = true.into();
    let events = events(&server.post(CHAT, asked(&streamed)));
    let mut told = Vec::new();
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let content = &chunk["choices"][0]["logprobs"]["content"];
        told.extend(content.as_array().into_iter().flatten().cloned());
    }
    assert_eq!(&told, tokens);
}
