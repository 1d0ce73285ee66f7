//! Tokens to text as it grows: whole characters, up to a stop, reasoning apart from the answer.

use crate::Result;
use crate::tokenizer::Tokenizer;

/// Turns tokens into text that never ends inside a character.
#[derive(Debug, Default)]
pub(super) struct Detokenizer {
    ids: Vec<u32>,
    /// Tokens whose text was given out begin here; they are the context of the next ones.
    context: usize,
    /// Tokens whose text was not given out begin here.
    pending: usize,
}

/// A character has at most four bytes, so after so many tokens the bytes are not a character.
const MOST_PENDING: usize = 5;

impl Detokenizer {
    /// The text that `id` completes; empty while a character is not whole.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        // The context keeps the spaces that a tokenizer takes off the first token of a text.
        let known = tokenizer.decode(&self.ids[self.context..self.pending], true)?;
        let whole = tokenizer.decode(&self.ids[self.context..], true)?;
        let is_cut = whole.ends_with('\u{FFFD}');
        if is_cut && self.ids.len() - self.pending < MOST_PENDING {
            return Ok(String::new());
        }
        let new = whole.get(known.len()..).unwrap_or_default().to_owned();
        (self.context, self.pending) = (self.pending, self.ids.len());
        Ok(new)
    }

    /// What is left when no more tokens come.
    pub(super) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let known = tokenizer.decode(&self.ids[self.context..self.pending], true)?;
        let whole = tokenizer.decode(&self.ids[self.context..], true)?;
        self.pending = self.ids.len();
        Ok(whole.get(known.len()..).unwrap_or_default().to_owned())
    }
}

/// Holds text back while it might be the beginning of a stop string.
#[derive(Debug)]
pub(super) struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        Self {
            stops: stops.cloned().collect(),
            held: String::new(),
        }
    }

    /// The text that may be shown, and whether a stop string follows it.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(end) = found.min() {
            self.held.truncate(end);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop));
        let shown = self.held.len() - keep.max().unwrap_or(0);
        let rest = self.held.split_off(shown);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back when no more text comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest ending of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = (1..stop.len().min(text.len() + 1)).rev();
    lengths
        .filter(|length| stop.is_char_boundary(*length))
        .find(|length| text.as_bytes().ends_with(&stop.as_bytes()[..*length]))
        .unwrap_or(0)
}

/// Which part of the model's text a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// What the model thinks before it answers.
    Reasoning,
    /// The answer.
    Content,
    /// The model's call of a tool, in its own words.
    Call,
}

/// Splits `<think>…</think>` from the answer.
#[derive(Debug)]
pub(super) struct ThinkSplitter {
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space yet.
    Start,
    Thinking,
    /// After the closing tag: white space is dropped.
    Between,
    Answering,
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

impl ThinkSplitter {
    /// For the text after `prompt`, whose template may have opened the tag already.
    pub(super) fn after(prompt: &str) -> Self {
        let is_open = prompt.trim_end().ends_with(OPEN);
        let state = if is_open {
            State::Thinking
        } else {
            State::Start
        };
        Self {
            state,
            held: String::new(),
        }
    }

    /// The pieces that `text` completes.
    pub(super) fn push(&mut self, text: &str) -> Vec<(Channel, String)> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while let Some(piece) = self.step() {
            if !piece.1.is_empty() {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// What was held back when no more text comes.
    pub(super) fn finish(&mut self) -> Option<(Channel, String)> {
        let held = std::mem::take(&mut self.held);
        let channel = match self.state {
            State::Thinking => Channel::Reasoning,
            _ => Channel::Content,
        };
        (!held.is_empty()).then_some((channel, held))
    }

    /// True within the tags.
    pub(super) fn is_thinking(&self) -> bool {
        self.state == State::Thinking
    }

    /// One step through what is held; `None` when more text is needed.
    fn step(&mut self) -> Option<(Channel, String)> {
        match self.state {
            State::Start => {
                let text = self.held.trim_start();
                if let Some(rest) = text.strip_prefix(OPEN) {
                    self.held = rest.trim_start().to_owned();
                    self.state = State::Thinking;
                    return Some((Channel::Reasoning, String::new()));
                }
                if OPEN.starts_with(text) {
                    return None;
                }
                self.state = State::Answering;
                Some((Channel::Content, std::mem::take(&mut self.held)))
            }
            State::Thinking => {
                if let Some(end) = self.held.find(CLOSE) {
                    let rest = self.held.split_off(end)[CLOSE.len()..].to_owned();
                    let thought = std::mem::replace(&mut self.held, rest);
                    self.state = State::Between;
                    return Some((Channel::Reasoning, thought));
                }
                let shown = self.held.len() - overlap(&self.held, CLOSE);
                let rest = self.held.split_off(shown);
                let thought = std::mem::replace(&mut self.held, rest);
                (!thought.is_empty()).then_some((Channel::Reasoning, thought))
            }
            State::Between => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return None;
                }
                self.state = State::Answering;
                Some((Channel::Content, std::mem::take(&mut self.held)))
            }
            State::Answering => {
                let text = std::mem::take(&mut self.held);
                (!text.is_empty()).then_some((Channel::Content, text))
            }
        }
    }
}

/// Splits the call of a tool from the answer before it.
#[derive(Debug)]
pub(super) struct CallSplitter {
    trigger: String,
    is_open: bool,
    held: String,
}

impl CallSplitter {
    /// For calls after the text `trigger`; without one, the whole answer is a call.
    pub(super) fn new(trigger: Option<&str>) -> Self {
        Self {
            trigger: trigger.unwrap_or_default().to_owned(),
            is_open: trigger.is_none(),
            held: String::new(),
        }
    }

    /// The text that may be shown, and what it belongs to.
    pub(super) fn push(&mut self, text: &str) -> (Channel, String) {
        if self.is_open {
            return (Channel::Call, text.to_owned());
        }
        self.held.push_str(text);
        let keep = if self.held.ends_with(&self.trigger) {
            self.trigger.len()
        } else {
            overlap(&self.held, &self.trigger)
        };
        let rest = self.held.split_off(self.held.len() - keep);
        (Channel::Content, std::mem::replace(&mut self.held, rest))
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The trigger has come: what was held back before it is given out, and a call begins.
    pub(super) fn open(&mut self) -> String {
        self.is_open = true;
        let held = std::mem::take(&mut self.held);
        // A trigger that is a special token has no text.
        held.strip_suffix(&self.trigger)
            .map(str::to_owned)
            .unwrap_or(held)
    }

    /// What was held back when no more text comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(stops: &[&str], text: &str, step: usize) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut shown = String::new();
        let characters: Vec<char> = text.chars().collect();
        for part in characters.chunks(step) {
            let (text, stopped) = filter.push(&part.iter().collect::<String>());
            shown.push_str(&text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push_str(&filter.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_is_found_across_any_borders() {
        for step in 1..8 {
            let found = filtered(&["END", "。停"], "a sentence EN EENDED", step);
            assert_eq!(found, ("a sentence EN E".to_owned(), true), "{step}");
            let found = filtered(&["END", "。停"], "一句。又一句。停了", step);
            assert_eq!(found, ("一句。又一句".to_owned(), true), "{step}");
            let found = filtered(&["END"], "no stop, only E and EN", step);
            assert_eq!(found, ("no stop, only E and EN".to_owned(), false));
        }
    }

    fn split(prompt: &str, text: &str, step: usize) -> (String, String) {
        let mut splitter = ThinkSplitter::after(prompt);
        let (mut thought, mut answer) = (String::new(), String::new());
        let characters: Vec<char> = text.chars().collect();
        let mut pieces = Vec::new();
        for part in characters.chunks(step) {
            pieces.extend(splitter.push(&part.iter().collect::<String>()));
        }
        pieces.extend(splitter.finish());
        for (channel, piece) in pieces {
            match channel {
                Channel::Reasoning => thought.push_str(&piece),
                Channel::Content | Channel::Call => answer.push_str(&piece),
            }
        }
        (thought, answer)
    }

    #[test]
    fn reasoning_is_split_from_the_answer_across_any_borders() {
        for step in 1..12 {
            let (thought, answer) = split("", "<think>\n想一想 < 3\n</think>\n\nYes.", step);
            assert_eq!(
                (thought.trim(), answer.as_str()),
                ("想一想 < 3", "Yes."),
                "{step}"
            );
            let (thought, answer) = split("…<think>\n", "so\n</think>\nNo.", step);
            assert_eq!((thought.trim(), answer.as_str()), ("so", "No."), "{step}");
            let (thought, answer) = split("", "a <think> is no tag here", step);
            assert_eq!(
                (thought.as_str(), answer.as_str()),
                ("", "a <think> is no tag here")
            );
            assert_eq!(
                split("", "<thin", step),
                (String::new(), "<thin".to_owned())
            );
        }
    }
}
