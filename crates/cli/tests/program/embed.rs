//! `wenyi embed` with a tiny model: numbers, files, bad input, Ctrl-C.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;

use super::run::{Run, run};
use super::{fixture, wenyi};

fn embed(model: &str) -> Command {
    let mut command = wenyi();
    command
        .arg("embed")
        .arg("--model")
        .arg(fixture(model))
        .args(["--precision", "f32"]);
    command
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

/// Shape and values of a `.npy` file of little-endian `f32`.
fn read_npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).expect("the file is there");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..10 + length].to_vec()).expect("a text header");
    assert!(
        header.contains("'descr': '<f4'") && header.ends_with('\n'),
        "{header}"
    );
    let shape = header.split("'shape': ").nth(1).expect("a shape");
    let shape = shape[..=shape.find(')').expect("a tuple")].to_owned();
    let values = bytes[10 + length..].chunks_exact(4);
    let values = values
        .map(|v| f32::from_le_bytes(v.try_into().expect("four bytes")))
        .collect();
    (shape, values)
}

#[test]
fn vectors_are_those_of_the_reference() {
    let reference = fs::read(fixture("bert").join("expected.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let texts: Vec<&Value> = reference["texts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["truncated"] == false)
        .collect();
    let lines: String = texts
        .iter()
        .map(|text| format!("{}\n", serde_json::json!({"text": text["text"]})))
        .collect();
    let json = run(embed("bert")
        .args(["--input", "-", "--json"])
        .write_stdin(lines))
    .succeeded()
    .json();
    let rows = json["embeddings"].as_array().unwrap();
    assert_eq!(rows.len(), texts.len());
    for (row, text) in rows.iter().zip(texts) {
        let (got, expected) = (numbers(&row["embedding"]), numbers(&text["embedding"]));
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            // The fixture's own tolerance.
            assert!(
                (got - expected).abs() <= 5e-6,
                "{}: {got} for {expected}",
                text["id"]
            );
        }
    }
}

#[test]
fn people_see_each_text_and_how_close_they_are() {
    let output = run(embed("xlm_roberta").args(["good morning", "早上好"]))
        .succeeded()
        .stdout;
    for part in [
        "good morning",
        "早上好",
        "norm 1.0000",
        "64 dimensions",
        "f32",
        "cosine",
    ] {
        assert!(output.contains(part), "no `{part}` in:\n{output}");
    }
    assert!(!output.contains('\x1b'), "a pipe gets no colour:\n{output}");
}

#[test]
fn the_empty_text_has_a_vector() {
    let json = run(embed("bert").args(["--json", ""])).succeeded().json();
    assert_eq!(json["embeddings"][0]["text"], "");
    assert_eq!(numbers(&json["embeddings"][0]["embedding"]).len(), 64);
}

#[test]
fn npy_and_json_lines_hold_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("句子.txt");
    fs::write(&input, "你好，世界\n\nthe train is late\r\n").unwrap();
    let (npy, jsonl) = (
        folder.path().join("向量.npy"),
        folder.path().join("v.jsonl"),
    );
    for output in [&npy, &jsonl] {
        run(embed("xlm_roberta")
            .arg("--input")
            .arg(&input)
            .arg("--output")
            .arg(output))
        .succeeded();
    }
    let (shape, values) = read_npy(&npy);
    assert_eq!(shape, "(3, 64)");
    let lines = fs::read_to_string(jsonl).unwrap();
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows.iter().map(|row| &row["text"]).collect::<Vec<_>>(),
        ["你好，世界", "", "the train is late"]
    );
    let from_json: Vec<f64> = rows
        .iter()
        .flat_map(|row| numbers(&row["embedding"]))
        .collect();
    for (npy, json) in values.iter().zip(&from_json) {
        assert!((f64::from(*npy) - json).abs() < 1e-7);
    }
    assert_eq!(values.len(), from_json.len());
}

#[test]
fn an_input_without_any_text_is_an_error_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("v.npy");
    for more in [&["--json"][..], &["--output", output.to_str().unwrap()]] {
        let ended = run(embed("bert")
            .args(["--input", "-"])
            .args(more)
            .write_stdin(""));
        assert_eq!(ended.stdout, "");
        ended.failed(2, &["no text in `standard input`", "hint: "]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_done_comes_with_a_remedy() {
    for arguments in [
        &["--output", "v.foo"][..],
        &["--output", "/tmp"],
        &["--role", "banana"],
    ] {
        run(embed("bert").args(arguments).arg("a text")).failed(2, &["hint: "]);
    }
    let mut command = wenyi();
    command.args(["embed", "a text", "--model", "/dev/null"]);
    run(&mut command).failed(2, &["/dev/null", "hint: "]);
}

#[test]
fn dimensions_are_cut_and_normalised_again() {
    let json = run(embed("bert").args(["--dimensions", "16", "--json", "hello"]))
        .succeeded()
        .json();
    let vector = numbers(&json["embeddings"][0]["embedding"]);
    assert_eq!(
        (vector.len(), &json["dimensions"]),
        (16, &serde_json::json!(16))
    );
    assert!((vector.iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-5);
}

#[test]
fn impossible_dimensions_are_refused_with_a_hint() {
    for dimensions in ["0", "65"] {
        run(embed("bert").args(["--dimensions", dimensions, "hello"]))
            .failed(2, &[dimensions, "64", "hint: "]);
    }
}

#[test]
fn a_text_too_long_is_refused_with_its_line_and_never_cut_in_silence() {
    let long = "word ".repeat(300);
    let lines = format!("short\n{long}\n");
    run(embed("bert").args(["--input", "-"]).write_stdin(lines))
        .failed(2, &["line 2", "128", "hint: ", "--overflow"]);
    let json = run(embed("bert").args(["--overflow", "truncate", "--json", &long]))
        .succeeded()
        .json();
    assert_eq!(json["embeddings"][0]["tokens_kept"], 128);
    assert!(json["embeddings"][0]["tokens"].as_u64().unwrap() > 300);
    let people = run(embed("bert").args(["--overflow", "truncate", &long]))
        .succeeded()
        .stdout;
    assert!(people.contains("the first 128 kept"), "{people}");
    let split = run(embed("bert").args(["--overflow", "split-mean", "--json", &long]))
        .succeeded()
        .json();
    assert!(split["embeddings"][0]["windows"].as_u64().unwrap() > 1);
}

#[test]
fn a_text_of_ten_megabytes_is_embedded_in_windows() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("big.txt");
    fs::write(&input, "文意 and words, ".repeat(10_000_000 / 18)).unwrap();
    let json = run(embed("bert")
        .args(["--overflow", "truncate", "--json", "--input"])
        .arg(&input))
    .succeeded()
    .json();
    assert_eq!(json["embeddings"][0]["tokens_kept"], 128);
}

#[test]
fn bytes_that_are_no_text_are_named_by_line() {
    let run = run(embed("bert")
        .args(["--input", "-"])
        .write_stdin(b"fine\nbad \xff\xfe\n".to_vec()));
    run.failed(2, &["line 2", "UTF-8", "hint: "]);
}

#[test]
fn files_that_cannot_be_read_or_written_are_user_errors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    run(embed("bert").arg("--input").arg(at("没有.txt"))).failed(2, &["没有.txt", "hint: "]);
    run(embed("bert").arg("--input").arg(folder.path())).failed(2, &["folder"]);
    for output in ["missing/v.npy", "v.csv"] {
        run(embed("bert").args(["hello", "--output"]).arg(at(output))).failed(2, &[output]);
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_model_that_is_not_there_is_a_user_error() {
    run(wenyi().args(["embed", "--model", "./no/such/model", "hello"])).failed(2, &["hint: "]);
    run(wenyi().args(["embed", "--model", "multilingual-e5-smal", "hello"]))
        .failed(2, &["hint: did you mean `multilingual-e5-small"]);
    run(wenyi().args(["embed", "--offline", "hello"])).failed(2, &["offline", "hint: "]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Process::new(assert_cmd::cargo::cargo_bin("wenyi"))
        .args(["embed", "--input", "-", "--model"])
        .arg(fixture("bert"))
        .env("WENYI_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // The program may be gone before it has read all of this.
    let _ = stdin.write_all("a text\n".repeat(20_000).as_bytes());
    drop(stdin);
    Run::from(child.wait_with_output().unwrap()).succeeded();
}

/// Interrupted, the program ends with 130 and keeps what it has.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("v.npy");
    let partial = folder.path().join("v.npy.partial");
    let mut child = Process::new(assert_cmd::cargo::cargo_bin("wenyi"))
        .args(["embed", "--input", "-", "--model"])
        .arg(fixture("bert"))
        .arg("--output")
        .arg(&output)
        .env("WENYI_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than the pipe and a few batches hold: writing goes on until the program stops reading.
    let writer = std::thread::spawn(move || {
        let lines = "一个句子, a sentence of some length\n".repeat(1000);
        while stdin.write_all(lines.as_bytes()).is_ok() {}
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&partial).map_or(0, |data| data.len()) <= 128 {
        assert!(Instant::now() < deadline, "nothing was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = Process::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let status = child.wait().unwrap();
    writer.join().unwrap();
    let mut words = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut words)
        .unwrap();
    assert_eq!(status.code(), Some(130), "{words}");
    assert!(words.contains("kept in"), "{words}");
    assert!(!output.exists());
    let (shape, values) = read_npy(&partial);
    assert_eq!(shape, format!("({}, 64)", values.len() / 64));
    assert!(!values.is_empty());
}
