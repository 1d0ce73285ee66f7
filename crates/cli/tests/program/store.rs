//! `wenyi store` with points: copied, exported, imported; and the verbs for collections.

use std::path::{Path, PathBuf};
use std::{fs, io};

use assert_cmd::Command;
use serde_json::{Value, json};

use super::run::run;
use super::{fixture, wenyi};

pub(super) fn store(arguments: &[&str]) -> Command {
    let mut command = wenyi();
    command.arg("store").args(arguments);
    command
}

pub(super) fn url(folder: &Path, rest: &str) -> String {
    let (scheme, file) = rest.split_once(':').expect("a URL");
    format!("{scheme}:{}", folder.join(file).display())
}

pub(super) const LINES: &str = r#"{"id": 2, "vector": [0.0, 1.0], "text": "夜", "payload": {"lang": "zh"}}

{"id": "a", "vector": [1.0, 0.0]}
"#;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn an_export_takes_the_place_of_no_store_and_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("points.jsonl");
    fs::write(&lines, LINES).unwrap();
    let lines = lines.to_str().unwrap();
    let database = folder.path().join("points.db");
    let database = database.to_str().unwrap();
    run(&mut store(&["import", database, lines])).succeeded();
    let before = fs::read(database).unwrap();
    let lost = ["would be lost", "hint: name a new file"];
    run(&mut store(&["export", database, database])).failed(2, &lost);
    assert_eq!(fs::read(database).unwrap(), before);
    let dump = url(folder.path(), "memory:dump.json");
    run(&mut store(&["export", database, &dump])).failed(2, &["wenyi store copy"]);

    // What is read breaks in the middle: the earlier file stays.
    let broken = folder.path().join("broken.db");
    fs::write(&broken, &before[..before.len() / 2]).unwrap();
    run(&mut store(&["export", broken.to_str().unwrap(), lines])).failed(1, &["malformed"]);
    assert_eq!(fs::read_to_string(lines).unwrap(), LINES);
    run(&mut store(&["export", database, lines])).succeeded();
    let exported = fs::read_to_string(lines).unwrap();
    assert!(exported != LINES && exported.lines().count() == 2);
    let left = fs::read_dir(folder.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().ends_with(".tmp"))
    );
}

#[test]
fn what_can_be_read_of_a_dump_is_copied_and_the_rest_named() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.json");
    let entries = r#"{"good": {"vector": [1, 0], "text": "好", "metadata": {}},
        "gone": {"lc": 1, "type": "not_implemented", "id": ["x"], "repr": "x"}}"#;
    fs::write(&dump, entries).unwrap();
    let (from, to) = (
        url(folder.path(), "memory:dump.json"),
        url(folder.path(), "sqlite:new.db"),
    );
    let copied = run(&mut store(&["copy", &from, &to, "--json"]));
    assert_eq!(copied.code, Some(1), "{}", copied.stderr);
    assert!(
        copied
            .stderr
            .contains("an entry of the dump cannot be read"),
        "{}",
        copied.stderr
    );
    let report = copied.json();
    assert_eq!(
        (&report["written"], &report["refused"][0]["id"]),
        (&json!(1), &json!("gone"))
    );
    // `-` is standard output.
    let exported = run(&mut store(&["export", &to, "-"])).succeeded();
    assert!(exported.stdout.contains("好"), "{}", exported.stdout);
}

#[test]
fn points_go_from_a_file_through_stores_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |rest| url(folder.path(), rest);
    let file = folder.path().join("点.jsonl");
    fs::write(&file, LINES).unwrap();
    let file = file.to_str().unwrap();
    let sqlite = at("sqlite:points.db?collection=诗");
    let import = || {
        run(&mut store(&["import", &sqlite, file, "--json"]))
            .succeeded()
            .json()
    };
    assert_eq!(import(), json!({"written": 2, "unchanged": 0}));
    assert_eq!(import(), json!({"written": 0, "unchanged": 2}));
    let copied = run(&mut store(&["copy", &sqlite, &at("memory:dump.json")])).succeeded();
    assert_eq!(copied.stdout, "2 points written, 0 were there already\n");
    let other = at("sqlite:other.db");
    run(&mut store(&["copy", &at("memory:dump.json"), &other])).succeeded();
    let exported = lines(&run(&mut store(&["export", &other])).succeeded().stdout);
    // An id is a text in a dump.
    let expected = json!([
        {"id": "2", "vector": [0.0, 1.0], "text": "夜", "payload": {"lang": "zh"}},
        {"id": "a", "vector": [1.0, 0.0], "text": "", "payload": {}},
    ]);
    assert_eq!(Value::from(exported), expected);
    // The file itself, looked into and checked.
    let path = folder.path().join("points.db");
    let path = path.to_str().unwrap();
    let info = run(&mut store(&["info", path, "--json"]))
        .succeeded()
        .json();
    let collection = &info["collections"][0];
    assert_eq!(
        (
            &collection["name"],
            &collection["points"],
            &collection["dimensions"]
        ),
        (&json!("诗"), &json!(2), &json!(2))
    );
    let table = run(&mut store(&["info", path])).succeeded().stdout;
    assert!(table.contains("诗") && table.contains("cosine"), "{table}");
    run(&mut store(&["check", path])).succeeded();
    run(&mut store(&["vacuum", path])).succeeded();
    let repaired = run(&mut store(&["repair", path, "--json"])).succeeded();
    assert_eq!(repaired.json(), json!({"sound": true, "problems": []}));
    let out = folder.path().join("out.jsonl");
    run(&mut store(&["export", &sqlite, out.to_str().unwrap()])).succeeded();
    let exported = lines(&fs::read_to_string(out).unwrap());
    assert_eq!(exported[0]["id"], 2);
    let from_stdin = run(store(&["import", &at("sqlite:third.db")]).write_stdin(LINES)).succeeded();
    assert!(
        from_stdin.stdout.starts_with("2 points"),
        "{}",
        from_stdin.stdout
    );
}

#[test]
fn an_indexed_collection_is_copied_as_points() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).unwrap();
    fs::write(
        docs.join("poem.md"),
        "# Moon\n\nBefore my bed the moon is bright.\n",
    )
    .unwrap();
    let database = folder.path().join("notes.db");
    let database = database.to_str().unwrap();
    let mut index = wenyi();
    index
        .args(["index", "--model"])
        .arg(fixture("bert"))
        .arg(&docs);
    run(index.args(["--collection", database])).succeeded();
    for verb in ["check", "repair"] {
        let report = run(&mut store(&[verb, database, "--json"]))
            .succeeded()
            .json();
        assert_eq!(report, json!({"sound": true, "problems": []}));
    }
    let info = run(&mut store(&["info", database, "--json"]))
        .succeeded()
        .json();
    assert_eq!(
        (&info["documents"], &info["text_index"]),
        (&json!(1), &json!(true))
    );
    assert!(
        run(&mut store(&["vacuum", database]))
            .succeeded()
            .stdout
            .contains("now")
    );
    let points = url(folder.path(), "sqlite:points.db");
    run(&mut store(&["copy", database, &points])).succeeded();
    let exported = lines(&run(&mut store(&["export", &points])).succeeded().stdout);
    let path = exported[0]["payload"]["path"].as_str().unwrap();
    assert!(path.ends_with("poem.md"), "{path}");
    assert!(
        exported[0]["text"]
            .as_str()
            .unwrap()
            .contains("moon is bright")
    );
    let back = run(&mut store(&["copy", &points, database]));
    back.failed(
        2,
        &["is a collection of documents", "hint: name another file"],
    );

    // Points where documents are expected are told by name.
    let points = folder.path().join("points.db");
    let points = points.to_str().unwrap();
    let index = |arguments: &[&str]| {
        let mut command = wenyi();
        command.args(["index", "--model"]).arg(fixture("bert"));
        run(command.args(arguments))
    };
    let docs = docs.to_str().unwrap();
    let words = [
        "is a file of points",
        "hint: name another file",
        "store info",
    ];
    index(&[docs, "--collection", points]).failed(2, &words);
    index(&[points]).failed(2, &words);
}

/// A folder in `folder` with a document in each language.
fn two_documents(folder: &Path) -> io::Result<PathBuf> {
    let docs = folder.join("docs");
    fs::create_dir(&docs)?;
    fs::write(docs.join("月.md"), "# 月\n\n床前明月光。\n")?;
    fs::write(docs.join("sun.md"), "# Sun\n\nThe sun is bright.\n")?;
    Ok(docs)
}

#[test]
fn what_check_finds_is_healed_by_the_commands_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let docs = two_documents(folder.path()).unwrap();
    let database = folder.path().join("notes.db");
    let database = database.to_str().unwrap();
    let with_model = |arguments: &[&str]| {
        let mut command = wenyi();
        command.args(arguments).arg("--model").arg(fixture("bert"));
        command
    };
    let docs = docs.to_str().unwrap();
    let index = ["index", docs, "--collection", database, "--json"];
    run(&mut with_model(&index)).succeeded();
    let sample = ["store", "check", database, "--sample", "9"];
    let checked = run(&mut with_model(&sample)).succeeded();
    assert!(
        checked.stdout.contains("2 passages embedded again"),
        "{}",
        checked.stdout
    );

    // The vectors change places: nothing but the model can tell.
    let damage = |statements: &str| {
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.execute_batch(statements).unwrap();
    };
    damage(
        "DROP TRIGGER vectors_never_change; CREATE TABLE was AS SELECT * FROM vectors;
         UPDATE vectors SET vector = (SELECT vector FROM was WHERE was.chunk = 3 - vectors.chunk);
         DROP TABLE was",
    );
    run(&mut store(&["check", database])).succeeded();
    run(&mut with_model(&sample)).failed(1, &["1 problem", "hint: `wenyi index", "--reindex"]);
    let again = [&index[..], &["--reindex"]].concat();
    run(&mut with_model(&again)).succeeded();
    run(&mut with_model(&sample)).succeeded();

    damage(
        "DROP TRIGGER vectors_outlive_chunks; PRAGMA foreign_keys = OFF;
         DELETE FROM vectors WHERE chunk = 1",
    );
    let check = run(&mut store(&["check", database, "--json"]));
    let check = check.failed(1, &["hint: `wenyi store repair", "`wenyi index FOLDER"]);
    assert_eq!(
        check.json()["incomplete_documents"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    // The text is there still.
    let repaired = run(&mut with_model(&["store", "repair", database])).succeeded();
    assert!(
        repaired.stdout.contains("1 passage without a vector"),
        "{}",
        repaired.stdout
    );
    run(&mut with_model(&sample)).succeeded();

    damage("PRAGMA foreign_keys = OFF; DELETE FROM chunks WHERE id = 1");
    run(&mut store(&["check", database])).failed(1, &["hint: `wenyi store repair"]);
    run(&mut store(&["repair", database])).failed(1, &["hint: `wenyi index FOLDER"]);
    let indexed = run(&mut with_model(&index)).succeeded().json();
    let indexed = &indexed["collections"][0];
    assert_eq!(
        (&indexed["updated"], &indexed["unchanged"]),
        (&json!(1), &json!(1))
    );
    run(&mut store(&["check", database])).succeeded();
    let points = url(folder.path(), "sqlite:points.db");
    run(&mut store(&["copy", database, &points])).succeeded();
    let points = folder.path().join("points.db");
    let points = points.to_str().unwrap();
    run(&mut store(&["check", points, "--sample", "9"])).failed(2, &["file of points", "hint:"]);
}

#[test]
fn a_graph_is_made_shown_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).unwrap();
    for number in 0..40 {
        let text = format!("# Note {number}\n\nThe moon of night {number} is bright.\n");
        fs::write(docs.join(format!("{number}.md")), text).unwrap();
    }
    let database = folder.path().join("notes.db");
    let database = database.to_str().unwrap();
    let mut index = wenyi();
    index
        .args(["index", "--model"])
        .arg(fixture("bert"))
        .arg(&docs);
    run(index.args(["--collection", database])).succeeded();
    let info = || {
        run(&mut store(&["info", database, "--json"]))
            .succeeded()
            .json()
    };
    assert_eq!(
        (&info()["packed"], &info()["index"]),
        (&json!(0), &Value::Null)
    );
    let graph = run(&mut store(&["graph", database, "--m", "8", "--json"]))
        .succeeded()
        .json();
    assert_eq!((&graph["m"], &graph["vectors"]), (&json!(8), &json!(32)));
    assert!(graph["recall_at_10"].as_f64().unwrap() > 0.9, "{graph}");
    assert_eq!(info()["index"], graph);
    run(&mut store(&["check", database])).succeeded();
    let table = run(&mut store(&["info", database])).succeeded().stdout;
    assert!(table.contains("graph of 32 vectors"), "{table}");
    run(&mut store(&["graph", database, "--m", "1"])).failed(2, &["2 to 256", "hint:"]);
    run(&mut store(&["graph", database, "--remove"])).succeeded();
    assert_eq!(info()["index"], Value::Null);
    let bits = run(&mut store(&["coarse", database, "--binary", "--json"]))
        .succeeded()
        .json();
    assert_eq!(
        (&bits["method"], &bits["vectors"]),
        (&json!("binary"), &json!(32))
    );
    assert!(bits["recall_at_10"].as_f64().unwrap() > 0.9, "{bits}");
    let leading = run(&mut store(&["coarse", database, "--leading", "24"])).succeeded();
    assert!(
        leading.stdout.starts_with("24 leading dimensions of 32"),
        "{}",
        leading.stdout
    );
    let table = run(&mut store(&["info", database])).succeeded().stdout;
    assert!(table.contains("24 leading dimensions"), "{table}");
    run(&mut store(&["check", database])).succeeded();
    run(&mut store(&["repair", database])).succeeded();
    run(&mut store(&["coarse", database])).failed(2, &["--leading"]);
    run(&mut store(&["coarse", database, "--leading", "64"])).failed(2, &["leading", "hint:"]);
    run(&mut store(&["graph", database, "--automatic"])).succeeded();
    assert_eq!(info()["index"], Value::Null);
}

#[test]
fn a_collection_is_migrated_to_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let docs = two_documents(folder.path()).unwrap();
    let database = folder.path().join("notes.db");
    let database = database.to_str().unwrap();
    let with = |verb: &[&str], model: &str| {
        let mut command = wenyi();
        command.args(verb).arg("--model").arg(fixture(model));
        command
    };
    let docs = docs.to_str().unwrap();
    run(&mut with(
        &["index", docs, "--collection", database],
        "bert",
    ))
    .succeeded();
    let migrate = ["store", "migrate", database, "--json"];
    let report = run(&mut with(&migrate, "distilbert")).succeeded().json();
    assert_eq!(
        (&report["embedded"], &report["resumed"]),
        (&json!(2), &json!(0))
    );
    run(&mut store(&["check", database])).succeeded();
    // Nothing is embedded again, with the new model or by a search with it.
    run(&mut with(&migrate, "distilbert")).failed(2, &["of this model already", "hint:"]);
    let index = ["index", docs, "--collection", database, "--json"];
    let indexed = run(&mut with(&index, "distilbert")).succeeded().json();
    assert_eq!(indexed["collections"][0]["unchanged"], 2);
    run(&mut with(&index, "bert")).failed(2, &["hint:"]);
    run(&mut store(&["migrate", database])).failed(2, &["no model was named"]);
    run(&mut store(&["migrate", database, "--abandon"])).succeeded();
}

#[test]
fn a_collection_of_documents_goes_to_a_file_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let docs = two_documents(folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (database, copy, file) = (at("notes.db"), at("copy.db"), at("notes.jsonl"));
    let with_model = |arguments: &[&str]| {
        let mut command = wenyi();
        command.args(arguments).arg("--model").arg(fixture("bert"));
        command
    };
    let index = ["index", docs.to_str().unwrap(), "--collection", &database];
    run(&mut with_model(&index)).succeeded();
    run(&mut store(&["export", &database, &file])).succeeded();
    let import = || {
        run(&mut store(&["import", &copy, &file, "--json"]))
            .succeeded()
            .json()
    };
    assert_eq!(import(), json!({"written": 2, "unchanged": 0}));
    assert_eq!(import(), json!({"written": 0, "unchanged": 2}));
    let exported = run(&mut store(&["export", &copy])).succeeded().stdout;
    assert_eq!(exported, fs::read_to_string(&file).unwrap());
    for verb in ["check", "repair", "vacuum", "info"] {
        run(&mut store(&[verb, &copy, "--json"])).succeeded();
    }
    let search = |collection: &str| {
        let arguments = ["search", collection, "床前明月光。", "--json"];
        run(&mut with_model(&arguments)).succeeded().json()["hits"].clone()
    };
    assert_eq!(search(&copy), search(&database));
    // Nothing is to be embedded again.
    let again = [
        "index",
        docs.to_str().unwrap(),
        "--collection",
        &copy,
        "--json",
    ];
    let again = run(&mut with_model(&again)).succeeded().json();
    assert_eq!(again["collections"][0]["unchanged"], 2);

    let points = url(folder.path(), "sqlite:points.db");
    run(&mut store(&["import", &points, &file])).failed(2, &["documents", "hint:"]);
    let mut torn = exported;
    torn.truncate(torn.len() - 9);
    fs::write(&file, torn).unwrap();
    let fresh = at("fresh.db");
    run(&mut store(&["import", &fresh, &file])).failed(2, &["line 3", "hint:"]);
    assert!(
        !Path::new(&fresh).exists(),
        "an empty collection was left behind"
    );
}
