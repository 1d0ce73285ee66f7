//! kill -9 at any moment: what was acknowledged is there, and nothing is there by halves.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use wenyi_store::{CoarseForm, Collection, Filter, GraphOptions, NewDocument, SearchMethod, Space};

use crate::fixtures::{assert_clean, document, options, place};
use crate::random::Random;

const FILE: &str = "WENYI_STORE_KILL_FILE";
const START: &str = "WENYI_STORE_KILL_START";

/// Kills in a run of this test, if not the few dozen that a quick one has.
const KILLS: &str = "WENYI_TEST_KILLS";

/// Kills before a new file is begun, since its making can be killed as well.
const KILLS_A_FILE: u64 = 8;

/// Long enough that the log is folded into the file every few dozen operations, so that kills
/// fall into that too.
const TEXT_BYTES: usize = 20_000;

/// Which documents there are, and which operation wrote each.
type State = BTreeMap<String, u64>;

#[test]
fn what_was_acknowledged_survives_kills() {
    let seed = env::var("WENYI_TEST_SEED").map_or(5, |seed| seed.parse().unwrap());
    println!("WENYI_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut acknowledged, mut kills_in_an_operation) = (0, 0);
    let kills: u64 = env::var(KILLS).map_or(48, |kills| kills.parse().unwrap());
    for _ in 0..kills.div_ceil(KILLS_A_FILE) {
        let (_folder, path) = place();
        let mut next = 0;
        for _ in 0..KILLS_A_FILE {
            let after = random.below(4).pow(3);
            let pause = Duration::from_micros(random.below(8000) as u64);
            let acknowledged_next = next.max(run_and_kill(&path, next, after, pause));
            acknowledged += acknowledged_next - next;
            next = reopened(&path, acknowledged_next);
            kills_in_an_operation += next - acknowledged_next;
        }
    }
    println!("{acknowledged} acknowledged, {kills_in_an_operation} committed without");
    assert!(
        acknowledged > 100,
        "the child hardly ran: {acknowledged} operations"
    );
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
        line.split("acknowledged ")
            .nth(1)
            .map(|number| number.parse::<u64>().unwrap())
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
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself");
    last.map_or(start, |last| last + 1)
}

/// Opens the file as its next user would; it must hold the state before or after the operation
/// that was killed. Returns the number of the first operation that is not in it.
fn reopened(path: &Path, acknowledged_next: u64) -> u64 {
    let collection = Collection::open_or_create(path, &options(4)).unwrap();
    assert_clean(&collection);
    let found = collection.search(&[0.5; 4], 1000, &Filter::default());
    let num_chunks = collection.statistics().unwrap().num_chunks;
    assert_eq!(found.unwrap().len() as u64, num_chunks);
    let documents = collection.documents().unwrap();
    let state: State = documents
        .iter()
        .map(|info| {
            let version = info.document.content_hash.parse().unwrap();
            let expected = new_document(&info.document.path, version);
            assert_eq!(info.document, expected.document);
            assert_eq!(
                collection.document_chunks(info.id).unwrap(),
                expected.chunks
            );
            (info.document.path.clone(), version)
        })
        .collect();
    let next =
        (acknowledged_next..=acknowledged_next + 1).find(|next| state_before(*next) == state);
    next.unwrap_or_else(|| panic!("after {acknowledged_next} operations the file has {state:?}"))
}

/// The other process: not a test of its own.
#[test]
fn child() {
    let Ok(path) = env::var(FILE) else { return };
    let start: u64 = env::var(START).unwrap().parse().unwrap();
    let mut collection = Collection::open_or_create(&path, &options(4)).unwrap();
    for number in start.. {
        // Another model's vectors, which change no document.
        if number % 5 == 4 {
            migrate(&collection, number);
            collection = Collection::open(&path).unwrap();
        }
        let (written, removed) = operation(number);
        let documents: Vec<_> = written
            .iter()
            .map(|path| new_document(path, number))
            .collect();
        // Packed rows and indexes come and go beside: they are derived, but must never lie.
        if number % 3 == 0 {
            collection.pack().unwrap();
        }
        if number % 7 == 6 {
            // So few rows may be too few for an index, or for a good one.
            let _ = collection.set_search_method(method(number));
        }
        if documents.is_empty() {
            collection.remove_documents(&removed).unwrap();
        } else {
            collection.upsert_documents(&documents).unwrap();
        }
        let mut output = std::io::stdout();
        writeln!(output, "acknowledged {number}").unwrap();
        output.flush().unwrap();
    }
}

fn method(number: u64) -> SearchMethod {
    match number % 4 {
        0 => SearchMethod::Exact,
        1 => SearchMethod::Coarse(CoarseForm::Binary),
        2 => SearchMethod::Coarse(CoarseForm::Leading { dimensions: 3 }),
        _ => SearchMethod::Graph(GraphOptions::default()),
    }
}

/// Brings all chunks into a space of this number.
fn migrate(collection: &Collection, number: u64) {
    let fingerprint = serde_json::json!(number);
    if collection.info().space.fingerprint == fingerprint {
        // Killed after the last step.
        return;
    }
    let space = Space {
        fingerprint,
        dimensions: 4,
    };
    collection.begin_migration(&space).unwrap();
    while !collection.finish_migration().unwrap() {
        let pending = collection.pending_chunks(3).unwrap();
        let vectors: Vec<_> = pending
            .iter()
            .map(|hit| (hit.chunk_id, [1.0, number as f32, 0.0, 1.0]))
            .collect();
        collection.write_migrated(&vectors).unwrap();
    }
}

/// The paths that an operation writes, or else those that it removes.
fn operation(number: u64) -> (Vec<String>, Vec<String>) {
    let path = |index: u64| format!("文档/{}.md", (number * 7 + index) % 11);
    match number % 4 {
        0 | 1 => (vec![path(0)], Vec::new()),
        2 => (vec![path(0), path(1), path(2)], Vec::new()),
        _ => (Vec::new(), vec![path(3), path(4)]),
    }
}

fn state_before(next: u64) -> State {
    let mut state = State::new();
    for number in 0..next {
        let (written, removed) = operation(number);
        state.extend(written.into_iter().map(|path| (path, number)));
        for path in removed {
            state.remove(&path);
        }
    }
    state
}

fn new_document(path: &str, version: u64) -> NewDocument {
    let text = format!("{version} of {path} ").repeat(TEXT_BYTES / 20);
    let chunk: (&str, &[f32]) = (&text, &[0.5, 0.5, -0.5, 0.5]);
    let mut new = document(path, &vec![chunk; version as usize % 5]);
    new.document.content_hash = version.to_string();
    new
}
