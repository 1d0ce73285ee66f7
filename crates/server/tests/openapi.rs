//! The description of the interface says what is served, and nothing else.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Reply, Running, options, wait_until};
use wenyi_server::ServerOptions;

/// Makes what the example of a route is about.
fn prepare(server: &Running, method: &str, path: &str) {
    if !path.starts_with("/collections/{") {
        return;
    }
    let make = |path: &str, body: &str| server.send("PUT", path, &[], body.as_bytes());
    server.send("DELETE", "/collections/notes", &[], b"");
    if (method, path) == ("put", "/collections/{collection}") {
        return;
    }
    if path.ends_with("/vectors/delete") {
        let spaces = r#"{"vectors": {"title": {"size": 3, "distance": "Cosine"}}}"#;
        assert_eq!(make("/collections/notes", spaces).status, 200);
        let point = r#"{"points": [{"id": 1, "vector": {"title": [1, 0, 0]}}]}"#;
        assert_eq!(make("/collections/notes/points", point).status, 200);
        return;
    }
    let simple = r#"{"vectors": {"size": 3, "distance": "Cosine"}}"#;
    assert_eq!(make("/collections/notes", simple).status, 200);
    let point = r#"{"points": [{"id": 1, "vector": [1, 0, 0], "payload": {"lang": "zh"}}]}"#;
    assert_eq!(make("/collections/notes/points", point).status, 200);
}

/// Sends a file.
fn upload(server: &Running) -> Reply {
    let parts = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
                 --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"诗.txt\"\r\n\r\n\
                 春眠不觉晓，处处闻啼鸟。\r\n--x--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    server.send("POST", "/v1/files", &kind, parts.as_bytes())
}

/// Makes a file, a vector store and a batch for the routes that are about them; their ids by name.
fn kept(server: &Running, path: &str) -> Vec<(&'static str, String)> {
    if !path.starts_with("/v1/files/{") && !path.starts_with("/v1/vector_stores/{") {
        return Vec::new();
    }
    let id = |reply: Reply| reply.json()["id"].as_str().unwrap().to_owned();
    let file = id(upload(server));
    let store = id(server.post("/v1/vector_stores", "{}"));
    let files = format!("{{\"file_ids\": [\"{file}\"]}}");
    let batch = id(server.post(&format!("/v1/vector_stores/{store}/file_batches"), files));
    vec![("file", file), ("store", store), ("batch", batch)]
}

#[test]
fn every_described_route_answers_its_example() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(ServerOptions {
        collections: vec![support::notes(folder.path())],
        storage: Some(folder.path().join("storage")),
        ..options()
    });
    // Until the first model is loaded, `/ready` says no.
    wait_until("ready", || server.get("/ready").status == 200);
    let description = server.get("/openapi.json").json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            prepare(&server, method, path);
            let asked = (path.replace("{model}", "bert"))
                .replace("{collection}", "notes")
                .replace("{field}", "lang")
                .replace("{id}", "1");
            let example = &route["requestBody"]["content"]["application/json"]["example"];
            let mut body = if example.is_null() {
                String::new()
            } else {
                example.to_string()
            };
            let mut asked = asked;
            for (name, id) in kept(&server, path) {
                asked = asked.replace(&format!("{{{name}}}"), &id);
                body = body.replace(
                    &format!("\"{}\"", name.to_uppercase()),
                    &format!("\"{id}\""),
                );
            }
            let reply = if route["requestBody"]["content"]["multipart/form-data"].is_null() {
                server.send(&method.to_uppercase(), &asked, &[], body.as_bytes())
            } else {
                upload(&server)
            };
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
