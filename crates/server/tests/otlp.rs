//! A collector hears of every request, and no request hears of the collector.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use support::provider::{Provider, reply_json};
use support::{Running, options};
use wenyi_server::{OtlpOptions, ServerOptions};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traced(provider: &Provider) -> ServerOptions {
    ServerOptions {
        otlp: Some(OtlpOptions {
            url: format!("http://{}/v1/traces", provider.address),
            headers: vec![("api-key".into(), "of-the-collector".into())],
            service_name: "文意".into(),
        }),
        ..options()
    }
}

/// The value of the attribute `key`.
fn attribute<'a>(holder: &'a Value, key: &str) -> &'a Value {
    let attributes = holder["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    let value = &found.unwrap_or_else(|| panic!("no {key} in {holder}"))["value"];
    value.get("stringValue").unwrap_or(&value["intValue"])
}

#[test]
fn every_request_is_a_span() {
    let collector = Provider::start(|_, stream| reply_json(stream, 200, &json!({})));
    let server = Running::start(traced(&collector));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let body = json!({"model": "bert", "input": "文"}).to_string();
    let headers = [("traceparent", &*parent)];
    assert_eq!(
        server
            .send("POST", "/v1/embeddings", &headers, body.as_bytes())
            .status,
        200
    );
    let unsampled = format!("00-{TRACE}-00f067aa0ba902b7-00");
    server.send("GET", "/v1/models", &[("traceparent", &*unsampled)], b"");
    assert_eq!(server.get("/v1/nothing").status, 404);
    // The end of the server sends what is left.
    server.stop();
    let seen = collector.seen();
    let head = seen[0].head.to_lowercase();
    assert_eq!(seen[0].path, "/v1/traces");
    assert!(head.contains("api-key: of-the-collector"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let mut spans = Vec::new();
    for message in &seen {
        let resource = &message.body["resourceSpans"][0];
        assert_eq!(attribute(&resource["resource"], "service.name"), "文意");
        spans.extend(
            resource["scopeSpans"][0]["spans"]
                .as_array()
                .unwrap()
                .clone(),
        );
    }
    assert_eq!(spans.len(), 2, "{spans:?}");
    let [embedded, missing] = &spans[..] else {
        unreachable!()
    };
    assert_eq!(embedded["traceId"], TRACE);
    assert_eq!(embedded["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(embedded["name"], "POST /v1/embeddings");
    assert_eq!(attribute(embedded, "gen_ai.response.model"), "bert");
    assert_eq!(attribute(embedded, "http.response.status_code"), "200");
    let time = |name: &str| embedded[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("startTimeUnixNano") < time("endTimeUnixNano"));
    assert_eq!(attribute(missing, "error.type"), "no_route");
    assert_ne!(missing["traceId"], TRACE);
    assert_ne!(missing["spanId"], embedded["spanId"]);
}

#[test]
fn a_collector_that_does_not_answer_delays_nobody() {
    // Holds every connection until the test is over.
    let is_over = Arc::new((Mutex::new(false), Condvar::new()));
    let held = is_over.clone();
    let collector = Provider::start(move |_, stream| {
        let guard = held.0.lock().unwrap();
        drop(held.1.wait_while(guard, |is_over| !*is_over).unwrap());
        reply_json(stream, 500, &json!({}));
    });
    let server = Running::start(traced(&collector));
    for _ in 0..200 {
        assert_eq!(server.get("/v1/models").status, 200);
    }
    *is_over.0.lock().unwrap() = true;
    is_over.1.notify_all();
    server.stop();
    assert!(!collector.seen().is_empty());
}
