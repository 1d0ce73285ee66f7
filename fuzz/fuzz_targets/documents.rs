//! Files of every kind: read or refused; every block lies in the text and leads back to a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wenyi::retrieve::Kind;
use wenyi::retrieve::load::{SourceFile, decode_document};

const KINDS: &[Kind] = &[
    Kind::Markdown,
    Kind::Text,
    Kind::Html,
    Kind::Code,
    Kind::Pdf,
    Kind::Docx,
    Kind::Pptx,
    Kind::Xlsx,
    Kind::Csv,
    Kind::Epub,
    Kind::Eml,
    Kind::Jsonl,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let file = SourceFile {
        path: "file".into(),
        kind: Some(KINDS[usize::from(*kind) % KINDS.len()]),
        bytes: bytes.len() as u64,
        modified: 0,
    };
    if let Ok(document) = decode_document(&file, bytes.to_vec()) {
        let all = 0..document.text.len();
        let (first, last) = document.source.lines(&all);
        if let Some(places) = document.places() {
            assert!(places.locate(first as u64, last as u64).is_some());
        }
        let _ = document.source.bytes(&all);
    }
});
