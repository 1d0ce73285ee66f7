//! Opens a file, also one that is encrypted without asking for a password.
//!
//! Many files are encrypted only to forbid printing or copying; their text opens with the empty
//! password. `lopdf` decrypts them if the trailer refers to the encryption dictionary. Where the
//! dictionary stands in the trailer itself, which programs write as often, it is moved into an
//! object of its own first.

use std::cell::Cell;

use lopdf::xref::XrefRecovery;
use lopdf::{Dictionary, Document, LoadOptions, Object, ObjectId, Writer};

use crate::retrieve::load::SkipReason;

/// Bytes of one stream of objects that is unpacked to open a file. Programs put some hundred objects
/// into one; each takes up to fifty times its bytes in memory.
const MOST_STREAM: usize = 16 << 20;

/// Bytes of all these streams of a file; a tagged book of a thousand pages has some fifteen million.
const MOST_OF_ALL_STREAMS: usize = 64 << 20;

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

/// The file's objects; of those in streams, as many as may be unpacked.
///
/// `lopdf` rebuilds the table of a file whose pages it does not find, but not if it is told which
/// objects to take; so that is done here, as it would.
fn load(bytes: &[u8]) -> Result<Document, SkipReason> {
    let document = load_counted(bytes, false)?;
    let is_rebuilt = document.xref_recovery == Some(XrefRecovery::Reconstructed);
    if is_rebuilt || is_locked(&document) || has_pages(&document) {
        return Ok(document);
    }
    match load_counted(bytes, true) {
        Ok(rebuilt) if has_pages(&rebuilt) => Ok(rebuilt),
        Err(SkipReason::TooMuch { limit }) => Err(SkipReason::TooMuch { limit }),
        _ => Ok(document),
    }
}

thread_local! {
    /// Bytes of the streams of objects that were unpacked for the file that is being opened; without
    /// its feature `rayon`, `lopdf` reads a file on one thread.
    static UNPACKED: Cell<usize> = const { Cell::new(0) };
}

fn load_counted(bytes: &[u8], force_reconstruct: bool) -> Result<Document, SkipReason> {
    UNPACKED.set(0);
    let options = LoadOptions {
        max_decompressed_size: Some(MOST_STREAM),
        filter: Some(take_counted),
        force_reconstruct,
        ..LoadOptions::default()
    };
    let loaded = Document::load_mem_with_options(bytes, options);
    if UNPACKED.get() > MOST_OF_ALL_STREAMS {
        let limit = MOST_OF_ALL_STREAMS as u64;
        return Err(SkipReason::TooMuch { limit });
    }
    loaded.map_err(|error| match error {
        lopdf::Error::InvalidPassword
        | lopdf::Error::Decryption(_)
        | lopdf::Error::UnsupportedSecurityHandler(_) => SkipReason::Encrypted,
        other => SkipReason::Broken {
            message: other.to_string(),
        },
    })
}

/// Takes every object until the streams of objects come to too much. `lopdf` asks before it parses
/// the objects of such a stream, which take most of the memory.
fn take_counted(id: ObjectId, object: &mut Object) -> Option<(ObjectId, Object)> {
    let Object::Stream(stream) = object else {
        return Some((id, object.clone()));
    };
    if stream.dict.has_type(b"ObjStm") {
        let content = stream.get_plain_content_with_limit(MOST_STREAM);
        let size = content.map_or(0, |content| content.len());
        UNPACKED.set(UNPACKED.get().saturating_add(size));
    }
    // A stream stays where it is: only of what lies within another is the answer taken.
    (UNPACKED.get() <= MOST_OF_ALL_STREAMS).then_some((id, Object::Null))
}

fn has_pages(document: &Document) -> bool {
    let pages = document.catalog().and_then(|catalog| catalog.get(b"Pages"));
    let root = pages
        .and_then(Object::as_reference)
        .and_then(|root| document.get_dictionary(root));
    root.is_ok_and(|root| root.has(b"Kids"))
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
