//! Conversations with a model on this machine, in the dialects that have them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Running, events, options, roomy_options, unchunked};
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
    let nanoseconds = |name: &str| last[name].as_u64().unwrap();
    let (read, written) = (
        nanoseconds("prompt_eval_duration"),
        nanoseconds("eval_duration"),
    );
    assert!(read > 0 && written > 0, "{last}");
    let all = read + written + nanoseconds("load_duration");
    assert!(all <= nanoseconds("total_duration"), "{last}");
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
fn ollamas_context_is_kept_to_or_told() {
    let server = Running::start(options());
    let ask = |route: &str, extra: &Value, num_ctx: i64| {
        let mut body = json!({"model": "chat", "prompt": "你好 world", "stream": false,
            "messages": [{"role": "user", "content": "你好 world"}],
            "options": {"temperature": 0, "num_predict": 400, "num_ctx": num_ctx}});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        server.post(route, body.to_string())
    };
    for (route, extra) in [
        ("/api/chat", json!({})),
        ("/api/generate", json!({})),
        ("/api/generate", json!({"raw": true})),
    ] {
        let reply = ask(route, &extra, 90);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("x-wenyi-context"), Some("90"));
        let count = |name: &str| reply.json()[name].as_u64().unwrap();
        let tokens = count("prompt_eval_count") + count("eval_count");
        assert!(tokens <= 90, "{reply:?}");
        // More than the model takes is what it takes.
        let reply = ask(route, &extra, 1_000_000);
        assert_eq!(reply.status, 200, "{reply:?}");
        let told: u64 = reply.header("x-wenyi-context").unwrap().parse().unwrap();
        assert!((91..1_000_000).contains(&told), "{told}");
        assert_eq!(ask(route, &extra, 0).header("x-wenyi-context"), None);
        for (wrong, expected) in [
            (-1, "`options.num_ctx` is -1, expected at least 1"),
            (1, "`options.num_ctx` is 1, expected more than the "),
        ] {
            let reply = ask(route, &extra, wrong);
            assert_eq!(reply.status, 400, "{reply:?}");
            let error = reply.json()["error"].as_str().unwrap().to_owned();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_field_is_told_with_what_was_expected() {
    let server = Running::start(roomy_options());
    let tool = json!([{"type": "function", "function": {"name": "magic", "parameters": {
        "type": "object", "properties": {"text": {"type": "string", "minLength": 9}},
        "required": ["text"]}}}]);
    let named = json!({"type": "function", "function": {"name": "tragic"}});
    let regex = json!({"type": "regex", "regex": "[a-z0-9]{200}"});
    for (extra, field, words) in [
        (
            json!({"response_format": "json"}),
            "response_format",
            "is `\"json\"`, expected an object whose `type` is `text`, `json_object`",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            "response_format",
            "\"schema\": …}}`",
        ),
        (
            json!({"response_format": {"type": "regex"}}),
            "response_format",
            "\"regex\": …}`",
        ),
        (
            json!({"tool_choice": "sometimes"}),
            "tool_choice",
            "is `\"sometimes\"`, expected `auto`, `none`, `required` or",
        ),
        (
            json!({"tool_choice": named, "tools": tool}),
            "tool_choice",
            "names `tragic`, expected one of `tools`: `magic`",
        ),
        (
            json!({"tool_choice": "required"}),
            "tool_choice",
            "is `required`, and there are no `tools`",
        ),
        (
            json!({"tool_choice": "required", "tools": tool, "max_tokens": 2}),
            "max_tokens",
            "is 2, expected about ",
        ),
        (
            json!({"tool_choice": "required", "tools": tool, "max_completion_tokens": 2}),
            "max_completion_tokens",
            "the shortest call of `tools`",
        ),
        (
            json!({"response_format": regex}),
            "max_tokens",
            "the shortest text of `response_format`",
        ),
    ] {
        let reply = server.post(CHAT, asked(&extra));
        assert_eq!(reply.status, 400, "{reply:?}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], field, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        assert!(message.contains(words), "{message}");
    }
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "你好"}],
        "format": {"type": "string", "minLength": 9}, "options": {"num_predict": 2}});
    let error = server.post("/api/chat", body.to_string()).json()["error"].clone();
    let message = error.as_str().unwrap();
    assert!(
        message.starts_with("`options.num_predict` is 2, expected"),
        "{message}"
    );
    assert!(
        message.ends_with("the shortest text of `format`"),
        "{message}"
    );
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
