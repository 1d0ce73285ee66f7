//! An imitation of a provider: it answers as it is told, in pieces if need be, and notes what came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// What answers a request, on the connection itself.
type Handler = dyn Fn(&Seen, &mut TcpStream) + Send + Sync;

/// Runs until the test's process ends; its threads hold nothing that outlives a test.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Provider {
    pub(crate) fn start(handler: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let notes = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, notes) = (handler.clone(), notes.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream, &*handler, &notes));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, notes: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let seen = Seen {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        head,
    };
    notes.lock().unwrap().push(seen.clone());
    handler(&seen, &mut stream);
}

/// A whole answer.
pub(crate) fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    // Whoever asked may have gone.
    let _ = stream.write_all((head + body).as_bytes());
}

pub(crate) fn reply_json(stream: &mut TcpStream, status: u16, body: &Value) {
    reply(
        stream,
        status,
        "content-type: application/json\r\n",
        &body.to_string(),
    );
}

/// The head of an answer that ends with the connection.
pub(crate) fn begin_stream(stream: &mut TcpStream) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
}
