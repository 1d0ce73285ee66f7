//! Fonts: from the bytes of a string to characters and their widths.

use std::collections::HashMap;

use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, SHIFT_JIS, UTF_16BE};
use lopdf::{Dictionary, Document, Object};

use super::cmap::CMap;

/// Bytes of one map when unpacked.
const MOST_MAP_BYTES: usize = 2 << 20;

/// One code of a string.
pub(super) struct Glyph {
    /// None if the font does not tell what it stands for.
    pub(super) text: Option<String>,
    /// Its width in thousandths of the font's size.
    pub(super) width: f32,
    /// True for the single byte 32, which word spacing widens.
    pub(super) is_space: bool,
}

pub(super) struct Font {
    codes: Codes,
    to_unicode: Option<CMap>,
    widths: HashMap<u32, f32>,
    default_width: f32,
    pub(super) is_bold: bool,
    pub(super) is_monospaced: bool,
    /// Width factor of glyph space: 0.001 except for Type 3 fonts.
    scale: f32,
}

enum Codes {
    /// One byte a character.
    Simple(Box<[Option<String>; 256]>),
    /// Glyph ids of two bytes.
    Identity,
    /// Text in an encoding, as the standard Chinese, Japanese and Korean maps take it.
    Encoded(&'static Encoding),
    /// A map of the file's own.
    Embedded(CMap),
}

impl Font {
    pub(super) fn new(document: &Document, font: &Dictionary) -> Self {
        let subtype = name_of(document, font, b"Subtype");
        let to_unicode = stream(document, font, b"ToUnicode").map(|map| CMap::parse(&map));
        let to_unicode = to_unicode.filter(CMap::has_text);
        let descendant = array(document, font, b"DescendantFonts")
            .and_then(|fonts| fonts.first())
            .and_then(|first| document.dereference(first).ok())
            .and_then(|(_, object)| object.as_dict().ok());
        let base = descendant.unwrap_or(font);
        let descriptor = dictionary(document, base, b"FontDescriptor");
        let name = name_of(document, font, b"BaseFont");
        let flags = descriptor
            .and_then(|descriptor| number(document, descriptor, b"Flags"))
            .unwrap_or(0.0) as u32;
        let (codes, widths, default_width) = match descendant {
            Some(descendant) => (
                composite_codes(document, font),
                composite_widths(document, descendant),
                number(document, descendant, b"DW").unwrap_or(1000.0),
            ),
            None => {
                let codes = simple_codes(document, font, &name);
                let mut widths = simple_widths(document, font);
                if widths.is_empty() {
                    widths = standard_widths(&codes, name.contains("Courier"));
                }
                let default = descriptor
                    .and_then(|descriptor| number(document, descriptor, b"MissingWidth"))
                    .filter(|&width| width > 0.0);
                let codes = Codes::Simple(Box::new(codes));
                (codes, widths, default.unwrap_or(500.0))
            }
        };
        let lower = name.to_lowercase();
        let scale = match subtype.as_str() {
            "Type3" => array(document, font, b"FontMatrix")
                .and_then(|matrix| matrix.first())
                .and_then(|first| first.as_float().ok())
                .map_or(0.001, f32::abs),
            _ => 0.001,
        };
        Self {
            codes,
            to_unicode,
            widths,
            default_width,
            is_bold: ["bold", "black", "heavy", "semibold"]
                .iter()
                .any(|word| lower.contains(word)),
            is_monospaced: flags & 1 != 0
                || ["mono", "courier", "consol", "menlo"]
                    .iter()
                    .any(|word| lower.contains(word)),
            scale,
        }
    }

    /// Calls `visit` for every code of `bytes`.
    pub(super) fn read(&self, bytes: &[u8], mut visit: impl FnMut(Glyph)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (code, length) = self.next_code(rest);
            let length = length.clamp(1, rest.len());
            let text = self
                .to_unicode
                .as_ref()
                .and_then(|map| map.text(code))
                .or_else(|| self.own_text(code, &rest[..length]));
            let glyph = match &self.codes {
                Codes::Embedded(map) => map.glyph(code).unwrap_or(code),
                _ => code,
            };
            let width = self.widths.get(&glyph).copied();
            let width = width.unwrap_or(match &self.codes {
                // Glyph ids of these are not known here; one byte is half as wide as two.
                Codes::Encoded(_) if length == 1 => 500.0,
                _ => self.default_width,
            });
            visit(Glyph {
                text: text
                    .filter(|text| !text.contains(['\0', '\u{fffd}']))
                    .map(plain),
                width: width * self.scale * 1000.0,
                is_space: length == 1 && rest[0] == b' ',
            });
            rest = &rest[length..];
        }
    }

    fn next_code(&self, bytes: &[u8]) -> (u32, usize) {
        let two = || match bytes {
            [high, low, ..] => ((u32::from(*high) << 8) | u32::from(*low), 2),
            _ => (u32::from(bytes[0]), 1),
        };
        match &self.codes {
            Codes::Simple(_) => (u32::from(bytes[0]), 1),
            Codes::Identity => two(),
            Codes::Embedded(map) => map.next_code(bytes),
            Codes::Encoded(encoding) if *encoding == UTF_16BE => match bytes {
                [0xD8..=0xDB, ..] if bytes.len() >= 4 => (u32::MAX, 4),
                _ => two(),
            },
            Codes::Encoded(encoding) if *encoding == SHIFT_JIS => match bytes[0] {
                0x00..=0x80 | 0xA0..=0xDF => (u32::from(bytes[0]), 1),
                _ => two(),
            },
            Codes::Encoded(_) => match bytes {
                // Four bytes of GB 18030.
                [0x81..=0xFE, 0x30..=0x39, _, _, ..] => (u32::MAX, 4),
                [0x00..=0x80, ..] => (u32::from(bytes[0]), 1),
                _ => two(),
            },
        }
    }

    fn own_text(&self, code: u32, bytes: &[u8]) -> Option<String> {
        match &self.codes {
            Codes::Simple(table) => table.get(code as usize)?.clone(),
            Codes::Encoded(encoding) => {
                let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
                Some(text.into_owned())
            }
            Codes::Identity | Codes::Embedded(_) => None,
        }
    }
}

/// About how wide letters are in the fonts that every reader has (Helvetica and the like), which
/// files may use without telling widths.
fn standard_widths(codes: &[Option<String>; 256], is_monospaced: bool) -> HashMap<u32, f32> {
    let width = |c: char| match c {
        _ if is_monospaced => 600.0,
        'i' | 'j' | 'l' | '\'' | '|' => 222.0,
        ' ' | 'f' | 't' | 'I' | '.' | ',' | ':' | ';' | '!' | '/' | '[' | ']' => 278.0,
        'r' | '(' | ')' | '-' | '`' => 333.0,
        'c' | 'k' | 's' | 'v' | 'x' | 'y' | 'z' | 'J' => 500.0,
        'w' | 'C' | 'D' | 'G' | 'H' | 'N' | 'O' | 'Q' | 'R' | 'U' | '&' => 730.0,
        'm' | 'M' | 'W' | '%' | '@' => 880.0,
        'A' | 'B' | 'E' | 'K' | 'P' | 'S' | 'V' | 'X' | 'Y' => 667.0,
        _ => 556.0,
    };
    let known = (0..).zip(codes);
    let known = known.filter_map(|(code, text)| Some((code, text.as_ref()?.chars().next()?)));
    known.map(|(code, c)| (code, width(c))).collect()
}

/// Ligatures as their letters.
fn plain(text: String) -> String {
    match text.as_str() {
        "\u{fb00}" => "ff".to_owned(),
        "\u{fb01}" => "fi".to_owned(),
        "\u{fb02}" => "fl".to_owned(),
        "\u{fb03}" => "ffi".to_owned(),
        "\u{fb04}" => "ffl".to_owned(),
        "\u{a0}" => " ".to_owned(),
        "\u{ad}" => "-".to_owned(),
        _ => text,
    }
}

fn composite_codes(document: &Document, font: &Dictionary) -> Codes {
    if let Some(map) = stream(document, font, b"Encoding") {
        return Codes::Embedded(CMap::parse(&map));
    }
    let name = name_of(document, font, b"Encoding");
    // ISO 32000-1, table 118: the names say which encoding their codes have.
    let encoding = [
        ("UCS2", UTF_16BE),
        ("UTF16", UTF_16BE),
        ("GB", GB18030),
        ("B5", BIG5),
        ("HKscs", BIG5),
        ("RKSJ", SHIFT_JIS),
        ("KSC", EUC_KR),
        ("EUC", EUC_JP),
    ]
    .into_iter()
    .find(|(part, _)| name.contains(part));
    // `UniGB-UTF8` and those of ISO 2022 are not used in files.
    encoding.map_or(Codes::Identity, |(_, encoding)| Codes::Encoded(encoding))
}

/// Entries of a font's list of widths, about; it has at most 65,536 glyphs.
const MOST_WIDTHS: usize = 1 << 18;

/// Items of a list of names for 256 codes, the codes counted.
const MOST_DIFFERENCES: usize = 1024;

/// `/W`: `first [w …]` and `first last w`.
fn composite_widths(document: &Document, font: &Dictionary) -> HashMap<u32, f32> {
    let mut widths = HashMap::new();
    let Some(list) = array(document, font, b"W") else {
        return widths;
    };
    let mut items = list
        .iter()
        .filter_map(|item| document.dereference(item).ok());
    // Ranges may be repeated without end.
    let mut room = MOST_WIDTHS;
    while room > 0
        && let (Some((_, first)), Some((_, second))) = (items.next(), items.next())
    {
        let Ok(first) = first.as_float() else { break };
        let first = first.clamp(0.0, 65_535.0) as u32;
        if let Ok(list) = second.as_array() {
            room = room.saturating_sub(list.len());
            for (glyph, width) in (first..=65_535).zip(list) {
                widths.extend(width.as_float().ok().map(|width| (glyph, width)));
            }
        } else if let (Ok(last), Some((_, width))) = (second.as_float(), items.next())
            && let Ok(width) = width.as_float()
        {
            let last = last.clamp(0.0, 65_535.0) as u32;
            room = room.saturating_sub(last.saturating_sub(first) as usize + 1);
            widths.extend((first..=last).map(|glyph| (glyph, width)));
        }
    }
    widths
}

fn simple_widths(document: &Document, font: &Dictionary) -> HashMap<u32, f32> {
    let first = number(document, font, b"FirstChar")
        .unwrap_or(0.0)
        .clamp(0.0, 255.0) as u32;
    let Some(list) = array(document, font, b"Widths") else {
        return HashMap::new();
    };
    let widths = list.iter().take(256).map(|width| {
        let width = document.dereference(width).ok()?.1.as_float().ok()?;
        (width > 0.0).then_some(width)
    });
    (first..)
        .zip(widths)
        .filter_map(|(code, width)| Some((code, width?)))
        .collect()
}

fn simple_codes(document: &Document, font: &Dictionary, name: &str) -> [Option<String>; 256] {
    let encoding = font.get_deref(b"Encoding", document).ok();
    let dictionary = encoding.and_then(|encoding| encoding.as_dict().ok());
    let base = match (encoding, dictionary) {
        (_, Some(dictionary)) => name_of(document, dictionary, b"BaseEncoding"),
        (Some(encoding), None) => text_of(encoding),
        (None, None) => String::new(),
    };
    let base = match base.as_str() {
        "" if name.contains("Symbol") && dictionary.is_none() => "SymbolEncoding".to_owned(),
        "" => "StandardEncoding".to_owned(),
        _ => base,
    };
    let mut codes = base_codes(document, &base);
    let differences = dictionary.and_then(|dictionary| array(document, dictionary, b"Differences"));
    let mut code = 0_usize;
    for item in differences.into_iter().flatten().take(MOST_DIFFERENCES) {
        match item {
            Object::Integer(first) => code = usize::try_from(*first).unwrap_or(256),
            Object::Name(glyph) => {
                if let Some(slot) = codes.get_mut(code) {
                    *slot = glyph_text(document, glyph);
                }
                code = code.saturating_add(1);
            }
            _ => {}
        }
    }
    codes
}

fn base_codes(document: &Document, name: &str) -> [Option<String>; 256] {
    let mut font = Dictionary::new();
    font.set("Type", Object::Name(b"Font".to_vec()));
    font.set("Encoding", Object::Name(name.as_bytes().to_vec()));
    let encoding = font.get_font_encoding(document).ok();
    std::array::from_fn(|code| {
        let byte = [u8::try_from(code).unwrap_or(0)];
        let text = encoding
            .as_ref()
            .and_then(|encoding| encoding.bytes_to_string(&byte).ok());
        text.filter(|text| !text.is_empty()).or_else(|| {
            (0x20..0x7F)
                .contains(&code)
                .then(|| char::from(byte[0]).to_string())
        })
    })
}

/// The character that a glyph is called after: `eacute`, `uni4E2D`, `u1F600`, `a.alt`.
fn glyph_text(document: &Document, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let stem = name.split('.').next().filter(|stem| !stem.is_empty())?;
    let from_hex = |hex: &str| u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
    if let Some(hex) = stem.strip_prefix("uni").filter(|hex| hex.len() >= 4) {
        return from_hex(hex.get(..4)?).map(String::from);
    }
    if let Some(c) = stem
        .strip_prefix('u')
        .filter(|hex| hex.len() >= 4)
        .and_then(from_hex)
    {
        return Some(c.to_string());
    }
    if stem.contains('_') {
        let parts = stem
            .split('_')
            .map(|part| glyph_text(document, part.as_bytes()));
        return parts.collect();
    }
    let differences = vec![Object::Integer(0), Object::Name(stem.as_bytes().to_vec())];
    let mut encoding = Dictionary::new();
    encoding.set("Differences", Object::Array(differences));
    let mut font = Dictionary::new();
    font.set("Type", Object::Name(b"Font".to_vec()));
    font.set("Encoding", Object::Dictionary(encoding));
    let encoding = font.get_font_encoding(document).ok()?;
    // A name that is not known makes the whole encoding the standard one, which has no code 0.
    encoding
        .bytes_to_string(&[0])
        .ok()
        .filter(|text| !text.is_empty())
}

fn dictionary<'a>(
    document: &'a Document,
    of: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Dictionary> {
    of.get_deref(key, document).ok()?.as_dict().ok()
}

fn array<'a>(document: &'a Document, of: &'a Dictionary, key: &[u8]) -> Option<&'a Vec<Object>> {
    of.get_deref(key, document).ok()?.as_array().ok()
}

fn number(document: &Document, of: &Dictionary, key: &[u8]) -> Option<f32> {
    of.get_deref(key, document).ok()?.as_float().ok()
}

fn stream(document: &Document, of: &Dictionary, key: &[u8]) -> Option<Vec<u8>> {
    let stream = of.get_deref(key, document).ok()?.as_stream().ok()?;
    stream.get_plain_content_with_limit(MOST_MAP_BYTES).ok()
}

fn name_of(document: &Document, of: &Dictionary, key: &[u8]) -> String {
    of.get_deref(key, document).map(text_of).unwrap_or_default()
}

fn text_of(name: &Object) -> String {
    name.as_name()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .unwrap_or_default()
}
