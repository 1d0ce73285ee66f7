//! Calls of functions and answers of a form, from a model on this machine.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Running, events, roomy_options};

const CHAT: &str = "/v1/chat/completions";

fn asked(extra: &Value) -> String {
    let mut body = json!({"model": "chat", "temperature": 0, "max_tokens": 6,
        "messages": [{"role": "system", "content": "短"}, {"role": "user", "content": "你好 world"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "magic", "description": "Magic.",
            "parameters": {"type": "object", "properties": {"input": {"type": "integer"}},
                "required": ["input"]}}},
        {"type": "function", "function": {"name": "查询", "parameters": {"type": "object",
            "properties": {"名": {"enum": ["你好啊集团"]}}, "required": ["名"]}}},
    ])
}

#[test]
fn calls_parse_whole_and_in_pieces() {
    let server = Running::start(roomy_options());
    let named = json!({"type": "function", "function": {"name": "查询"}});
    for (choice, name) in [(named, Some("查询")), (json!("required"), None)] {
        let extra = json!({"tools": tools(), "tool_choice": choice, "max_tokens": 60});
        let whole = server.post(CHAT, asked(&extra));
        assert_eq!(whole.status, 200, "{whole:?}");
        let choice = whole.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["content"], Value::Null);
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["type"], "function");
        let called = call["function"]["name"].as_str().unwrap();
        assert!(name.is_none_or(|name| name == called), "{call}");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let parsed: Value = serde_json::from_str(arguments).unwrap();
        match called {
            "查询" => assert_eq!(parsed, json!({"名": "你好啊集团"})),
            _ => assert!(parsed["input"].is_i64(), "{parsed}"),
        }

        let mut streamed = extra.clone();
        streamed["stream"] = true.into();
        let events = events(&server.post(CHAT, asked(&streamed)));
        let mut text = String::new();
        let mut finish = Value::Null;
        for event in &events[..events.len() - 1] {
            let chunk: Value = serde_json::from_str(event).unwrap();
            let choice = &chunk["choices"][0];
            assert_eq!(choice["delta"].get("content").unwrap_or(&json!("")), "");
            for delta in choice["delta"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert_eq!(delta["index"], 0);
                // The name and the id come with the first piece of a call alone.
                assert_eq!(
                    delta.get("id").is_some(),
                    text.is_empty() && delta["function"].get("name").is_some()
                );
                text += delta["function"]["arguments"].as_str().unwrap();
            }
            finish = choice["finish_reason"].clone();
        }
        assert_eq!(text, arguments);
        assert_eq!(finish, "tool_calls");
    }
}

#[test]
fn no_call_without_tools_or_with_none() {
    let server = Running::start(roomy_options());
    let none = json!({"tools": tools(), "tool_choice": "none"});
    let choice = server.post(CHAT, asked(&none)).json()["choices"][0].clone();
    assert_eq!(choice["message"].get("tool_calls"), None);
    let plain = server.post(CHAT, asked(&json!({}))).json()["choices"][0].clone();
    assert_eq!(plain["message"]["content"], choice["message"]["content"]);
}

#[test]
fn forms_of_the_answer_are_kept() {
    let server = Running::start(roomy_options());
    let schema = json!({"type": "object", "properties": {"setup": {"type": "string"},
        "rating": {"type": ["integer", "null"]}}, "required": ["setup", "rating"],
        "additionalProperties": false});
    let json_schema = json!({"type": "json_schema",
        "json_schema": {"name": "joke", "schema": schema, "strict": true}});
    for format in [json_schema, json!({"type": "json_object"})] {
        for stream in [false, true] {
            let extra = json!({"response_format": format, "max_tokens": 40, "temperature": 1,
                "seed": 5, "stream": stream});
            let reply = server.post(CHAT, asked(&extra));
            let text = if stream {
                let events = events(&reply);
                let pieces = events[..events.len() - 1].iter().map(|event| {
                    let chunk: Value = serde_json::from_str(event).unwrap();
                    let delta = &chunk["choices"][0]["delta"]["content"];
                    delta.as_str().unwrap_or_default().to_owned()
                });
                pieces.collect()
            } else {
                let content = &reply.json()["choices"][0]["message"]["content"];
                content.as_str().unwrap().to_owned()
            };
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value.is_object(), "{text}");
            if format["type"] == "json_schema" {
                assert!(value["setup"].is_string(), "{text}");
                assert_eq!(value.as_object().unwrap().len(), 2, "{text}");
            }
        }
    }
}

#[test]
fn ollama_has_calls_and_forms_too() {
    let server = Running::start(roomy_options());
    let body = |extra: &Value| {
        let mut body = json!({"model": "chat", "stream": false, "options": {"temperature": 0,
            "num_predict": 40}, "messages": [{"role": "user", "content": "你好"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}},
        "required": ["a"]});
    for format in [schema, json!("json")] {
        let reply = server.post("/api/chat", body(&json!({"format": format})));
        assert_eq!(reply.status, 200, "{reply:?}");
        let text = reply.json()["message"]["content"].clone();
        let value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!(value.is_object(), "{value}");
    }
    // A conversation with a call in it goes on.
    let told = json!({"tools": tools(), "messages": [
        {"role": "user", "content": "magic(3)?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "magic", "arguments": {"input": 3}}}]},
        {"role": "tool", "tool_name": "magic", "content": "5"}]});
    let reply = server.post("/api/chat", body(&told));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["done"], true);
}

#[test]
fn many_who_wait_get_an_answer_or_word_that_there_is_no_place() {
    const CLIENTS: usize = 2000;
    let mut options = roomy_options();
    options.max_chats = 8;
    let server = Running::start(options);
    let regex = |index: usize| json!({"type": "regex", "regex": format!("answer {index}")});
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // Files that a process may have open are few: so many at a time.
        for thread in 0..100 {
            let (server, sender) = (&server, sender.clone());
            scope.spawn(move || {
                for index in (thread..CLIENTS).step_by(100) {
                    let body = asked(&json!({"response_format": regex(index), "max_tokens": 20}));
                    sender.send((index, server.post(CHAT, body))).unwrap();
                }
            });
        }
        drop(sender);
    });
    let mut answered = 0;
    for (index, reply) in receiver {
        if reply.status == 200 {
            answered += 1;
            let text = reply.json()["choices"][0]["message"]["content"].clone();
            assert_eq!(text, format!("answer {index}"), "another's answer");
        } else {
            assert_eq!(reply.status, 429, "{reply:?}");
            assert!(reply.json()["error"]["message"].is_string());
        }
    }
    assert!(answered > 8, "{answered}");
    // All places are free again.
    assert_eq!(server.post(CHAT, asked(&json!({}))).status, 200);
}

#[test]
fn whoever_goes_away_leaves_nothing_behind() {
    let mut options = roomy_options();
    options.max_chats = 1;
    let server = Running::start(options);
    for _ in 0..5 {
        // An answer without an end in sight.
        let body = asked(&json!({"max_tokens": 1500, "stream": true, "stop": ["never said"]}));
        let mut stream = server.connect();
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut first = [0; 64];
        assert!(std::io::Read::read(&mut stream, &mut first).unwrap() > 0);
        drop(stream);
        // The only place comes free.
        support::wait_until("a place", || {
            server.post(CHAT, asked(&json!({}))).status == 200
        });
    }
}
