//! Texts from files and pipes: one a line, or JSON lines with a `text` field, read as a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::exit::UserError;

/// A stream of texts with the place they come from.
pub(crate) struct Texts {
    reader: Box<dyn BufRead>,
    name: String,
    line: u64,
    form: Form,
    /// Length of the input, where it is known.
    size: Option<u64>,
    consumed: u64,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Decided by the first line that is not blank.
    Unknown,
    Lines,
    JsonLines,
}

/// One line of a JSON lines file; other fields are passed over.
#[derive(Deserialize)]
struct Record {
    text: String,
}

impl Texts {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::from_reader(
                Box::new(io::stdin().lock()),
                "standard input",
                None,
            ));
        }
        if path.is_dir() {
            let error =
                UserError::new(format!("`{}` is a folder, expected a file", path.display()));
            return Err(error.with_hint("`wenyi index` takes folders").into());
        }
        let file = File::open(path).map_err(|source| unreadable(path, &source))?;
        let size = file
            .metadata()
            .ok()
            .filter(|data| data.is_file())
            .map(|data| data.len());
        let mut texts = Self::from_reader(
            Box::new(BufReader::new(file)),
            &path.display().to_string(),
            size,
        );
        if has_json_lines_extension(path) {
            texts.form = Form::JsonLines;
        }
        Ok(texts)
    }

    fn from_reader(reader: Box<dyn BufRead>, name: &str, size: Option<u64>) -> Self {
        let name = name.to_owned();
        Self {
            reader,
            name,
            line: 0,
            form: Form::Unknown,
            size,
            consumed: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes of the whole input, if known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes read so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Where the texts come from, for messages: `notes.txt`.
    pub(crate) fn name(&self) -> String {
        format!("`{}`", self.name)
    }

    /// Where the last text came from, for messages: `notes.txt line 12`.
    pub(crate) fn place(&self, line: u64) -> String {
        format!("`{}` line {line}", self.name)
    }

    /// The next text and its line number, counted from one.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        loop {
            self.buffer.clear();
            let read = self.reader.read_until(b'\n', &mut self.buffer);
            let read = read.with_context(|| format!("cannot read `{}`", self.name))?;
            if read == 0 {
                return Ok(None);
            }
            self.consumed += read as u64;
            self.line += 1;
            let line = self.decode()?;
            if self.form == Form::Unknown && !line.trim().is_empty() {
                self.form = form_of(&line);
            }
            if self.form != Form::JsonLines {
                return Ok(Some((self.line, line)));
            }
            if !line.trim().is_empty() {
                return Ok(Some((self.line, self.parse(&line)?)));
            }
        }
    }

    /// The line without its end, and without the byte order mark that Windows editors put first.
    fn decode(&mut self) -> anyhow::Result<String> {
        let mut bytes = self.buffer.as_slice();
        bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if self.line == 1 {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        }
        match str::from_utf8(bytes) {
            Ok(line) => Ok(line.to_owned()),
            Err(error) => {
                let offset = error.valid_up_to();
                let message = format!(
                    "{} is not UTF-8: byte 0x{:02x} at offset {offset} of the line",
                    self.place(self.line),
                    bytes[offset]
                );
                let hint = "convert the file first, for example with \
                            `iconv -f GB18030 -t UTF-8 FILE`";
                Err(UserError::new(message).with_hint(hint).into())
            }
        }
    }

    fn parse(&self, line: &str) -> anyhow::Result<String> {
        let record: Record = serde_json::from_str(line).map_err(|error| {
            let place = self.place(self.line);
            UserError::new(format!(
                "{place} is not a JSON object with a `text` string: {error}"
            ))
            .with_hint("give JSON lines such as {\"text\": \"…\"}, or a file with one text a line")
        })?;
        Ok(record.text)
    }
}

fn unreadable(path: &Path, source: &io::Error) -> anyhow::Error {
    let message = format!("cannot read `{}`: {source}", path.display());
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => UserError::new(message)
            .with_hint("check the path and its permissions")
            .into(),
        _ => anyhow::Error::msg(message),
    }
}

fn form_of(line: &str) -> Form {
    if line.starts_with('{') && serde_json::from_str::<Record>(line).is_ok() {
        Form::JsonLines
    } else {
        Form::Lines
    }
}

fn has_json_lines_extension(path: &Path) -> bool {
    let extension = PathBuf::from(path)
        .extension()
        .map(|e| e.to_string_lossy().to_lowercase());
    matches!(extension.as_deref(), Some("jsonl" | "ndjson"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &'static [u8]) -> Texts {
        Texts::from_reader(Box::new(bytes), "test", None)
    }

    fn all(bytes: &'static [u8]) -> Vec<(u64, String)> {
        let mut texts = texts(bytes);
        std::iter::from_fn(|| texts.next().unwrap()).collect()
    }

    fn strings(bytes: &'static [u8]) -> Vec<String> {
        all(bytes).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn every_line_is_a_text_and_empty_lines_are_empty_texts() {
        assert_eq!(strings("一\n\r\nthree".as_bytes()), ["一", "", "three"]);
        assert_eq!(strings(b"a\n"), ["a"]);
        assert!(strings(b"").is_empty());
    }

    #[test]
    fn json_lines_are_known_by_their_first_line() {
        let bytes = "\u{feff}{\"text\": \"你好\", \"id\": 7}\n\n{\"text\": \"b\"}\n".as_bytes();
        assert_eq!(all(bytes), [(1, "你好".into()), (3, "b".into())]);
    }

    #[test]
    fn a_bad_json_line_is_named() {
        let mut texts = texts(b"{\"text\": \"a\"}\nplain\n");
        texts.next().unwrap();
        let message = texts.next().unwrap_err().to_string();
        assert!(
            message.starts_with("`test` line 2 is not a JSON object"),
            "{message}"
        );
    }

    #[test]
    fn braces_alone_do_not_make_json_lines() {
        assert_eq!(
            strings(b"{curly}\n{\"other\": 1}\n"),
            ["{curly}", "{\"other\": 1}"]
        );
    }

    #[test]
    fn invalid_utf8_names_line_and_byte() {
        let mut texts = texts(b"fine\nab\xff\n");
        texts.next().unwrap();
        let message = texts.next().unwrap_err().to_string();
        assert_eq!(
            message,
            "`test` line 2 is not UTF-8: byte 0xff at offset 2 of the line"
        );
    }
}
