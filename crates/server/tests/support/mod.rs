//! A server of tiny models in this process, and a client that can also misbehave.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

pub(crate) mod provider;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use wenyi::embed::{EncoderOptions, LocalEmbedder};
use wenyi::progress::Silent;
use wenyi::retrieve::{ChunkOptions, IndexOptions, index, open_collection};
use wenyi_server::{ServedCollection, ServedModel, Server, ServerOptions};

/// A running server; stopped and drained when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The fixture `name` of the engine, served as `name`.
pub(crate) fn fixture(name: &str) -> ServedModel {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures");
    ServedModel {
        name: name.into(),
        source: folder.join(name).to_string_lossy().into_owned(),
    }
}

/// A collection called `notes` of three files in `folder`, made with the fixture `bert`.
pub(crate) fn notes(folder: &std::path::Path) -> ServedCollection {
    let docs = folder.join("docs");
    std::fs::create_dir(&docs).unwrap();
    for (name, text) in [
        (
            "keys.md",
            "# Keys\n\nKeys are rotated with `admin rotate`.\n",
        ),
        ("lunch.md", "Lunch is at noon.\n"),
        ("密钥.md", "密钥由管理员更换。\n"),
    ] {
        std::fs::write(docs.join(name), text).unwrap();
    }
    let options = EncoderOptions {
        threads: Some(1),
        name: Some("bert".into()),
        ..EncoderOptions::default()
    };
    let embedder =
        LocalEmbedder::open(std::path::Path::new(&fixture("bert").source), &options).unwrap();
    let path = folder.join("notes.db");
    let collection = open_collection(&path, &embedder, &ChunkOptions::default()).unwrap();
    index(
        &embedder,
        &collection,
        &[docs],
        &IndexOptions::default(),
        &Silent,
    )
    .unwrap();
    ServedCollection {
        name: "notes".into(),
        path,
    }
}

/// Looks again and again until `is_so`, for at most a minute.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(
            std::time::Instant::now() < end,
            "not within a minute: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Options for a test: any free port, one thread, the kinds of models.
pub(crate) fn options() -> ServerOptions {
    ServerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        models: ["bert", "cross_encoder", "splade"].map(fixture).into(),
        chat_models: vec![ServedModel {
            name: "chat".into(),
            ..fixture("decoders/llama")
        }],
        threads: Some(1),
        offline: true,
        ..ServerOptions::default()
    }
}

/// The body of a chunked answer.
pub(crate) fn unchunked(reply: &Reply) -> String {
    let mut rest = &reply.body[..];
    let mut text = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// The events of a streamed answer.
pub(crate) fn events(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    let text = unchunked(reply);
    let events = text.split_terminator("\n\n");
    events
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

/// As [`options`], with room for the description of tools in conversations.
pub(crate) fn roomy_options() -> ServerOptions {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let from = PathBuf::from(fixture("decoders/llama").source);
        for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["max_position_embeddings"] = 2048.into();
        std::fs::write(&path, config.to_string()).unwrap();
        folder
    });
    ServerOptions {
        chat_models: vec![ServedModel {
            name: "chat".into(),
            source: folder.path().to_string_lossy().into_owned(),
        }],
        ..options()
    }
}

impl Running {
    pub(crate) fn start(options: ServerOptions) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(options).await.unwrap();
                tell.send(server.address().unwrap()).unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A connection with a generous time limit.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send("POST", path, &[], body.as_ref())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(body);
        read_reply(stream)
    }

    /// Asks the server to stop and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    /// Asks the server to stop.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    fn end(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads until the server closes.
pub(crate) fn read_reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset after the answer, because not all of the request was read, takes nothing from it.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}
