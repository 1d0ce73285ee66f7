//! `wenyi models` without a network.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

use super::run::run;
use super::{fixture, wenyi};

fn models(cache: &Path) -> Command {
    let mut command = wenyi();
    command.env("WENYI_CACHE", cache).arg("models");
    command
}

#[test]
fn the_list_names_the_default_model() {
    let cache = tempfile::tempdir().unwrap();
    let list = run(models(cache.path()).arg("list")).succeeded().stdout;
    assert!(list.contains("default: multilingual-e5-small"), "{list}");
    let json = run(models(cache.path()).args(["list", "--json"]))
        .succeeded()
        .json();
    let defaults = json["models"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["default"] == true);
    assert_eq!(
        defaults.map(|m| &m["id"]).collect::<Vec<_>>(),
        ["multilingual-e5-small"]
    );
}

#[test]
fn nothing_is_installed_at_first() {
    let cache = tempfile::tempdir().unwrap();
    let json = run(models(cache.path()).args(["list", "--installed", "--json"]))
        .succeeded()
        .json();
    assert_eq!(json["models"], serde_json::json!([]));
    for verb in ["path", "verify", "remove"] {
        run(models(cache.path()).args([verb, "bge-m3"])).failed(2, &["bge-m3", "hint: "]);
    }
    run(models(cache.path()).args(["remove", "no-such-model"])).failed(2, &["hint: "]);
}

#[test]
fn a_path_is_its_own_place() {
    let cache = tempfile::tempdir().unwrap();
    let folder = fixture("bert");
    let output = run(models(cache.path()).arg("path").arg(&folder))
        .succeeded()
        .stdout;
    assert_eq!(Path::new(output.trim()), folder);
}

#[test]
fn what_is_no_bundle_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let file = cache.path().join("包.tar");
    fs::write(&file, "not a bundle").unwrap();
    run(models(cache.path()).arg("import").arg(&file)).failed(2, &["包.tar", "hint: "]);
    let missing = run(models(cache.path()).args(["import", "missing.tar"]));
    missing.failed(2, &["missing.tar", "hint: "]);
}

#[test]
fn offline_fetches_nothing() {
    let cache = tempfile::tempdir().unwrap();
    run(models(cache.path()).args(["pull", "all-MiniLM-L6-v2"])).failed(2, &["offline", "hint: "]);
    let mut command = models(cache.path());
    command.env_remove("WENYI_OFFLINE");
    command.args(["pull", "all-MiniLM-L6-v2", "--offline"]);
    run(&mut command).failed(2, &["offline", "hint: "]);
}

#[test]
fn bench_reports_every_figure() {
    let mut command = wenyi();
    command.args([
        "bench",
        "embed",
        "--seconds",
        "0.05",
        "--json",
        "--input",
        "-",
        "--model",
    ]);
    command.arg(fixture("bert")).args(["--precision", "f32"]);
    let json = run(command.write_stdin("a text\n一段文字\n"))
        .succeeded()
        .json();
    let result = &json["results"][0];
    assert_eq!(result["precision"], "f32");
    assert!(
        result["rates"][0]["tokens_per_second"].as_f64().unwrap() > 0.0,
        "{result:#}"
    );
    assert!(result["query"]["p50_ms"].as_f64() <= result["query"]["p99_ms"].as_f64());
}
