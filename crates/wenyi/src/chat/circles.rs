//! Answers that run in circles: small models say the same sentences again, and would without an end.
//!
//! Only the text is looked at, so it makes no difference whose model speaks. What was said before is
//! held back until something new follows: an answer that is ended here has each sentence once.

use std::collections::HashMap;

use super::{ChatDelta, ChatError, ChatStream, FinishReason};
use crate::retrieve::sentences;

/// Ends a stream where the model does nothing but repeat itself; the last piece then has
/// [`FinishReason::Repetition`].
#[must_use]
pub fn without_circles(stream: ChatStream<'_>) -> ChatStream<'_> {
    Box::new(WithoutCircles {
        stream: Some(stream),
        content: CircleFilter::default(),
        reasoning: CircleFilter::default(),
    })
}

struct WithoutCircles<'a> {
    stream: Option<ChatStream<'a>>,
    content: CircleFilter,
    reasoning: CircleFilter,
}

impl WithoutCircles<'_> {
    fn filter(&mut self, mut delta: ChatDelta) -> ChatDelta {
        let is_last = delta.finish_reason.is_some() || !delta.tool_calls.is_empty();
        let has_thought = is_last || !delta.content.is_empty();
        delta.reasoning_content = self.reasoning.push(&delta.reasoning_content);
        if has_thought && !self.reasoning.is_closed {
            delta.reasoning_content += &self.reasoning.rest();
        }
        delta.content = self.content.push(&delta.content);
        if is_last && !self.content.is_closed {
            delta.content += &self.content.rest();
        }
        if self.content.is_closed || self.reasoning.is_closed {
            // What follows is not waited for: the model behind it stops.
            self.stream = None;
            delta.finish_reason = Some(FinishReason::Repetition);
        }
        delta
    }
}

impl Iterator for WithoutCircles<'_> {
    type Item = Result<ChatDelta, ChatError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.stream.as_mut()?.next() {
            Some(Ok(delta)) => Some(Ok(self.filter(delta))),
            Some(Err(error)) => {
                self.stream = None;
                Some(Err(error))
            }
            None => {
                self.stream = None;
                let delta = ChatDelta {
                    reasoning_content: self.reasoning.rest(),
                    content: self.content.rest(),
                    ..ChatDelta::default()
                };
                let is_empty = delta.content.is_empty() && delta.reasoning_content.is_empty();
                (!is_empty).then_some(Ok(delta))
            }
        }
    }
}

/// Sentences in a row that were all said before, at least.
const LEAST_SENTENCES: usize = 3;

/// How often such a row must have been gone through: the refrain of a song comes again once.
const LEAST_ROUNDS: usize = 2;

/// Letters of such a row.
const LEAST_LETTERS: usize = 40;

/// Sentences of fewer letters are not counted, such as `True` and `False` in a list.
const SHORT: usize = 12;

/// Characters that must have come again where no sentence ends. The line under a heading and the
/// fields of a table have fewer.
const LEAST_CHARACTERS: usize = 200;

/// Bytes of what is looked at as one sentence: without a bound, each character of a line would cost as
/// much as the line is long.
const LONGEST_SENTENCE: usize = 2000;

/// Longest circle of characters.
const LONGEST: usize = 200;

/// Watches a text grow.
#[derive(Debug, Default)]
struct CircleFilter {
    text: String,
    /// Bytes that were given out.
    given: usize,
    /// Where the sentence begins that has not ended.
    sentence: usize,
    /// What was said, by its letters; the numbers count from 0.
    said: HashMap<String, usize>,
    /// The last sentences, if they were all said before, and their letters.
    again: Vec<usize>,
    num_letters: usize,
    is_code: bool,
    characters: CircleOfCharacters,
    is_closed: bool,
}

impl CircleFilter {
    /// Takes the next piece; returns what can be given out. Character by character, so that the pieces
    /// make no difference.
    fn push(&mut self, piece: &str) -> String {
        piece.chars().map(|c| self.push_character(c)).collect()
    }

    fn push_character(&mut self, c: char) -> String {
        if self.is_closed {
            return String::new();
        }
        self.is_closed |= self.characters.push(c);
        self.text.push(c);
        if let Some(end) = self.end_of_sentence() {
            self.see(end);
            self.sentence = end;
        }
        if self.is_closed || self.must_wait() {
            return String::new();
        }
        // White space waits for what follows it, so that an answer does not end in some.
        let end = self.text.trim_end().len().max(self.given);
        let shown = self.text[self.given..end].to_owned();
        self.given = end;
        shown
    }

    /// What was held back.
    fn rest(&mut self) -> String {
        let rest = self.text[self.given..].to_owned();
        self.given = self.text.len();
        rest
    }

    /// The end of the sentence that is begun, once something follows it.
    fn end_of_sentence(&self) -> Option<usize> {
        let begun = &self.text[self.sentence..];
        if begun.len() > LONGEST_SENTENCE {
            return Some(self.text.len());
        }
        let line = begun.find('\n').map(|at| at + 1);
        let known = &begun[..line.unwrap_or(begun.len())];
        let mut ends = sentences(known).map(|span| span.end);
        match (ends.next(), ends.next()) {
            (Some(first), Some(_)) => Some(self.sentence + first),
            _ => line.map(|line| self.sentence + line),
        }
    }

    /// Counts the sentence that ends at `end`.
    fn see(&mut self, end: usize) {
        let sentence = &self.text[self.sentence..end];
        if sentence.trim_start().starts_with("```") {
            self.is_code = !self.is_code;
            return;
        }
        let letters = letters(sentence);
        let num_letters = letters.chars().map(columns).sum::<usize>();
        // The same line of code often stands in several places, and so does the same short answer.
        if num_letters < SHORT || self.is_code {
            return;
        }
        let number = self.said.len();
        match self.said.get(&letters) {
            Some(number) => {
                self.again.push(*number);
                self.num_letters += num_letters;
            }
            None => {
                self.said.insert(letters, number);
                self.again.clear();
                self.num_letters = 0;
            }
        }
        let mut different = self.again.clone();
        different.sort_unstable();
        different.dedup();
        self.is_closed |= self.again.len() >= LEAST_SENTENCES
            && self.again.len() >= LEAST_ROUNDS * different.len()
            && self.num_letters >= LEAST_LETTERS;
    }

    /// True while what is new so far may be nothing but what was said before.
    fn must_wait(&self) -> bool {
        let begun = letters(&self.text[self.sentence..]);
        // Before its first letter, as behind the mark of a list's entry, it may be any of them.
        !self.is_code && self.said.keys().any(|said| said.starts_with(&begun))
    }
}

/// The letters and digits of a sentence without the number that it has in a list.
fn letters(sentence: &str) -> String {
    let text = sentence.trim_start();
    let item = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let text = match item.strip_prefix(['.', ')', '、']) {
        Some(rest) if item.len() < text.len() => rest,
        // It may be about to become one.
        _ if item.trim().is_empty() => "",
        _ => text,
    };
    let letters = text.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// An ideograph says as much as two letters.
fn columns(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// The same characters again and again, as where no sentence ends.
#[derive(Debug, Default)]
struct CircleOfCharacters {
    /// The last ones, in a ring.
    last: Vec<char>,
    count: usize,
    /// For each length of a circle, how many in a row are those of so many before.
    runs: Vec<usize>,
}

impl CircleOfCharacters {
    /// True if `c` closes a circle.
    fn push(&mut self, c: char) -> bool {
        self.last.resize(LONGEST, '\0');
        self.runs.resize(LONGEST, 0);
        let mut is_closed = false;
        for (length, run) in (1..).zip(&mut self.runs) {
            let before = self.count.checked_sub(length);
            let is_again = before.is_some_and(|before| self.last[before % LONGEST] == c);
            *run = if is_again { *run + 1 } else { 0 };
            is_closed |= *run >= LEAST_CHARACTERS.max(LEAST_ROUNDS * length);
        }
        self.last[self.count % LONGEST] = c;
        self.count += 1;
        is_closed
    }
}

#[cfg(test)]
mod tests;
