//! `ask`: the verdict and the quotes, in both languages, for people and for programs.

use std::fs;

use serde_json::Value;

use crate::{fixture, wenyi};

fn notes() -> (tempfile::TempDir, assert_cmd::Command) {
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
    let mut command = wenyi();
    command.env("WENYI_CACHE", folder.path().join("cache"));
    command
        .arg("ask")
        .arg(notes)
        .arg("--model")
        .arg(fixture("bert"));
    (folder, command)
}

#[test]
fn a_program_gets_quotes_with_their_places() {
    // The tiny model's weights are noise: it is sure of nothing but a sentence's own words.
    let question = "Keys are rotated with `admin rotate`.";
    let (_folder, mut command) = notes();
    let output = command.args([question, "--json"]).assert().success();
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
