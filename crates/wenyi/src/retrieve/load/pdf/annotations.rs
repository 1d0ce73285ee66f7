//! What readers put onto a page: the values of form fields, texts written over it, remarks.
//!
//! A field's value is taken from the field, not from its drawn appearance, which some programs leave
//! to the viewer. It is placed where the field is, so that it stands behind its label.

use lopdf::{Dictionary, Document, Object, ObjectId, decode_text_string};

use super::content::{PageContent, Piece};

/// Annotations of a page.
const MOST_ANNOTATIONS: usize = 10_000;

/// Bytes of the values of one page.
const MOST_BYTES: usize = 4 << 20;

/// Fields within fields.
const MOST_DEPTH: usize = 16;

/// Pieces of the page that are looked through for the places of values, for all of them together.
const MOST_STEPS: usize = 50_000_000;

/// Bits of an annotation's flags: hidden, and not shown on a screen.
const INVISIBLE: i64 = 0b10_0010;

/// The bit of a field's flags for a password.
const PASSWORD: i64 = 1 << 13;

/// The size of a value's letters where the field is higher than a line.
const USUAL_SIZE: f32 = 11.0;

pub(super) fn read(document: &Document, page: ObjectId, out: &mut PageContent) {
    let annotations = document
        .get_dictionary(page)
        .and_then(|page| page.get_deref(b"Annots", document))
        .and_then(Object::as_array);
    let mut room = MOST_BYTES;
    let mut on_page = Vec::new();
    for annotation in annotations.into_iter().flatten().take(MOST_ANNOTATIONS) {
        let annotation = document.dereference(annotation).map(|(_, object)| object);
        let Ok(annotation) = annotation.and_then(Object::as_dict) else {
            continue;
        };
        if integer(document, annotation, b"F") & INVISIBLE != 0 {
            continue;
        }
        let subtype = annotation.get(b"Subtype").and_then(Object::as_name);
        let (text, is_on_page) = match subtype.unwrap_or_default() {
            b"Widget" => (value(document, annotation), true),
            b"FreeText" => (string(document, annotation, b"Contents"), true),
            // A link says where it leads, a popup repeats the remark that it belongs to.
            b"Link" | b"Popup" => continue,
            _ => (string(document, annotation, b"Contents"), false),
        };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let Some(left) = room.checked_sub(text.len()) else {
            break;
        };
        room = left;
        match rectangle(document, annotation).filter(|_| is_on_page) {
            Some(place) => on_page.extend(pieces(&text, place)),
            None => out.notes.push(text),
        }
    }
    if !on_page.is_empty() {
        insert(&mut out.pieces, on_page);
    }
}

/// Puts `values` among the pieces of the page: behind what stands before them on their lines, such
/// as labels, else before the first piece below.
fn insert(pieces: &mut Vec<Piece>, values: Vec<Piece>) {
    let can_look = pieces.len().saturating_mul(values.len()) <= MOST_STEPS;
    let place = |value: &Piece| {
        let is_beside = |piece: &Piece| {
            (piece.line - value.line).abs() < value.size * 0.6 && piece.left <= value.left
        };
        let beside = pieces.iter().rposition(is_beside).map(|at| at + 1);
        beside.or_else(|| pieces.iter().position(|piece| piece.line > value.line))
    };
    let mut placed: Vec<(usize, Piece)> = values
        .into_iter()
        .map(|value| {
            let at = can_look.then(|| place(&value)).flatten();
            (at.unwrap_or(pieces.len()), value)
        })
        .collect();
    placed.sort_by_key(|&(at, _)| at);
    let mut before = std::mem::take(pieces).into_iter();
    let mut taken = 0;
    for (at, value) in placed {
        pieces.extend(before.by_ref().take(at - taken));
        taken = at;
        pieces.push(value);
    }
    pieces.extend(before);
}

/// The value of a form field; that of fields above it, if it has none itself.
fn value(document: &Document, field: &Dictionary) -> Option<String> {
    let kind = inherited(document, field, b"FT")?.as_name().ok()?;
    let flags = inherited(document, field, b"Ff").and_then(|flags| flags.as_i64().ok());
    match kind {
        b"Tx" if flags.unwrap_or(0) & PASSWORD != 0 => None,
        b"Tx" | b"Ch" => {
            let value = inherited(document, field, b"V")?;
            match value {
                Object::Array(values) => {
                    let values = values.iter().filter_map(|value| text_of(document, value));
                    Some(values.collect::<Vec<_>>().join(", "))
                }
                value => text_of(document, value),
            }
        }
        b"Btn" => {
            let state = field.get(b"AS").and_then(Object::as_name).ok()?;
            (state != b"Off").then(|| "☑".to_owned())
        }
        _ => None,
    }
}

fn inherited<'a>(document: &'a Document, field: &'a Dictionary, key: &[u8]) -> Option<&'a Object> {
    let mut field = field;
    for _ in 0..MOST_DEPTH {
        if let Ok(value) = field.get_deref(key, document) {
            return Some(value);
        }
        field = field.get_deref(b"Parent", document).ok()?.as_dict().ok()?;
    }
    None
}

fn string(document: &Document, annotation: &Dictionary, key: &[u8]) -> Option<String> {
    text_of(document, annotation.get(key).ok()?)
}

fn text_of(document: &Document, object: &Object) -> Option<String> {
    match document.dereference(object).ok()?.1 {
        object @ Object::String(..) => decode_text_string(object).ok(),
        // A long text may be kept like a content.
        Object::Stream(stream) => {
            let bytes = stream.get_plain_content_with_limit(MOST_BYTES).ok()?;
            decode_text_string(&Object::string_literal(bytes)).ok()
        }
        _ => None,
    }
}

fn integer(document: &Document, annotation: &Dictionary, key: &[u8]) -> i64 {
    let value = annotation.get_deref(key, document).and_then(Object::as_i64);
    value.unwrap_or(0)
}

/// Left, bottom, right, top.
fn rectangle(document: &Document, annotation: &Dictionary) -> Option<[f32; 4]> {
    let corners = annotation
        .get_deref(b"Rect", document)
        .ok()?
        .as_array()
        .ok()?;
    let corners: Vec<f32> = corners
        .iter()
        .filter_map(|corner| document.dereference(corner).ok()?.1.as_float().ok())
        .filter(|corner| corner.is_finite() && corner.abs() < 1e6)
        .collect();
    let [a, b, c, d]: [f32; 4] = corners.try_into().ok()?;
    Some([a.min(c), b.min(d), a.max(c), b.max(d)])
}

/// The lines of a value from the top of its field on.
fn pieces(text: &str, [left, bottom, right, top]: [f32; 4]) -> Vec<Piece> {
    let height = top - bottom;
    let size = (height * 0.6).clamp(4.0, USUAL_SIZE);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    // One line stands in the middle of its field, as labels beside it do.
    let first = match lines.len() {
        1 => (top + bottom) / 2.0 - size * 0.35,
        _ => top - size,
    };
    let piece = |(index, line): (u16, &&str)| Piece {
        text: (*line).to_owned(),
        left,
        right,
        line: -(first - f32::from(index) * size * 1.2),
        size,
        turn: 0,
        is_bold: false,
        is_monospaced: false,
    };
    (0..).zip(&lines).map(piece).collect()
}
