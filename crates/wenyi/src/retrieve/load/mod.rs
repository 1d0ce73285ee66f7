//! Files to text: which files of a folder are read, how, and why the others are not.
//!
//! Nothing is passed over in silence: every file that is not read leaves a [`Skip`] with its
//! reason. Hidden files and what `.gitignore` excludes are left out by the user's own word and
//! are not reported.

mod walk;
mod kind;
mod skip;
mod decode;
mod draft;
mod html;
mod outline;
mod code;
mod table;
mod csv;
mod jsonl;
mod guard;
mod pdf;
mod statements;
mod office;
mod epub;
mod mail;
mod places;
mod source;

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use self::decode::Decoded;
use self::draft::Draft;
use self::office::{docx, pptx, xlsx};
use super::chunk::structure::{self, Block, BlockKind};
pub(super) use code::comments;
pub use kind::Kind;
pub use places::{Location, Places, Unit};
pub use skip::{Skip, SkipReason};
pub use source::SourceMap;
pub(crate) use statements::spoken;
pub(super) use statements::statements;
pub use walk::{Listing, SourceFile, walk};

/// Which files are read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Files above this many bytes are reported, not read.
    pub max_bytes: u64,
    /// Read hidden files too.
    pub hidden: bool,
    /// Leave out what `.gitignore` and `.ignore` exclude.
    pub gitignore: bool,
    /// Read only what one of these patterns matches; all if there are none. They have the syntax
    /// of `.gitignore` and count from each root.
    pub include: Vec<String>,
    /// Leave out what one of these patterns matches.
    pub exclude: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        // 64 MiB of text is more than the largest book series; beyond it, files are data.
        Self {
            max_bytes: 64 << 20,
            hidden: false,
            gitignore: true,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

/// A file's text, its blocks, and the way back to the file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it was read from.
    pub path: PathBuf,
    /// How its structure was read.
    pub kind: Kind,
    /// What it was decoded from, such as `UTF-8` or `gb18030`.
    pub encoding: &'static str,
    /// The text: the file's own for Markdown, text and code; for others what a reader sees.
    pub text: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Hex SHA-256 of the file's bytes.
    pub hash: String,
    /// Headings, paragraphs, lists, tables and code, in order, spans into `text`.
    pub(crate) blocks: Vec<Block>,
    /// The title that the file tells beside its text.
    title: Option<String>,
    /// From spans of `text` to spans and lines of the file; to `text` itself for files that have
    /// no lines, such as PDF.
    pub source: SourceMap,
    places: Option<Places>,
    /// What of the file could not be read, though the rest was.
    pub gaps: Vec<SkipReason>,
}

impl Document {
    /// A document from text already in memory.
    #[must_use]
    pub fn from_text(path: impl Into<PathBuf>, kind: Kind, text: String) -> Self {
        let (bytes, hash) = (text.len() as u64, hex_sha256(text.as_bytes()));
        let decoded = |text: String| Decoded {
            text,
            encoding: "UTF-8",
            offset: 0,
        };
        // Text that is no record of its kind is text all the same.
        let extracted = structured(kind, decoded(text.clone()))
            .unwrap_or_else(|_| plain_text(kind, decoded(text)));
        Self {
            path: path.into(),
            kind,
            encoding: extracted.encoding,
            text: extracted.draft.text,
            bytes,
            hash,
            blocks: extracted.draft.blocks,
            title: extracted.draft.title,
            source: extracted.source,
            places: extracted.draft.places,
            gaps: extracted.draft.gaps,
        }
    }

    /// The title that the document tells, else its first heading, if it has one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        if self.title.is_some() {
            return self.title.as_deref();
        }
        self.blocks.iter().find_map(|block| match &block.kind {
            BlockKind::Heading { title, .. } => Some(title.trim()),
            _ => None,
        })
    }

    /// Where its pages (slides, sheets, chapters) begin, if it has any.
    #[must_use]
    pub fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }
}

/// Reads one file of a [`Listing`].
///
/// # Errors
///
/// The reason why it cannot be read, or has no text.
pub fn read(file: &SourceFile, options: &LoadOptions) -> Result<Document, SkipReason> {
    let bytes = read_bytes(&file.path, options.max_bytes)?;
    decode_document(file, bytes)
}

/// Decodes and structures the content of `file`.
///
/// # Errors
///
/// The reason why it has no text.
pub fn decode_document(file: &SourceFile, bytes: Vec<u8>) -> Result<Document, SkipReason> {
    let hash = hex_sha256(&bytes);
    decode_hashed(file, bytes, hash)
}

/// [`decode_document`] of bytes whose hash is known.
pub(crate) fn decode_hashed(
    file: &SourceFile,
    bytes: Vec<u8>,
    hash: String,
) -> Result<Document, SkipReason> {
    let size = bytes.len() as u64;
    let kind = match file.kind {
        Some(kind) => kind,
        None => Kind::from_magic(&bytes).unwrap_or(Kind::Text),
    };
    let mut extracted = extract(kind, bytes, 0)?;
    if file.kind.is_none() && kind == Kind::Text && is_html(&extracted.draft.text) {
        let text = std::mem::take(&mut extracted.draft.text);
        (extracted.kind, extracted.draft) = (Kind::Html, html_draft(&text));
        extracted.source = SourceMap::new(&text, extracted.offset, extracted.draft.points.clone());
    }
    let mut draft = extracted.draft;
    if draft.text.trim().is_empty() {
        // What has no text because it could not be read is not empty.
        draft.gaps.truncate(1);
        return Err(draft.gaps.pop().unwrap_or(SkipReason::Empty));
    }
    Ok(Document {
        path: file.path.clone(),
        kind: extracted.kind,
        encoding: extracted.encoding,
        text: draft.text,
        bytes: size,
        hash,
        blocks: draft.blocks,
        title: draft.title,
        source: extracted.source,
        places: draft.places,
        gaps: draft.gaps,
    })
}

/// What a loader made of a file's bytes.
struct Extracted {
    kind: Kind,
    encoding: &'static str,
    draft: Draft,
    source: SourceMap,
    /// Bytes of the byte order mark before the text.
    offset: usize,
}

/// Takes the text out of a file's bytes; `depth` counts the files that it is inside of.
fn extract(kind: Kind, bytes: Vec<u8>, depth: usize) -> Result<Extracted, SkipReason> {
    if bytes.is_empty() {
        return Err(SkipReason::Empty);
    }
    let draft = match kind {
        Kind::Pdf => pdf::read(&bytes)?,
        Kind::Docx => docx::read(&bytes)?,
        Kind::Pptx => pptx::read(&bytes)?,
        Kind::Xlsx => xlsx::read(&bytes)?,
        Kind::Epub => epub::read(&bytes)?,
        Kind::Eml => mail::read(&bytes, depth)?,
        Kind::Markdown | Kind::Text | Kind::Html | Kind::Code | Kind::Csv | Kind::Jsonl => {
            let decoded = decode::decode(bytes, kind == Kind::Html)?;
            if decoded.text.trim().is_empty() {
                return Err(SkipReason::Empty);
            }
            return structured(kind, decoded);
        }
    };
    let source = SourceMap::identity(&draft.text, 0);
    Ok(Extracted {
        kind,
        encoding: "UTF-8",
        draft,
        source,
        offset: 0,
    })
}

/// The structure of text of one of the kinds that are text.
fn structured(kind: Kind, decoded: Decoded) -> Result<Extracted, SkipReason> {
    let draft = match kind {
        Kind::Html => html_draft(&decoded.text),
        Kind::Csv => csv::read(&decoded.text)?,
        Kind::Jsonl => jsonl::read(&decoded.text)?,
        _ => return Ok(plain_text(kind, decoded)),
    };
    let source = SourceMap::new(&decoded.text, decoded.offset, draft.points.clone());
    Ok(Extracted {
        kind,
        encoding: decoded.encoding,
        draft,
        source,
        offset: decoded.offset,
    })
}

/// Text that is read as it stands in the file.
fn plain_text(kind: Kind, decoded: Decoded) -> Extracted {
    let Decoded {
        text,
        encoding,
        offset,
    } = decoded;
    let blocks = match kind {
        Kind::Markdown => structure::markdown(&text),
        Kind::Code => code::blocks(&text),
        _ => outline::blocks(&text),
    };
    let source = SourceMap::identity(&text, offset);
    let draft = Draft {
        text,
        blocks,
        ..Draft::default()
    };
    Extracted {
        kind,
        encoding,
        draft,
        source,
        offset,
    }
}

fn html_draft(text: &str) -> Draft {
    let page = html::document(text);
    Draft {
        text: page.text,
        blocks: page.blocks,
        points: page.points,
        title: page.title,
        ..Draft::default()
    }
}

/// Reads at most `limit` bytes: the file may have grown since it was listed.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, SkipReason> {
    let unreadable = |source: std::io::Error| SkipReason::Unreadable {
        message: source.to_string(),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > limit {
        return Err(SkipReason::TooLarge { bytes: size, limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(SkipReason::TooLarge {
            bytes: bytes.len() as u64,
            limit,
        });
    }
    Ok(bytes)
}

/// True if a reader of the HTML in `markup` sees any text.
pub(crate) fn shows_text(markup: &str) -> bool {
    html::shows_text(markup)
}

/// Lower-case hex SHA-256.
pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// A file's time of change in nanoseconds since 1970, 0 if the system does not say.
pub(crate) fn modified_nanoseconds(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// True for text that begins as a page does.
fn is_html(text: &str) -> bool {
    let head = text.trim_start().as_bytes();
    let starts =
        |tag: &[u8]| head.len() >= tag.len() && head[..tag.len()].eq_ignore_ascii_case(tag);
    starts(b"<!doctype html") || starts(b"<html")
}

#[cfg(test)]
mod tests;
