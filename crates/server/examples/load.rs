//! A load on an OpenAI-compatible `/v1/embeddings`: so many clients, so many sentences a request,
//! each client asking again as soon as it is answered. No sentence comes twice, so no cache helps.
//!
//! `load HOST:PORT MODEL CLIENTS SENTENCES SECONDS [long]`; `long` lets one more client send a text of
//! about 8,000 tokens every half second. `load library MODEL PRECISION SECONDS` embeds the same
//! sentences in this process instead. Either prints one JSON object.
//!
//! All clients share one thread, for on one machine their work is taken from the server.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use wenyi::embed::{EmbedOptions, EncoderOptions};
use wenyi::hub::Hub;
use wenyi::progress::Silent;
use wenyi_engine::encoder::Encoder;

/// Sentences that the library gets at once.
const LIBRARY_BATCH: usize = 1024;

static SENTENCES: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments[0] == "library" {
        library(&arguments[1], &arguments[2], arguments[3].parse().unwrap());
        return;
    }
    let number = |index: usize| arguments[index].parse::<usize>().unwrap();
    let load = Load {
        address: arguments[0].clone(),
        model: arguments[1].clone(),
        clients: number(2),
        sentences: number(3),
        seconds: number(4) as u64,
        with_long: arguments.get(5).is_some_and(|word| word == "long"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, load.run());
}

struct Load {
    address: String,
    model: String,
    clients: usize,
    sentences: usize,
    seconds: u64,
    with_long: bool,
}

impl Load {
    async fn run(self) {
        let load = Rc::new(self);
        // The first second warms up and is not counted.
        let counted = Instant::now() + Duration::from_secs(1);
        let end = counted + Duration::from_secs(load.seconds);
        let times: Rc<RefCell<Vec<Duration>>> = Rc::default();
        let long_times: Rc<RefCell<Vec<Duration>>> = Rc::default();
        let mut clients = Vec::new();
        for _ in 0..load.clients {
            let (load, times) = (load.clone(), times.clone());
            clients.push(tokio::task::spawn_local(async move {
                let body = || load.short();
                load.ask(&body, Duration::ZERO, (counted, end), &times)
                    .await;
            }));
        }
        if load.with_long {
            let (load, times) = (load.clone(), long_times.clone());
            clients.push(tokio::task::spawn_local(async move {
                let body = || load.long();
                let pause = Duration::from_millis(500);
                load.ask(&body, pause, (counted, end), &times).await;
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        let times = times.borrow_mut().split_off(0);
        report(times, &long_times.borrow(), load.sentences, load.seconds);
    }

    /// Asks until `end` and notes the times of what was asked from `counted` on.
    async fn ask(
        &self,
        body: &dyn Fn() -> String,
        pause: Duration,
        (counted, end): (Instant, Instant),
        times: &RefCell<Vec<Duration>>,
    ) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = Vec::new();
        while Instant::now() < end {
            let body = body();
            let head = format!(
                "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            let started = Instant::now();
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            read_answer(&mut stream, &mut buffer).await;
            if started >= counted {
                times.borrow_mut().push(started.elapsed());
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn short(&self) -> String {
        let texts: Vec<_> = (0..self.sentences)
            .map(|_| format!("\"{}\"", sentence()))
            .collect();
        self.body(&format!("[{}]", texts.join(",")))
    }

    fn long(&self) -> String {
        let sentence = "every so often someone sends a text that is far too long ";
        let number = SENTENCES.fetch_add(1, Ordering::Relaxed);
        self.body(&format!("\"{number} {}\"", sentence.repeat(8000 / 12)))
    }

    fn body(&self, input: &str) -> String {
        let model = &self.model;
        format!(r#"{{"model":"{model}","input":{input},"encoding_format":"base64"}}"#)
    }
}

/// A sentence of 14 to 20 tokens that has not been before.
fn sentence() -> String {
    let number = SENTENCES.fetch_add(1, Ordering::Relaxed);
    let places = ["park", "kitchen", "station", "old library"];
    let place = places[(number % 4) as usize];
    format!("A man with {number} apples is playing the guitar near the {place}.")
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    let mut whole = usize::MAX;
    while buffer.len() < whole {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "cut off");
        if whole == usize::MAX
            && let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            whole = end + 4 + length.unwrap().trim().parse::<usize>().unwrap();
        }
    }
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

/// The sentences in large batches, without a server.
fn library(model: &str, precision: &str, seconds: f64) {
    let local = Hub::from_env().unwrap().resolve(model, &Silent).unwrap();
    let options = EncoderOptions {
        precision: Some(precision.parse().unwrap()),
        ..EncoderOptions::default()
    };
    let encoder = Encoder::open(&local.path, &options).unwrap();
    let embed = || {
        let texts: Vec<String> = (0..LIBRARY_BATCH).map(|_| sentence()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        encoder.embed(&texts, &EmbedOptions::default()).unwrap();
    };
    embed();
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed().as_secs_f64() < seconds {
        embed();
        count += LIBRARY_BATCH;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{{\"sentences_per_second\": {rate:.0}}}");
}
