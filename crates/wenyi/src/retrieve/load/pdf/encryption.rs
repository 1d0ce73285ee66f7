//! Opens a file, also one that is encrypted without asking for a password.
//!
//! Many files are encrypted only to forbid printing or copying; their text opens with the empty
//! password. `lopdf` decrypts them if the trailer refers to the encryption dictionary. Where the
//! dictionary stands in the trailer itself, which programs write as often, it is moved into an
//! object of its own first.

use lopdf::{Dictionary, Document, LoadOptions, Object, Writer};

use crate::retrieve::load::SkipReason;

/// Bytes of one stream of objects that is unpacked to open a file. Programs put some hundred objects
/// into one; each takes up to fifty times its bytes in memory.
const MOST_STREAM: usize = 16 << 20;

pub(super) fn open(bytes: &[u8]) -> Result<Document, SkipReason> {
    let document = load(bytes)?;
    if !is_locked(&document) {
        return Ok(document);
    }
    let moved = with_own_object(bytes, &document).ok_or(SkipReason::Encrypted)?;
    let document = load(&moved)?;
    if is_locked(&document) {
        return Err(SkipReason::Encrypted);
    }
    Ok(document)
}

fn load(bytes: &[u8]) -> Result<Document, SkipReason> {
    let options = LoadOptions {
        max_decompressed_size: Some(MOST_STREAM),
        ..LoadOptions::default()
    };
    Document::load_mem_with_options(bytes, options).map_err(|error| match error {
        lopdf::Error::InvalidPassword
        | lopdf::Error::Decryption(_)
        | lopdf::Error::UnsupportedSecurityHandler(_) => SkipReason::Encrypted,
        other => SkipReason::Broken {
            message: other.to_string(),
        },
    })
}

fn is_locked(document: &Document) -> bool {
    document.trailer.has(b"Encrypt") && !document.was_encrypted()
}

/// The file with an update behind it, whose trailer refers to the dictionary; `None` if it did so
/// before, or if nothing can be put behind what had to be repaired.
fn with_own_object(bytes: &[u8], document: &Document) -> Option<Vec<u8>> {
    let encryption = document.trailer.get(b"Encrypt").ok()?;
    encryption.as_dict().ok()?;
    if document.xref_recovery.is_some() {
        return None;
    }
    // Offsets count from here, whatever stands before.
    let start = bytes.windows(5).position(|window| window == b"%PDF-")?;
    let mut out = bytes[start..].to_vec();
    out.push(b'\n');
    let offset = out.len();
    let number = document.max_id.checked_add(1)?;
    out.extend(format!("{number} 0 obj ").into_bytes());
    Writer::write_object(&mut out, encryption).ok()?;
    out.extend(b" endobj\n");
    let table = out.len();
    out.extend(format!("xref\n{number} 1\n{offset:010} 00000 n \ntrailer\n").into_bytes());
    let mut trailer = Dictionary::new();
    for key in [&b"Root"[..], b"Info", b"ID"] {
        if let Ok(value) = document.trailer.get(key) {
            trailer.set(key, value.clone());
        }
    }
    trailer.set("Size", Object::Integer(i64::from(number) + 1));
    trailer.set(
        "Prev",
        Object::Integer(i64::try_from(document.xref_start).ok()?),
    );
    trailer.set("Encrypt", Object::Reference((number, 0)));
    Writer::write_object(&mut out, &Object::Dictionary(trailer)).ok()?;
    out.extend(format!("\nstartxref\n{table}\n%%EOF\n").into_bytes());
    Some(out)
}
