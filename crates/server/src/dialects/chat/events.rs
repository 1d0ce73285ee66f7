//! A provider's stream taken apart into its events, which go on byte by byte as they came.

use serde_json::{Value, json};
use wenyi::chat::Usage;

/// Bytes of one event; the longest of an honest provider is a picture in base64.
const MAX_EVENT: usize = 32 << 20;

/// Bytes that have come and are no whole event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    buffer: Vec<u8>,
    /// Where the first line that was not looked at begins.
    seen: usize,
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event with the empty line that ends it. Comments and empty lines between events come
    /// alone, for they keep a connection alive.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(length) = self.buffer[self.seen..].iter().position(|b| *b == b'\n') {
            let start = self.seen;
            self.seen += length + 1;
            let line = self.buffer[start..self.seen].trim_ascii_end();
            if line.is_empty() || (start == 0 && line[0] == b':') {
                let rest = self.buffer.split_off(self.seen);
                self.seen = 0;
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
        }
        None
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.buffer.len() > MAX_EVENT
    }

    /// What the end has cut off, once.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        self.seen = 0;
        Some(std::mem::take(&mut self.buffer)).filter(|rest| !rest.is_empty())
    }
}

/// What an event of OpenAI's form says about the whole answer.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The answer is at its end, or has said why it ended.
    pub(super) is_end: bool,
    /// As a whole answer would tell it, in a field `error`.
    pub(super) failure: Option<Value>,
    pub(super) usage: Option<Usage>,
}

impl Said {
    pub(super) fn by(event: &[u8]) -> Self {
        let text = String::from_utf8_lossy(event);
        let fields = |name: &str| {
            let prefix = format!("{name}:");
            let values = text.lines().filter_map(|line| line.strip_prefix(&*prefix));
            values.map(str::trim).collect::<Vec<_>>().join("\n")
        };
        let (name, data) = (fields("event"), fields("data"));
        if data == "[DONE]" {
            return Self {
                is_end: true,
                ..Self::default()
            };
        }
        let value: Value = serde_json::from_str(&data).unwrap_or_default();
        let has_error = value.get("error").is_some_and(|error| !error.is_null());
        Self {
            is_end: has_finished(&value),
            usage: value.get("usage").and_then(Usage::from_json),
            failure: match value {
                value if has_error => Some(value),
                value @ Value::Object(_) if name == "error" => Some(json!({"error": value})),
                _ if name == "error" => Some(json!({"error": {"message": data}})),
                _ => None,
            },
        }
    }
}

fn has_finished(value: &Value) -> bool {
    let choices = value.get("choices").and_then(Value::as_array);
    let mut choices = choices.into_iter().flatten();
    choices.any(|choice| choice.get("finish_reason").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_come() {
        let stream =
            ": keep-alive\n\ndata: {\"a\":\ndata: 1}\r\n\r\nevent: x\ndata: 二\n\ndata: [DO";
        for size in 1..stream.len() {
            let (mut events, mut all) = (Events::default(), Vec::new());
            for bytes in stream.as_bytes().chunks(size) {
                events.push(bytes);
                all.extend(std::iter::from_fn(|| events.next()));
            }
            let texts: Vec<_> = all.iter().map(|e| String::from_utf8_lossy(e)).collect();
            let expected = [
                ": keep-alive\n",
                "\n",
                "data: {\"a\":\ndata: 1}\r\n\r\n",
                "event: x\ndata: 二\n\n",
            ];
            assert_eq!(texts, expected, "{size}");
            assert_eq!(events.rest().unwrap(), b"data: [DO");
            assert_eq!(events.rest(), None);
        }
    }

    #[test]
    fn what_an_event_says_is_understood() {
        let said = |text: &str| Said::by(text.as_bytes());
        assert!(said("data: [DONE]\n\n").is_end);
        assert!(said("data:{\"choices\":[{\"finish_reason\":\"stop\"}]}").is_end);
        assert!(!said("data: {\"choices\":[{\"finish_reason\":null}]}\n\n").is_end);
        // A word of the answer is not its end.
        let word =
            r#"data: {"choices":[{"delta":{"content":"[DONE] \"finish_reason\":\"stop\""}}]}"#;
        assert!(!said(word).is_end);
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        assert_eq!(said(usage).usage.unwrap().completion_tokens, 2);
        for failure in [
            "data: {\"error\":{\"message\":\"no\"}}\n\n",
            "data: {\"error\":\"no\"}\n\n",
            "event: error\ndata: {\"code\":\"x\",\"message\":\"no\"}\n\n",
            "event: error\ndata: no\n\n",
        ] {
            assert!(said(failure).failure.is_some(), "{failure}");
        }
        assert!(said("data: {\"error\":null}\n\n").failure.is_none());
    }
}
