//! Calls read from the model's own words while it writes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ToolCallDelta;
use super::tools::Syntax;

/// Reads calls that a grammar holds to a [`Syntax`].
#[derive(Clone, Debug)]
pub(super) struct CallReader {
    syntax: Syntax,
    state: State,
    /// Text that is not understood yet.
    held: String,
    /// Calls that were begun.
    begun: usize,
    /// Calls whose arguments are whole.
    whole: usize,
    nesting: Nesting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a function's name.
    Lead,
    Arguments,
}

/// Where in a JSON value a text is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// True if the value ends with `character`.
    pub(super) fn ends(&mut self, character: char) -> bool {
        if self.is_string {
            self.is_string = self.is_escaped || character != '"';
            self.is_escaped = !self.is_escaped && character == '\\';
            return false;
        }
        match character {
            '"' => self.is_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl CallReader {
    pub(super) fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            state: State::Lead,
            held: String::new(),
            begun: 0,
            whole: 0,
            nesting: Nesting::default(),
        }
    }

    /// What `text` adds to the calls.
    pub(super) fn push(&mut self, text: &str) -> Vec<ToolCallDelta> {
        self.held.push_str(text);
        let mut deltas = Vec::new();
        while let Some(delta) = self.step() {
            deltas.push(delta);
        }
        deltas
    }

    /// True if every call that was begun is whole, and there is one.
    pub(super) fn is_complete(&self) -> bool {
        self.begun > 0 && self.whole == self.begun
    }

    fn step(&mut self) -> Option<ToolCallDelta> {
        match self.state {
            State::Lead => {
                let end = self.held.find(self.syntax.arguments)?;
                // The lead ends with the quote before the name.
                let start = self.held[..end].rfind('"').map_or(0, |quote| quote + 1);
                let name = self.held[start..end].to_owned();
                self.held.drain(..end + self.syntax.arguments.len());
                self.begun += 1;
                (self.state, self.nesting) = (State::Arguments, Nesting::default());
                Some(ToolCallDelta {
                    index: self.begun - 1,
                    id: Some(call_id()),
                    name: Some(name),
                    arguments: String::new(),
                })
            }
            State::Arguments => {
                let mut characters = self.held.char_indices();
                let last = characters.find(|(_, character)| self.nesting.ends(*character));
                let end = last.map_or(self.held.len(), |(at, character)| at + character.len_utf8());
                if end == 0 {
                    return None;
                }
                if last.is_some() {
                    self.whole += 1;
                    self.state = State::Lead;
                }
                Some(ToolCallDelta {
                    index: self.begun - 1,
                    arguments: self.held.drain(..end).collect(),
                    ..ToolCallDelta::default()
                })
            }
        }
    }
}

/// A name for a call that no other call of the conversation has.
pub(super) fn call_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "call_{:016x}{count:08x}",
        now.as_nanos() & u128::from(u64::MAX)
    )
}

/// `id` in nine letters and digits, the same for the same.
pub(super) fn short_id(id: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // FNV-1a.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..9)
        .map(|_| {
            let digit = DIGITS[(hash % 36) as usize];
            hash /= 36;
            char::from(digit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(syntax: Syntax, text: &str, step: usize) -> (Vec<(String, String)>, bool) {
        let mut reader = CallReader::new(syntax);
        let characters: Vec<char> = text.chars().collect();
        let mut calls: Vec<(String, String)> = Vec::new();
        for part in characters.chunks(step) {
            for delta in reader.push(&part.iter().collect::<String>()) {
                if let Some(name) = delta.name {
                    calls.push((name, String::new()));
                }
                calls[delta.index].1 += &delta.arguments;
            }
        }
        (calls, reader.is_complete())
    }

    #[test]
    fn calls_are_read_across_any_borders() {
        let tagged = Syntax::of_template("{{ tools }}<tool_call>");
        let arguments = r#"{"名": "a \" } ] \\", "list": [{"x": 1}], "empty": {}}"#;
        let one = format!("\n{{\"name\": \"f\", \"arguments\": {arguments}}}");
        let two =
            format!("{one}\n</tool_call>\n<tool_call>\n{{\"name\": \"g\", \"arguments\": {{}}}}");
        for step in 1..20 {
            let both = vec![
                ("f".to_owned(), arguments.to_owned()),
                ("g".to_owned(), "{}".to_owned()),
            ];
            assert_eq!(read(tagged, &two, step), (both, true), "{step}");
            // The lead may stand in the prompt.
            let (calls, is_complete) = read(tagged, &one["\n{\"name\": \"".len()..], step);
            assert_eq!(calls, [("f".to_owned(), arguments.to_owned())]);
            assert!(is_complete);
            let (_, is_complete) = read(tagged, &one[..one.len() - 3], step);
            assert!(!is_complete, "{step}");
        }
    }

    #[test]
    fn ids_differ_and_short_ones_stay_the_same() {
        assert_ne!(call_id(), call_id());
        assert_eq!(short_id("call_1"), short_id("call_1"));
        assert_ne!(short_id("call_1"), short_id("call_2"));
        assert_eq!(short_id("x").len(), 9);
    }
}
