//! One question, and a conversation that is taken up again.

use super::run::{Run, run};
use super::{fixture, wenyi};

fn chat(cache: &std::path::Path, arguments: &[&str], input: &str) -> Run {
    let model = fixture("decoders/llama");
    let mut command = wenyi();
    command
        .env("WENYI_CACHE", cache)
        .arg("chat")
        .arg("--model")
        .arg(model)
        .args(["--temperature", "0", "--max-tokens", "8", "--threads", "1"])
        .args(arguments)
        .write_stdin(input);
    run(&mut command)
}

#[test]
fn a_question_is_answered_the_same_way_twice() {
    let cache = tempfile::tempdir().expect("a folder");
    let first = chat(cache.path(), &["法国的首都是哪里？"], "").succeeded();
    assert!(!first.stdout.trim().is_empty());
    let second = chat(cache.path(), &["法国的首都是哪里？"], "").succeeded();
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_conversation_is_kept_saved_and_cleared() {
    let cache = tempfile::tempdir().expect("a folder");
    let saved = cache.path().join("saved.txt");
    let save = format!(
        "/system Be brief.\nhello\n/nonsense\n/save {}\n/quit\n",
        saved.display()
    );
    let first = chat(cache.path(), &[], &save).succeeded();
    assert!(!first.stdout.trim().is_empty());
    assert!(
        first.stderr.contains("`/nonsense` is no command"),
        "{}",
        first.stderr
    );
    let text = std::fs::read_to_string(&saved).expect("saved");
    assert!(
        text.starts_with("system: Be brief.\n\nuser: hello\n\nassistant: "),
        "{text}"
    );
    let second = chat(cache.path(), &[], "/clear\n").succeeded();
    assert!(
        second.stderr.contains("going on after 1 turn;"),
        "{}",
        second.stderr
    );
    let third = chat(cache.path(), &[], "").succeeded();
    assert!(!third.stderr.contains("going on"), "{}", third.stderr);
}

#[test]
fn a_model_that_only_reads_is_refused() {
    let mut command = wenyi();
    command
        .arg("chat")
        .arg("--model")
        .arg(fixture("bert"))
        .arg("hello");
    run(&mut command).failed(2, &["expected a model that writes text"]);
}
