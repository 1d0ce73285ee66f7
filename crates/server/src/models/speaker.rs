//! A model to talk with: each answer on a thread of its own, since models block, and in pieces.

use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wenyi::chat::{ChatDelta, ChatModel, ChatRequest, FinishReason, LocalChatModel, Timing, Usage};
use wenyi::providers::cancellable;
use wenyi_engine::decoder::{Decoder, Finish, GenerateOptions};

use crate::problem::Problem;

/// Pieces that wait for a slow client before the model does.
const PIECES: usize = 64;

/// The next piece of one of several answers, or the end of all of them.
pub(crate) type Spoken = (usize, Result<ChatDelta, Problem>);

/// A model to talk with, here or far away.
#[derive(Clone)]
pub(crate) struct Speaker {
    model: Arc<dyn ChatModel>,
    /// The same model, if it is on this machine.
    local: Option<LocalChatModel>,
    /// Answers that may be in work, waiting ones included.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker")
            .field("model", &self.model.name())
            .finish_non_exhaustive()
    }
}

/// A text to go on with.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) options: GenerateOptions,
}

impl Speaker {
    pub(super) fn new(
        model: Arc<dyn ChatModel>,
        local: Option<LocalChatModel>,
        places: Arc<Semaphore>,
    ) -> Self {
        Self {
            model,
            local,
            places,
        }
    }

    /// The model itself, and a place among those that talk with it.
    pub(crate) fn seat(&self) -> Result<(Arc<dyn ChatModel>, OwnedSemaphorePermit), Problem> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Problem::BUSY)?;
        Ok((self.model.clone(), place))
    }

    /// The engine behind a model on this machine.
    pub(crate) fn decoder(&self) -> Option<&Decoder> {
        self.local.as_ref().map(LocalChatModel::decoder)
    }

    /// Answers each of `requests`; `kept` lives as long as the work. Dropping the receiver ends it.
    pub(crate) fn speak<K: Clone + Send + 'static>(
        &self,
        requests: Vec<ChatRequest>,
        kept: &K,
    ) -> Result<Receiver<Spoken>, Problem> {
        let model = self.model.clone();
        self.start(requests, kept, move |index, request, sender| {
            let stream = match model.stream(&request) {
                Ok(stream) => stream,
                Err(error) => {
                    send(sender, index, Err(Problem::of_chat(&error)));
                    return;
                }
            };
            for piece in stream {
                if !send(sender, index, piece.map_err(|e| Problem::of_chat(&e))) {
                    break;
                }
            }
        })
    }

    /// Goes on with each of `prompts`, as [`Self::speak`] answers.
    pub(crate) fn complete<K: Clone + Send + 'static>(
        &self,
        prompts: Vec<Prompt>,
        kept: &K,
    ) -> Result<Receiver<Spoken>, Problem> {
        let Some(model) = self.local.clone() else {
            let reason = "is behind an API, which takes this request itself";
            return Err(Problem::field("model", reason));
        };
        self.start(prompts, kept, move |index, prompt, sender| {
            let end = complete(&model, &prompt, |text| {
                let content = text.to_owned();
                let delta = ChatDelta {
                    content,
                    ..ChatDelta::default()
                };
                send(sender, index, Ok(delta))
            });
            let end = end.map_err(|error| Problem::of_chat(&error.into()));
            send(sender, index, end);
        })
    }

    fn start<K, R>(
        &self,
        requests: Vec<R>,
        kept: &K,
        work: impl Fn(usize, R, &Sender<Spoken>) + Clone + Send + 'static,
    ) -> Result<Receiver<Spoken>, Problem>
    where
        K: Clone + Send + 'static,
        R: Send + 'static,
    {
        // All or none, so that no answer waits for a place that its own request holds.
        let places: Vec<OwnedSemaphorePermit> = (requests.iter())
            .map(|_| self.places.clone().try_acquire_owned())
            .collect::<Result<_, _>>()
            .map_err(|_| Problem::BUSY)?;
        let (sender, receiver) = channel(PIECES);
        for ((index, request), place) in requests.into_iter().enumerate().zip(places) {
            let (work, sender, kept) = (work.clone(), sender.clone(), kept.clone());
            let thread = thread::Builder::new().name("wenyi-speaker".into());
            let started = thread.spawn(move || {
                // A provider may be silent for long after its client has gone.
                let watched = sender.clone();
                cancellable(
                    move || watched.is_closed(),
                    || work(index, request, &sender),
                );
                drop((sender, place, kept));
            });
            started.map_err(|error| Problem::Internal {
                reason: error.to_string(),
            })?;
        }
        Ok(receiver)
    }
}

/// False once nobody listens any more.
fn send(sender: &Sender<Spoken>, index: usize, piece: Result<ChatDelta, Problem>) -> bool {
    sender.blocking_send((index, piece)).is_ok()
}

/// Goes on with a text; `on_text` sees what comes and may end it.
fn complete(
    model: &LocalChatModel,
    prompt: &Prompt,
    mut on_text: impl FnMut(&str) -> bool,
) -> Result<ChatDelta, wenyi_engine::Error> {
    use std::ops::ControlFlow::{Break, Continue};
    let mut on_piece = |piece: &wenyi_engine::decoder::Piece| match on_text(&piece.text) {
        true => Continue(()),
        false => Break(()),
    };
    let answer = model.complete(&prompt.ids, &prompt.options, &mut on_piece)?;
    let (read, written) = (answer.prompt_tokens as u64, answer.ids.len() as u64);
    Ok(ChatDelta {
        finish_reason: Some(match answer.finish {
            Finish::Length => FinishReason::Length,
            Finish::Stop | Finish::Cancelled => FinishReason::Stop,
        }),
        usage: Some(Usage {
            prompt_tokens: read,
            completion_tokens: written,
            total_tokens: read + written,
            cached_tokens: answer.cached_tokens as u64,
            ..Usage::default()
        }),
        timing: Some(Timing {
            prompt: answer.prompt_duration,
            answer: answer.answer_duration,
        }),
        ..ChatDelta::default()
    })
}
