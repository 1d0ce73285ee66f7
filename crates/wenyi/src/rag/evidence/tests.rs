use std::fs;

use super::*;
use crate::progress::Silent;
use crate::retrieve::bag_of_words::BagOfWords;
use crate::retrieve::{ChunkOptions, IndexOptions, index, open_collection};

fn ask(files: &[(&str, &str)], question: &str) -> Evidence {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).unwrap();
    for (name, text) in files {
        fs::create_dir_all(docs.join(name).parent().unwrap()).unwrap();
        fs::write(docs.join(name), text).unwrap();
    }
    let embedder = BagOfWords::new(128);
    let path = folder.path().join("c.db");
    let collection = open_collection(&path, &embedder, &ChunkOptions::default()).unwrap();
    let options = IndexOptions::default();
    index(&embedder, &collection, &[docs], &options, &Silent).unwrap();
    evidence(
        &embedder,
        &collection,
        question,
        &EvidenceOptions::default(),
    )
    .unwrap()
}

const GUIDE: &str = "# Keys\n\nThe office is closed.\n\nKeys are rotated by the administrator:\n\n```sh\n\
                     admin rotate\n```\n\nThe old key stays valid.\n";

#[test]
fn a_quote_stands_in_the_file_where_it_says() {
    let found = ask(
        &[
            ("keys.md", GUIDE),
            ("backup.md", "Backups run every night at three."),
            ("lunch.md", "Lunch is at noon."),
        ],
        "How are keys rotated?",
    );
    assert_eq!(found.support, Support::Strong, "{found:?}");
    let quote = &found.quotes[0];
    assert_eq!(quote.number, 1);
    let expected = "Keys are rotated by the administrator:\n\n```sh\nadmin rotate\n```";
    assert_eq!(quote.text, expected);
    assert_eq!((quote.first_line, quote.last_line), (5, 9));
    assert_eq!(&found.passages[0].text[quote.span.clone()], expected);
}

#[test]
fn what_the_documents_do_not_say_is_not_quoted() {
    let found = ask(
        &[
            ("keys.md", GUIDE),
            ("backup.md", "Backups run every night at three."),
        ],
        "Which ingress controller does Kubernetes need?",
    );
    assert_eq!(found.support, Support::None, "{found:?}");
    assert!(found.quotes.is_empty());
    assert!(!found.passages.is_empty(), "they were looked at");
}

#[test]
fn chinese_questions_are_judged_by_chinese_documents() {
    let files = [
        ("密钥.md", "密钥由管理员更换。旧密钥一天内有效。"),
        ("备份.md", "备份每天凌晨三点运行，保留三十天。"),
    ];
    let found = ask(&files, "密钥由谁更换？");
    assert_eq!(found.support, Support::Strong, "{found:?}");
    assert_eq!(found.quotes[0].text, "密钥由管理员更换。旧密钥一天内有效。");
    assert_eq!(ask(&files, "微信小程序多少钱？").support, Support::None);
}

#[test]
fn nothing_indexed_is_no_evidence() {
    assert_eq!(ask(&[], "How are keys rotated?").support, Support::None);
}

#[test]
fn what_stands_beside_the_best_sentence_is_quoted_with_it() {
    let guide = "# Tests\n\nYou may want to run tests one after another. For example:\n\n```sh\n\
                 run --test-threads=1\n```\n\nNow tests run one after another, not in parallel. They \
                 take longer. They do not interfere. Nobody quotes this.\n";
    let found = ask(
        &[
            ("tests.md", guide),
            ("backup.md", "Backups run every night at three."),
            ("lunch.md", "Lunch is at noon."),
        ],
        "How do tests run one after another, not in parallel?",
    );
    let quote = &found.quotes[0];
    assert_eq!(
        quote.text,
        "For example:\n\n```sh\nrun --test-threads=1\n```\n\nNow tests run one after another, not in \
         parallel. They take longer. They do not interfere.",
        "{found:?}"
    );
    assert_eq!(&found.passages[0].text[quote.span.clone()], quote.text);
    assert_eq!((quote.first_line, quote.last_line), (3, 9));
}

#[test]
fn what_two_passages_say_is_quoted_once() {
    let found = ask(
        &[
            ("keys.md", GUIDE),
            (
                "copy/keys.md",
                "# Copy\n\nKeys are rotated by the administrator:\n",
            ),
            ("lunch.md", "Lunch is at noon."),
        ],
        "How are keys rotated?",
    );
    let same = |quote: &&Quote| quote.text.contains("rotated by the administrator");
    assert_eq!(found.quotes.iter().filter(same).count(), 1, "{found:?}");
}

#[test]
fn a_single_passage_is_judged_in_both_languages() {
    let english = [(
        "office.md",
        "The office is closed on Sundays. Keys are kept by the porter.",
    )];
    for (question, answer) in [
        ("When is the office closed?", "on Sundays"),
        ("Who keeps the keys?", "the porter"),
        ("Is the office closed on Sundays?", "on Sundays"),
    ] {
        let found = ask(&english, question);
        assert_ne!(found.support, Support::None, "{question}: {found:?}");
        assert!(found.quotes[0].text.contains(answer), "{found:?}");
    }
    for question in [
        "How do I cook potatoes?",
        "Which ingress controller does Kubernetes need?",
        "Who wrote the novel about two sisters?",
    ] {
        let found = ask(&english, question);
        assert_eq!(found.support, Support::None, "{question}: {found:?}");
    }
    let chinese = [("办公室.md", "办公室星期天关门。钥匙由门卫保管。")];
    for (question, answer) in [
        ("办公室什么时候关门？", "星期天"),
        ("钥匙由谁保管？", "门卫"),
    ] {
        let found = ask(&chinese, question);
        assert_ne!(found.support, Support::None, "{question}: {found:?}");
        assert!(found.quotes[0].text.contains(answer), "{found:?}");
    }
    for question in ["微信小程序多少钱？", "怎样修剪苹果树？"] {
        let found = ask(&chinese, question);
        assert_eq!(found.support, Support::None, "{question}: {found:?}");
    }
}

#[test]
fn a_constant_of_code_is_quoted_with_its_comment() {
    let code = "use std::io;\n\nconst PORT: u16 = 8080;\n/// Retries of a request that fails, at most.\n\
                const MAX_RETRIES: u32 = 7;\n\nfn send() {\n    io::sink();\n}\n";
    let files = [
        ("src/retry.rs", code),
        ("lunch.md", "Lunch is at noon. The kitchen closes at two."),
        ("backup.md", "Backups run every night at three."),
    ];
    let found = ask(&files, "How many retries of a request are made at most?");
    assert_ne!(found.support, Support::None, "{found:?}");
    let quote = &found.quotes[0];
    assert!(
        quote
            .text
            .ends_with("at most.\nconst MAX_RETRIES: u32 = 7;"),
        "{quote:?}"
    );
    assert_eq!((quote.first_line, quote.last_line), (4, 5));
    assert_eq!(found.passages[0].text[quote.span.clone()], quote.text);
    // Without a comment the names are all that speaks.
    let python = [
        ("config.py", "import os\n\nmaxRetries = 7\nPORT = 8080\n"),
        files[1],
        files[2],
    ];
    let found = ask(&python, "What are the max retries?");
    assert_ne!(found.support, Support::None, "{found:?}");
    assert_eq!(found.quotes[0].text, "maxRetries = 7");
    assert_eq!(
        (found.quotes[0].first_line, found.quotes[0].last_line),
        (3, 3)
    );
}
