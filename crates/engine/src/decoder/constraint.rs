//! An answer held to a grammar: tokens that would leave it are never chosen.

use std::sync::Arc;

use llguidance::Matcher;

use super::Decoder;
use super::grammar::{Grammar, Vocabulary, refused};
use crate::{ErrorKind, Result};

/// From where on an answer is held to its grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    /// From its first token.
    AtOnce,
    /// After this text, before which the answer cannot end; for models that think first.
    After(String),
    /// After this text, if the model writes it.
    On(String),
}

/// An answer's grammar and how far the answer has come in it.
#[derive(Clone)]
pub struct Constraint {
    vocabulary: Arc<Vocabulary>,
    matcher: Option<Matcher>,
    trigger: String,
    state: State,
    /// The answer may not end before it is held.
    is_owed: bool,
    /// The end of the text so far, while the trigger is looked for.
    tail: String,
    /// Room at which a way to the end has to be known before each token.
    reserve: usize,
    /// A way to the end from here, if one is known.
    way: Option<Vec<u32>>,
    steps: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held,
    Done,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint")
            .field("trigger", &self.trigger)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What a step needs to know of the answer.
pub(super) struct Step<'a> {
    pub(super) decoder: &'a Decoder,
    /// Tokens that the answer may still have, this one included.
    pub(super) room: usize,
    pub(super) is_thinking: bool,
    /// The answer repeats itself, and would without an end.
    pub(super) is_circling: bool,
}

impl Decoder {
    /// Compiles `grammar`, for one answer.
    ///
    /// # Errors
    ///
    /// If the grammar is malformed, says something that is not known, or describes no text.
    pub fn constraint(&self, grammar: &Grammar, begins: Begins) -> Result<Constraint> {
        let vocabulary = Arc::clone(self.vocabulary()?);
        let matcher = vocabulary.matcher(grammar)?;
        let is_owed = matches!(begins, Begins::After(_));
        let (trigger, state) = match begins {
            Begins::AtOnce => (String::new(), State::Held),
            Begins::After(text) | Begins::On(text) => (text, State::Free),
        };
        Ok(Constraint {
            vocabulary,
            matcher: Some(matcher),
            trigger,
            state,
            is_owed,
            tail: String::new(),
            reserve: 0,
            way: None,
            steps: 0,
        })
    }

    /// Keeps an answer from having `text` in it.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn forbid(&self, text: &str) -> Result<Constraint> {
        Ok(Constraint {
            vocabulary: Arc::clone(self.vocabulary()?),
            matcher: None,
            trigger: text.to_owned(),
            state: State::Free,
            is_owed: false,
            tail: String::new(),
            reserve: 0,
            way: None,
            steps: 0,
        })
    }
}

impl Constraint {
    /// The text on which the grammar begins, if the model decides.
    pub(super) fn trigger(&self) -> Option<&str> {
        let is_asked = self.state == State::Free && !self.is_owed;
        is_asked.then_some(self.trigger.as_str())
    }

    /// True once the answer is held to the grammar.
    pub(super) fn is_held(&self) -> bool {
        self.state != State::Free
    }

    /// True if the answer can have nothing more.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True if the answer may end here.
    pub(super) fn is_complete(&mut self) -> bool {
        match (self.state, &mut self.matcher) {
            (State::Free, _) => !self.is_owed,
            (State::Held, Some(matcher)) => matcher.is_accepting().unwrap_or(false),
            _ => true,
        }
    }

    /// Refuses a grammar of which no text is short enough.
    pub(super) fn must_fit(&mut self, room: usize) -> Result<()> {
        let Some(matcher) = self.matcher.as_ref().filter(|_| self.state == State::Held) else {
            return Ok(());
        };
        /// No text of a schema that people write is longer at its shortest.
        const LONGEST: usize = 4096;
        let Some(way) = self.vocabulary.way_out(matcher, LONGEST) else {
            let reason = format!("no text of that form was found to end within {LONGEST} tokens");
            return Err(ErrorKind::Grammar { reason }.into());
        };
        let needed = way.len();
        self.reserve = 2 * needed + SLACK;
        self.way = Some(way);
        match needed <= room {
            true => Ok(()),
            false => Err(ErrorKind::FormRoom { needed, room }.into()),
        }
    }

    /// Takes the next token with `pick`, from those that the grammar allows.
    pub(super) fn choose(
        &mut self,
        step: &Step<'_>,
        logits: &mut [f32],
        pick: &mut dyn FnMut(&[f32]) -> u32,
    ) -> Result<u32> {
        match self.state {
            State::Free => self.choose_freely(step, logits, pick),
            State::Held | State::Done => self.choose_held(step, logits, pick),
        }
    }

    fn choose_freely(
        &mut self,
        step: &Step<'_>,
        logits: &mut [f32],
        pick: &mut dyn FnMut(&[f32]) -> u32,
    ) -> Result<u32> {
        /// Tokens that reach beyond the trigger; then the model is let go on as it likes.
        const ATTEMPTS: usize = 64;
        if self.is_owed {
            for id in &step.decoder.end_ids {
                if let Some(score) = logits.get_mut(*id as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        let mut first = None;
        for _ in 0..ATTEMPTS {
            let id = pick(logits);
            if step.decoder.end_ids.contains(&id) {
                return Ok(id);
            }
            first.get_or_insert(id);
            let text = step.decoder.tokenizer.decode(&[id], false)?;
            let seen = format!("{}{text}", self.tail);
            // What is thought is no call.
            let found = seen
                .find(&self.trigger)
                .filter(|_| self.is_owed || !step.is_thinking);
            match found {
                None => {
                    self.remember(seen);
                    return Ok(id);
                }
                Some(at) if self.matcher.is_some() && at + self.trigger.len() == seen.len() => {
                    self.state = State::Held;
                    // What was written before may have left too little room; that is a matter of length.
                    let _ = self.must_fit(step.room.saturating_sub(1));
                    return Ok(id);
                }
                Some(_) => logits[id as usize] = f32::NEG_INFINITY,
            }
        }
        Ok(first.unwrap_or_default())
    }

    /// Keeps as much of the text as may be the trigger's beginning.
    fn remember(&mut self, mut seen: String) {
        let mut from = seen
            .len()
            .saturating_sub(self.trigger.len().saturating_sub(1));
        while !seen.is_char_boundary(from) {
            from += 1;
        }
        seen.drain(..from);
        self.tail = seen;
    }

    fn choose_held(
        &mut self,
        step: &Step<'_>,
        logits: &mut [f32],
        pick: &mut dyn FnMut(&[f32]) -> u32,
    ) -> Result<u32> {
        let vocabulary = Arc::clone(&self.vocabulary);
        let Some(matcher) = &mut self.matcher else {
            return Ok(pick(logits));
        };
        let mask = matcher
            .compute_mask_or_eos()
            .map_err(|error| refused(&error))?;
        let ends: Vec<(usize, f32)> = (step.decoder.end_ids.iter())
            .filter(|_| vocabulary.may_end(&mask))
            .filter_map(|id| Some((*id as usize, *logits.get(*id as usize)?)))
            .collect();
        for (scores, allowed) in logits.chunks_mut(32).zip(mask.as_slice()) {
            for (bit, score) in scores.iter_mut().enumerate() {
                if allowed >> bit & 1 == 0 {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        for (id, score) in ends {
            logits[id] = score;
        }
        let id = pick(logits);
        if logits
            .get(id as usize)
            .is_none_or(|score| *score == f32::NEG_INFINITY)
        {
            let reason = "no token of the model goes on with a text of that form".into();
            return Err(ErrorKind::Grammar { reason }.into());
        }
        if step.decoder.end_ids.contains(&id) {
            self.state = State::Done;
            return Ok(id);
        }
        let end = step.decoder.end_ids.first();
        let id = match self.in_time(id, step) {
            Next::Token(id) => id,
            Next::End => match end {
                Some(end) => {
                    self.state = State::Done;
                    return Ok(*end);
                }
                None => id,
            },
        };
        self.advance(id)?;
        Ok(id)
    }

    fn advance(&mut self, id: u32) -> Result<()> {
        if let Some(matcher) = &mut self.matcher {
            matcher.consume_token(id).map_err(|error| refused(&error))?;
            if matcher.is_stopped() {
                self.state = State::Done;
            }
        }
        Ok(())
    }

    /// `id`, or the first token of a way to the end if after `id` there would be no room for one, or
    /// the model runs in circles.
    fn in_time(&mut self, id: u32, step: &Step<'_>) -> Next {
        let room = step.room;
        /// Tokens after which the way to the end is measured again.
        const EVERY: usize = 8;
        /// Room at which it is also measured where a new part may begin, whose way is longer.
        const NEAR: usize = 1024;
        self.steps += 1;
        let Some(matcher) = &self.matcher else {
            return Next::Token(id);
        };
        let bytes = self.vocabulary.bytes(id).iter();
        let may_begin = room <= NEAR
            && bytes
                .clone()
                .any(|byte| byte.is_ascii_punctuation() || *byte == b'\n');
        let known = self.way.take();
        if step.is_circling {
            return self.leave(id, known, room);
        }
        if room > self.reserve && !may_begin && !self.steps.is_multiple_of(EVERY) {
            return Next::Token(id);
        }
        let mut after = matcher.clone();
        let way = match after.consume_token(id) {
            Ok(()) => self.vocabulary.way_out(&after, room.saturating_sub(1)),
            Err(_) => None,
        };
        if let Some(way) = way {
            self.reserve = 2 * way.len() + SLACK;
            self.way = Some(way);
            return Next::Token(id);
        }
        self.leave(id, known, room)
    }

    /// The next token of the way to the end; `id` if there is none.
    fn leave(&mut self, id: u32, known: Option<Vec<u32>>, room: usize) -> Next {
        let Some(matcher) = &self.matcher else {
            return Next::Token(id);
        };
        // The way that was found before is not found again if it was found by chance.
        let known = known.filter(|way| way.len() <= room);
        match known.or_else(|| self.vocabulary.way_out(matcher, room)) {
            None => Next::Token(id),
            Some(way) => match way.split_first() {
                None => Next::End,
                Some((first, rest)) => {
                    self.way = Some(rest.to_vec());
                    Next::Token(*first)
                }
            },
        }
    }
}

/// How an answer goes on so that it ends in time.
enum Next {
    Token(u32),
    End,
}

/// What a few tokens may add to the way to the end.
const SLACK: usize = 48;
