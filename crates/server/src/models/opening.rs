//! A provider's embedder, opened once for all who wait for it: the provider may have to be asked for
//! the width of its vectors, and may be silent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use wenyi::providers::{self, RemoteEmbedder};

use super::blocking;
use crate::problem::Problem;

/// What came of it; none while it goes on.
type Told = Option<Result<Arc<RemoteEmbedder>, Problem>>;

/// An embedder that is open, being opened, or neither.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    /// Who waits has a receiver of this.
    Begun(Arc<watch::Sender<Told>>),
    Open(Arc<RemoteEmbedder>),
}

impl Opening {
    /// The embedder, if it is open.
    pub(super) fn get(&self) -> Option<Arc<RemoteEmbedder>> {
        match &*self.state() {
            State::Open(embedder) => Some(embedder.clone()),
            _ => None,
        }
    }

    /// The embedder, opened if it is not. Those who wait at the same time are all told the same,
    /// also of a failure: else each would wait for a failure of its own. Once nobody waits any more,
    /// `open` is given up.
    pub(super) async fn wait(
        &self,
        open: impl FnOnce() -> providers::Result<RemoteEmbedder> + Send + 'static,
    ) -> Result<Arc<RemoteEmbedder>, Problem> {
        let mut told = {
            let mut state = self.state();
            match &*state {
                State::Open(embedder) => return Ok(embedder.clone()),
                State::Begun(sender) => sender.subscribe(),
                State::Closed => {
                    let (sender, receiver) = watch::channel(None);
                    let sender = Arc::new(sender);
                    self.begin(sender.clone(), open)?;
                    *state = State::Begun(sender);
                    receiver
                }
            }
        };
        let told = told.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|told| told.clone());
        told.unwrap_or(Err(Problem::Stopping))
    }

    fn begin(
        &self,
        sender: Arc<watch::Sender<Told>>,
        open: impl FnOnce() -> providers::Result<RemoteEmbedder> + Send + 'static,
    ) -> Result<(), Problem> {
        let (opening, watched) = (self.clone(), sender.clone());
        let is_abandoned = move || opening.is_abandoned(&watched);
        let opening = self.clone();
        blocking::start(is_abandoned, move || {
            let told = match catch_unwind(AssertUnwindSafe(open)) {
                Ok(opened) => opened.map_err(|error| Problem::of_provider(&error)),
                // Who waits is told even so.
                Err(_) => Err(Problem::Internal {
                    reason: "opening an embedder panicked".into(),
                }),
            };
            opening.end(&sender, told.map(Arc::new));
        })
    }

    /// True if nobody waits; from then on nobody can come to wait for this attempt.
    fn is_abandoned(&self, sender: &Arc<watch::Sender<Told>>) -> bool {
        let mut state = self.state();
        let is_abandoned = sender.is_closed();
        if is_abandoned && state.is_of(sender) {
            *state = State::Closed;
        }
        is_abandoned
    }

    fn end(&self, sender: &Arc<watch::Sender<Told>>, told: Result<Arc<RemoteEmbedder>, Problem>) {
        let mut state = self.state();
        if state.is_of(sender) {
            *state = match &told {
                Ok(embedder) => State::Open(embedder.clone()),
                Err(_) => State::Closed,
            };
        }
        drop(state);
        sender.send_replace(Some(told));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// True while the attempt that tells through `sender` goes on.
    fn is_of(&self, sender: &Arc<watch::Sender<Told>>) -> bool {
        matches!(self, Self::Begun(begun) if Arc::ptr_eq(begun, sender))
    }
}
