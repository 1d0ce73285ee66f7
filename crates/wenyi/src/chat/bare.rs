//! Calls that a model writes without the marks of its template.
//!
//! Models made for code answer with the object alone, or in a fence as they write any JSON. Such an
//! answer is a call if nothing else is in it and the tool is one that was offered. What may still become
//! one is held back; everything else is shown as it comes.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::{Nesting, call_id};
use super::{TokenLogprob, ToolCallDelta};

/// Watches an answer for a call without marks.
#[derive(Clone, Debug)]
pub(super) struct BareReader {
    /// The tools that were offered.
    names: Vec<String>,
    state: State,
    /// The answer so far, while it may be a call.
    held: String,
    /// The tokens of what is held, if they are told of.
    logprobs: Vec<TokenLogprob>,
    /// Bytes of `held` that are understood.
    seen: usize,
    nesting: Nesting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the object's first key.
    Lead,
    Object,
    /// Behind the object.
    Trail,
    /// It is no call.
    Words,
}

/// A part of an answer that may be shown, with its tokens.
pub(super) type Shown = (String, Vec<TokenLogprob>);

/// A call as the models write it; Llama 3 calls the arguments parameters and names the type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: &'a RawValue,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The keys of [`Written`], any of which may come first.
const KEYS: [&str; 4] = ["\"name\"", "\"arguments\"", "\"parameters\"", "\"type\""];

/// What marks code in an answer, and the word that follows it.
const FENCE: &str = "```";
const LANGUAGE: &str = "json";

impl BareReader {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            state: State::Lead,
            held: String::new(),
            logprobs: Vec::new(),
            seen: 0,
            nesting: Nesting::default(),
        }
    }

    /// The same for the tool called `name` alone.
    pub(super) fn only(&self, name: &str) -> Self {
        Self::new(vec![name.to_owned()])
    }

    /// What may be shown once `text` has come, with its tokens.
    pub(super) fn push(&mut self, text: &str, logprobs: Vec<TokenLogprob>) -> Shown {
        if self.state == State::Words {
            return (text.to_owned(), logprobs);
        }
        self.held.push_str(text);
        self.logprobs.extend(logprobs);
        while let Some(next) = self.step() {
            self.state = next;
        }
        match self.state {
            State::Words => self.release(),
            _ => Shown::default(),
        }
    }

    /// The answer is no call, or a call with marks follows: all that is held may be shown.
    pub(super) fn release(&mut self) -> Shown {
        self.state = State::Words;
        let Self { held, logprobs, .. } = self;
        (std::mem::take(held), std::mem::take(logprobs))
    }

    /// The call that all of the answer is, once it has ended; its text is then not shown.
    pub(super) fn finish(&mut self) -> Option<ToolCallDelta> {
        let (name, arguments) = self.called()?;
        self.held.clear();
        Some(ToolCallDelta {
            index: 0,
            id: Some(call_id()),
            name: Some(name),
            arguments,
        })
    }

    /// The tool that is being called, as soon as its name stands there.
    pub(super) fn name(&self) -> Option<&str> {
        match self.state {
            State::Object | State::Trail => named(self.object()?),
            State::Lead | State::Words => None,
        }
    }

    /// One step through what is held; `None` when more text is needed, or all is known.
    fn step(&mut self) -> Option<State> {
        match self.state {
            State::Lead => self.lead(),
            State::Object => self.through_object(),
            State::Trail => (!self.is_trail()).then_some(State::Words),
            State::Words => None,
        }
    }

    /// Up to the object's first key, which must be one of a call's.
    fn lead(&mut self) -> Option<State> {
        let text = self.held.trim_start();
        let Some(object) = self.object() else {
            let word = text.strip_prefix(FENCE).map(str::trim_end);
            let may_be_fenced = match word {
                Some(word) => LANGUAGE.starts_with(word),
                None => FENCE.starts_with(text),
            };
            return (!may_be_fenced).then_some(State::Words);
        };
        let Some(inside) = object.strip_prefix('{').map(str::trim_start) else {
            return (!object.is_empty()).then_some(State::Words);
        };
        if KEYS.iter().any(|key| inside.starts_with(key)) {
            self.seen = self.held.len() - object.len();
            return Some(State::Object);
        }
        let may_be_key = KEYS.iter().any(|key| key.starts_with(inside));
        (!may_be_key).then_some(State::Words)
    }

    /// Up to the object's end; the name of a tool that was not offered ends it at once.
    fn through_object(&mut self) -> Option<State> {
        let mut characters = self.held[self.seen..].char_indices();
        let last = characters.find(|(_, character)| self.nesting.ends(*character));
        self.seen = last.map_or(self.held.len(), |(at, character)| {
            self.seen + at + character.len_utf8()
        });
        let name = self.object().and_then(named);
        if name.is_some_and(|name| !self.names.iter().any(|known| known == name)) {
            return Some(State::Words);
        }
        last.map(|_| State::Trail)
    }

    /// True if nothing stands behind the object but what closes its fence.
    fn is_trail(&self) -> bool {
        let rest = self.held[self.seen..].trim();
        match self.held.trim_start().starts_with(FENCE) {
            true => FENCE.starts_with(rest),
            false => rest.is_empty(),
        }
    }

    /// What is held without the fence before it; `None` while that may be one and is not whole, or is
    /// of another language.
    fn object(&self) -> Option<&str> {
        let text = self.held.trim_start();
        match text.strip_prefix(FENCE) {
            None => (!FENCE.starts_with(text)).then_some(text),
            Some(fenced) => {
                let (word, object) = fenced.split_once('\n')?;
                let is_json = ["", LANGUAGE].contains(&word.trim());
                is_json.then(|| object.trim_start())
            }
        }
    }

    /// The name and the arguments of the call that all of the text is.
    fn called(&self) -> Option<(String, String)> {
        if self.state != State::Trail {
            return None;
        }
        let object = self.object()?;
        let behind = self.held.len() - self.seen;
        let written: Written<'_> = serde_json::from_str(&object[..object.len() - behind]).ok()?;
        let is_function = written.kind.is_none_or(|kind| kind == "function");
        let arguments = written.arguments.get();
        let is_call = is_function && arguments.starts_with('{');
        (is_call && self.names.contains(&written.name))
            .then(|| (written.name, arguments.to_owned()))
    }
}

/// The name that an object begins with, once it is whole. One with an escape in it is left to the parser.
fn named(object: &str) -> Option<&str> {
    let value = object.strip_prefix('{')?.trim_start();
    let value = value.strip_prefix(KEYS[0])?.trim_start();
    let value = value.strip_prefix(':')?.trim_start();
    let (name, _) = value.strip_prefix('"')?.split_once('"')?;
    (!name.contains('\\')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &str = r#"{"city": "巴黎 \"}\" {", "days": [1, {"x": 2}]}"#;

    /// What is shown of `text`, which comes `step` characters at a time, and the call that it is.
    fn read(text: &str, step: usize) -> (String, Option<(String, String)>) {
        let mut reader = BareReader::new(vec!["get_weather".into(), "查询".into()]);
        let characters: Vec<char> = text.chars().collect();
        let mut shown = String::new();
        for part in characters.chunks(step) {
            shown += &reader.push(&part.iter().collect::<String>(), Vec::new()).0;
        }
        let call = reader.finish();
        shown += &reader.release().0;
        let call = call.map(|call| (call.name.unwrap_or_default(), call.arguments));
        (shown, call)
    }

    #[test]
    fn an_object_alone_is_a_call() {
        let object = format!(r#"{{"name": "get_weather", "arguments": {ARGUMENTS}}}"#);
        for text in [
            object.clone(),
            format!("\n {object}\n"),
            format!("```json\n{object}\n```"),
            format!("```\n{object}\n```\n"),
            // The limit of tokens came before the fence's end.
            format!("```json\n{object}"),
            format!("{{\n  \"arguments\": {ARGUMENTS},\n  \"name\": \"get_weather\"\n}}"),
            format!(r#"{{"type": "function", "name": "get_weather", "parameters": {ARGUMENTS}}}"#),
        ] {
            for step in 1..30 {
                let call = ("get_weather".to_owned(), ARGUMENTS.to_owned());
                let expected = (String::new(), Some(call));
                assert_eq!(read(&text, step), expected, "{text} {step}");
            }
        }
        let (_, call) = read(r#"{"name":"查询","arguments":{}}"#, 1);
        assert_eq!(call, Some(("查询".into(), "{}".into())));
        let (_, call) = read(r#"{"name":"\u67e5\u8be2","arguments":{}}"#, 1);
        assert_eq!(call, Some(("查询".into(), "{}".into())));
    }

    #[test]
    fn everything_else_stays_text() {
        for text in [
            "",
            "Bonjour {\"name\": 1}",
            "{\"name\": \"get_weather\", \"arguments\": {}} is what I call.",
            "I call:\n```json\n{\"name\": \"get_weather\", \"arguments\": {}}\n```",
            "```json\n{\"name\": \"get_weather\", \"arguments\": {}}\n```\nDone.",
            "```python\n{\"name\": \"get_weather\", \"arguments\": {}}\n```",
            "{\"name\": \"other\", \"arguments\": {}}",
            "{\"name\": \"get_weather\", \"arguments\": \"{}\"}",
            "{\"name\": \"get_weather\", \"arguments\": []}",
            "{\"name\": \"get_weather\"}",
            "{\"name\": \"get_weather\", \"arguments\": {}, \"more\": 1}",
            "{\"type\": \"x\", \"name\": \"get_weather\", \"arguments\": {}}",
            "{\"name\": \"get_weather\", \"arguments\": {",
            "{\"names\": 1}",
            "{\"name\": get_weather, \"arguments\": {}}",
            "{\"name\": \"get_weather\", \"arguments\": {}}\n{\"name\": \"查询\", \"arguments\": {}}",
            "{}",
            "``",
            "```json",
            "  ",
        ] {
            for step in 1..30 {
                assert_eq!(read(text, step), (text.to_owned(), None), "{step}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_call_is_not_held_back() {
        let mut reader = BareReader::new(vec!["f".into()]);
        assert_eq!(reader.push("{\"answer\"", Vec::new()).0, "{\"answer\"");
        let mut reader = BareReader::new(vec!["f".into()]);
        assert_eq!(reader.push("{\"name\": \"", Vec::new()).0, "");
        assert_eq!(reader.push("g\",", Vec::new()).0, "{\"name\": \"g\",");
        let mut reader = BareReader::new(vec!["f".into()]);
        assert_eq!(reader.name(), None);
        reader.push("{\"name\": \"f\"", Vec::new());
        assert_eq!(reader.name(), Some("f"));
    }
}
