//! Files with random damage: whatever their bytes are, an answer, no panic, no endless loop.
//!
//! `cargo test` does some thousand of small files. More, of real ones, and for longer:
//!
//! ```sh
//! WENYI_SAMPLES=folder WENYI_SECONDS=600 cargo test --release -p wenyi --lib mutated
//! ```
//!
//! What was being read when it ended badly then lies in the temporary folder, `wenyi-mutated-…`.

use std::io::{Cursor, Read as _, Write as _};
use std::time::{Duration, Instant};

use super::formats::{docx, read_bytes_as};
use super::pdf::{pdf, saved};
use super::*;
use crate::retrieve::chunk::units;

/// One file at most.
const SOON: Duration = Duration::from_secs(20);

/// What means something to some parser.
const TOKENS: &[&str] = &[
    "<",
    ">",
    "(",
    ")",
    "[",
    "]",
    "<<",
    ">>",
    "/",
    "\"",
    "\0",
    "&",
    "99999999",
    "-1",
    " 0 R",
    "65535",
    "4294967295",
    "\r\n",
    "\n\n",
    "obj",
    "endstream",
    "</",
    "/>",
    "{",
    "}",
    "--",
    "é",
    "中",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let end = (at + self.below(64)).min(bytes.len());
            let to = self.below(bytes.len());
            match self.below(8) {
                0 if self.below(8) == 0 => bytes.truncate(at),
                0 | 1 => bytes[at] = self.below(256) as u8,
                2 => bytes[at] ^= 1 << self.below(8),
                3 | 4 => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    drop(bytes.splice(at..at, token.bytes()));
                }
                5 => drop(bytes.drain(at..end)),
                6 => {
                    let piece = bytes[at..end].repeat(1 + self.below(40));
                    drop(bytes.splice(to..to, piece));
                }
                _ => {
                    let piece = bytes[at..end].to_vec();
                    let room = piece.len().min(bytes.len() - to);
                    bytes[to..to + room].copy_from_slice(&piece[..room]);
                }
            }
        }
    }

    /// Damages a file; of a package mostly one of its parts, which is packed again.
    fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        let parts = if self.below(8) > 0 {
            parts(bytes)
        } else {
            None
        };
        let Some(mut parts) = parts.filter(|parts| !parts.is_empty()) else {
            let mut bytes = bytes.to_vec();
            self.damage(&mut bytes);
            return bytes;
        };
        let which = self.below(parts.len());
        self.damage(&mut parts[which].1);
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        let options = options.compression_method(zip::CompressionMethod::Stored);
        for (name, content) in &parts {
            writer.start_file(name.as_str(), options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }
}

fn parts(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut parts = Vec::new();
    for index in 0..archive.len() {
        let mut part = archive.by_index(index).ok()?;
        let mut content = Vec::new();
        part.read_to_end(&mut content).ok()?;
        parts.push((part.name().ok()?.into_owned(), content));
    }
    Some(parts)
}

fn samples() -> Vec<(String, Vec<u8>)> {
    if let Some(folder) = std::env::var_os("WENYI_SAMPLES") {
        let listing = walk(&[folder.into()], &LoadOptions::default(), &Silent).unwrap();
        let read = |file: SourceFile| {
            let bytes = fs::read(&file.path).unwrap();
            (file.path.display().to_string(), bytes)
        };
        return listing.files.into_iter().map(read).collect();
    }
    let table = "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>text</w:t></w:r></w:p></w:tc></w:tr></w:tbl>";
    let html = "<h1>A</h1><p>b<table><tr><td>c<td>d</table><ul><li>e</ul><pre>f</pre>";
    let mail =
        "Subject: a\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nb\r\n--x--";
    let code = "/// A.\nfn a() {\n    b(\n}\n\nimpl X {\n    fn c() {}\n}\n";
    let markdown = "# A\n\n- b\n\n| c | d |\n|---|---|\n| e | f |\n\n```\ng\n```\n";
    let shown: &[_] = &[("Latin", 10.0, (72.0, 700.0), &b"text"[..])];
    let samples: [(&str, Vec<u8>); 8] = [
        ("a.docx", docx(table)),
        ("a.pdf", saved(pdf(&[shown]))),
        ("a.eml", mail.into()),
        ("a.csv", "a,b\n\"c,\n1,2\n".into()),
        ("a.jsonl", "{\"a\": [1, {\"b\": \"c\"}]}\n".into()),
        ("a.rs", code.into()),
        ("a.html", html.into()),
        ("a.md", markdown.into()),
    ];
    samples.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

/// Every block and sentence lies in the text, every line is one of the file's.
fn read_damaged(name: &str, bytes: &[u8]) {
    let Ok(document) = read_bytes_as(name, bytes) else {
        return;
    };
    for block in &document.blocks {
        assert!(document.text.get(block.span.clone()).is_some(), "{name}");
        let (first, last) = document.source.lines(&block.span);
        assert!(first <= last, "{name}");
        let _ = document.source.bytes(&block.span);
        if let Some(places) = document.places() {
            assert!(places.locate(first as u64, last as u64).is_some(), "{name}");
        }
    }
    for unit in units(document.kind, &document.text) {
        assert!(document.text.get(unit.span).is_some(), "{name}");
    }
}

#[test]
fn damaged_files_of_every_kind_end_in_an_answer() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds: Option<u64> = setting("WENYI_SECONDS");
    let samples = samples();
    let (started, mut random) = (Instant::now(), Random(setting("WENYI_SEED").unwrap_or(7)));
    let current = std::env::temp_dir().join(format!("wenyi-mutated-{}", std::process::id()));
    let mut num_files = 0_u64;
    loop {
        let is_done = match seconds {
            Some(seconds) => started.elapsed() > Duration::from_secs(seconds),
            None => num_files == 4000,
        };
        if is_done {
            break;
        }
        let (name, bytes) = &samples[random.below(samples.len())];
        let bytes = random.damaged(bytes);
        if seconds.is_some() {
            let kind = Path::new(name).extension().unwrap_or_default();
            fs::write(current.with_extension(kind), &bytes).unwrap();
        }
        let reading = Instant::now();
        read_damaged(name, &bytes);
        let elapsed = reading.elapsed();
        assert!(
            elapsed < SOON,
            "{name} took {elapsed:?}: {}",
            current.display()
        );
        num_files += 1;
    }
    println!("{num_files} files");
}
