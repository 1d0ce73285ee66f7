//! kill -9 at any moment: a file of points holds what was acknowledged, and nothing by halves.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use wenyi_store::vector_store::{
    Point, Scroll, SearchRequest, Selection, SqliteDatabase, SqliteStore, StoreOptions, VectorStore,
};

const FILE: &str = "WENYI_POINTS_KILL_FILE";
const START: &str = "WENYI_POINTS_KILL_START";

/// Which points there are, and which operation wrote each.
type State = BTreeMap<u64, u64>;

#[test]
fn acknowledged_points_survive_kills() {
    let mut acknowledged = 0;
    // A few dozen in a quick run.
    let kills: u64 = env::var("WENYI_TEST_KILLS").map_or(24, |kills| kills.parse().unwrap());
    for round in 0..kills.div_ceil(6) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.db");
        let mut next = 0;
        for kill in 0..6u64 {
            let after = [0, 1, 8, 27][((round + kill) % 4) as usize];
            let pause = Duration::from_micros((round * 6 + kill) * 331 % 7000);
            let acknowledged_next = next.max(run_and_kill(&path, next, after, pause));
            acknowledged += acknowledged_next - next;
            next = reopened(&path, acknowledged_next);
        }
    }
    assert!(acknowledged > 100, "the child hardly ran: {acknowledged}");
}

/// Runs the child from operation `start`, kills it a while after `after` acknowledgements, and
/// returns the number of the first operation that was not acknowledged.
fn run_and_kill(path: &Path, start: u64, after: usize, pause: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(FILE, path)
        .env(START, start.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledgements = lines.map_while(Result::ok).filter_map(|line| {
        let number = line.split("acknowledged ").nth(1)?;
        Some(number.parse::<u64>().unwrap())
    });
    let mut last = None;
    for _ in 0..after {
        last = acknowledgements.next();
        assert!(last.is_some(), "the child ended by itself");
    }
    thread::sleep(pause);
    // On Unix this is SIGKILL.
    child.kill().unwrap();
    last = acknowledgements.last().or(last);
    assert!(
        !child.wait().unwrap().success(),
        "the child ended by itself"
    );
    last.map_or(start, |last| last + 1)
}

fn open(path: &Path) -> (SqliteDatabase, Arc<SqliteStore>) {
    let database = SqliteDatabase::open(path).unwrap();
    let options = StoreOptions {
        dimensions: Some(2),
        ..StoreOptions::default()
    };
    let store = database.collection_or_create("notes", &options).unwrap();
    (database, store)
}

/// The number of the first operation that the file does not hold, which must be the one that was
/// killed or the one behind it.
fn reopened(path: &Path, acknowledged_next: u64) -> u64 {
    let (database, store) = open(path);
    assert_eq!(database.check().unwrap().problems, Vec::<String>::new());
    let everything = Scroll {
        limit: 1000,
        ..Scroll::default()
    };
    let points = store.scroll(&everything).unwrap().points;
    let state: State = points
        .iter()
        .map(|point| {
            let number = point.payload["number"].as_u64().unwrap();
            (point.id.to_string().parse().unwrap(), number)
        })
        .collect();
    let all = SearchRequest {
        top_k: 1000,
        ..SearchRequest::default()
    };
    assert_eq!(store.search(&[1.0, 1.0], &all).unwrap().len(), state.len());
    let next =
        (acknowledged_next..=acknowledged_next + 1).find(|next| state_before(*next) == state);
    next.unwrap_or_else(|| panic!("after {acknowledged_next} operations the file has {state:?}"))
}

/// The other process: not a test of its own.
#[test]
fn child() {
    let Ok(path) = env::var(FILE) else { return };
    let start: u64 = env::var(START).unwrap().parse().unwrap();
    let (_database, store) = open(Path::new(&path));
    for number in start.. {
        if number % 3 == 0 {
            store.pack().unwrap();
        }
        let (written, removed) = operation(number);
        if written.is_empty() {
            let ids = removed.into_iter().map(Into::into).collect();
            store.delete(&Selection::Ids(ids)).unwrap();
        } else {
            let point = |id: u64| Point {
                payload: json!({"number": number}).as_object().unwrap().clone(),
                text: "text ".repeat(2000),
                ..Point::new(id, [1.0, (id + number) as f32])
            };
            let points: Vec<Point> = written.into_iter().map(point).collect();
            store.upsert(&points).unwrap();
        }
        let mut output = std::io::stdout();
        writeln!(output, "acknowledged {number}").unwrap();
        output.flush().unwrap();
    }
}

/// The ids that an operation writes, or else those that it removes.
fn operation(number: u64) -> (Vec<u64>, Vec<u64>) {
    let id = |index: u64| (number * 7 + index) % 60;
    match number % 4 {
        0 | 1 => ((0..20).map(id).collect(), Vec::new()),
        2 => (vec![id(0)], Vec::new()),
        _ => (Vec::new(), (5..15).map(id).collect()),
    }
}

fn state_before(next: u64) -> State {
    let mut state = State::new();
    for number in 0..next {
        let (written, removed) = operation(number);
        state.extend(written.into_iter().map(|id| (id, number)));
        for id in removed {
            state.remove(&id);
        }
    }
    state
}
