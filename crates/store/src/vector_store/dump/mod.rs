//! The dump file of LangChain's `InMemoryVectorStore`, read and written.
//!
//! One JSON object, id to `{"id", "vector", "text", "metadata"}`, as Python's `json` writes it: NaN
//! bare, halves of surrogate pairs alone. Metadata pass through LangChain's own escape: an object
//! with the key `lc` is wrapped into `{"__lc_escaped__": …}`. What LangChain could not write stands
//! there as an object of type `not_implemented`, at which its own reader gives up: here such metadata
//! are kept as they stand, and a NumPy vector is read from its printed form if that is whole.

mod read;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer as _};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Value, json};

pub use self::read::RefusedEntry;
use super::memory::MemoryStore;
use super::point::Point;
use crate::{Error, ErrorKind, Result};

/// The key that LangChain's escape wraps objects in.
const ESCAPED: &str = "__lc_escaped__";

impl MemoryStore {
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

fn is_document(value: &Value) -> bool {
    value["lc"] == 1
        && value["type"] == "constructor"
        && value["id"] == json!(["langchain", "schema", "document", "Document"])
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
    use crate::Result;
    use crate::vector_store::VectorStore;

    fn load(text: &str) -> Result<Vec<Point>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        fs::write(&path, text).unwrap();
        Ok(MemoryStore::load_dump(path)?.points())
    }

    #[test]
    fn an_empty_file_and_integers_that_would_change_are_named() {
        for empty in ["", " \n"] {
            let error = load(empty).unwrap_err();
            assert!(error.to_string().contains("it is empty"), "{error}");
            assert!(error.is_user_error() && error.hint().is_some());
        }
        let entry = r#"{"a":{"vector":[1],"text":"","metadata":{"n":18446744073709551616}}}"#;
        let error = load(entry).unwrap_err().to_string();
        assert!(
            error.contains("`a` has the integer 18446744073709551616"),
            "{error}"
        );
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
    fn the_others_are_read_of_a_file_with_bad_entries() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        let text = r#"{"gone": {"lc": 1, "type": "not_implemented", "id": ["x"], "repr": "x"},
            "甲": {"vector": [3, 4], "text": "t"}, "zero": {"vector": [0, 0], "text": ""},
            "wide": {"vector": [1, 2, 3], "text": ""}, "b": {"vector": [1, 0], "text": ""}}"#;
        fs::write(&path, text).unwrap();
        let (store, refused) = MemoryStore::load_dump_partly(&path).unwrap();
        let ids: Vec<String> = store
            .points()
            .iter()
            .map(|point| point.id.to_string())
            .collect();
        assert_eq!(ids, ["甲", "b"]);
        let refused: Vec<&str> = refused.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(refused, ["gone", "zero", "wide"]);
        let error = MemoryStore::load_dump(&path).unwrap_err().to_string();
        assert!(
            error.contains("`gone` has no vector; 2 entries more"),
            "{error}"
        );
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
