//! From a prompt to an answer, token by token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::circles::Circles;
use super::constraint::{Constraint, Step};
use super::lookup::Ahead;
use super::sampler::{Sampler, SamplingOptions};
use super::score::log_sum_exp;
use super::text::{CallSplitter, Channel, Detokenizer, StopFilter, ThinkSplitter};
use super::{Decoder, Session};
use crate::{ErrorKind, Result};

/// How an answer is written.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Most tokens of the answer; `None` for as many as the session has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Report each token's probability, and those of this many best ones.
    pub logprobs: Option<usize>,
    /// Split `<think>…</think>` from the answer.
    pub split_reasoning: bool,
    /// Go on after the token that ends an answer.
    pub ignore_end: bool,
    /// Try the tokens that followed the last ones before: faster where an answer quotes, and the same
    /// answer.
    pub look_up: bool,
    /// What the answer is held to.
    pub constraint: Option<Constraint>,
    /// What is held to the grammar is a call ([`Channel::Call`]) and not part of the answer.
    pub is_call: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            split_reasoning: true,
            ignore_end: false,
            look_up: true,
            constraint: None,
            is_call: false,
        }
    }
}

/// A piece of an answer: whole characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// What it belongs to.
    pub channel: Channel,
    /// The text, never empty.
    pub text: String,
    /// If asked for, the tokens chosen since the piece before.
    pub logprobs: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The receiver wanted no more.
    Cancelled,
}

/// A token, and the natural logarithm of its probability before the sampling options.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its spelling as text; a part of a character is `\u{FFFD}`.
    pub text: String,
    /// The bytes of its text; none for a special token.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The best tokens in its place, best first; their own lists are empty.
    pub top: Vec<TokenLogprob>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The answer.
    pub content: String,
    /// What the model thought before.
    pub reasoning: String,
    /// The calls that it makes, in its own words.
    pub calls: String,
    /// The tokens, the one that ended it included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that the session held already.
    pub cached_tokens: usize,
    /// If asked for, one for each of `ids`.
    pub logprobs: Vec<TokenLogprob>,
    /// How long it took to read the prompt.
    pub prompt_duration: Duration,
    /// How long it took to write the answer.
    pub answer_duration: Duration,
}

impl Decoder {
    /// Answers `prompt` in `session`; `on_piece` sees the text as it grows and may stop it. What
    /// the session holds of the prompt is not read again.
    ///
    /// # Errors
    ///
    /// If the prompt is empty or leaves no room in the session, the tokenizer fails, or the answer cannot
    /// have the form that the options ask for.
    pub fn generate(
        &self,
        session: &mut Session,
        prompt: &[u32],
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(&Piece) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let started = Instant::now();
        self.must_know(&options.sampling.logit_bias)?;
        let room = session.capacity().saturating_sub(prompt.len());
        let most = options.max_tokens.unwrap_or(room).min(room);
        // One more than the prompt, so that a prompt which leaves no room is refused.
        let cached = self.resume(session, prompt, prompt.len() + most.max(1))?;
        let mut answer = Answer::new(self, prompt, options, on_piece)?;
        answer.must_fit(most)?;
        answer.generation.cached_tokens = cached;
        let mut logits = self.read(session, &prompt[cached..])?;
        answer.generation.prompt_duration = started.elapsed();
        let mut ahead = Ahead::new(self, prompt, options.look_up);
        while answer.generation.ids.len() < most {
            let id = answer.choose(&mut logits, most)?;
            if self.end_ids.contains(&id) && !options.ignore_end {
                answer.generation.finish = Finish::Stop;
                break;
            }
            if answer.push(id)?.is_break() {
                break;
            }
            let room = most - answer.generation.ids.len();
            if room > 0 {
                logits = ahead.next(self, session, id, room)?;
            }
        }
        ahead.forget(session);
        let mut generation = answer.end()?;
        generation.answer_duration = started.elapsed() - generation.prompt_duration;
        Ok(generation)
    }

    /// Refuses biases of tokens that there are none of: they are meant for another tokenizer.
    fn must_know(&self, biases: &[(u32, f32)]) -> Result<()> {
        let most = self.vocab_size();
        match biases.iter().find(|(id, _)| *id as usize >= most) {
            None => Ok(()),
            Some((id, _)) => Err(ErrorKind::Option {
                option: "logit_bias",
                value: id.to_string(),
                expected: format!("ids of the model's tokens, 0 to {}", most - 1),
            }
            .into()),
        }
    }
}

/// An answer in the making.
struct Answer<'a> {
    decoder: &'a Decoder,
    options: &'a GenerateOptions,
    on_piece: &'a mut dyn FnMut(&Piece) -> ControlFlow<()>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopFilter,
    splitter: Option<ThinkSplitter>,
    constraint: Option<Constraint>,
    circles: Circles,
    calls: Option<CallSplitter>,
    /// Tokens that no piece has told of yet.
    untold: Vec<TokenLogprob>,
    generation: Generation,
}

impl<'a> Answer<'a> {
    fn new(
        decoder: &'a Decoder,
        prompt: &[u32],
        options: &'a GenerateOptions,
        on_piece: &'a mut dyn FnMut(&Piece) -> ControlFlow<()>,
    ) -> Result<Self> {
        /// The tag that a template may open has a few tokens at most.
        const TAIL: usize = 16;
        let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
        let tail = decoder.tokenizer.decode(tail, false)?;
        let constraint = options.constraint.clone();
        let trigger = constraint.as_ref().and_then(Constraint::trigger);
        Ok(Self {
            decoder,
            options,
            on_piece,
            sampler: Sampler::new(&options.sampling, prompt),
            detokenizer: Detokenizer::default(),
            stops: StopFilter::new(&options.stop),
            splitter: options.split_reasoning.then(|| ThinkSplitter::after(&tail)),
            calls: options.is_call.then(|| CallSplitter::new(trigger)),
            constraint,
            circles: Circles::default(),
            untold: Vec::new(),
            generation: Generation {
                content: String::new(),
                reasoning: String::new(),
                calls: String::new(),
                ids: Vec::new(),
                finish: Finish::Length,
                prompt_tokens: prompt.len(),
                cached_tokens: 0,
                logprobs: Vec::new(),
                prompt_duration: Duration::ZERO,
                answer_duration: Duration::ZERO,
            },
        })
    }

    /// Refuses a form that `most` tokens are too few for.
    fn must_fit(&mut self, most: usize) -> Result<()> {
        match &mut self.constraint {
            Some(constraint) => constraint.must_fit(most),
            None => Ok(()),
        }
    }

    /// The next token of an answer of at most `most`.
    fn choose(&mut self, logits: &mut [f32], most: usize) -> Result<u32> {
        let before = self.options.logprobs.map(|_| logits.to_vec());
        self.sampler.penalize(logits);
        let sampler = &mut self.sampler;
        let id = match &mut self.constraint {
            None => sampler.pick(logits),
            Some(constraint) => {
                let step = Step {
                    decoder: self.decoder,
                    room: most - self.generation.ids.len(),
                    is_thinking: (self.splitter.as_ref()).is_some_and(ThinkSplitter::is_thinking),
                    is_circling: self.circles.is_closed(),
                };
                constraint.choose(&step, logits, &mut |logits| sampler.pick(logits))?
            }
        };
        self.sampler.accept(id);
        self.generation.ids.push(id);
        self.circles.push(&self.generation.ids);
        if let (Some(before), Some(count)) = (before, self.options.logprobs) {
            let entry = self.logprob(&before, id, count)?;
            if !self.decoder.end_ids.contains(&id) {
                self.untold.push(entry.clone());
            }
            self.generation.logprobs.push(entry);
        }
        Ok(id)
    }

    fn logprob(&self, logits: &[f32], id: u32, count: usize) -> Result<TokenLogprob> {
        let total = log_sum_exp(logits);
        let vocabulary = self.decoder.vocabulary()?;
        let entry = |id: u32, top| {
            Ok(TokenLogprob {
                id,
                text: self.decoder.tokenizer.decode(&[id], false)?,
                bytes: vocabulary.bytes(id).to_vec(),
                logprob: logits[id as usize] - total,
                top,
            })
        };
        let mut order: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        let count = count.min(order.len());
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if count > 0 {
            order.select_nth_unstable_by(count - 1, descending);
        }
        order.truncate(count);
        order.sort_unstable_by(descending);
        let top = order.into_iter().map(|(_, id)| entry(id, Vec::new()));
        entry(id, top.collect::<Result<_>>()?)
    }

    /// Gives out the text that `id` completes.
    fn push(&mut self, id: u32) -> Result<ControlFlow<()>> {
        let text = self.detokenizer.push(&self.decoder.tokenizer, id)?;
        let (text, stopped) = self.stops.push(&text);
        let flow = self.show(&text);
        let held = self.constraint.as_ref().is_some_and(Constraint::is_held);
        if let Some(calls) = self.calls.as_mut().filter(|calls| held && !calls.is_open()) {
            let before = calls.open();
            if !before.is_empty() && self.give(Channel::Content, before).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let is_done = self.constraint.as_ref().is_some_and(Constraint::is_done);
        if flow.is_continue() && (stopped || is_done) {
            self.generation.finish = Finish::Stop;
            return Ok(ControlFlow::Break(()));
        }
        Ok(flow)
    }

    fn show(&mut self, text: &str) -> ControlFlow<()> {
        let pieces = match &mut self.splitter {
            Some(splitter) => splitter.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![(Channel::Content, text.to_owned())],
        };
        for (channel, text) in pieces {
            self.route(channel, text)?;
        }
        ControlFlow::Continue(())
    }

    /// Gives out a piece, as a call where it is one.
    fn route(&mut self, channel: Channel, text: String) -> ControlFlow<()> {
        let (channel, text) = match &mut self.calls {
            Some(calls) if channel == Channel::Content => calls.push(&text),
            _ => (channel, text),
        };
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.give(channel, text)
    }

    fn give(&mut self, channel: Channel, text: String) -> ControlFlow<()> {
        match channel {
            Channel::Reasoning => self.generation.reasoning.push_str(&text),
            Channel::Content => self.generation.content.push_str(&text),
            Channel::Call => self.generation.calls.push_str(&text),
        }
        let logprobs = std::mem::take(&mut self.untold);
        let flow = (self.on_piece)(&Piece {
            channel,
            text,
            logprobs,
        });
        if flow.is_break() {
            self.generation.finish = Finish::Cancelled;
        }
        flow
    }

    /// Gives out what was held back.
    fn end(mut self) -> Result<Generation> {
        let is_complete = (self.constraint.as_mut()).is_some_and(Constraint::is_complete);
        let is_held = (self.constraint.as_ref()).is_some_and(Constraint::is_held);
        if self.generation.finish == Finish::Length && is_held && is_complete {
            self.generation.finish = Finish::Stop;
        }
        let finish = self.generation.finish;
        let rest = self.detokenizer.finish(&self.decoder.tokenizer)?;
        let (rest, stopped) = self.stops.push(&rest);
        if finish != Finish::Cancelled {
            let held = if stopped {
                String::new()
            } else {
                self.stops.finish()
            };
            // Nothing follows, so whether the receiver wants more makes no difference.
            let _ = self.show(&(rest + &held));
            let left = self.splitter.as_mut().and_then(ThinkSplitter::finish);
            if let Some((channel, text)) = left {
                let _ = self.route(channel, text);
            }
            let left = self.calls.as_mut().map(CallSplitter::finish);
            if let Some(text) = left.filter(|text| !text.is_empty()) {
                let _ = self.give(Channel::Content, text);
            }
        }
        self.generation.finish = finish;
        Ok(self.generation)
    }
}
