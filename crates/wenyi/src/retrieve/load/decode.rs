//! Bytes to text: UTF-8, UTF-16 with a byte order mark, GB 18030 where it is beyond doubt.

use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};

use super::SkipReason;

/// How far a page's own word about its encoding is looked for: HTML asks for the first 1024 bytes.
const META_BYTES: usize = 1024;

pub(super) struct Decoded {
    pub(super) text: String,
    pub(super) encoding: &'static str,
    /// Bytes of the byte order mark before the text.
    pub(super) offset: usize,
}

pub(super) fn decode(bytes: Vec<u8>, is_html: bool) -> Result<Decoded, SkipReason> {
    if let Some((encoding, mark)) = Encoding::for_bom(&bytes) {
        if encoding == UTF_16LE || encoding == UTF_16BE {
            return decode_as(encoding, &bytes[mark..])
                .ok_or(SkipReason::UnknownEncoding { at: 0 });
        }
        return utf8(bytes[mark..].to_vec(), mark, is_html);
    }
    utf8(bytes, 0, is_html)
}

fn utf8(bytes: Vec<u8>, offset: usize, is_html: bool) -> Result<Decoded, SkipReason> {
    match String::from_utf8(bytes) {
        // A NUL is valid UTF-8, but no text has one.
        Ok(text) if text.contains('\0') => Err(SkipReason::Binary),
        Ok(text) => Ok(Decoded {
            text,
            encoding: UTF_8.name(),
            offset,
        }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to() + offset;
            foreign(&error.into_bytes(), at, is_html)
        }
    }
}

/// Text in another encoding than UTF-8: the one a page declares, or GB 18030.
fn foreign(bytes: &[u8], at: usize, is_html: bool) -> Result<Decoded, SkipReason> {
    if bytes.contains(&0) {
        return Err(SkipReason::Binary);
    }
    let declared = if is_html { declared(bytes) } else { None };
    if let Some(decoded) = declared.and_then(|encoding| decode_as(encoding, bytes)) {
        return Ok(decoded);
    }
    if looks_like_gb(bytes)
        && let Some(decoded) = decode_as(GB18030, bytes)
    {
        return Ok(decoded);
    }
    // Control characters other than tab, line feed, form feed, carriage return and escape.
    let controls = bytes
        .iter()
        .filter(|&&b| b < 32 && !matches!(b, 9 | 10 | 12 | 13 | 27))
        .count();
    if controls * 100 > bytes.len() {
        return Err(SkipReason::Binary);
    }
    Err(SkipReason::UnknownEncoding { at })
}

fn decode_as(encoding: &'static Encoding, bytes: &[u8]) -> Option<Decoded> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    Some(Decoded {
        text: text.into_owned(),
        encoding: encoding.name(),
        offset: 0,
    })
}

/// The encoding in a page's `<meta charset=…>` or `<meta … content="…; charset=…">`.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(META_BYTES)].to_ascii_lowercase();
    let key = b"charset=";
    let at = head.windows(key.len()).position(|window| window == key)? + key.len();
    let label: Vec<u8> = head[at..]
        .iter()
        .copied()
        .skip_while(|byte| matches!(byte, b'"' | b'\'' | b' '))
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        .collect();
    Encoding::for_label(&label).filter(|&encoding| encoding != UTF_8)
}

/// True if nearly all pairs lie where GB 2312 has its characters (both bytes from 0xA1 on).
///
/// European text in a one-byte encoding has single high bytes between ASCII letters, and fails.
fn looks_like_gb(bytes: &[u8]) -> bool {
    let (mut pairs, mut common, mut at) = (0_usize, 0_usize, 0);
    while at < bytes.len() {
        if bytes[at] < 0x80 {
            at += 1;
            continue;
        }
        pairs += 1;
        common += usize::from(bytes[at] >= 0xA1 && bytes.get(at + 1).is_some_and(|&b| b >= 0xA1));
        at += 2;
    }
    pairs > 0 && common * 10 >= pairs * 9
}
