//! Models behind an API, through the server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::provider::{Provider, Seen, begin_stream, reply, reply_json};
use support::{Running, fixture, options, read_reply};
use wenyi::config::Config;
use wenyi_server::{ServedModel, ServerOptions};

const CHAT: &str = "/v1/chat/completions";

/// Options with the imitation as a provider, and names for its models.
fn remote(provider: &Provider) -> ServerOptions {
    let address = provider.address;
    let toml = format!(
        "[aliases]\n\
         \"text-embedding-3-large\" = \"imitation:emb\"\n\
         small = \"bert\"\n\
         [providers.imitation]\n\
         base_url = \"http://{address}/v1\"\n\
         api_key_env = \"IMITATION_KEY\"\n\
         max_retries = 0\n\
         [providers.imitation.models.emb]\n\
         dimensions = 3\n"
    );
    let key = |name: &str| (name == "IMITATION_KEY").then(|| "sk-of-the-server".to_owned());
    let model = |name: &str, source: &str| ServedModel {
        name: name.into(),
        source: source.into(),
    };
    ServerOptions {
        models: vec![fixture("bert"), model("judge", "imitation:rerank-1")],
        chat_models: vec![model("gpt-4o", "imitation:speaker")],
        config: Arc::new(Config::from_lookup(key).with_toml(&toml).unwrap()),
        ..options()
    }
}

fn asked(extra: &Value) -> String {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "你好"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// A sender for the provider's side, which is shared by its threads.
fn signal() -> (Mutex<Sender<()>>, Receiver<()>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_conversation_goes_through_whole() {
    let answer = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "speaker-v9",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": []},
            "message": {"role": "assistant", "content": null, "reasoning_content": "想",
                "tool_calls": [{"id": "call_1", "type": "function",
                    "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let told = answer.clone();
    // DeepSeek sends empty lines while it is busy.
    let body = move |_: &Seen, stream: &mut TcpStream| {
        reply(
            stream,
            200,
            "content-type: application/json\r\n",
            &format!("\n\n\n{told}"),
        );
    };
    let provider = Provider::start(body);
    let server = Running::start(remote(&provider));
    let extra = json!({"max_completion_tokens": 5, "logprobs": true, "extra": [1], "n": 1,
        "messages": [{"role": "developer", "content": "x"},
            {"role": "assistant", "content": "a", "reasoning_content": "想"}]});
    let reply = server.post(CHAT, asked(&extra));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json(), answer);
    let seen = &provider.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert!(
        seen.head
            .to_lowercase()
            .contains("authorization: bearer sk-of-the-server")
    );
    assert_eq!(seen.body["model"], "speaker");
    assert_eq!(seen.body["max_tokens"], 5);
    assert_eq!(seen.body["extra"], json!([1]));
    assert_eq!(seen.body["messages"][0]["role"], "system");
    assert_eq!(seen.body["messages"][1]["reasoning_content"], "想");
    // Without a name, the first one to talk with answers.
    let unnamed = asked(&json!({"model": null}));
    assert_eq!(
        server
            .post("/compatible-mode/v1/chat/completions", unnamed)
            .status,
        200
    );
}

#[test]
fn a_stream_goes_through_as_it_is() {
    let chunks = ": keep-alive\n\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"想\"}}]}\n\n\
                  data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let provider = Provider::start(move |_, stream| {
        begin_stream(stream);
        for byte in chunks.as_bytes().chunks(7) {
            stream.write_all(byte).unwrap();
        }
    });
    let server = Running::start(remote(&provider));
    let reply = server.post(CHAT, asked(&json!({"stream": true})));
    assert_eq!(reply.status, 200);
    let text = String::from_utf8_lossy(&reply.body).replace("\r\n", "");
    let wanted = ["reasoning_content", "finish_reason", "[DONE]", "keep-alive"];
    assert!(!text.contains("\"error\""), "{text}");
    // The pieces are cut anywhere, so words are looked for in what is left without chunk sizes.
    let plain: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    for word in wanted {
        let word: String = word.chars().filter(char::is_ascii_alphabetic).collect();
        let found = plain.contains(&word) || text.contains(&word);
        assert!(found || reply.body.len() > chunks.len(), "{word}: {text}");
    }
    assert_eq!(provider.seen()[0].body["stream"], true);
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error() {
    let provider = Provider::start(|_, stream| {
        begin_stream(stream);
        let _ = stream.write_all(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    });
    let server = Running::start(remote(&provider));
    let reply = server.post(CHAT, asked(&json!({"stream": true})));
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("data: {\"error\":{\"message\":"), "{text}");
    assert!(!text.contains("[DONE]"));
    // The same through Ollama's route, where the answer is taken apart.
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]});
    let reply = server.post("/api/chat", body.to_string());
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("\"error\":"), "{text}");
}

#[test]
fn a_providers_errors_are_told_without_its_secrets() {
    let provider = Provider::start(|seen, stream| {
        let status: u16 = seen.body["user"].as_str().unwrap().parse().unwrap();
        let error = json!({"error": {"message": "no: sk-of-the-server", "type": "t", "code": "c"}});
        match status {
            429 => {
                let headers = "retry-after: 7\r\ncontent-type: application/json\r\n";
                reply(stream, 429, headers, &error.to_string());
            }
            200 => reply(
                stream,
                200,
                "content-type: text/html\r\n",
                "<html><title>x</title>",
            ),
            _ => reply_json(stream, status, &error),
        }
    });
    let server = Running::start(remote(&provider));
    for (theirs, ours) in [
        (400, 400),
        (401, 502),
        (403, 502),
        (404, 404),
        (429, 429),
        (503, 503),
        (200, 502),
    ] {
        for stream in [false, true] {
            let extra = json!({"user": theirs.to_string(), "stream": stream});
            let reply = server.post(CHAT, asked(&extra));
            assert_eq!(reply.status, ours, "{theirs}: {reply:?}");
            let error = &reply.json()["error"];
            assert!(
                !error["message"]
                    .as_str()
                    .unwrap()
                    .contains("sk-of-the-server"),
                "{error}"
            );
            if theirs == 429 {
                assert_eq!(reply.header("retry-after"), Some("7"));
                assert_eq!(error["code"], "c");
            }
        }
    }
}

#[test]
fn who_goes_away_ends_the_work() {
    let (gone, is_gone) = signal();
    let provider = Provider::start(move |_, stream| {
        begin_stream(stream);
        // Ends when nobody reads any more.
        while stream.write_all(b"data: {\"choices\":[]}\n\n").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        gone.lock().unwrap().send(()).unwrap();
    });
    let server = Running::start(remote(&provider));
    for path in [CHAT, "/api/chat"] {
        let body = asked(&json!({"stream": true}));
        let mut stream = server.connect();
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).unwrap();
        // The provider has been asked once the answer's head is here.
        std::io::Read::read_exact(&mut stream, &mut [0; 50]).unwrap();
        drop(stream);
        is_gone.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn more_than_may_wait_is_refused_and_nothing_waits_for_ever() {
    let (arrived, has_arrived) = signal();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let provider = Provider::start(move |_, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        // Ends with the test at the latest.
        let _ = released.lock().unwrap().recv_timeout(LIMIT);
        reply_json(stream, 200, &json!({"choices": []}));
    });
    let server = Running::start(ServerOptions {
        max_chats: 1,
        ..remote(&provider)
    });
    let body = asked(&json!({}));
    let mut first = server.connect();
    let length = body.len();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    first.write_all((head + &body).as_bytes()).unwrap();
    has_arrived.recv_timeout(LIMIT).unwrap();
    let second = server.post(CHAT, &body);
    assert_eq!(second.status, 429);
    assert!(second.header("retry-after").is_some());
    release.send(()).unwrap();
    assert_eq!(read_reply(first).status, 200);
    drop(server);

    // A provider that never answers is given up.
    let impatient = Running::start(ServerOptions {
        request_timeout: Duration::from_millis(300),
        ..remote(&provider)
    });
    let reply = impatient.post(CHAT, &body);
    assert_eq!(reply.status, 504);
    release.send(()).unwrap();
}

fn vectors(seen: &Seen, stream: &mut TcpStream) {
    let texts = match &seen.body["input"] {
        Value::String(text) => vec![json!(text)],
        list => list.as_array().unwrap().clone(),
    };
    let data = texts.iter().enumerate().map(|(index, text)| {
        let length = text.as_str().unwrap().len();
        json!({"index": index, "embedding": [0.0, length, 1.0]})
    });
    let data: Vec<Value> = data.collect();
    reply_json(stream, 200, &json!({"data": data}));
}

#[test]
fn embeddings_of_a_provider_come_through_every_name_that_leads_there() {
    let provider = Provider::start(vectors);
    let server = Running::start(remote(&provider));
    let ask = |model: &str, input: Value| {
        let body = json!({"model": model, "input": input});
        server.post("/v1/embeddings", body.to_string())
    };
    let answer = ask("text-embedding-3-large", json!(["abc", "文"])).json();
    let length = f64::from(10.0_f32).sqrt();
    let first = answer["data"][0]["embedding"][1].as_f64().unwrap();
    assert!((first - 3.0 / length).abs() < 1e-6, "{answer}");
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(provider.seen()[0].body["model"], "emb");
    // Known texts are not asked for again, and every dialect has the same vector.
    let body = json!({"model": "text-embedding-3-large", "input": "abc"}).to_string();
    let ollama = server.post("/api/embed", body).json();
    assert_eq!(ollama["embeddings"][0], answer["data"][0]["embedding"]);
    assert_eq!(provider.seen().len(), 1);
    // An alias of a model on this machine is that model, and no other stands in.
    assert_eq!(ask("small", json!("x")).json()["model"], "bert");
    assert_eq!(ask("text-embedding-3-small", json!("x")).status, 404);
    assert_eq!(provider.seen().len(), 1);
    // The provider has sent another width than was declared.
    let refused = ask("text-embedding-3-large", json!("x"));
    assert_eq!(refused.status, 200);
    let body = json!({"model": "text-embedding-3-large", "input": "x", "dimensions": 2});
    let refused = server.post("/v1/embeddings", body.to_string());
    assert_eq!(refused.status, 502, "{refused:?}");
}

#[test]
fn scores_of_a_provider_come_in_the_clients_dialect() {
    let provider = Provider::start(|seen, stream| {
        assert_eq!(seen.path, "/v1/rerank");
        let results =
            json!([{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]);
        reply_json(
            stream,
            200,
            &json!({"results": results, "usage": {"total_tokens": 12}}),
        );
    });
    let server = Running::start(remote(&provider));
    let body = json!({"model": "judge", "query": "q", "documents": ["a", "b"]}).to_string();
    let answer = server.post("/v2/rerank", body).json();
    assert_eq!(answer["results"][0]["index"], 1);
    assert_eq!(answer["usage"]["total_tokens"], 12);
}

#[test]
fn dashscopes_own_requests_go_through_whole() {
    let vector = vec![1.0 / 32.0; 1024];
    let answer = json!({"output": {"embeddings": [{"text_index": 0, "embedding": vector,
        "sparse_embedding": [{"index": 7, "value": 0.5, "token": "a"}]}]},
        "usage": {"total_tokens": 1}, "request_id": "x"});
    let told = answer.clone();
    let provider = Provider::start(move |_, stream| reply_json(stream, 200, &told));
    let dashscope = |key: bool| {
        let options = remote(&provider);
        let url = format!("http://{}/api/v1", provider.address);
        let lookup = move |name: &str| match name {
            "DASHSCOPE_HTTP_BASE_URL" => Some(url.clone()),
            "DASHSCOPE_API_KEY" if key => Some("sk-of-the-server".to_owned()),
            _ => None,
        };
        ServerOptions {
            aliases: vec!["qwen=dashscope:text-embedding-v4".parse().unwrap()],
            models: vec![fixture("bert")],
            chat_models: Vec::new(),
            config: Arc::new(Config::from_lookup(lookup)),
            ..options
        }
    };
    let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
    let body = json!({"model": "qwen", "input": {"texts": ["a"]},
        "parameters": {"output_type": "dense&sparse", "text_type": "query", "instruct": "find"}});
    let server = Running::start(dashscope(true));
    let reply = server.post(path, body.to_string());
    assert_eq!(
        (reply.status, &reply.json()["output"]),
        (200, &answer["output"])
    );
    let seen = &provider.seen()[0];
    assert_eq!(seen.path, path);
    assert_eq!(seen.body["model"], "text-embedding-v4");
    assert_eq!(seen.body["parameters"], body["parameters"]);
    // A key that is missing is named, and nothing else is said.
    let server = Running::start(dashscope(false));
    let reply = server.post(path, body.to_string());
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(
        reply.json()["message"]
            .as_str()
            .unwrap()
            .contains("DASHSCOPE_API_KEY")
    );
}
