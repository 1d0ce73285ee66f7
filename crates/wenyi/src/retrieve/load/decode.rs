//! Bytes to text: UTF-8, UTF-16, what a page declares, else the encoding whose letters make the most
//! sense (GB 18030, Big5, Shift JIS, EUC, and those of one byte a letter).

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, GB18030, GBK, UTF_8, UTF_16BE, UTF_16LE};

use super::SkipReason;

/// How far a page's own word about its encoding is looked for: HTML asks for the first 1024 bytes.
const META_BYTES: usize = 1024;

#[derive(Debug)]
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
    if let Some(encoding) = utf16_without_mark(&bytes)
        && let Some(decoded) = decode_as(encoding, &bytes)
    {
        return Ok(decoded);
    }
    utf8(bytes, 0, is_html)
}

/// UTF-16 without its mark, told by the zeros that every second byte of line feeds and blanks has.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(4096)];
    if !bytes.len().is_multiple_of(2) || head.len() < 8 {
        return None;
    }
    let spaces = |low: usize| {
        let is_space = |pair: &&[u8]| pair[1 - low] == 0 && matches!(pair[low], b' ' | b'\n');
        head.chunks_exact(2).filter(is_space).count()
    };
    let zeros = |at: usize| head.chunks_exact(2).filter(|pair| pair[at] == 0).count();
    let (little, big) = (spaces(0), spaces(1));
    // Any other text has no zeros at all.
    if little > 0 && big == 0 && zeros(0) == 0 {
        Some(UTF_16LE)
    } else if big > 0 && little == 0 && zeros(1) == 0 {
        Some(UTF_16BE)
    } else {
        None
    }
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

/// Text in another encoding than UTF-8: the one a page declares, or the likeliest.
fn foreign(bytes: &[u8], at: usize, is_html: bool) -> Result<Decoded, SkipReason> {
    if bytes.contains(&0) || is_binary(bytes) {
        return Err(SkipReason::Binary);
    }
    let declared = if is_html { declared(bytes) } else { None };
    if let Some(decoded) = declared.and_then(|encoding| decode_as(encoding, bytes)) {
        return Ok(decoded);
    }
    if looks_like_gb(bytes)
        && !is_of_neighbours(bytes)
        && let Some(decoded) = decode_as(GB18030, bytes)
    {
        return Ok(decoded);
    }
    if let Some(decoded) = decode_as(likeliest(bytes), bytes) {
        return Ok(decoded);
    }
    Err(SkipReason::UnknownEncoding { at })
}

/// True for more than a few control characters other than tab, line feed, form feed, carriage
/// return and escape.
fn is_binary(bytes: &[u8]) -> bool {
    let controls = bytes
        .iter()
        .filter(|&&b| b < 32 && !matches!(b, 9 | 10 | 12 | 13 | 27))
        .count();
    controls * 100 > bytes.len()
}

/// The encoding whose letters follow each other as they do in real texts.
fn likeliest(bytes: &[u8]) -> &'static Encoding {
    /// More says nothing new.
    const ENOUGH: usize = 1 << 20;
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(&bytes[..bytes.len().min(ENOUGH)], bytes.len() <= ENOUGH);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    // The larger of the two has all that the smaller has.
    if encoding == GBK { GB18030 } else { encoding }
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

/// True if nearly all pairs lie where GB 2312 has its characters (both bytes from 0xA1 on), which
/// decides also for texts too short for a guess by frequencies.
///
/// European text in a one-byte encoding has single high bytes between ASCII letters, and fails; so
/// does Big5, half of whose second bytes are below 0x80. EUC-KR and EUC-JP pass: see
/// [`is_of_neighbours`].
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

/// True if a guess by frequencies finds Korean or Japanese, and the bytes agree: kana or hangul
/// are most of the letters then.
fn is_of_neighbours(bytes: &[u8]) -> bool {
    let encoding = likeliest(bytes);
    if encoding != encoding_rs::EUC_KR && encoding != encoding_rs::EUC_JP {
        return false;
    }
    let Some(decoded) = decode_as(encoding, bytes) else {
        return false;
    };
    let own = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{ac00}'..='\u{d7a3}');
    let own = decoded.text.chars().filter(|&c| own(c)).count();
    let foreign = decoded.text.chars().filter(|c| !c.is_ascii()).count();
    own * 3 > foreign
}
