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
        let Some(way) = self.vocabulary.way_out(matcher.clone(), LONGEST) else {
            return Ok(());
        };
        self.reserve = 2 * way.len() + SLACK;
        if way.len() <= room {
            return Ok(());
        }
        let reason = format!(
            "the shortest text of that form has about {} tokens, there is room for {room}",
            way.len()
        );
        Err(ErrorKind::Grammar { reason }.into())
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
        let id = self.in_time(id, step.room);
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

    /// `id`, or the first token of a way to the end if after `id` there would be no room for one.
    fn in_time(&mut self, id: u32, room: usize) -> u32 {
        /// Tokens after which the way to the end is measured again.
        const EVERY: usize = 8;
        self.steps += 1;
        let Some(matcher) = &self.matcher else {
            return id;
        };
        if room > self.reserve && !self.steps.is_multiple_of(EVERY) {
            return id;
        }
        let mut after = matcher.clone();
        let way = match after.consume_token(id) {
            Ok(()) => self.vocabulary.way_out(after, room.saturating_sub(1)),
            Err(_) => None,
        };
        if let Some(way) = way {
            self.reserve = 2 * way.len() + SLACK;
            return id;
        }
        let way = self.vocabulary.way_out(matcher.clone(), room);
        way.and_then(|way| way.first().copied()).unwrap_or(id)
    }
}

/// What a few tokens may add to the way to the end.
const SLACK: usize = 48;

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::decoder::{
        Channel, DecoderOptions, Finish, GenerateOptions, Generation, SamplingOptions,
    };

    fn open(name: &str) -> Decoder {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders");
        let options = DecoderOptions {
            threads: Some(1),
            ..DecoderOptions::default()
        };
        Decoder::open(&Path::new(folder).join(name), &options).unwrap()
    }

    /// What a model of random weights writes.
    fn write(decoder: &Decoder, options: &GenerateOptions) -> Result<Generation> {
        let prompt = decoder.encode_prompt("The sense of a text. 文意").unwrap();
        let mut session = decoder.session(decoder.context()).unwrap();
        let mut pieces = String::new();
        let written = decoder.generate(&mut session, &prompt, options, &mut |piece| {
            if piece.channel == Channel::Call {
                pieces += &piece.text;
            }
            ControlFlow::Continue(())
        })?;
        assert_eq!(pieces, written.calls);
        Ok(written)
    }

    fn options(constraint: Constraint, max_tokens: usize, seed: u64) -> GenerateOptions {
        GenerateOptions {
            sampling: SamplingOptions {
                temperature: 1.0,
                seed: Some(seed),
                ..SamplingOptions::default()
            },
            max_tokens: Some(max_tokens),
            constraint: Some(constraint),
            ..GenerateOptions::default()
        }
    }

    fn schemas() -> Vec<Value> {
        vec![
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"名": {"type": "string"},
                "input": {"type": "integer"}}, "required": ["名", "input"],
                "additionalProperties": false}),
            json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 2}),
            json!({"type": "object", "properties": {"kind": {"enum": ["red", "绿", null]},
                "next": {"$ref": "#/$defs/next"}}, "required": ["kind", "next"],
                "$defs": {"next": {"anyOf": [{"type": "string", "minLength": 3},
                    {"type": "boolean"}]}}}),
        ]
    }

    #[test]
    fn json_of_a_schema_parses_however_short_the_answer_must_be() {
        for name in ["llama", "gemma3", "qwen3"] {
            let decoder = open(name);
            for schema in schemas() {
                for seed in 0..3 {
                    let most = [48, 60, 90][seed];
                    let grammar = Grammar::JsonSchema(schema.clone());
                    let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
                    let written = write(&decoder, &options(constraint, most, seed as u64)).unwrap();
                    let text = &written.content;
                    let value: Value = serde_json::from_str(text)
                        .unwrap_or_else(|error| panic!("{name} {schema} {most} {text:?}: {error}"));
                    assert_eq!(written.finish, Finish::Stop);
                    assert!(written.ids.len() <= most);
                    match &schema["type"] {
                        kind if kind == "array" => assert!(value.as_array().unwrap().len() > 1),
                        _ => {
                            for key in schema["required"].as_array().into_iter().flatten() {
                                assert!(value.get(key.as_str().unwrap()).is_some(), "{text}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_regular_expression_holds_from_end_to_end() {
        let decoder = open("llama3");
        let grammar = Grammar::Regex("[A-Z]{3}-[0-9]{4}(是|否)".into());
        for seed in 0..4 {
            let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
            let text = write(&decoder, &options(constraint, 64, seed))
                .unwrap()
                .content;
            let (code, answer) = text.split_at(8);
            assert!(answer == "是" || answer == "否", "{text}");
            assert!(code[..3].bytes().all(|byte| byte.is_ascii_uppercase()));
            assert!(code[4..].bytes().all(|byte| byte.is_ascii_digit()));
        }
    }

    #[test]
    fn forms_that_no_answer_can_have_are_refused() {
        let decoder = open("llama");
        for schema in [
            json!({"type": "integer", "minimum": 5, "maximum": 4}),
            json!({"type": "nothing"}),
            json!({"$ref": "#/$defs/missing"}),
            json!(false),
        ] {
            let refused = decoder.constraint(&Grammar::JsonSchema(schema.clone()), Begins::AtOnce);
            let error = refused
                .err()
                .unwrap_or_else(|| panic!("{schema} was taken"));
            assert!(error.is_user_error() && error.hint().is_some());
            assert!(error.to_string().len() < 400, "{error}");
        }
        let grammar = Grammar::Regex("(unclosed".into());
        assert!(decoder.constraint(&grammar, Begins::AtOnce).is_err());
        let grammar = Grammar::JsonSchema(schemas()[1].clone());
        let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
        let error = write(&decoder, &options(constraint, 3, 1)).unwrap_err();
        assert!(error.to_string().contains("room for 3"), "{error}");
    }

    #[test]
    fn a_grammar_begins_where_it_is_told_to() {
        let decoder = open("llama");
        // A random model writes the same text again, so a part of it can be the trigger.
        let free = GenerateOptions {
            constraint: None,
            ..options(decoder.forbid("\0").unwrap(), 24, 3)
        };
        let written = write(&decoder, &free).unwrap();
        let spelt = |id: &u32| decoder.tokenizer.decode(&[*id], false).unwrap();
        let texts: Vec<String> = written.ids.iter().map(spelt).collect();
        let (at, trigger) = (2..texts.len())
            .map(|at| (at, texts[at].clone()))
            .find(|(at, text)| {
                let before = texts[..*at].concat();
                !text.contains('\u{FFFD}') && !before.contains(text)
            })
            .unwrap();
        let before = texts[..at].concat();
        let grammar = Grammar::Regex("[0-9]{3}".into());
        let begins = Begins::On(trigger.clone());
        let asked = GenerateOptions {
            is_call: true,
            ..options(decoder.constraint(&grammar, begins).unwrap(), 60, 3)
        };
        let written = write(&decoder, &asked).unwrap();
        assert_eq!(written.content, before, "{written:?}");
        assert_eq!(written.calls.len(), 3, "{written:?}");
        assert!(written.calls.bytes().all(|byte| byte.is_ascii_digit()));

        let asked = options(decoder.forbid(&trigger).unwrap(), 60, 3);
        assert!(!write(&decoder, &asked).unwrap().content.contains(&trigger));
    }
}
