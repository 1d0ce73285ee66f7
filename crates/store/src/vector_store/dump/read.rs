//! Dump files read: all of a file, or what can be read of it.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ESCAPED, io_error, not_a_dump};
use crate::Result;
use crate::rows::to_unit;
use crate::vector_store::VectorStore;
use crate::vector_store::integers::integer_beyond_64_bits;
use crate::vector_store::memory::MemoryStore;
use crate::vector_store::point::{Payload, Point, PointId};
use crate::vector_store::request::StoreOptions;

/// An entry of a dump file that cannot become a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for RefusedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.id, self.reason)
    }
}

impl MemoryStore {
    /// Reads a dump file into a new store, its points in the order of the file. NaN in metadata
    /// becomes null.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no dump, or a vector in it is missing, torn or of another width
    /// than the others.
    pub fn load_dump(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (store, refused) = Self::load_dump_partly(path)?;
        let Some(first) = refused.first() else {
            return Ok(store);
        };
        let reason = match refused.len() {
            1 => first.to_string(),
            all => format!("{first}; {} entries more cannot be read", all - 1),
        };
        Err(not_a_dump(path, reason))
    }

    /// As [`MemoryStore::load_dump`], but of a file with entries that cannot become points, such as
    /// vectors that were only printed when LangChain wrote them, reads the others. To write the store
    /// back in place of the file would lose the refused ones.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no dump at all.
    pub fn load_dump_partly(path: impl AsRef<Path>) -> Result<(Self, Vec<RefusedEntry>)> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| io_error(path, source))?;
        if text.trim().is_empty() {
            return Err(not_a_dump(path, "it is empty".into()));
        }
        let entries: Entries = serde_json::from_str(&readable(&text))
            .map_err(|error| not_a_dump(path, error.to_string()))?;
        let (mut points, mut refused): (Vec<Point>, _) = (Vec::new(), Vec::new());
        for (id, value) in entries.0 {
            let width = points.first().map(|first| first.vector.len());
            let point = read(&value).and_then(|value| point(&id, value));
            match point.and_then(|point| usable(point, width)) {
                Ok(point) => points.push(point),
                Err(reason) => refused.push(RefusedEntry { id, reason }),
            }
        }
        let store = Self::with_options(StoreOptions::default())?;
        store.upsert(&points)?;
        Ok((store, refused))
    }
}

/// The point if its vector has a direction and, where there are others, their width.
fn usable(point: Point, width: Option<usize>) -> Result<Point, String> {
    let expected = width.unwrap_or(point.vector.len());
    if expected == 0 {
        return Err("has an empty vector".into());
    }
    let subject = || "its vector".to_owned();
    match to_unit(&point.vector, expected, "the file", &subject) {
        Ok(_) => Ok(point),
        Err(_) if point.vector.len() != expected => {
            let own = point.vector.len();
            Err(format!("has {own} dimensions, the first vector {expected}"))
        }
        Err(error) => Err(format!("is refused: {error}")),
    }
}

/// The value of an entry, all of whose numbers can be kept.
fn read(entry: &RawValue) -> Result<Value, String> {
    if let Some(number) = integer_beyond_64_bits(entry.get()) {
        return Err(format!(
            "has the integer {number}, which does not fit into 64 bits"
        ));
    }
    serde_json::from_str(entry.get()).map_err(|error| format!("cannot be read: {error}"))
}

fn point(id: &str, entry: Value) -> Result<Point, String> {
    let Value::Object(mut entry) = entry else {
        return Err("is not an object".into());
    };
    let vector = match entry.remove("vector") {
        Some(Value::Array(numbers)) => numbers.iter().map(number).collect::<Result<_, _>>()?,
        Some(printed @ Value::Object(_)) => from_print(&printed)?,
        Some(_) => return Err("has a vector that is no array".into()),
        None => return Err("has no vector".into()),
    };
    let text = match entry.remove("text") {
        Some(Value::String(text)) => text,
        _ => return Err("has no text".into()),
    };
    let payload = match entry.remove("metadata").map(unescape) {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => Payload::new(),
        Some(_) => return Err("has metadata that are no object".into()),
    };
    Ok(Point {
        id: PointId::from(id),
        vector,
        text,
        payload,
    })
}

fn number(json: &Value) -> Result<f32, String> {
    let number = json.as_f64().map(|number| number as f32);
    number.ok_or_else(|| format!("has `{json}` in its vector, expected a number"))
}

/// The numbers of a NumPy array that LangChain could only print.
fn from_print(json: &Value) -> Result<Vec<f32>, String> {
    let printed = json["repr"].as_str().unwrap_or_default();
    let inner = printed
        .strip_prefix("array([")
        .and_then(|rest| rest.split_once(']'))
        .map(|(inner, _)| inner)
        .ok_or("has a vector that is no array")?;
    let numbers = inner.split(',').map(|number| number.trim().parse::<f32>());
    numbers.collect::<Result<_, _>>().map_err(|_| {
        "has a vector that was shortened when it was written, its numbers are lost".into()
    })
}

fn unescape(value: Value) -> Value {
    match value {
        Value::Array(all) => all.into_iter().map(unescape).collect(),
        Value::Object(mut fields) => match fields.remove(ESCAPED) {
            Some(inner) if fields.is_empty() && inner.is_object() => inner,
            Some(inner) => {
                fields.insert(ESCAPED.into(), inner);
                Value::Object(fields)
            }
            None => {
                let fields = fields.into_iter();
                Value::Object(fields.map(|(key, value)| (key, unescape(value))).collect())
            }
        },
        other => other,
    }
}

/// The entries in the order of the file.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Python's JSON as everyone's: bare NaN and infinities become null, surrogates without their other
/// half the replacement character.
fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let taken = if in_string {
            string_piece(rest, &mut out)
        } else {
            ["NaN", "Infinity", "-Infinity"]
                .into_iter()
                .find(|word| rest.starts_with(word))
                .map_or(0, |word| {
                    out.push_str("null");
                    word.len()
                })
        };
        if taken > 0 {
            rest = &rest[taken..];
            continue;
        }
        in_string ^= c == '"';
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Takes an escape from the inside of a string; says how many bytes.
fn string_piece(rest: &str, out: &mut String) -> usize {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    if !rest.starts_with('\\') {
        return 0;
    }
    let taken = match unit(rest) {
        Some(0xD800..=0xDBFF) => match rest.get(6..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => 12,
            _ => {
                out.push('\u{FFFD}');
                return 6;
            }
        },
        Some(0xDC00..=0xDFFF) => {
            out.push('\u{FFFD}');
            return 6;
        }
        Some(_) => 6,
        None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    };
    out.push_str(&rest[..taken]);
    taken
}
