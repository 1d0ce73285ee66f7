//! A conversation at a terminal: keys, Ctrl-C, and lines that are as wide as the screen.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::ask::provider;
use super::pseudo_terminal::Terminal;
use super::{fixture, wenyi};

/// A conversation with the tiny model.
fn talk(cache: &Path) -> Terminal {
    let mut command = wenyi();
    command.env("WENYI_CACHE", cache);
    command.args(["chat", "--temperature", "0", "--max-tokens", "8"]);
    command.args(["--threads", "1", "--model"]);
    command.arg(fixture("decoders/llama"));
    Terminal::run(&command, 80)
}

/// A conversation with a model behind `url`.
fn talk_with(url: &str, cache: &Path, columns: u16) -> Terminal {
    let mut command = wenyi();
    command
        .env("WENYI_CACHE", cache)
        .env("OPENAI_API_KEY", "k")
        .env("OPENAI_BASE_URL", url)
        .args(["chat", "--model", "openai:gpt-4o-mini"]);
    command.env_remove("WENYI_OFFLINE");
    Terminal::run(&command, columns)
}

/// An imitation of OpenAI's server whose answer never ends: a word now and then.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("a port"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 1 << 16]);
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        for number in 0.. {
            let chunk = serde_json::json!({"id": "1", "model": "m", "choices": [
                {"index": 0, "delta": {"content": format!("word{number} ")}, "finish_reason": null}]});
            // Until the program hangs up.
            if write!(stream, "data: {chunk}\n\n").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    url
}

#[test]
fn ctrl_c_clears_the_line_and_swallows_none() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk(cache.path());
    terminal.expect_prompt(1);
    terminal.press("half a question\u{3}");
    terminal.expect("Ctrl-C again, Ctrl-D or /quit ends", 1);
    terminal.expect_prompt(2);
    terminal.press("/nonsense\r");
    terminal.expect("`/nonsense` is no command", 1);
    // Lines are called back.
    terminal.expect_prompt(3);
    terminal.press("\u{1b}[A\r");
    terminal.expect("`/nonsense` is no command", 2);
    terminal.expect_prompt(4);
    terminal.press("/quit\r");
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen());
    assert!(!cache.path().join("conversations/last.json").exists());
}

#[test]
fn ctrl_c_twice_ends_the_conversation() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk(cache.path());
    terminal.expect_prompt(1);
    terminal.press("\u{3}");
    terminal.expect_prompt(2);
    terminal.press("\u{3}");
    assert_eq!(terminal.end(), Some(130), "{}", terminal.screen());
    assert!(terminal.is_as_before());
}

#[test]
fn whoever_ends_the_program_at_the_prompt_gets_the_terminal_back() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk(cache.path());
    terminal.expect_prompt(1);
    assert!(!terminal.is_as_before(), "the editor reads single keys");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.end(), Some(143), "{}", terminal.screen());
    assert!(terminal.is_as_before());
}

#[test]
fn sigterm_during_an_answer_ends_the_program_and_keeps_the_turn() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk_with(&endless(), cache.path(), 80);
    terminal.expect_prompt(1);
    terminal.press("count for ever\r");
    terminal.expect("word3", 1);
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.end(), Some(143), "{}", terminal.screen());
    assert!(terminal.is_as_before());
    terminal.expect("the answer was cut short", 1);
    let kept = cache.path().join("conversations/last.json");
    let kept = std::fs::read_to_string(kept).expect("the conversation");
    assert!(
        kept.contains("count for ever") && kept.contains("word3"),
        "{kept}"
    );
}

#[test]
fn ctrl_c_stops_an_answer_and_keeps_the_turn() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk_with(&endless(), cache.path(), 80);
    terminal.expect_prompt(1);
    terminal.press("count for ever\r");
    terminal.expect("word3", 1);
    terminal.signal(Signal::INT);
    terminal.expect("the answer was cut short", 1);
    terminal.expect_prompt(2);
    let saved = cache.path().join("saved.txt");
    terminal.press(&format!("/save {}\r", saved.display()));
    terminal.expect_prompt(3);
    terminal.press("\u{4}");
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen());
    let text = std::fs::read_to_string(saved).expect("saved");
    let expected = "user: count for ever\n\nassistant: word0 word1 word2 word3";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_streamed_answer_is_not_cut_inside_a_word() {
    const COLUMNS: u16 = 40;
    let said: String = (0..40).map(|number| format!("sentence{number} ")).collect();
    let (url, thread) = provider(&said);
    let cache = tempfile::tempdir().expect("a folder");
    let mut terminal = talk_with(&url, cache.path(), COLUMNS);
    terminal.expect_prompt(1);
    terminal.press("speak\r");
    terminal.expect("sentence39", 1);
    terminal.expect_prompt(2);
    terminal.press("\u{4}");
    terminal.end();
    thread.join().expect("a request");
    let screen = terminal.screen();
    let lines = screen.lines().filter(|line| line.contains("sentence"));
    let lines: Vec<&str> = lines.map(str::trim_end).collect();
    assert!(lines.len() > 10, "{screen}");
    for line in &lines {
        assert!(line.len() <= usize::from(COLUMNS), "`{line}` in:\n{screen}");
    }
    assert_eq!(lines.join(" "), said.trim_end(), "{screen}");
}
