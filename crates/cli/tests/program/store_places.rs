//! `wenyi store` with places that are not what they should be, and with all that can be.

use std::fs;

use serde_json::json;

use super::run::run;
use super::store::{LINES, store, url};

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |rest| url(folder.path(), rest);
    let points = at("sqlite:points.db");
    run(&mut store(&["copy", &points, &at("memory:x.json")])).failed(2, &["no collection"]);
    run(&mut store(&["copy", "ftp://x", &points]))
        .failed(2, &["is not the URL of a store", "hint:"]);
    let bad = folder.path().join("bad.jsonl");
    fs::write(&bad, "{\"id\": 1, \"vector\": [1.0]}\n{\"id\": 2}\n").unwrap();
    let bad = bad.to_str().unwrap();
    run(&mut store(&["import", &points, bad])).failed(2, &["line 2", "no vector", "hint:"]);
    run(&mut store(&["import", "memory:", bad])).failed(2, &["gone at once", "hint:"]);
    run(&mut store(&["import", &points, "no such"])).failed(2, &["cannot read `no such`"]);
    fs::write(
        folder.path().join("mixed.jsonl"),
        "{\"id\": 1, \"vector\": [1.0]}\n{\"id\": 2, \"vector\": [1.0, 2.0]}\n",
    )
    .unwrap();
    let mixed = folder.path().join("mixed.jsonl");
    run(&mut store(&["import", &points, mixed.to_str().unwrap()])).failed(2, &["2 dimensions"]);
    let big = folder.path().join("big.jsonl");
    let line = r#"{"id": 1, "vector": [1.0], "payload": {"n": 18446744073709551616}}"#;
    fs::write(&big, line).unwrap();
    run(&mut store(&["import", &points, big.to_str().unwrap()]))
        .failed(2, &["line 1", "18446744073709551616"]);
    let empty = folder.path().join("empty.json");
    fs::write(&empty, "").unwrap();
    run(&mut store(&["copy", &at("memory:empty.json"), &points]))
        .failed(2, &["it is empty", "hint:"]);
    // None of them left a store behind that holds nothing.
    let left = fs::read_dir(folder.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains(".db")),
        "{left:?}"
    );

    let shown = folder.path().to_str().unwrap();
    for verb in ["info", "check", "repair", "vacuum"] {
        run(&mut store(&[verb, shown])).failed(2, &["is a directory", "hint: name a file"]);
    }
    run(&mut store(&["copy", shown, &points])).failed(2, &["is a directory", "hint: name a file"]);
    // Nothing listens on port 1.
    for url in [
        "postgres://me:secret@127.0.0.1:1/db",
        "qdrant://127.0.0.1:1/notes",
    ] {
        let said = run(&mut store(&["info", url]));
        let said = said.failed(1, &["cannot be reached", "refused", "hint: start"]);
        assert!(!said.stderr.contains("secret"), "{}", said.stderr);
        run(&mut store(&["check", url])).failed(2, &["looks into files", "hint:"]);
    }
}

#[test]
fn info_takes_what_copy_takes() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("points.jsonl");
    fs::write(&lines, LINES).unwrap();
    let at = |rest| url(folder.path(), rest);
    let (named, all) = (at("sqlite:points.db?collection=诗"), at("sqlite:points.db"));
    run(&mut store(&["import", &named, lines.to_str().unwrap()])).succeeded();
    let dump = at("memory:dump.json");
    run(&mut store(&["copy", &named, &dump])).succeeded();
    for place in [&named, &all, &dump] {
        let info = run(&mut store(&["info", place, "--json"])).succeeded();
        let info = info.json()["collections"].clone();
        assert_eq!(
            (&info[0]["points"], &info[0]["dimensions"]),
            (&json!(2), &json!(2))
        );
        assert_eq!(info.as_array().map(Vec::len), Some(1));
    }
    run(&mut store(&["check", &all])).succeeded();
    run(&mut store(&["info", &at("sqlite:none.db")])).failed(2, &["there is no collection"]);
    assert!(!folder.path().join("none.db").exists());
    // To copy a store that has nothing makes one that has nothing.
    let empty = at("sqlite:empty.db");
    run(store(&["import", &empty]).write_stdin("")).succeeded();
}
