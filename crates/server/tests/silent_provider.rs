//! Providers that are silent or fail halfway, and clients that do not wait for them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::provider::{Provider, Seen, begin_stream, reply_json};
use support::{Reply, Running, fixture, options, wait_until};
use wenyi::config::Config;
use wenyi_server::{ServedModel, ServerOptions};

const CHAT: &str = "/v1/chat/completions";
const LIMIT: Duration = Duration::from_secs(60);
const FIRST: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// `wide` is a model whose width must be asked for.
fn remote(provider: &Provider) -> ServerOptions {
    let address = provider.address;
    let toml = format!(
        "[providers.imitation]\nbase_url = \"http://{address}/v1\"\n\
         api_key_env = \"IMITATION_KEY\"\nmax_retries = 0\n\
         [providers.dashscope]\nbase_url = \"http://{address}/api/v1\"\nmax_retries = 0\n"
    );
    let key = |name: &str| (name == "IMITATION_KEY").then(|| "sk-of-the-server".to_owned());
    let model = |name: &str, source: &str| ServedModel {
        name: name.into(),
        source: source.into(),
    };
    ServerOptions {
        models: vec![
            fixture("bert"),
            model("wide", "imitation:wide"),
            model("v4", "dashscope:text-embedding-v4"),
            model("judge", "dashscope:qwen3-rerank"),
        ],
        chat_models: vec![model("gpt-4o", "imitation:speaker")],
        config: Arc::new(Config::from_lookup(key).with_toml(&toml).unwrap()),
        ..options()
    }
}

/// A sender for the provider's side, which is shared by its threads.
fn signal() -> (Mutex<Sender<()>>, Receiver<()>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

/// Returns once the other side has hung up.
fn wait_for_the_end(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
}

/// A provider that never answers, and what tells that a request has come and that nobody waits for it
/// any more.
fn silent() -> (Provider, Receiver<()>, Receiver<()>) {
    let ((arrived, has_arrived), (gone, is_gone)) = (signal(), signal());
    let provider = Provider::start(move |_, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        wait_for_the_end(stream);
        gone.lock().unwrap().send(()).unwrap();
    });
    (provider, has_arrived, is_gone)
}

/// A provider that says one word of each answer, and what tells that nobody waits for the rest.
fn silent_after_the_first_word() -> (Provider, Receiver<()>) {
    let (gone, is_gone) = signal();
    let provider = Provider::start(move |_, stream| {
        begin_stream(stream);
        let _ = stream.write_all(FIRST);
        wait_for_the_end(stream);
        gone.lock().unwrap().send(()).unwrap();
    });
    (provider, is_gone)
}

/// Sends a request and returns its connection at once.
fn begin(server: &Running, path: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = server.connect();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

fn conversation() -> Value {
    json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "你好"}]})
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

#[test]
fn a_failure_within_a_stream_is_told_once_and_without_the_key() {
    let failures = [
        "data: {\"error\":{\"message\":\"boom Bearer sk-of-the-server\",\"code\":\"c\"}}\n\n",
        "event: error\ndata: boom Bearer sk-of-the-server\n\n",
        // Cut by the end.
        "data: {\"error\":{\"message\":\"boom Bearer sk-of-the-server\"}}",
    ];
    for failure in failures {
        let provider = Provider::start(move |_, stream| {
            begin_stream(stream);
            // In pieces, as networks do it.
            for bytes in [FIRST, failure.as_bytes()].concat().chunks(11) {
                let _ = stream.write_all(bytes);
            }
        });
        let server = Running::start(remote(&provider));
        let reply = text(&server.post(CHAT, conversation().to_string()));
        assert!(
            reply.contains("\"content\":\"a\"") && reply.contains("boom"),
            "{reply}"
        );
        assert!(!reply.contains("sk-of-the-server"), "{reply}");
        assert_eq!(reply.matches("\"error\":").count(), 1, "{reply}");
    }
}

#[test]
fn words_that_look_like_an_end_are_none() {
    let provider = Provider::start(|_, stream| {
        begin_stream(stream);
        let _ = stream.write_all(b"data: {\"choices\":[{\"delta\":{\"content\":\"[DONE]\"}}]}\n\n");
    });
    let server = Running::start(remote(&provider));
    let reply = text(&server.post(CHAT, conversation().to_string()));
    assert!(reply.contains("ended before the answer"), "{reply}");
}

#[test]
fn a_stream_that_falls_silent_ends_in_time_and_leaves_its_place() {
    let (provider, is_gone) = silent_after_the_first_word();
    let server = Running::start(ServerOptions {
        max_chats: 1,
        request_timeout: Duration::from_millis(400),
        ..remote(&provider)
    });
    for path in [CHAT, "/api/chat", CHAT] {
        // The place is free within a moment.
        wait_until("the answer ends in time", || {
            let reply = server.post(path, conversation().to_string());
            assert!(
                reply.status == 429 || text(&reply).contains("no answer within"),
                "{reply:?}"
            );
            reply.status == 200
        });
        is_gone.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn an_abandoned_stream_leaves_its_place_though_the_provider_is_silent() {
    let (provider, is_gone) = silent_after_the_first_word();
    let server = Running::start(ServerOptions {
        max_chats: 1,
        request_timeout: LIMIT * 10,
        ..remote(&provider)
    });
    for path in [CHAT, "/api/chat", CHAT, "/api/chat"] {
        wait_until("a place is free", || {
            let mut stream = begin(&server, path, &conversation());
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            start.ends_with(b" 200")
        });
        is_gone.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn an_abandoned_whole_answer_is_no_longer_waited_for() {
    let (provider, has_arrived, is_gone) = silent();
    let server = Running::start(remote(&provider));
    let whole = json!({"model": "gpt-4o", "stream": false,
        "messages": [{"role": "user", "content": "x"}]});
    let rerank = json!({"model": "judge", "query": "q", "documents": ["a"]});
    for (path, body) in [
        (CHAT, &whole),
        ("/api/chat", &whole),
        ("/v2/rerank", &rerank),
    ] {
        let stream = begin(&server, path, body);
        has_arrived.recv_timeout(LIMIT).unwrap();
        drop(stream);
        is_gone.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn an_abandoned_embedding_sends_no_more_requests() {
    let (provider, has_arrived, is_gone) = silent();
    let server = Running::start(ServerOptions {
        max_chats: 1,
        ..remote(&provider)
    });
    let texts: Vec<String> = (0..160).map(|index| index.to_string()).collect();
    let body = json!({"model": "v4", "input": texts});
    for round in 1..=2 {
        let stream = begin(&server, "/v1/embeddings", &body);
        // Four requests at once, and none after them.
        (0..4).for_each(|_| has_arrived.recv_timeout(LIMIT).unwrap());
        drop(stream);
        (0..4).for_each(|_| is_gone.recv_timeout(LIMIT).unwrap());
        // The second round finds the only place free.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(provider.seen().len(), 4 * round);
    }
}

fn vectors(seen: &Seen, stream: &mut TcpStream) {
    let texts = seen.body["input"].as_array().map_or(1, Vec::len);
    let data = (0..texts).map(|index| json!({"index": index, "embedding": [0.0, 1.0, 2.0]}));
    reply_json(stream, 200, &json!({"data": data.collect::<Vec<_>>()}));
}

#[test]
fn a_width_is_asked_for_once_and_models_here_go_on() {
    let (provider, has_arrived, is_gone) = silent();
    let server = Running::start(ServerOptions {
        max_chats: 3,
        request_timeout: LIMIT,
        ..remote(&provider)
    });
    let body = json!({"model": "wide", "input": "x"});
    let first = begin(&server, "/v1/embeddings", &body);
    has_arrived.recv_timeout(LIMIT).unwrap();
    // Those who come while it is asked for wait for the same answer, as long as there are places.
    let others: Vec<_> = (0..20)
        .map(|_| begin(&server, "/v1/embeddings", &body))
        .collect();
    wait_until("no place is left", || {
        server.post("/v1/embeddings", body.to_string()).status == 429
    });
    let here = json!({"model": "bert", "input": "文 ".repeat(4000)});
    assert_eq!(server.post("/v1/embeddings", here.to_string()).status, 200);
    assert_eq!(provider.seen().len(), 1);
    // Nobody asks any more once nobody waits.
    drop((first, others));
    is_gone.recv_timeout(LIMIT).unwrap();
    assert_eq!(provider.seen().len(), 1);
}

#[test]
fn a_failed_question_for_the_width_is_told_to_all_and_asked_again_by_the_next() {
    let (arrived, has_arrived) = signal();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let provider = Provider::start(move |seen, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        match released.lock().unwrap().recv_timeout(LIMIT) {
            Ok(()) => reply_json(stream, 500, &json!({"error": {"message": "not now"}})),
            Err(_) => vectors(seen, stream),
        }
    });
    let server = Running::start(remote(&provider));
    let body = json!({"model": "wide", "input": "x"});
    let first = begin(&server, "/v1/embeddings", &body);
    has_arrived.recv_timeout(LIMIT).unwrap();
    let others: Vec<_> = (0..5)
        .map(|_| begin(&server, "/v1/embeddings", &body))
        .collect();
    // All of them wait once the gauge says so, beside the request that asks for it.
    wait_until("all wait", || {
        text(&server.get("/metrics")).contains("wenyi_in_flight 7")
    });
    release.send(()).unwrap();
    for stream in others.into_iter().chain([first]) {
        let reply = support::read_reply(stream);
        assert_eq!(reply.status, 500, "{reply:?}");
    }
    assert_eq!(provider.seen().len(), 1);
    drop(release);
    assert_eq!(server.post("/v1/embeddings", body.to_string()).status, 200);
}
