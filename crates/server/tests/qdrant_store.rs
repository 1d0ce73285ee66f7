//! The library's client of Qdrant servers under the suite of all stores, against our own server.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../store/tests/vector_store/suite/mod.rs"]
mod suite;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use support::{Running, options};
use wenyi::progress::{Progress, Silent, Unit};
use wenyi::store::vector_store::{Point, Scroll, SqliteDatabase, StoreOptions, VectorStore};
use wenyi::vector_store::{copy, open_or_create_store, open_store};
use wenyi_server::ServerOptions;

/// Stops a transfer after so many of its steps.
struct Until(AtomicU64);

impl Progress for Until {
    fn start(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    fn finish(&self) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

fn serve(storage: &std::path::Path) -> Running {
    Running::start(ServerOptions {
        keys: vec!["key".into()],
        storage: Some(storage.to_path_buf()),
        ..options()
    })
}

#[test]
fn qdrant_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let url = |number: usize| format!("qdrant://key@{}/c%20{number}", server.address);
    let mut number = 0;
    suite::run(&mut |options| {
        number += 1;
        Box::new(open_or_create_store(&url(number), options).unwrap())
    });
    assert!(number > 10);
    // Opened again, a store is what it was made with.
    let info = open_store(&url(2)).unwrap().info().unwrap();
    assert_eq!((info.dimensions, info.num_points), (Some(3), 4));
    assert_eq!(info.metadata, json!({"model": "模型"}));
    let error = open_store(&url(999)).unwrap_err();
    assert!(error.is_user_error(), "{error}");
    let wrong = format!("qdrant://wrong@{}/c%201", server.address);
    assert!(open_store(&wrong).unwrap_err().is_user_error());
    drop(server);
    // And what the library finds in the server's file is sound.
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
}

#[test]
fn points_are_copied_to_a_server_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("storage"));
    let of = |name: &str| {
        let path = folder.path().join(name);
        format!("sqlite:{}?collection=notes", path.display())
    };
    let remote = format!("qdrant://key@{}/notes", server.address);
    let options = StoreOptions {
        dimensions: Some(3),
        ..StoreOptions::default()
    };
    let source = open_or_create_store(&of("source.db"), &options).unwrap();
    let points: Vec<Point> = (0..2500u64)
        .map(|n| {
            let payload = json!({"n": n, "诗": "春眠不觉晓"});
            let point = match n % 2 {
                0 => Point::new(n, [1.0, n as f32, 0.5]),
                _ => Point::new(format!("编号 {n}"), [1.0, n as f32, 0.5]),
            };
            (point.with_text(format!("text {n}")))
                .with_payload(payload.as_object().unwrap().clone())
        })
        .collect();
    source.upsert(&points).unwrap();
    let target = open_or_create_store(&remote, &options).unwrap();
    let interrupted = copy(&source, &target, &Until(AtomicU64::new(1))).unwrap();
    assert!((1..2500).contains(&interrupted.written), "{interrupted:?}");
    // The same again goes on where that ended.
    let rest = copy(&source, &target, &Silent).unwrap();
    assert_eq!(rest.unchanged, interrupted.written);
    assert_eq!(rest.written, 2500 - interrupted.written);
    let back = open_or_create_store(&of("back.db"), &options).unwrap();
    assert_eq!(copy(&target, &back, &Silent).unwrap().written, 2500);
    let all = |store: &dyn VectorStore| {
        let scroll = Scroll {
            limit: 10_000,
            with_vector: true,
            ..Scroll::default()
        };
        store.scroll(&scroll).unwrap().points
    };
    assert_eq!(all(&source), all(&back));
}

#[test]
fn aliases_and_numbers_that_cannot_be_kept_answer_in_qdrants_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        storage: Some(folder.path().to_path_buf()),
        ..options()
    });
    let send = |method: &str, path: &str, body: &str| {
        let reply = server.send(method, path, &[], body.as_bytes());
        (reply.status, reply.json())
    };
    let made = r#"{"vectors": {"size": 2, "distance": "Cosine"}}"#;
    for name in ["notes", "aliases"] {
        let path = format!("/collections/{name}");
        assert_eq!(send("PUT", &path, made).0, 200);
        for path in ["/aliases".to_owned(), format!("{path}/aliases")] {
            let (status, answer) = send("GET", &path, "");
            let result = (&answer["result"], &answer["status"]);
            assert_eq!(
                (status, result),
                (200, (&json!({"aliases": []}), &json!("ok")))
            );
        }
    }
    let rename =
        r#"{"actions": [{"create_alias": {"collection_name": "notes", "alias_name": "n"}}]}"#;
    let huge = |payload: &str| {
        format!(r#"{{"points": [{{"id": 1, "vector": [1, 0], "payload": {payload}}}]}}"#)
    };
    let points = "/collections/notes/points";
    for (method, path, body, status, word) in [
        ("POST", "/collections/aliases", rename, 400, "aliases"),
        ("POST", "/collections/notes", "{}", 405, "POST"),
        ("GET", "/collections/none/aliases", "", 404, "`none`"),
        ("DELETE", "/aliases", "", 405, "DELETE"),
        ("GET", "/aliases/n", "", 404, "/aliases/n"),
        (
            "PUT",
            points,
            &huge(r#"{"n": 18446744073709551616}"#),
            400,
            "18446744073709551616",
        ),
        (
            "POST",
            "/collections/notes/points/count",
            r#"{"filter": {"must": [{"has_vector": "title"}]}}"#,
            400,
            "has_vector",
        ),
    ] {
        let (got, answer) = send(method, path, body);
        let error = answer["status"]["error"].as_str().unwrap_or_default();
        assert!(
            got == status && error.contains(word),
            "{method} {path}: {got} {answer}"
        );
    }
    let kept = huge(r#"{"n": 18446744073709551615, "words": "green pears"}"#);
    assert_eq!(send("PUT", points, &kept).0, 200);
    let (_, point) = send("GET", "/collections/notes/points/1", "");
    assert_eq!(point["result"]["payload"]["n"], json!(u64::MAX));
    for (words, count) in [("apples pears", 1), ("apples", 0)] {
        let filter = json!({"must": [{"key": "words", "match": {"text_any": words}}]});
        let body = json!({"filter": filter}).to_string();
        let (_, answer) = send("POST", "/collections/notes/points/count", &body);
        assert_eq!(answer["result"]["count"], count, "{words}");
    }
}
