//! Lines of JSON: each is a record, its fields in the file's order as `name: value`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::SkipReason;
use super::draft::{Draft, collapsed};

/// The records of a file. Lines that are not JSON, such as the last of a file that is cut off, are
/// a gap unless there is no other.
pub(super) fn read(text: &str) -> Result<Draft, SkipReason> {
    let mut draft = Draft::default();
    let mut bad = Bad::default();
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let (start, end) = (at, at + line.len());
        at = end;
        if line.trim().is_empty() {
            continue;
        }
        let mut parts = Vec::new();
        match serde_json::from_str::<Value>(line) {
            Ok(value) => flatten("", &value, &mut parts),
            Err(error) => {
                bad.note(number, &error);
                continue;
            }
        }
        bad.others = true;
        let before = draft.text.len();
        draft.close();
        draft.paragraph(&parts.join("\n"));
        let lead = if before == 0 { 0 } else { 2 };
        if draft.text.len() > before + lead {
            draft.points.push((before + lead, start));
            let length = draft.text.len() - before - lead;
            let reached = (start + length).min(end.saturating_sub(1)).max(start);
            draft.points.push((draft.text.len(), reached));
        }
        draft.expect_room()?;
    }
    match bad.reason() {
        Some(reason) if !bad.others => return Err(reason),
        Some(reason) => draft.gaps.push(reason),
        None => {}
    }
    Ok(draft)
}

/// Lines that are not JSON.
#[derive(Default)]
struct Bad {
    num_lines: u64,
    first: String,
    /// True if there are lines that are.
    others: bool,
}

impl Bad {
    fn note(&mut self, number: u64, error: &serde_json::Error) {
        if self.num_lines == 0 {
            // The line that the parser counts is always its first.
            let message = error.to_string();
            let words = message.split(" at line ").next().unwrap_or_default();
            self.first = format!("line {number} is not JSON: {words}");
        }
        self.num_lines += 1;
    }

    fn reason(&self) -> Option<SkipReason> {
        let message = match self.num_lines {
            0 => return None,
            1 => self.first.clone(),
            more => format!("{}, and {} more", self.first, more - 1),
        };
        Some(SkipReason::Broken { message })
    }
}

/// A JSON value whose fields keep their order, which a reader expects: the question first.
enum Value {
    /// Null, and what has no text.
    Nothing,
    Number(String),
    Plain(String),
    List(Vec<Value>),
    Fields(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nothing)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Number(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(match collapsed(value) {
                    text if text.is_empty() => Value::Nothing,
                    text => Value::Plain(text),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Value::Fields(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl Value {
    fn plain(&self) -> Option<&str> {
        match self {
            Self::Nothing => Some(""),
            Self::Number(text) | Self::Plain(text) => Some(text),
            Self::List(_) | Self::Fields(_) => None,
        }
    }

    /// A long list of numbers is a vector, which no reader reads.
    fn is_vector(&self) -> bool {
        let is_number = |value: &Self| matches!(value, Self::Number(_));
        matches!(self, Self::List(values) if values.len() > 16 && values.iter().all(is_number))
    }
}

/// Nested names are joined by dots. Depth is bounded by the parser's own limit.
fn flatten(name: &str, value: &Value, parts: &mut Vec<String>) {
    let mut push = |text: &str| {
        if !text.is_empty() {
            let labelled = format!("{name}: {text}");
            parts.push(if name.is_empty() {
                text.to_owned()
            } else {
                labelled
            });
        }
    };
    match value {
        Value::Nothing => {}
        Value::Number(text) | Value::Plain(text) => push(text),
        Value::List(_) if value.is_vector() => {}
        Value::List(values) => match values.iter().map(Value::plain).collect::<Option<Vec<_>>>() {
            // A list of plain values is a line.
            Some(plain) => push(&plain.join(", ")),
            None => {
                for value in values {
                    flatten(name, value, parts);
                }
            }
        },
        Value::Fields(fields) => {
            for (key, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{key}"), value, parts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_names_and_values_in_their_order() {
        let text = "{\"b\": 1, \"a\": {\"c\": \"文\\n本\"}, \"v\": null}\n\n[\"x\", true, 0.5]\n";
        let draft = read(text).unwrap();
        assert_eq!(draft.text, "b: 1\na.c: 文 本\n\nx, true, 0.5");
        let source = super::super::SourceMap::new(text, 0, draft.points.clone());
        let start = draft.text.find('x').unwrap();
        assert_eq!(source.lines(&(start..start + 1)), (3, 3));
    }

    #[test]
    fn a_line_that_is_cut_off_does_not_hide_the_others() {
        let draft = read("{\"a\": 1}\n{\"b\": 2}\n{\"c\"").unwrap();
        assert_eq!(draft.text, "a: 1\n\nb: 2");
        let message = draft.gaps[0].to_string();
        assert!(message.contains("line 3 is not JSON: EOF"), "{message}");
        let error = read("no\nlines\n").unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.ends_with("and 1 more"),
            "{error}"
        );
    }
}
