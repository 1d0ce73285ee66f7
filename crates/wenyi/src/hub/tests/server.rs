//! A model hub on this machine that misbehaves as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::hub::cache::hex;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    /// How many requests for the same path came before.
    pub(super) before: usize,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer, or what comes instead of one.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Status, headers, body.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// As `Full`, but the line breaks after so many bytes of the body.
    Cut(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// The server keeps silent for that long and hangs up.
    Silence(Duration),
    /// As `Full`, after that long.
    Late(Duration, Vec<u8>),
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self::Full(status, Vec::new(), b"no".to_vec())
    }
}

type Handler = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;

/// Serves the files of one repository until dropped; `handler` may answer first.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(
        files: BTreeMap<String, Vec<u8>>,
        handler: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, end, handler) = (seen.clone(), stop.clone(), Arc::new(handler));
        let files = Arc::new(files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (log, handler, files) = (log.clone(), handler.clone(), files.clone());
                std::thread::spawn(move || serve(stream, &log, &*handler, &files));
            }
        });
        Self { url, seen, stop }
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().expect("unpoisoned").clone()
    }

    /// Requests whose path ends so.
    pub(super) fn requests_for(&self, end: &str) -> Vec<Seen> {
        self.requests()
            .into_iter()
            .filter(|seen| seen.path.ends_with(end))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    handler: &Handler,
    files: &BTreeMap<String, Vec<u8>>,
) {
    let Some(mut seen) = read(&stream) else {
        return;
    };
    {
        let mut log = log.lock().expect("unpoisoned");
        seen.before = log.iter().filter(|other| other.path == seen.path).count();
        log.push(seen.clone());
    }
    let reply = handler(&seen).unwrap_or_else(|| default(&seen, files));
    // A client that hangs up first is part of the game.
    let _ = write(stream, reply);
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_string();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_string());
    }
    Some(Seen {
        path,
        headers,
        before: 0,
    })
}

fn write(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    let (status, headers, body, sent) = match reply {
        Reply::Full(status, headers, body) => (status, headers, body, usize::MAX),
        Reply::Cut(status, headers, body, sent) => (status, headers, body, sent),
        Reply::Silence(time) => {
            std::thread::sleep(time);
            return Ok(());
        }
        Reply::Late(time, body) => {
            std::thread::sleep(time);
            (200, Vec::new(), body, usize::MAX)
        }
    };
    write!(stream, "HTTP/1.1 {status} Status\r\nconnection: close\r\n")?;
    for (name, value) in &headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "content-length: {}\r\n\r\n", body.len())?;
    stream.write_all(&body[..body.len().min(sent)])
}

/// The listing, and files with ranges, as a hub that works.
pub(super) fn default(seen: &Seen, files: &BTreeMap<String, Vec<u8>>) -> Reply {
    if seen.path.starts_with("/api/models/") {
        return Reply::Full(200, Vec::new(), listing(files).into_bytes());
    }
    if seen.path.starts_with("/api/v1/models/") {
        return Reply::Full(200, Vec::new(), modelscope_listing(files).into_bytes());
    }
    let path = seen
        .path
        .split_once("/resolve/")
        .and_then(|(_, rest)| rest.split_once('/'));
    match path.and_then(|(_, path)| files.get(path)) {
        Some(body) => ranged(seen, body),
        None => Reply::status(404),
    }
}

/// The file, or the rest of it if the client asks so and means the same file.
pub(super) fn ranged(seen: &Seen, body: &[u8]) -> Reply {
    let etag = format!("\"{}\"", &sha256(body)[..32]);
    let same = seen.header("if-range").is_none_or(|tag| tag == etag);
    let start = (seen.header("range").filter(|_| same)).and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match start {
        Some(start) if start < body.len() => {
            let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            let headers = vec![("etag", etag), ("content-range", range)];
            Reply::Full(206, headers, body[start..].to_vec())
        }
        Some(_) => Reply::status(416),
        None => Reply::Full(200, vec![("etag", etag)], body.to_vec()),
    }
}

/// As Hugging Face lists: hashes of large files only.
fn listing(files: &BTreeMap<String, Vec<u8>>) -> String {
    let siblings: Vec<_> = files
        .iter()
        .map(|(path, body)| match path.ends_with(".safetensors") {
            true => serde_json::json!({ "rfilename": path, "size": body.len(),
                "lfs": { "sha256": sha256(body), "size": body.len(), "pointerSize": 134 } }),
            false => serde_json::json!({ "rfilename": path, "size": body.len() }),
        })
        .collect();
    serde_json::json!({ "sha": "c0ffee", "siblings": siblings }).to_string()
}

fn modelscope_listing(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut list: Vec<_> = files
        .iter()
        .map(|(path, body)| {
            serde_json::json!({ "Path": path, "Type": "blob", "Size": body.len(),
                "Sha256": sha256(body), "Revision": "abc" })
        })
        .collect();
    list.push(serde_json::json!({ "Path": "1_Pooling", "Type": "tree", "Size": 0, "Sha256": "" }));
    serde_json::json!({ "Code": 200, "Data": { "Files": list }, "Success": true }).to_string()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
