//! `wenyi index` and `search` with a tiny model. Its weights are random, so only a passage that is
//! the question word for word is sure to come first, and that is what is asked for.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

use super::run::{Run, run};
use super::{fixture, wenyi};

const ENGLISH: &str = "The night train to the coast leaves at nine.";
const CHINESE: &str = "没有网络的机器用离线包安装模型。";

/// A folder of documents and a cache, both gone at the end.
struct World {
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            home: tempfile::tempdir().expect("a temporary folder"),
        };
        world.write("trains.md", &format!("{ENGLISH}\n"));
        world.write("指南/离线 使用.txt", &format!("{CHINESE}\n"));
        world.write(
            "page.html",
            "<h1>Bread</h1><p>Flour, water, salt and time.</p>",
        );
        world
    }

    fn docs(&self) -> std::path::PathBuf {
        self.home.path().join("docs")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.docs().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        fs::write(path, text).expect("a writable file");
    }

    fn wenyi(&self, verb: &str, model: &str) -> Command {
        let mut command = wenyi();
        command
            .env("WENYI_CACHE", self.home.path().join("cache"))
            .arg(verb);
        command
            .args(["--precision", "f32", "--model"])
            .arg(fixture(model));
        command
    }

    fn search(&self, question: &str, options: &[&str]) -> Run {
        run(self
            .wenyi("search", "bert")
            .arg(self.docs())
            .arg(question)
            .args(options))
    }

    fn search_json(&self, question: &str, options: &[&str]) -> Value {
        self.search(question, &[options, &["--json"]].concat())
            .succeeded()
            .json()
    }
}

fn first_path(json: &Value) -> String {
    json["hits"][0]["path"]
        .as_str()
        .expect("a hit with a path")
        .to_owned()
}

#[test]
fn english_and_chinese_questions_find_their_passages() {
    let world = World::new();
    let json = world.search_json(CHINESE, &[]);
    assert!(
        Path::new(&first_path(&json)).ends_with("指南/离线 使用.txt"),
        "{json:#}"
    );
    let hit = &json["hits"][0];
    assert!(hit["cosine"].as_f64().unwrap() > 0.999, "{hit:#}");
    assert_eq!(
        (&hit["first_line"], &hit["last_line"]),
        (&1.into(), &1.into())
    );
    assert_eq!(hit["best_sentence"]["text"], CHINESE);
    assert!(!hit["matches"].as_array().unwrap().is_empty());
    let json = world.search_json(ENGLISH, &["--top-k", "1"]);
    assert!(first_path(&json).ends_with("trains.md"), "{json:#}");
    assert_eq!(json["hits"].as_array().unwrap().len(), 1);
}

#[test]
fn people_see_place_score_headings_and_marks() {
    let world = World::new();
    let output = world.search(ENGLISH, &[]).succeeded().stdout;
    for part in [
        "trains.md:1",
        "Bread",
        "»",
        "*train*",
        "indexed: 3 documents added",
    ] {
        assert!(output.contains(part), "no `{part}` in:\n{output}");
    }
    assert!(!output.contains('\x1b'), "a pipe gets no colour:\n{output}");
    let again = world.search(ENGLISH, &[]).succeeded().stdout;
    assert!(
        !again.contains("indexed"),
        "nothing to say where nothing changed:\n{again}"
    );
}

#[test]
fn a_second_run_embeds_only_what_changed() {
    let world = World::new();
    let first = world.search_json(CHINESE, &[]);
    assert_eq!(
        (&first["index"]["added"], &first["index"]["unchanged"]),
        (&3.into(), &0.into())
    );
    let second = world.search_json(CHINESE, &[]);
    assert_eq!(
        (&second["index"]["unchanged"], &second["index"]["tokens"]),
        (&3.into(), &0.into())
    );
    world.write(
        "trains.md",
        "# Travel\n\nThe day train was cancelled for good, take the bus.\n",
    );
    world.write("新的.md", "今天新写的文件。\n");
    fs::remove_file(world.docs().join("page.html")).unwrap();
    let third = &world.search_json(CHINESE, &[])["index"];
    let counts = ["added", "updated", "removed", "unchanged"].map(|name| third[name].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(1)], "{third:#}");
}

#[test]
fn a_collection_is_searched_without_its_documents() {
    let world = World::new();
    let file = world.home.path().join("知识.db");
    run(world
        .wenyi("index", "bert")
        .arg(world.docs())
        .arg("--collection")
        .arg(&file))
    .succeeded();
    fs::remove_dir_all(world.docs()).unwrap();
    let json = run(world
        .wenyi("search", "bert")
        .arg(&file)
        .args([CHINESE, "--json"]));
    let json = json.succeeded().json();
    assert!(first_path(&json).ends_with("离线 使用.txt"), "{json:#}");
    assert_eq!(json["index"], Value::Null);
}

#[test]
fn no_index_searches_what_is_there() {
    let world = World::new();
    world
        .search(CHINESE, &["--no-index"])
        .failed(2, &["is not indexed", "hint: "]);
    world.search(CHINESE, &[]).succeeded();
    world.write("new.txt", ENGLISH);
    let json = world.search_json(ENGLISH, &["--no-index"]);
    assert!(first_path(&json).ends_with("trains.md"), "{json:#}");
}

#[test]
fn another_model_is_refused_until_everything_is_embedded_again() {
    let world = World::new();
    world.search(CHINESE, &[]).succeeded();
    let other = |options: &[&str]| {
        run(world
            .wenyi("search", "xlm_roberta")
            .arg(world.docs())
            .arg(CHINESE)
            .args(options))
    };
    other(&[]).failed(2, &["bert", "xlm_roberta", "hint: ", "--reindex"]);
    other(&["--no-index"]).failed(2, &["hint: "]);
    // Refused, not spoilt.
    world.search(CHINESE, &[]).succeeded();
    other(&["--reindex"]).succeeded();
    other(&[]).succeeded();
}

#[test]
fn what_cannot_be_searched_is_a_user_error() {
    let world = World::new();
    world.search("  ", &[]).failed(2, &["question", "hint: "]);
    world
        .search(CHINESE, &["--top-k", "0"])
        .failed(2, &["top-k"]);
    let nowhere = world.home.path().join("没有");
    run(world.wenyi("search", "bert").arg(&nowhere).arg("q")).failed(2, &["没有", "hint: "]);
    run(world.wenyi("index", "bert").arg(&nowhere)).failed(2, &["没有", "hint: "]);
    let text = world.docs().join("trains.md");
    run(world
        .wenyi("search", "bert")
        .arg(world.docs())
        .arg("q")
        .arg("--collection")
        .arg(text))
    .failed(2, &["not a collection", "hint: "]);
}

#[test]
fn files_that_are_not_text_are_named_and_do_not_end_the_work() {
    let world = World::new();
    fs::write(world.docs().join("binary.txt"), [0, 159, 146, 150, 0, 1, 2]).unwrap();
    world.write("empty.md", "");
    let run = world.search(CHINESE, &[]).succeeded();
    assert!(run.stderr.contains("binary.txt"), "{}", run.stderr);
    let json = world.search_json(CHINESE, &[]);
    assert!(first_path(&json).ends_with("离线 使用.txt"));
}

#[test]
fn an_empty_folder_has_no_passages() {
    let world = World::new();
    fs::remove_dir_all(world.docs()).unwrap();
    fs::create_dir(world.docs()).unwrap();
    let output = world.search(CHINESE, &[]).succeeded().stdout;
    assert!(output.contains("no passages found"), "{output}");
    assert_eq!(
        world.search_json(CHINESE, &[])["hits"],
        serde_json::json!([])
    );
}

#[cfg(unix)]
mod interrupted {
    use std::io::Read;
    use std::process::{Child, Command as Process, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    const FILES: u64 = 400;

    /// More documents than can be indexed before the signal comes.
    fn big_world() -> World {
        let world = World::new();
        fs::remove_dir_all(world.docs()).expect("the small world goes");
        for number in 0..FILES {
            let text: String = (0..60)
                .map(|line| format!("第{number}个文件的第{line}句话, about item {line}.\n\n"))
                .collect();
            world.write(&format!("文件{number}.md"), &text);
        }
        world
    }

    /// Starts to index and returns once something is in the collection.
    fn start(world: &World, file: &Path) -> Child {
        let child = Process::new(assert_cmd::cargo::cargo_bin("wenyi"))
            .args(["index", "--threads", "1", "--model"])
            .arg(fixture("bert"))
            .arg(world.docs())
            .arg("--collection")
            .arg(file)
            .env("WENYI_OFFLINE", "1")
            .env("WENYI_CACHE", world.home.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = file.with_extension("db-wal");
        let deadline = Instant::now() + Duration::from_secs(120);
        // Several transactions: one holds some 100 KB of text and vectors.
        while fs::metadata(&log).map_or(0, |data| data.len()) < 500_000 {
            assert!(Instant::now() < deadline, "nothing was indexed");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn signal(child: &Child, name: &str) {
        let sent = Process::new("kill")
            .args([name, &child.id().to_string()])
            .status()
            .expect("there is `kill`");
        assert!(sent.success());
    }

    fn resume(world: &World, file: &Path) -> Value {
        let mut command = world.wenyi("index", "bert");
        command
            .arg(world.docs())
            .arg("--collection")
            .arg(file)
            .arg("--json");
        run(&mut command).succeeded().json()["collections"][0].clone()
    }

    fn expect_all(report: &Value) {
        let count = |name: &str| report[name].as_u64().expect("a count");
        assert_eq!(count("added") + count("unchanged"), FILES, "{report:#}");
        assert!(
            count("unchanged") > 0,
            "what was acknowledged is kept: {report:#}"
        );
        assert_eq!(count("updated") + count("removed"), 0, "{report:#}");
    }

    #[test]
    fn kill_9_loses_nothing_that_was_acknowledged() {
        let world = big_world();
        let file = world.home.path().join("c.db");
        let mut child = start(&world, &file);
        signal(&child, "-KILL");
        child.wait().unwrap();
        expect_all(&resume(&world, &file));
        assert_eq!(resume(&world, &file)["unchanged"], FILES);
    }

    #[test]
    fn ctrl_c_ends_with_130_and_the_next_run_goes_on() {
        let world = big_world();
        let file = world.home.path().join("c.db");
        let mut child = start(&world, &file);
        signal(&child, "-INT");
        let mut words = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut words)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{words}");
        assert!(
            words.contains("stopped: ") && words.contains("kept"),
            "{words}"
        );
        expect_all(&resume(&world, &file));
    }
}

#[test]
fn a_reranker_and_variety_choose_among_the_candidates() {
    let world = World::new();
    let reranker = fixture("cross_encoder");
    let reranker = reranker.to_str().expect("a path");
    let options = ["--rerank", reranker, "--json", "-k", "3"];
    let results = world.search(CHINESE, &options).succeeded().json();
    let results = &results;
    assert!(results["reranker"].is_string(), "{results}");
    let hits = results["hits"].as_array().expect("hits");
    let relevance: Vec<f64> = hits
        .iter()
        .map(|hit| hit["relevance"].as_f64().expect("a number"))
        .collect();
    assert_eq!(relevance.len(), 3);
    assert!(relevance.is_sorted_by(|a, b| a >= b), "{relevance:?}");
    assert_eq!(hits[0]["score"], hits[0]["relevance"]);
    let plain = world.search(ENGLISH, &["--json", "--mmr", "1", "--fusion", "rrf"]);
    let plain = plain.succeeded().json();
    assert_eq!(plain["reranker"], Value::Null);
    // First in both orders: 2 / 61.
    let score = plain["hits"][0]["score"].as_f64().expect("a number");
    assert!((score - 2.0 / 61.0).abs() < 1e-6, "{score}");
    for (option, value, said) in [
        ("--mmr", "1.5", "expected a number from 0 to 1"),
        ("--candidates", "0", "at least 1"),
        ("--rerank", "no-such-model", "no-such-model"),
        ("--fusion", "sum", "possible values"),
    ] {
        world.search(ENGLISH, &[option, value]).failed(2, &[said]);
    }
}

#[test]
fn words_in_a_collection_are_found_without_its_model() {
    let world = World::new();
    let file = world.home.path().join("notes.db");
    let name = file.to_str().expect("text");
    world.search("train", &["--collection", name]).succeeded();
    let bare = |options: &[&str]| {
        let mut command = wenyi();
        command.env("WENYI_CACHE", world.home.path().join("cache"));
        run(command
            .arg("search")
            .arg(&file)
            .arg("night train")
            .args(options))
    };
    let found = bare(&["--mode", "text", "--json"]).succeeded().json();
    assert_eq!(found["mode"], "text", "{found}");
    let hit = &found["hits"][0];
    assert_eq!(hit["text"].as_str().expect("text").trim(), ENGLISH);
    assert!(hit["bm25"].as_f64().expect("a score") > 0.0, "{found}");
    // Meaning needs the model, and none is here.
    bare(&[]).failed(2, &["offline", "hint: "]);
}
