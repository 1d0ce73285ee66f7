//! Answers that are written at the same time take their steps together: the weights are then read once
//! for all of them.
//!
//! Whoever wants the next step of an answer leaves it here. When all who are writing have done so, one
//! of them takes all steps through the model in one pass. Nobody is waited for long: who is late (a
//! client that reads slowly, say) joins a later pass. What becomes of an answer does not depend on its
//! company.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Decoder;
use super::session::Session;
use crate::Result;
use crate::transformer::cache::KvCache;

/// How long the first waits for the others: longer than it takes to choose a token, shorter than a
/// pass of most models.
const PATIENCE: Duration = Duration::from_millis(2);

/// Tokens of a pass; more of them are taken by shares.
const MOST: usize = 48;

/// Where the steps of answers meet.
#[derive(Debug, Default)]
pub(super) struct Together {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The answers being written, and whether each was late last time.
    writing: HashMap<u64, bool>,
    waiting: Vec<Request>,
    done: Vec<Done>,
    running: bool,
    /// Passes that have ended.
    passes: u64,
    next: u64,
}

/// New tokens of one conversation.
#[derive(Debug)]
pub(super) struct Request {
    ticket: u64,
    answer: Option<u64>,
    pub(super) cache: KvCache,
    pub(super) ids: Vec<u32>,
}

#[derive(Debug)]
struct Done {
    ticket: u64,
    /// `None` if the pass panicked.
    outcome: Option<(KvCache, Result<Vec<f32>>)>,
}

/// An answer being written; its steps are waited for until this is dropped.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    together: &'a Together,
    number: u64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.together.lock().writing.remove(&self.number);
        self.together.changed.notify_all();
    }
}

impl State {
    fn ticket(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// True if everybody is here who is not late.
    fn is_complete(&self) -> bool {
        let on_time = self.writing.values().filter(|late| !**late).count();
        self.waiting.len() >= on_time
    }

    /// The requests of the next pass.
    fn start(&mut self) -> Vec<Request> {
        self.running = true;
        let mut tokens = 0;
        let some = self.waiting.iter().take_while(|request| {
            tokens += request.ids.len();
            tokens <= MOST
        });
        let some = some.count().max(1);
        let requests: Vec<Request> = self.waiting.drain(..some).collect();
        for (number, late) in &mut self.writing {
            let mut here = requests.iter().chain(&self.waiting);
            *late = !here.any(|request| request.answer == Some(*number));
        }
        requests
    }
}

impl Together {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Makes the steps of one more answer waited for.
    pub(super) fn write(&self) -> Writing<'_> {
        let mut state = self.lock();
        let number = state.ticket();
        state.writing.insert(number, false);
        Writing {
            together: self,
            number,
        }
    }

    /// True if answers are being written.
    pub(super) fn is_busy(&self) -> bool {
        !self.lock().writing.is_empty()
    }

    /// Lets a pass that waits go first: a prompt has many parts, and each would hold up all answers.
    pub(super) fn give_way(&self) {
        const MOST: Duration = Duration::from_millis(200);
        let until = Instant::now() + MOST;
        let mut state = self.lock();
        let seen = state.passes;
        while state.passes == seen && (state.running || !state.waiting.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    /// The scores after each of `ids`, which follow what `session` holds.
    pub(super) fn step(
        &self,
        decoder: &Decoder,
        writing: Option<&Writing<'_>>,
        session: &mut Session,
        ids: &[u32],
    ) -> Result<Vec<f32>> {
        let answer = writing.map(|writing| writing.number);
        let mut state = self.lock();
        let ticket = state.ticket();
        if let Some(late) = answer.and_then(|answer| state.writing.get_mut(&answer)) {
            *late = false;
        }
        state.waiting.push(Request {
            ticket,
            answer,
            cache: session.take_cache(),
            ids: ids.to_vec(),
        });
        self.changed.notify_all();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = state.done.iter().position(|done| done.ticket == ticket) {
                let done = state.done.swap_remove(at);
                drop(state);
                let Some((cache, logits)) = done.outcome else {
                    panic!("a pass that this answer shared has panicked");
                };
                session.give_back(cache, if logits.is_ok() { ids } else { &[] });
                return logits;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.running || !state.waiting.iter().any(|one| one.ticket == ticket) {
                state = self.wait(state, Duration::from_secs(1));
            } else if state.is_complete() || left.is_zero() {
                let requests = state.start();
                drop(state);
                self.lead(decoder, requests);
                state = self.lock();
            } else {
                state = self.wait(state, left);
            }
        }
    }

    /// Takes `requests` through the model and hands out what came of them.
    fn lead(&self, decoder: &Decoder, mut requests: Vec<Request>) {
        let mut pass = Pass {
            together: self,
            tickets: requests.iter().map(|request| request.ticket).collect(),
            outcomes: Vec::new(),
        };
        let scores = decoder.answer(&mut requests);
        pass.outcomes = requests
            .into_iter()
            .map(|request| request.cache)
            .zip(scores)
            .collect();
    }
}

/// A pass in work; its end is told even if it panics.
struct Pass<'a> {
    together: &'a Together,
    tickets: Vec<u64>,
    outcomes: Vec<(KvCache, Result<Vec<f32>>)>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.together.lock();
        let mut outcomes = self.outcomes.drain(..);
        for ticket in self.tickets.drain(..) {
            state.done.push(Done {
                ticket,
                outcome: outcomes.next(),
            });
        }
        state.running = false;
        state.passes += 1;
        drop(state);
        self.together.changed.notify_all();
    }
}
