//! One question, and a conversation that is taken up again.

use super::ask::{SENTENCE, documents, provider};
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

/// A conversation about the documents at `collection`.
fn about(collection: &std::path::Path, cache: &std::path::Path) -> assert_cmd::Command {
    let mut command = wenyi();
    command
        .env("WENYI_CACHE", cache)
        .args(["chat", "--threads", "1", "--collection"])
        .arg(collection)
        .arg("--embedding-model")
        .arg(fixture("bert"));
    command
}

#[test]
fn a_conversation_answers_from_documents_in_the_questions_language() {
    let (folder, notes) = documents();
    let cache = folder.path().join("cache");
    let saved = folder.path().join("saved.txt");
    let input = format!(
        "{SENTENCE}\nkubernetes ingress nginx?\n怎样配置 kubernetes nginx？\n/save {}\n\
         /collection missing\n/collection\nhello\n",
        saved.display()
    );
    let mut command = about(&notes, &cache);
    command
        .args(["--max-tokens", "8", "--temperature", "0", "--model"])
        .arg(fixture("decoders/llama"))
        .write_stdin(input);
    let talked = run(&mut command).succeeded();
    assert!(
        talked.stderr.contains("answering from "),
        "{}",
        talked.stderr
    );
    // The tiny model's words are noise, which no passage supports: the quotes are the answer.
    let quoted = talked.stdout.find(SENTENCE).expect("the quote");
    let place = talked.stdout.find("keys.md:3").expect("its place");
    let english = talked.stdout.find("not in these documents").expect("told");
    let chinese = talked.stdout.find("这些文档中没有答案").expect("told");
    assert!(quoted < place && place < english && english < chinese);
    assert!(
        talked.stderr.contains("there is no `missing`"),
        "{}",
        talked.stderr
    );
    assert!(talked.stderr.contains("hint: "), "{}", talked.stderr);
    // Without documents, the model alone answers.
    let last = talked.stdout.trim_end().lines().last().expect("an answer");
    assert!(!last.contains("文档"), "{}", talked.stdout);
    let text = std::fs::read_to_string(&saved).expect("saved");
    assert!(
        text.contains(&format!("user: {SENTENCE}\n\nassistant: {SENTENCE}")),
        "{text}"
    );
    // The numbers mean nothing any more.
    assert!(!text.contains("[1]"), "{text}");
}

#[test]
fn a_distant_model_answers_from_documents_and_heeds_instructions() {
    let said = "Keys are rotated with `admin rotate` [1]. Robots eat 300 pizzas daily [7].";
    let (url, thread) = provider(said);
    let (folder, notes) = documents();
    let mut command = about(&notes, &folder.path().join("cache"));
    command
        .env("OPENAI_API_KEY", "k")
        .env("OPENAI_BASE_URL", url)
        .args([
            "--model",
            "openai:gpt-4o-mini",
            "--system",
            "Speak like a pirate.",
        ])
        .arg(SENTENCE);
    let answered = run(&mut command).succeeded();
    let expected = "Keys are rotated with `admin rotate`. [1] Robots eat 300 pizzas daily. [?]";
    assert!(answered.stdout.contains(expected), "{}", answered.stdout);
    let request = thread.join().expect("a request");
    let system = request["messages"][0]["content"].as_str().expect("a text");
    assert!(
        system.starts_with("Answer from the passages alone."),
        "{system}"
    );
    assert!(system.ends_with("Speak like a pirate."), "{system}");
}

#[test]
fn a_model_that_repeats_itself_is_ended_in_the_questions_language() {
    for (question, said, told) in [
        (
            "Who rotates keys?",
            "The administrator rotates them. ",
            "repeated itself",
        ),
        ("谁更换密钥？", "密钥由管理员更换。", "重复自己的话"),
    ] {
        let (url, thread) = provider(&said.repeat(40));
        let mut command = wenyi();
        command
            .env("OPENAI_API_KEY", "k")
            .env("OPENAI_BASE_URL", url)
            .args(["chat", "--model", "openai:gpt-4o-mini", question]);
        let answered = run(&mut command).succeeded();
        assert_eq!(
            answered.stdout.matches(said.trim()).count(),
            1,
            "{}",
            answered.stdout
        );
        assert!(answered.stderr.contains(told), "{}", answered.stderr);
        thread.join().expect("a request");
    }
}

#[test]
fn a_small_model_takes_the_likeliest_words_unless_something_is_set() {
    let said = |arguments: &[&str]| {
        let mut command = wenyi();
        command
            .args([
                "chat",
                "hello",
                "--threads",
                "1",
                "--max-tokens",
                "24",
                "--model",
            ])
            .arg(fixture("decoders/llama"))
            .args(arguments);
        run(&mut command).succeeded().stdout
    };
    let usual = said(&[]);
    assert_eq!(usual, said(&[]));
    let as_asked = said(&["--temperature", "0", "--repetition-penalty", "1.1"]);
    assert_eq!(usual, as_asked);
    assert_ne!(usual, said(&["--seed", "7"]));
    assert_ne!(usual, said(&["--top-p", "0.99"]));
    assert_ne!(usual, said(&["--temperature", "0"]), "without a penalty");
    let mut command = wenyi();
    command.args(["chat", "hello", "--top-p", "2"]);
    run(&mut command).failed(2, &["expected a number above 0, at most 1"]);
}

#[test]
fn what_was_said_is_forgotten_and_nobody_elses_to_read() {
    let cache = tempfile::tempdir().expect("a folder");
    let conversations = cache.path().join("conversations");
    let (last, vectors) = (
        conversations.join("last.json"),
        conversations.join("last-vectors.json"),
    );
    chat(cache.path(), &[], "a secret\n").succeeded();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&last).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // As a long conversation leaves them.
    let remembered = r#"{"model": "m", "vectors": {"a secret": [1.0]}}"#;
    for (arguments, input) in [(&["--new"][..], ""), (&[], "/clear\n")] {
        std::fs::write(&vectors, remembered).expect("written");
        chat(cache.path(), arguments, input).succeeded();
        assert!(!vectors.exists(), "{arguments:?} {input:?}");
    }
    let kept = std::fs::read_to_string(&last).expect("kept");
    assert!(!kept.contains("secret"), "{kept}");
}

#[test]
fn a_broken_conversation_says_how_to_begin_anew() {
    let cache = tempfile::tempdir().expect("a folder");
    let last = cache.path().join("conversations/last.json");
    std::fs::create_dir(last.parent().expect("a folder")).expect("a folder");
    std::fs::write(&last, "[{").expect("written");
    chat(cache.path(), &[], "hello\n").failed(2, &["last.json", "hint: `wenyi chat --new`"]);
    chat(cache.path(), &["--new"], "hello\n").succeeded();
}

#[test]
fn a_line_that_is_not_utf8_does_not_end_a_conversation() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut command = wenyi();
    command
        .env("WENYI_CACHE", cache.path())
        .args(["chat", "--threads", "1", "--max-tokens", "8", "--model"])
        .arg(fixture("decoders/llama"))
        .write_stdin(&b"caf\xe9\n/nonsense\n"[..]);
    let talked = run(&mut command).succeeded();
    for words in [
        "line 1 is not UTF-8: byte 0xe9 at offset 3",
        "hint: convert the input",
        "`/nonsense` is no command",
    ] {
        assert!(talked.stderr.contains(words), "{}", talked.stderr);
    }
}

#[test]
fn empty_questions_and_answers_are_refused() {
    let cache = tempfile::tempdir().expect("a folder");
    for arguments in [&["--json", ""][..], &[" "]] {
        chat(cache.path(), arguments, "").failed(2, &["the question is empty", "hint: "]);
    }
    let mut command = wenyi();
    command.args(["chat", "hello", "--max-tokens", "0"]);
    run(&mut command).failed(2, &["--max-tokens"]);
}

#[test]
fn sampling_is_the_same_with_documents_as_without() {
    // A provider that does not take the penalty says so: it is not left out in silence.
    let (folder, notes) = documents();
    let mut command = about(&notes, &folder.path().join("cache"));
    command
        .env("OPENAI_API_KEY", "k")
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .args([
            "--model",
            "openai:gpt-4o-mini",
            "--repetition-penalty",
            "1.3",
        ])
        .arg(SENTENCE);
    let refused = run(&mut command);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("repetition_penalty"),
        "{}",
        refused.stderr
    );
}

#[test]
fn escape_sequences_in_documents_do_not_reach_the_terminal() {
    let (folder, notes) = documents();
    let cache = folder.path().join("cache");
    let red = "Keys are \u{1b}[31mred\u{7} and \u{9b}2Jround.";
    let text = format!("# \u{1b}]0;title\u{7}Keys\n\n{red}\n");
    std::fs::write(notes.join("keys.md"), text).expect("written");
    let mut asking = wenyi();
    asking
        .args(["ask", "--extract"])
        .arg(&notes)
        .arg("--embedding-model");
    let mut searching = wenyi();
    searching.arg("search").arg(&notes).arg("--model");
    let mut talking = about(&notes, &cache);
    talking.arg("--model").arg(fixture("decoders/llama"));
    // The model is a random one: to it only the same words mean the same.
    let question = "Keys are [31mred and 2Jround.";
    for command in [&mut asking, &mut searching] {
        command.arg(fixture("bert")).arg(question);
    }
    talking.args(["--max-tokens", "8", question]);
    for command in [&mut asking, &mut searching, &mut talking] {
        let shown = run(command.env("WENYI_CACHE", &cache)).succeeded().stdout;
        assert!(shown.contains("␛["), "{shown}");
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(obeyed), "{shown:?}");
    }
}
