//! The description of the interface says what is served, and nothing else.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Running, options, wait_until};
use wenyi_server::ServerOptions;

#[test]
fn every_described_route_answers_its_example() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        collections: vec![support::notes(folder.path())],
        ..options()
    });
    // Until the first model is loaded, `/ready` says no.
    wait_until("ready", || server.get("/ready").status == 200);
    let description = server.get("/openapi.json").json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            let asked = path.replace("{model}", "bert");
            let example = &route["requestBody"]["content"]["application/json"]["example"];
            let body = if example.is_null() {
                String::new()
            } else {
                example.to_string()
            };
            let reply = server.send(&method.to_uppercase(), &asked, &[], body.as_bytes());
            assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        }
    }
}

#[test]
fn every_route_is_described() {
    let table = include_str!("../src/http/routes.rs");
    let description = include_str!("../src/http/openapi.json");
    // Every path stands in the table as a whole, except for those under several bases.
    let paths = table
        .split('"')
        .filter(|text| text.starts_with('/') && !text.starts_with("//"));
    let mut count = 0;
    for path in paths.filter(|path| *path != "/v1" && *path != "/compatible-mode/v1") {
        assert!(description.contains(&format!("\"{path}\"")), "{path}");
        count += 1;
    }
    assert!(count >= 20, "only {count} paths found");
    for base in ["/v1", "/compatible-mode/v1"] {
        for route in [
            "embeddings",
            "chat/completions",
            "completions",
            "models",
            "models/{model}",
        ] {
            assert!(
                description.contains(&format!("\"{base}/{route}\"")),
                "{base}/{route}"
            );
        }
    }
}
