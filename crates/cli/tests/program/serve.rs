//! `wenyi serve --store`: kill -9 at any moment; what was acknowledged over Qdrant's REST is there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture;

/// Clients that write at once, each to ids of its own.
const CLIENTS: u64 = 3;

/// For each id what was written last: the number of the write, or none after a removal.
type State = BTreeMap<u64, Option<u64>>;

#[test]
fn a_list_of_no_keys_does_not_open_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = crate::wenyi();
        command.args(["serve", "--port", "0"]).args(arguments);
        command.envs(variables.iter().copied()).current_dir(&folder);
        let output = command.timeout(Duration::from_secs(60)).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = refused(&[("WENYI_API_KEYS", " , ")], &[]);
    assert!(text.contains("`WENYI_API_KEYS` holds no keys"), "{text}");
    let text = refused(&[], &["--model", "openai:"]);
    assert!(text.contains("`openai:MODEL`"), "{text}");
    // A `.env` file says as much as the environment.
    std::fs::write(folder.path().join(".env"), "WENYI_API_KEYS=\",\"\n").unwrap();
    let text = refused(&[], &[]);
    assert!(text.contains("`WENYI_API_KEYS` holds no keys"), "{text}");
}

#[test]
fn acknowledged_writes_survive_kills() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::new();
    let mut acknowledged = 0;
    for kill in 0..24u64 {
        let mut server = Server::start(folder.path());
        check(&server, &state);
        let stop_after = [1, 3, 10, 30][kill as usize % 4];
        let (new, in_work) = write_until_killed(&mut server, stop_after, kill);
        acknowledged += new.len();
        // What was asked and not answered may be there or not; only what is on disk tells.
        state.extend(new);
        let server = Server::start(folder.path());
        let found = read(&server);
        for (id, number) in in_work {
            let was = state.get(&id).copied().flatten();
            let is = found.get(&id).copied();
            assert!(
                is == was || is == number,
                "{id}: {is:?}, expected {was:?} or {number:?}"
            );
            state.insert(id, is);
        }
        check(&server, &state);
    }
    assert!(
        acknowledged > 100,
        "hardly anything was written: {acknowledged}"
    );
    let check = crate::wenyi()
        .args(["store", "check"])
        .arg(folder.path().join("points.db"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

/// What was acknowledged, and what was in work when the server died.
fn write_until_killed(
    server: &mut Server,
    stop_after: u64,
    kill: u64,
) -> (State, Vec<(u64, Option<u64>)>) {
    let count = Arc::new(AtomicU64::new(0));
    let in_work = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (count, in_work) = (Arc::clone(&count), Arc::clone(&in_work));
            let address = server.address.clone();
            thread::spawn(move || {
                let mut done = State::new();
                for step in 0.. {
                    let id = client * 1000 + (step * 7) % 20;
                    let number = kill * 1_000_000 + client * 10_000 + step;
                    let (path, method, body, now) = operation(id, number, step);
                    match send(&address, method, path, &body) {
                        Some((200, _)) => {
                            done.insert(id, now);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Some((status, body)) => panic!("{status}: {body}"),
                        None => {
                            in_work.lock().unwrap().push((id, now));
                            return done;
                        }
                    }
                }
                done
            })
        })
        .collect();
    while count.load(Ordering::Relaxed) < stop_after {
        thread::sleep(Duration::from_micros(200));
    }
    thread::sleep(Duration::from_micros(kill * 331 % 5000));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let mut state = State::new();
    for client in clients {
        state.extend(client.join().unwrap());
    }
    let in_work = in_work.lock().unwrap().clone();
    (state, in_work)
}

/// A write of the point `id`: path, method, body, and the number that it has afterwards.
fn operation(id: u64, number: u64, step: u64) -> (&'static str, &'static str, Value, Option<u64>) {
    let payload = json!({"number": number, "text": "春眠不觉晓 ".repeat(200)});
    let vector = [1.0, id as f32 + 0.5];
    let point = json!({"id": id, "vector": vector, "payload": payload});
    match step % 5 {
        3 => (
            "/collections/notes/points/delete?wait=true",
            "POST",
            json!({"points": [id]}),
            None,
        ),
        4 => {
            let set = json!({"set_payload": {"payload": payload, "points": [id]}});
            let operations = json!({"operations": [{"upsert": {"points": [point]}}, set]});
            (
                "/collections/notes/points/batch",
                "POST",
                operations,
                Some(number),
            )
        }
        _ => (
            "/collections/notes/points?wait=true",
            "PUT",
            json!({"points": [point]}),
            Some(number),
        ),
    }
}

/// The numbers of all points; a search finds all of them too.
fn read(server: &Server) -> BTreeMap<u64, u64> {
    let body = json!({"limit": 10_000, "with_payload": ["number"]});
    let page = server.ask("POST", "/collections/notes/points/scroll", &body);
    let points = page["points"].as_array().unwrap();
    let query = json!({"query": [1.0, 1.0], "limit": 10_000});
    let found = server.ask("POST", "/collections/notes/points/query", &query);
    assert_eq!(found["points"].as_array().unwrap().len(), points.len());
    let number = |point: &Value| {
        let number = point["payload"]["number"].as_u64().unwrap();
        (point["id"].as_u64().unwrap(), number)
    };
    points.iter().map(number).collect()
}

fn check(server: &Server, state: &State) {
    let expected = state
        .iter()
        .filter_map(|(id, number)| Some((*id, (*number)?)));
    assert_eq!(read(server), expected.collect());
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("wenyi"))
            .env_clear()
            .env("WENYI_CACHE", "/nonexistent/wenyi-cache")
            .args(["serve", "--port", "0", "--offline", "--log-level", "error"])
            .arg("--model")
            .arg(fixture("bert"))
            .arg("--store")
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().to_owned();
        let server = Self { child, address };
        let config = json!({"vectors": {"size": 2, "distance": "Cosine"}});
        let made = send(&server.address, "PUT", "/collections/notes", &config);
        let (status, body) = made.unwrap();
        assert!(status == 200 || status == 409, "{body}");
        server
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, mut answer) = send(&self.address, method, path, body).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["result"].take()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of an answer; none if the server died before it had given a whole one.
fn send(address: &str, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}
