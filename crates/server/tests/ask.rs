//! Questions answered from a collection: evidence, sources, citations, streams, and what is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Reply, Running, notes, options};
use wenyi_server::ServerOptions;

// The tiny model's weights are noise: it is sure of nothing but a sentence's own words.
const QUESTION: &str = "Keys are rotated with `admin rotate`.";

fn start(folder: &std::path::Path) -> Running {
    Running::start(ServerOptions {
        collections: vec![notes(folder)],
        ..options()
    })
}

/// The events of a chunked answer.
fn events(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut rest = &reply.body[..];
    let mut text = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        text.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    let text = String::from_utf8(text).unwrap();
    let events = text.split_terminator("\n\n");
    events
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

#[test]
fn sources_and_quotes_stand_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    let body = json!({"question": QUESTION, "collection": "notes", "extract": true});
    let reply = server.post("/v1/ask", body.to_string());
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!(answer["object"], "answer");
    assert_eq!(answer["answered_by"], "quotes");
    assert_eq!(answer["support"], "strong", "{answer}");
    assert_eq!(answer["model"], Value::Null);
    let source = answer["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["path"].as_str().unwrap().ends_with("keys.md"))
        .unwrap();
    let quote = &source["quotes"][0];
    let file = std::fs::read_to_string(source["path"].as_str().unwrap()).unwrap();
    assert!(file.contains(quote["text"].as_str().unwrap()));
    let span = |name: &str| usize::try_from(quote["span"][name].as_u64().unwrap()).unwrap();
    let text = source["text"].as_str().unwrap();
    assert_eq!(
        &text[span("start")..span("end")],
        quote["text"].as_str().unwrap()
    );
    assert_eq!(quote["first_line"], 3);
}

#[test]
fn a_stream_ends_with_the_whole_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    // With the model on this machine, whose noise no passage supports.
    let body = json!({"question": QUESTION, "stream": true, "max_tokens": 8});
    let events = events(&server.post("/v1/ask", body.to_string()));
    let (done, events) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let events: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(events[0]["object"], "answer.evidence");
    assert_eq!(events[0]["support"], "strong");
    let (whole, events) = events.split_last().unwrap();
    assert_eq!(whole["object"], "answer");
    let texts = events[1..].iter().map(|event| {
        assert_eq!(event["object"], "answer.text");
        event["text"].as_str().unwrap()
    });
    assert_eq!(texts.collect::<String>(), whole["answer"].as_str().unwrap());
}

#[test]
fn what_the_documents_do_not_say_is_said_so_in_the_questions_language() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    for (question, expected) in [
        ("Kubernetes ingress nginx?", "not in these documents"),
        ("怎样配置 kubernetes nginx？", "这些文档中没有答案"),
    ] {
        let answer = server.post("/v1/ask", json!({"question": question}).to_string());
        let answer = answer.json();
        assert_eq!(answer["answer"], expected, "{answer}");
        assert_eq!(answer["answered_by"], "nobody");
        assert_eq!(answer["claims"], json!([]));
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    for (body, status) in [
        (json!({}), 400),
        (json!({"question": " "}), 400),
        (json!({"question": 1}), 400),
        (json!({"question": "x", "top_k": 0}), 400),
        (json!({"question": "x", "max_tokens": 0}), 400),
        (json!({"question": "x", "messages": "hello"}), 400),
        (json!({"question": "x", "collection": "other"}), 404),
        (json!({"question": "x", "model": "other"}), 404),
        (json!({"question": "x", "model": "bert"}), 400),
    ] {
        let reply = server.post("/v1/ask", body.to_string());
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.json()["error"]["message"].is_string(), "{reply:?}");
    }
    let bare = Running::start(options());
    let reply = bare.post("/v1/ask", json!({"question": "x"}).to_string());
    assert_eq!(reply.status, 404, "{reply:?}");
}
