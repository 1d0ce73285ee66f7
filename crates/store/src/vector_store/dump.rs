//! The dump file of LangChain's `InMemoryVectorStore`, read and written.
//!
//! One JSON object, id to `{"id", "vector", "text", "metadata"}`, as Python's `json` writes it: NaN
//! bare, halves of surrogate pairs alone. Metadata pass through LangChain's own escape: an object
//! with the key `lc` is wrapped into `{"__lc_escaped__": …}`. What LangChain could not write stands
//! there as an object of type `not_implemented`, at which its own reader gives up: here such metadata
//! are kept as they stand, and a NumPy vector is read from its printed form if that is whole.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Value, json};

use super::VectorStore;
use super::memory::MemoryStore;
use super::point::{Payload, Point, PointId};
use super::request::StoreOptions;
use crate::{Error, ErrorKind, Result};

/// The key that LangChain's escape wraps objects in.
const ESCAPED: &str = "__lc_escaped__";

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
        let text = fs::read_to_string(path).map_err(|source| io_error(path, source))?;
        let entries: Entries = serde_json::from_str(&readable(&text))
            .map_err(|error| not_a_dump(path, error.to_string()))?;
        let points = entries.0.into_iter().map(|(id, value)| {
            point(&id, value).map_err(|reason| not_a_dump(path, format!("`{id}` {reason}")))
        });
        let points = points.collect::<Result<Vec<_>>>()?;
        let store = Self::with_options(StoreOptions::default())?;
        store.upsert(&points)?;
        Ok(store)
    }

    /// Writes a dump file that LangChain's `InMemoryVectorStore.load` reads, in place of what is at
    /// `path`, whole or not at all; makes the folders above it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; or if a number and a text are the same id there.
    pub fn dump(&self, path: impl AsRef<Path>) -> Result<()> {
        write_dump(path.as_ref(), &self.points())
    }
}

/// As [`MemoryStore::dump`].
fn write_dump(path: &Path, points: &[Point]) -> Result<()> {
    let mut ids: Vec<String> = points.iter().map(|point| point.id.to_string()).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        let id = pair[0].clone();
        return Err(ErrorKind::DuplicateId { id }.into());
    }
    let write = || {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        folder.map_or(Ok(()), fs::create_dir_all)?;
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".new-{}", std::process::id()));
        let written = write_new(Path::new(&new), points).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // What is half-written is of no use; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&new);
        }
        written
    };
    write().map_err(|source| io_error(path, source))
}

fn write_new(path: &Path, points: &[Point]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = Serializer::with_formatter(&mut file, Ascii::default());
    let mut map = serializer.serialize_map(Some(points.len()))?;
    for point in points {
        let id = point.id.to_string();
        map.serialize_entry(&id, &entry(&id, point))?;
    }
    map.end()?;
    file.flush()?;
    file.get_ref().sync_all()
}

fn io_error(path: &Path, source: io::Error) -> Error {
    let path = path.to_path_buf();
    ErrorKind::Io { path, source }.into()
}

fn not_a_dump(path: &Path, reason: String) -> Error {
    let path = path.to_path_buf();
    ErrorKind::NotADump { path, reason }.into()
}

/// The keys in Python's order.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    vector: Vec<f64>,
    text: &'a str,
    metadata: Value,
}

fn entry<'a>(id: &'a str, point: &'a Point) -> Entry<'a> {
    Entry {
        id,
        // As Python has an f32: the same number, not its shortest print.
        vector: point.vector.iter().map(|&value| value.into()).collect(),
        text: &point.text,
        metadata: escape(&Value::Object(point.payload.clone())),
    }
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

/// LangChain's escape: an object with the key `lc`, or with nothing but the escape's own key, is
/// wrapped and left alone inside. A nested `Document` is written as LangChain writes it.
fn escape(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(escape).collect(),
        Value::Object(fields) if is_document(value) => Value::Object(fields.clone()),
        Value::Object(fields)
            if fields.contains_key("lc") || fields.len() == 1 && fields.contains_key(ESCAPED) =>
        {
            json!({ESCAPED: value})
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), escape(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
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

fn is_document(value: &Value) -> bool {
    value["lc"] == 1
        && value["type"] == "constructor"
        && value["id"] == json!(["langchain", "schema", "document", "Document"])
}

/// The entries in the order of the file.
struct Entries(Vec<(String, Value)>);

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

/// Two spaces of indentation and nothing but ASCII, as `json.dump(…, indent=2)` writes.
#[derive(Default)]
struct Ascii {
    pretty: PrettyFormatter<'static>,
}

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                writer.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Point>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        fs::write(&path, text).unwrap();
        Ok(MemoryStore::load_dump(path)?.points())
    }

    #[test]
    fn odd_files_are_read() {
        let points = load(
            r#"{"b":{"id":"b","vector":[1,0],"text":"\ud83d\ude00 \ud83d \"\\ud83d\" \u4e2d",
                "metadata":{"n":NaN,"i":[-Infinity],"s":"NaN","e":{"__lc_escaped__":{"lc":1}},
                "d":{"lc":1,"type":"not_implemented","id":["datetime"],"repr":"x"}}},
               "a":{"vector":{"lc":1,"type":"not_implemented","id":["numpy","ndarray"],
                "repr":"array([ 0.25, -1.5e-1],\n      dtype=float32)"},"text":""}}"#,
        )
        .unwrap();
        assert_eq!(points[0].text, "😀 \u{FFFD} \"\\ud83d\" 中");
        let expected = json!({"n": null, "i": [null], "s": "NaN", "e": {"lc": 1},
            "d": {"lc": 1, "type": "not_implemented", "id": ["datetime"], "repr": "x"}});
        assert_eq!(Value::Object(points[0].payload.clone()), expected);
        assert_eq!(
            (points[1].id.clone(), points[1].vector.clone()),
            ("a".into(), vec![0.25, -0.15])
        );
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_place() {
        for (text, reason) in [
            ("[]", "an object of ids"),
            (r#"{"a": 1}"#, "`a` is not an object"),
            (
                r#"{"a": {"text": "t", "metadata": {}}}"#,
                "`a` has no vector",
            ),
            (
                r#"{"a": {"vector": [1], "metadata": {}}}"#,
                "`a` has no text",
            ),
            (
                r#"{"a": {"vector": [NaN], "text": ""}}"#,
                "`a` has `null` in its vector",
            ),
            (
                r#"{"a": {"vector": {"repr": "array([1., ..., 2.])"}, "text": ""}}"#,
                "lost",
            ),
            (
                r#"{"a": {"vector": [1], "text": ""}, "b": {"vector": [1, 2], "text": ""}}"#,
                "2 dimensions",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.is_user_error());
        }
    }

    #[test]
    fn a_dump_comes_back_and_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/ordner/dump.json");
        let facts = json!({"lc": 1, "e": [{ESCAPED: 2}, {"lc": {"lc": 3}}], "中": "\u{7f}😀"});
        let store = MemoryStore::new();
        let points = [
            Point::new("z", [0.1, 2.0])
                .with_text("文")
                .with_payload(facts.as_object().unwrap().clone()),
            Point::new("a", [1.0, 0.0]),
        ];
        store.upsert(&points).unwrap();
        for _ in 0..2 {
            store.dump(&path).unwrap();
            assert_eq!(MemoryStore::load_dump(&path).unwrap().points(), points);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.is_ascii());
        assert!(
            text.starts_with("{\n  \"z\": {\n    \"id\": \"z\",\n    \"vector\": [\n      0.1"),
            "{text}"
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        store
            .upsert(&[Point::new(1u64, [1.0, 0.0]), Point::new("1", [1.0, 0.0])])
            .unwrap();
        assert!(store.dump(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
