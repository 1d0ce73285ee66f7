//! `wenyi index` over files of many kinds: what cannot be read is said, patterns choose, and
//! `--watch` follows what changes. The model's weights are random; its vectors do not matter here.

use std::fs;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

use super::run::run;
use super::{fixture, wenyi};

struct World {
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            home: tempfile::tempdir().expect("a temporary folder"),
        };
        world.write("costs.csv", "项目,费用\n火车,30\n");
        world.write("main.rs", "/// Adds two numbers.\nfn add() {\n}\n");
        world.write("mail.eml", "Subject: Meeting\r\n\r\nIt is on Tuesday.\r\n");
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

    fn wenyi(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = wenyi();
        command
            .env("WENYI_CACHE", self.home.path().join("cache"))
            .args([verb, "--precision", "f32", "--model"])
            .arg(fixture("bert"))
            .arg(self.docs())
            .args(arguments);
        command
    }
}

#[test]
fn places_are_cited_as_each_kind_has_them() {
    let world = World::new();
    let search = |question: &str| {
        let mut command = world.wenyi("search", &[question, "--mode", "text"]);
        run(&mut command).succeeded().stdout
    };
    let rows = search("火车");
    assert!(
        rows.contains("costs.csv:1-2") && rows.contains("»*火车* | 30«"),
        "{rows}"
    );
    let code = search("numbers");
    assert!(
        code.contains("main.rs:1-3") && code.contains("fn add()"),
        "{code}"
    );
    let mail = search("Tuesday");
    assert!(
        mail.contains("mail.eml  ") && mail.contains("Meeting"),
        "{mail}"
    );
}

#[test]
fn failures_are_listed_with_reason_and_hint_and_the_rest_is_indexed() {
    let world = World::new();
    world.write("报告.pdf", "not a PDF at all");
    let output = run(&mut world.wenyi("index", &[])).succeeded().stdout;
    for part in [
        "3 documents added",
        "1 file could not be read",
        "报告.pdf: damaged",
        "hint: ",
    ] {
        assert!(output.contains(part), "no `{part}` in:\n{output}");
    }
    let json = run(&mut world.wenyi("index", &["--json"]))
        .succeeded()
        .json();
    let report = &json["collections"][0];
    assert_eq!(report["unchanged"], 3);
    let skip = &report["skipped"][0];
    assert_eq!(skip["reason"]["kind"], "broken", "{report:#}");
    assert!(skip["message"].is_string() && skip["hint"].is_string());
    run(&mut world.wenyi("index", &["--strict"])).failed(1, &["1 file could not be read"]);
}

#[test]
fn patterns_choose_the_files() {
    let world = World::new();
    let added = |arguments: &[&str]| -> Value {
        let mut command = world.wenyi("index", &[arguments, &["--json", "--reindex"]].concat());
        run(&mut command).succeeded().json()["collections"][0]["added"].clone()
    };
    assert_eq!(added(&["--include", "*.csv", "--include", "*.eml"]), 2);
    assert_eq!(added(&["--exclude", "*.rs"]), 2);
    world.write(".gitignore", "*.eml\n");
    assert_eq!(added(&[]), 2);
    assert_eq!(added(&["--no-ignore"]), 3);
    let mut bad = world.wenyi("index", &["--include", "a{b"]);
    run(&mut bad).failed(2, &["a{b", ".gitignore"]);
}

/// A program that is ended with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn watching_follows_new_changed_renamed_and_deleted_files() {
    let world = World::new();
    let output = world.home.path().join("rounds");
    let mut process = Process::new(assert_cmd::cargo::cargo_bin("wenyi"));
    process
        .args(["index", "--watch", "--json", "--threads", "1", "--model"])
        .arg(fixture("bert"))
        .arg(world.docs())
        .arg("--collection")
        .arg(world.docs().join("here.db"))
        .env("WENYI_OFFLINE", "1")
        .env("WENYI_CACHE", world.home.path().join("cache"))
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::null());
    let mut watching = Watching(process.spawn().unwrap());
    let counts = |round: usize| {
        let report = &wait_for_round(&output, round)["collections"][0];
        ["added", "updated", "removed", "reused_chunks"].map(|name| report[name].as_u64().unwrap())
    };
    assert_eq!(counts(0), [3, 0, 0, 0]);
    world.write("新的.md", "# New\n\nA new file.\n");
    assert_eq!(counts(1), [1, 0, 0, 0]);
    world.write("新的.md", "# New\n\nChanged text.\n");
    assert_eq!(counts(2), [0, 1, 0, 0]);
    fs::rename(world.docs().join("新的.md"), world.docs().join("moved.md")).unwrap();
    assert_eq!(counts(3), [1, 0, 1, 1]);
    fs::remove_file(world.docs().join("moved.md")).unwrap();
    assert_eq!(counts(4), [0, 0, 1, 0]);
    let id = watching.0.id().to_string();
    assert!(
        Process::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(watching.0.wait().unwrap().success());
    // The collection lies in the folder: its own writes must not have woken the program.
    assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 5);
}

fn wait_for_round(output: &Path, round: usize) -> Value {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(output).expect("a readable file");
        if let Some(line) = text
            .split_inclusive('\n')
            .nth(round)
            .filter(|line| line.ends_with('\n'))
        {
            return serde_json::from_str(line).expect("a line of JSON");
        }
        assert!(
            Instant::now() < deadline,
            "round {round} did not come:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
