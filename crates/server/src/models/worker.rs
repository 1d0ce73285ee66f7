//! One thread that runs one model, on batches made of whatever waits.
//!
//! Nothing waits for a batch to fill: a batch is what has arrived while the one before it ran, up to
//! about [`ServerOptions::batch_time`] of work, so that a newcomer never waits long.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wenyi_engine::encoder::{Encoder, Output, Planned, Window};

use super::queue::{Queue, Waiting};
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::problem::Problem;

/// Bounds of a batch in tokens, whatever the model's speed.
const BATCH_TOKENS: (usize, usize) = (256, 16_384);

/// What the model says of one window.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    Vector(Vec<f32>),
    Logit(f32),
    Weights(Vec<(u32, f32)>),
}

/// All readings of a request, or why there are none.
type Answer = Result<Vec<Reading>, String>;

/// A text's readings: tokens and reading of each of its windows.
pub(super) type Readings = Vec<(usize, Reading)>;

/// A model in memory and its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    encoder: Arc<Encoder>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<State>,
    arrived: Condvar,
    batch_time: Duration,
    /// Tokens a second over the last batches.
    rate: AtomicUsize,
}

#[derive(Debug)]
struct State {
    queue: Queue<Item>,
    is_closing: bool,
    /// The thread sleeps; waking one that does not would cost as much.
    is_asleep: bool,
}

/// A window that waits, and who wants its reading.
#[derive(Debug)]
struct Item {
    window: Window,
    ticket: Ticket,
}

/// A window's place in its request.
#[derive(Debug)]
struct Ticket {
    place: usize,
    since: Instant,
    request: Arc<Gathering>,
}

/// A request whose windows run, perhaps in several batches; it is answered once.
#[derive(Debug)]
struct Gathering(Mutex<Gathered>);

#[derive(Debug)]
struct Gathered {
    readings: Vec<Option<Reading>>,
    missing: usize,
    /// Taken when the request is answered.
    reply: Option<oneshot::Sender<Answer>>,
}

impl Gathering {
    fn new(windows: usize) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, receiver) = oneshot::channel();
        let gathered = Gathered {
            readings: vec![None; windows],
            missing: windows,
            reply: Some(reply),
        };
        (Self(Mutex::new(gathered)), receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Hands in the window's reading. The last one answers the request, and so does a failure.
    fn hand_in(self, reading: Result<Reading, String>) {
        let mut request = self.request.lock();
        let answer = match reading {
            Ok(reading) => {
                request.readings[self.place] = Some(reading);
                request.missing -= 1;
                if request.missing > 0 {
                    return;
                }
                Ok(request.readings.drain(..).flatten().collect())
            }
            Err(reason) => Err(reason),
        };
        if let Some(reply) = request.reply.take() {
            // Nobody is left to tell if the client went away.
            let _ = reply.send(answer);
        }
    }
}

impl Waiting for Item {
    fn tokens(&self) -> usize {
        self.window.tokens()
    }
    fn is_abandoned(&self) -> bool {
        let request = self.ticket.request.lock();
        request
            .reply
            .as_ref()
            .is_none_or(oneshot::Sender::is_closed)
    }
}

impl Worker {
    /// Starts the thread of `encoder`, which the metrics call `model`.
    pub(super) fn start(
        encoder: Encoder,
        model: &str,
        options: &ServerOptions,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let encoder = Arc::new(encoder);
        let shared = Arc::new(Shared {
            queue: Mutex::new(State {
                queue: Queue::new(options.max_queued_tokens),
                is_closing: false,
                is_asleep: false,
            }),
            arrived: Condvar::new(),
            batch_time: options.batch_time,
            rate: AtomicUsize::new(0),
        });
        let thread = {
            let (encoder, shared, model) = (encoder.clone(), shared.clone(), model.to_owned());
            thread::Builder::new()
                .name("wenyi-model".into())
                .spawn(move || run(&encoder, &shared, &model, &metrics))?
        };
        Ok(Self {
            encoder,
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Tokens that wait.
    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().queue.tokens()
    }

    /// Reads planned texts; the readings come in their order. Dropping the future abandons what
    /// has not run yet.
    pub(super) async fn read(
        &self,
        client: u64,
        texts: Vec<Planned>,
    ) -> Result<Vec<Readings>, Problem> {
        let counts: Vec<_> = texts.iter().map(|text| text.windows.len()).collect();
        let windows: Vec<Window> = texts.into_iter().flat_map(|text| text.windows).collect();
        let tokens: Vec<_> = windows.iter().map(Window::tokens).collect();
        if windows.is_empty() {
            return Ok(vec![Readings::new(); counts.len()]);
        }
        let answer = self.submit(client, windows)?.await;
        // Without an answer the worker has closed.
        let readings = answer.map_err(|_| Problem::Stopping)?;
        let readings = readings.map_err(|reason| Problem::Internal { reason })?;
        let mut readings = tokens.into_iter().zip(readings);
        Ok(counts
            .into_iter()
            .map(|count| readings.by_ref().take(count).collect())
            .collect())
    }

    fn submit(
        &self,
        client: u64,
        windows: Vec<Window>,
    ) -> Result<oneshot::Receiver<Answer>, Problem> {
        let (request, receiver) = Gathering::new(windows.len());
        let (request, since) = (Arc::new(request), Instant::now());
        let items: VecDeque<_> = (windows.into_iter().enumerate())
            .map(|(place, window)| {
                let request = request.clone();
                let ticket = Ticket {
                    place,
                    since,
                    request,
                };
                Item { window, ticket }
            })
            .collect();
        let mut state = self.shared.lock();
        if state.is_closing {
            return Err(Problem::Stopping);
        }
        state
            .queue
            .push(client, items)
            .map_err(|full| Problem::Busy {
                retry_after: self.shared.time_for(full.tokens),
            })?;
        let is_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            self.shared.arrived.notify_one();
        }
        Ok(receiver)
    }
}

impl Drop for Worker {
    /// Waits for the batch that runs; what still waits is dropped.
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been answered already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work; `None` when the worker closes.
    fn next_batch(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        loop {
            if state.is_closing {
                return None;
            }
            let batch = state.queue.take(self.budget());
            if !batch.is_empty() {
                return Some(batch);
            }
            state.is_asleep = true;
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tokens that the model reads in the time of a batch.
    fn budget(&self) -> usize {
        let rate = self.rate.load(Ordering::Relaxed) as u128;
        let tokens = rate * self.batch_time.as_micros() / 1_000_000;
        let (least, most) = BATCH_TOKENS;
        usize::try_from(tokens).unwrap_or(most).clamp(least, most)
    }

    /// About how long `tokens` take.
    fn time_for(&self, tokens: usize) -> Duration {
        let rate = self.rate.load(Ordering::Relaxed).max(1);
        Duration::from_secs((tokens / rate) as u64).clamp(Duration::from_secs(1), MAX_RETRY)
    }

    fn note_rate(&self, tokens: usize, took: Duration) {
        let micros = took.as_micros().max(1);
        let now = usize::try_from(tokens as u128 * 1_000_000 / micros).unwrap_or(usize::MAX);
        let before = self.rate.load(Ordering::Relaxed);
        let rate = if before == 0 {
            now
        } else {
            before - before / 8 + now / 8
        };
        self.rate.store(rate, Ordering::Relaxed);
    }
}

/// Clients ignore longer times.
const MAX_RETRY: Duration = Duration::from_secs(60);

fn run(encoder: &Encoder, shared: &Shared, model: &str, metrics: &Metrics) {
    while let Some(batch) = shared.next_batch() {
        let started = Instant::now();
        let (windows, tickets): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|item| (item.window, item.ticket))
            .unzip();
        let tokens = windows.iter().map(Window::tokens).sum();
        let result = catch_unwind(AssertUnwindSafe(|| read(encoder, &windows)));
        let took = started.elapsed();
        shared.note_rate(tokens, took);
        metrics.batch(model, windows.len(), tokens, took);
        let waits = tickets.iter().map(|ticket| ticket.since);
        metrics.waited(
            model,
            waits.map(|since| started.saturating_duration_since(since)),
        );
        let readings = match result {
            Ok(Ok(readings)) => readings.into_iter().map(Ok).collect(),
            Ok(Err(error)) => vec![Err(error.to_string()); windows.len()],
            Err(_) => vec![Err("the model's computation failed".to_owned()); windows.len()],
        };
        for (ticket, reading) in tickets.into_iter().zip(readings) {
            ticket.hand_in(reading);
        }
    }
}

fn read(encoder: &Encoder, windows: &[Window]) -> wenyi_engine::Result<Vec<Reading>> {
    Ok(match encoder.description().output {
        Output::Embedding => {
            let vectors = encoder.embed_windows(windows)?;
            vectors.into_iter().map(Reading::Vector).collect()
        }
        Output::Relevance => {
            let logits = encoder.rerank_windows(windows)?;
            logits.into_iter().map(Reading::Logit).collect()
        }
        Output::Sparse => {
            let weights = encoder.sparse_windows(windows)?;
            weights.into_iter().map(Reading::Weights).collect()
        }
    })
}
