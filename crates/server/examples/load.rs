//! A load on an OpenAI-compatible `/v1/embeddings`: so many clients, so many sentences a request,
//! each client asking again as soon as it is answered. No sentence comes twice, so no cache helps.
//!
//! `load HOST:PORT MODEL CLIENTS SENTENCES SECONDS [long]`; `long` lets one more client send a text of
//! about 8,000 tokens every half second. Prints one JSON object.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static SENTENCES: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, model) = (&arguments[0], &arguments[1]);
    let number = |index: usize| arguments[index].parse::<usize>().unwrap();
    let (clients, sentences, seconds) = (number(2), number(3), number(4) as u64);
    let with_long = arguments.get(5).is_some_and(|word| word == "long");
    // The first second warms up and is not counted.
    let counted = Instant::now() + Duration::from_secs(1);
    let end = counted + Duration::from_secs(seconds);
    let (times, long_times) = std::thread::scope(|scope| {
        let long = with_long.then(|| scope.spawn(|| long_client(address, model, end)));
        let client = || {
            run(
                address,
                &|| body(model, sentences),
                Duration::ZERO,
                (counted, end),
            )
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let times: Vec<_> = clients
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (
            times,
            long.map(|thread| thread.join().unwrap())
                .unwrap_or_default(),
        )
    });
    report(times, &long_times, sentences, seconds);
}

fn report(mut times: Vec<Duration>, long: &[Duration], sentences: usize, seconds: u64) {
    times.sort_unstable();
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let at = |share: usize| milliseconds(times.get(times.len() * share / 1000));
    println!(
        "{{\"requests\": {}, \"sentences_per_second\": {:.0}, \"p50_ms\": {:.2}, \"p99_ms\": {:.2}, \
         \"max_ms\": {:.2}, \"long_requests\": {}, \"long_mean_ms\": {:.0}}}",
        times.len(),
        (times.len() * sentences) as f64 / seconds as f64,
        at(500),
        at(990),
        milliseconds(times.last()),
        long.len(),
        long.iter().sum::<Duration>().as_secs_f64() * 1e3 / long.len().max(1) as f64,
    );
}

fn long_client(address: &str, model: &str, end: Instant) -> Vec<Duration> {
    let body = || {
        let sentence = "every so often someone sends a text that is far too long ";
        let text = sentence.repeat(8000 / 12);
        let number = SENTENCES.fetch_add(1, Ordering::Relaxed);
        format!(r#"{{"model":"{model}","input":"{number} {text}","encoding_format":"base64"}}"#)
    };
    run(
        address,
        &body,
        Duration::from_millis(500),
        (Instant::now(), end),
    )
}

/// Sentences of 14 to 20 tokens.
fn body(model: &str, sentences: usize) -> String {
    let texts = (0..sentences).map(|_| {
        let number = SENTENCES.fetch_add(1, Ordering::Relaxed);
        let places = ["park", "kitchen", "station", "old library"];
        let place = places[(number % 4) as usize];
        format!("\"A man with {number} apples is playing the guitar near the {place}.\"")
    });
    let texts = texts.collect::<Vec<_>>().join(",");
    format!(r#"{{"model":"{model}","input":[{texts}],"encoding_format":"base64"}}"#)
}

/// Asks until `end` and returns the times of the answers after the first `Instant`.
fn run(
    address: &str,
    body: &dyn Fn() -> String,
    pause: Duration,
    (counted, end): (Instant, Instant),
) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(1 << 16, stream.try_clone().unwrap());
    let mut times = Vec::new();
    while Instant::now() < end {
        let body = body();
        let head = format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let started = Instant::now();
        stream.write_all((head + &body).as_bytes()).unwrap();
        read_answer(&mut reader);
        if started >= counted {
            times.push(started.elapsed());
        }
        std::thread::sleep(pause);
    }
    times
}

fn read_answer(reader: &mut impl BufRead) {
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(" 200 "), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
}
