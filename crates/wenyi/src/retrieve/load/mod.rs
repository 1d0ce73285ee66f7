//! Files to text: which files of a folder are read, how, and why the others are not.
//!
//! Nothing is passed over in silence: every file that is not read leaves a [`Skip`] with its
//! reason. Hidden files and what `.gitignore` excludes are left out by the user's own word and
//! are not reported.

mod decode;
mod html;
mod source;
mod walk;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::chunk::structure::{self, Block, BlockKind};
pub use source::SourceMap;
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
}

impl Default for LoadOptions {
    fn default() -> Self {
        // 64 MiB of text is more than the largest book series; beyond it, files are data.
        Self {
            max_bytes: 64 << 20,
            hidden: false,
            gitignore: true,
        }
    }
}

/// How a file's structure is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// CommonMark with tables.
    Markdown,
    /// Paragraphs between blank lines.
    Text,
    /// The visible text of a page.
    Html,
}

impl Kind {
    /// The kind that a file's name tells, if it tells one that is read here.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "md" | "markdown" | "mdown" | "mkd" | "mdx" => Self::Markdown,
            "html" | "htm" | "xhtml" => Self::Html,
            "txt" | "text" | "rst" | "adoc" | "asciidoc" | "org" | "tex" | "log" => Self::Text,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Html => "html",
        })
    }
}

/// A file that was not read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passed over `{}`: {}", self.path.display(), self.reason)
    }
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum SkipReason {
    /// The operating system refused.
    Unreadable {
        /// What it said.
        message: String,
    },
    /// A link that leads back to a folder above it.
    LinkLoop {
        /// The folder it leads to.
        to: PathBuf,
    },
    /// The same file was reached by another path.
    SameFile {
        /// The path that was read.
        read: PathBuf,
    },
    /// A pipe, socket or device.
    NotAFile,
    /// The path is not Unicode.
    PathNotUnicode,
    /// No content at all, or only white space.
    Empty,
    /// Above [`LoadOptions::max_bytes`].
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not text.
    Binary,
    /// Neither UTF-8 nor UTF-16 nor GB 18030.
    UnknownEncoding {
        /// The first byte that is not UTF-8.
        at: usize,
    },
    /// A kind of file that is not read here.
    OtherKind {
        /// The name's extension, empty if it has none.
        extension: String,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { message } => write!(f, "cannot be read: {message}"),
            Self::LinkLoop { to } => write!(f, "the link leads back to `{}`", to.display()),
            Self::SameFile { read } => write!(f, "the same file as `{}`", read.display()),
            Self::NotAFile => f.write_str("a pipe, socket or device"),
            Self::PathNotUnicode => f.write_str("its name is not Unicode"),
            Self::Empty => f.write_str("empty"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "{bytes} bytes, more than the limit of {limit}")
            }
            Self::Binary => f.write_str("binary, not text"),
            Self::UnknownEncoding { at } => {
                write!(f, "not UTF-8 (byte {at}), nor UTF-16 or GB 18030")
            }
            Self::OtherKind { extension } if extension.is_empty() => {
                f.write_str("not Markdown, text or HTML")
            }
            Self::OtherKind { extension } => {
                write!(f, "`.{extension}` is not Markdown, text or HTML")
            }
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
    /// The text: the file's own for Markdown and text, the visible text for HTML.
    pub text: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Hex SHA-256 of the file's bytes.
    pub hash: String,
    /// Headings, paragraphs, lists, tables and code, in order, spans into `text`.
    pub(crate) blocks: Vec<Block>,
    /// From spans of `text` to spans and lines of the file.
    pub source: SourceMap,
}

impl Document {
    /// A document from text already in memory.
    #[must_use]
    pub fn from_text(path: impl Into<PathBuf>, kind: Kind, text: String) -> Self {
        let hash = hex_sha256(text.as_bytes());
        let bytes = text.len() as u64;
        Self::build(path.into(), kind, "UTF-8", text, 0, (bytes, hash))
    }

    /// The document's first heading, if it has one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.blocks.iter().find_map(|block| match &block.kind {
            BlockKind::Heading { title, .. } => Some(title.trim()),
            _ => None,
        })
    }

    fn build(
        path: PathBuf,
        kind: Kind,
        encoding: &'static str,
        decoded: String,
        offset: usize,
        (bytes, hash): (u64, String),
    ) -> Self {
        let (text, blocks, source) = match kind {
            Kind::Html => {
                let page = html::visible_text(&decoded);
                let source = SourceMap::new(&decoded, offset, page.points);
                (page.text, page.blocks, source)
            }
            Kind::Markdown | Kind::Text => {
                let blocks = match kind {
                    Kind::Markdown => structure::markdown(&decoded),
                    _ => structure::plain(&decoded),
                };
                let source = SourceMap::identity(&decoded, offset);
                (decoded, blocks, source)
            }
        };
        Self {
            path,
            kind,
            encoding,
            text,
            bytes,
            hash,
            blocks,
            source,
        }
    }
}

/// Reads one file of a [`Listing`].
///
/// # Errors
///
/// The reason why it cannot be read, or is not text.
pub fn read(file: &SourceFile, options: &LoadOptions) -> Result<Document, SkipReason> {
    let bytes = read_bytes(&file.path, options.max_bytes)?;
    decode_document(file, bytes)
}

/// Decodes and structures the content of `file`.
///
/// # Errors
///
/// The reason why it is not text.
pub fn decode_document(file: &SourceFile, bytes: Vec<u8>) -> Result<Document, SkipReason> {
    if bytes.is_empty() {
        return Err(SkipReason::Empty);
    }
    let size = bytes.len() as u64;
    let hash = hex_sha256(&bytes);
    let decoded = decode::decode(bytes, file.kind == Some(Kind::Html))?;
    if decoded.text.trim().is_empty() {
        return Err(SkipReason::Empty);
    }
    let kind = file.kind.unwrap_or_else(|| sniff(&decoded.text));
    let document = Document::build(
        file.path.clone(),
        kind,
        decoded.encoding,
        decoded.text,
        decoded.offset,
        (size, hash),
    );
    if document.text.trim().is_empty() {
        return Err(SkipReason::Empty);
    }
    Ok(document)
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
    !html::visible_text(markup).text.trim().is_empty()
}

/// Lower-case hex SHA-256.
pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    use fmt::Write as _;
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

/// The kind of a file whose name does not tell.
fn sniff(text: &str) -> Kind {
    let head = text.trim_start().as_bytes();
    let starts =
        |tag: &[u8]| head.len() >= tag.len() && head[..tag.len()].eq_ignore_ascii_case(tag);
    if starts(b"<!doctype html") || starts(b"<html") {
        Kind::Html
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests;
