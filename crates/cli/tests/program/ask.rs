//! `ask`: the verdict and the quotes, in both languages, for people and for programs.

use std::fs;

use serde_json::Value;

use crate::{fixture, wenyi};

/// A command with a few documents, and the folder that they and its cache are in.
fn notes() -> (tempfile::TempDir, assert_cmd::Command) {
    let (folder, notes) = documents();
    let mut command = wenyi();
    command.env("WENYI_CACHE", folder.path().join("cache"));
    command
        .arg("ask")
        .arg(notes)
        .arg("--embedding-model")
        .arg(fixture("bert"));
    (folder, command)
}

/// A few documents, in a folder of their own in another.
pub(crate) fn documents() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder of its own");
    let notes = folder.path().join("notes");
    fs::create_dir(&notes).expect("a folder of its own");
    fs::write(
        notes.join("keys.md"),
        "# Keys\n\nKeys are rotated with `admin rotate`.\n",
    )
    .expect("a folder of its own");
    fs::write(notes.join("lunch.md"), "Lunch is at noon.\n").expect("a folder of its own");
    fs::write(
        notes.join("office.md"),
        "The office is closed on Sundays.\n",
    )
    .expect("a folder of its own");
    (folder, notes)
}

#[test]
fn a_program_gets_quotes_with_their_places() {
    // The tiny model's weights are noise: it is sure of nothing but a sentence's own words.
    let question = "Keys are rotated with `admin rotate`.";
    let (_folder, mut command) = notes();
    let output = command
        .args([question, "--extract", "--json"])
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["question"], question);
    assert_eq!(report["coverage"], 1.0, "{report}");
    assert_eq!(report["support"], "strong", "{report}");
    let quotes = report["quotes"].as_array().unwrap();
    assert!(!quotes.is_empty(), "{report}");
    for quote in quotes {
        let file = fs::read_to_string(quote["path"].as_str().unwrap()).unwrap();
        let line = file
            .lines()
            .nth(quote["first_line"].as_u64().unwrap() as usize - 1);
        assert_eq!(line, quote["text"].as_str(), "{quote}");
    }
}

#[test]
fn what_is_not_there_is_said_in_the_questions_language() {
    let (_folder, mut command) = notes();
    let output = command.arg("kubernetes ingress nginx?").assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(
        text.starts_with("not in these documents\nnearest passage: "),
        "{text}"
    );
    let (_folder, mut command) = notes();
    let output = command
        .arg("怎样配置 kubernetes nginx？")
        .assert()
        .success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.starts_with("这些文档中没有答案\n"), "{text}");
}

/// An imitation of OpenAI's server that says `answer` in a stream, whatever is asked; gives its URL and
/// the request that came.
pub(crate) fn provider(answer: &str) -> (String, std::thread::JoinHandle<Value>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("a port"));
    let mut events = String::new();
    for piece in answer.split_inclusive(' ') {
        let chunk = serde_json::json!({"id": "1", "model": "m", "choices": [
            {"index": 0, "delta": {"content": piece}, "finish_reason": null}]});
        events.push_str(&format!("data: {chunk}\n\n"));
    }
    let end = r#"{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    events.push_str(&format!("data: {end}\n\ndata: [DONE]\n\n"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).expect("a request");
            seen.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&seen).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).expect("a length");
            let length = length.lines().next().expect("a length").trim();
            if body.len() >= length.parse::<usize>().expect("a length") {
                let reply = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{events}",
                    events.len()
                );
                stream.write_all(reply.as_bytes()).expect("a client");
                return serde_json::from_str(body).expect("JSON");
            }
        }
    });
    (url, thread)
}

pub(crate) const SENTENCE: &str = "Keys are rotated with `admin rotate`.";

#[test]
fn a_distant_model_phrases_the_answer_and_is_checked() {
    let said = "Keys are rotated with `admin rotate` [1]. Robots eat 300 pizzas daily [7].";
    let (url, thread) = provider(said);
    let (_folder, mut command) = notes();
    command
        .env("OPENAI_API_KEY", "k")
        .env("OPENAI_BASE_URL", url);
    let output = command
        .args([SENTENCE, "--model", "openai:gpt-4o-mini"])
        .assert()
        .success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    // A sentence that is a quote word for word is the model's answer all the same.
    assert_eq!(
        text.matches("Keys are rotated with `admin rotate`").count(),
        2,
        "{text}"
    );
    let evidence = text.find("keys.md:3").expect("the evidence comes first");
    let answer = text
        .find("Robots eat 300 pizzas daily. [?]")
        .expect("marked");
    assert!(evidence < answer, "{text}");
    assert!(!text.contains("[7]"), "an unknown number: {text}");
    assert!(
        text.trim_end().ends_with("[?] is not in the passages"),
        "{text}"
    );
    let request = thread.join().unwrap();
    assert_eq!(request["model"], "gpt-4o-mini");
    assert!(request.get("tools").is_none(), "{request}");
    let user = request["messages"][1]["content"].as_str().unwrap();
    assert!(user.contains("<passage number=\"1\">"), "{user}");
}

#[test]
fn a_model_on_this_machine_that_invents_is_not_believed() {
    let (_folder, mut command) = notes();
    let output = command
        .args([
            SENTENCE,
            "--json",
            "--max-tokens",
            "8",
            "--threads",
            "1",
            "--model",
        ])
        .arg(fixture("decoders/llama"))
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let answer = &report["answer"];
    // The tiny model's words are noise, which no passage supports.
    assert_eq!(answer["answered_by"], "quotes", "{report}");
    assert!(
        answer["text"].as_str().unwrap().contains(SENTENCE),
        "{report}"
    );
    assert_eq!(
        answer["claims"][0]["citations"][0],
        report["quotes"][0]["number"]
    );
}

#[test]
fn a_model_that_does_not_talk_is_refused() {
    let (_folder, mut command) = notes();
    let output = command
        .args([SENTENCE, "--model", "multilingual-e5-small"])
        .assert()
        .code(2);
    let text = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(text.contains("is no chat model"), "{text}");
    assert!(text.contains("hint: "), "{text}");
}
