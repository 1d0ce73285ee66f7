use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Reply, Server};
use super::{endpoint, endpoint_with};
use crate::chat::{ChatErrorKind, ChatModel, ChatRequest, Message};
use crate::embed::{EmbedError, EmbedOptions, Embedder};
use crate::providers::{ErrorKind, RemoteChat, RemoteEmbedder, cancellable};

/// Far below the patience of these tests, and far above what a loaded machine needs.
const SOON: Duration = Duration::from_secs(30);

fn assert_cancelled(error: EmbedError) {
    match error {
        EmbedError::Remote(error) if matches!(error.kind(), ErrorKind::Cancelled) => {
            assert!(!error.is_transient());
        }
        other => panic!("{other}"),
    }
}

/// A server that takes connections and says nothing; the number of those that have come and of
/// those that were closed again.
fn silent() -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (come, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (come.clone(), gone.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counts.0.fetch_add(1, Ordering::SeqCst);
            let gone = counts.1.clone();
            std::thread::spawn(move || {
                while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
                gone.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (url, come, gone)
}

#[test]
fn a_silent_provider_is_left_on_every_thread() {
    let (url, come, gone) = silent();
    let endpoint = endpoint("dashscope", &url).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "text-embedding-v4").unwrap();
    let texts: Vec<String> = (0..160).map(|index| index.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let started = Instant::now();
    let seen = come.clone();
    let result = cancellable(
        move || seen.load(Ordering::SeqCst) >= 4,
        || embedder.embed(&texts, &EmbedOptions::default()),
    );
    assert_cancelled(result.unwrap_err());
    assert!(started.elapsed() < SOON);
    assert_eq!(come.load(Ordering::SeqCst), 4, "four at once, none again");
    while gone.load(Ordering::SeqCst) < 4 {
        assert!(started.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_pause_before_the_next_attempt_is_not_waited_for() {
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let flag = is_cancelled.clone();
    let server = Server::start(move |_| {
        flag.store(true, Ordering::SeqCst);
        Reply::json(503, &json!({"code": "x"})).with("retry-after", "50")
    });
    let toml = "[providers.dashscope]\nmax_retries = 3";
    let endpoint = endpoint_with("dashscope", &server.url, toml).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "text-embedding-v4").unwrap();
    let started = Instant::now();
    let result = cancellable(
        move || is_cancelled.load(Ordering::SeqCst),
        || embedder.embed(&["a"], &EmbedOptions::default()),
    );
    assert!(result.is_err());
    assert!(started.elapsed() < SOON);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_stream_that_nobody_reads_any_more_ends() {
    let (url, come, _) = silent();
    let chat = RemoteChat::open(endpoint("openai", &url).unwrap(), "gpt-4o").unwrap();
    let request = ChatRequest {
        messages: vec![Message::user("x")],
        ..ChatRequest::default()
    };
    let started = Instant::now();
    let result = cancellable(
        move || come.load(Ordering::SeqCst) > 0,
        || chat.stream(&request).map(drop),
    );
    let error = result.unwrap_err();
    let ChatErrorKind::Provider(error) = error.kind() else {
        panic!("{error}");
    };
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    assert!(started.elapsed() < SOON);
}

#[test]
fn patience_is_the_same_for_work_that_can_be_cancelled() {
    let (url, come, _) = silent();
    let toml = "[providers.dashscope]\nmax_retries = 0\ntimeout = 0.3";
    let endpoint = endpoint_with("dashscope", &url, toml).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "text-embedding-v4").unwrap();
    let started = Instant::now();
    let result = cancellable(
        || false,
        || embedder.embed(&["a"], &EmbedOptions::default()),
    );
    let EmbedError::Remote(error) = result.unwrap_err() else {
        panic!("another error");
    };
    assert!(matches!(error.kind(), ErrorKind::Timeout { .. }), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(come.load(Ordering::SeqCst), 1);
}
