//! Kinds of files, by their names.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How a file's structure is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// CommonMark with tables.
    Markdown,
    /// Paragraphs between blank lines.
    Text,
    /// The visible text of a page.
    Html,
    /// Source code: its definitions are sections.
    Code,
    /// PDF, page by page.
    Pdf,
    /// A Word document.
    Docx,
    /// A presentation, slide by slide.
    Pptx,
    /// A workbook, sheet by sheet.
    Xlsx,
    /// A table of fields with a separator.
    Csv,
    /// A book, chapter by chapter.
    Epub,
    /// An e-mail with its attachments.
    Eml,
    /// A JSON value a line.
    Jsonl,
}

/// The kinds that are told by the extension alone.
const EXTENSIONS: &[(Kind, &[&str])] = &[
    (Kind::Markdown, &["md", "markdown", "mdown", "mkd", "mdx"]),
    (Kind::Html, &["html", "htm", "xhtml"]),
    (
        Kind::Text,
        &[
            "txt", "text", "rst", "adoc", "asciidoc", "org", "tex", "log",
        ],
    ),
    (Kind::Pdf, &["pdf"]),
    (Kind::Docx, &["docx", "docm", "dotx"]),
    (Kind::Pptx, &["pptx", "pptm", "ppsx"]),
    (Kind::Xlsx, &["xlsx", "xlsm", "xltx"]),
    (Kind::Csv, &["csv", "tsv"]),
    (Kind::Epub, &["epub"]),
    (Kind::Eml, &["eml"]),
    (Kind::Jsonl, &["jsonl", "ndjson"]),
    (
        Kind::Code,
        &[
            "rs", "py", "pyi", "js", "mjs", "cjs", "jsx", "ts", "tsx", "java", "kt", "kts",
            "scala", "go", "c", "h", "cc", "cpp", "cxx", "hh", "hpp", "hxx", "cs", "swift", "m",
            "mm", "rb", "php", "pl", "pm", "lua", "r", "jl", "hs", "ml", "mli", "ex", "exs", "erl",
            "clj", "dart", "zig", "nim", "sh", "bash", "zsh", "fish", "ps1", "sql", "proto", "vue",
            "svelte",
        ],
    ),
];

/// The kinds that a MIME type tells; every other `text/…` is text.
const MIME_TYPES: &[(&str, Kind)] = &[
    ("text/markdown", Kind::Markdown),
    ("text/html", Kind::Html),
    ("application/xhtml+xml", Kind::Html),
    ("text/csv", Kind::Csv),
    ("text/tab-separated-values", Kind::Csv),
    ("application/pdf", Kind::Pdf),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Kind::Docx,
    ),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        Kind::Pptx,
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Kind::Xlsx,
    ),
    ("application/epub+zip", Kind::Epub),
    ("message/rfc822", Kind::Eml),
    ("application/jsonl", Kind::Jsonl),
    ("application/x-ndjson", Kind::Jsonl),
    ("application/json", Kind::Text),
    ("application/xml", Kind::Text),
];

impl Kind {
    /// The kind that a file's name tells, if it tells one that is read here.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        let found = EXTENSIONS
            .iter()
            .find(|(_, extensions)| extensions.contains(&extension.as_str()));
        found.map(|&(kind, _)| kind)
    }

    /// The kind that a MIME type tells, if it tells one that is read here.
    pub(super) fn from_mime(mime: &str) -> Option<Self> {
        let mime = mime.to_ascii_lowercase();
        let known = MIME_TYPES.iter().find(|(name, _)| *name == mime);
        let text = || mime.starts_with("text/").then_some(Self::Text);
        known.map(|&(_, kind)| kind).or_else(text)
    }

    /// The kind of content whose name does not tell, by its first bytes; `None` for text.
    pub(super) fn from_magic(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(b"%PDF-").then_some(Self::Pdf)
    }

    /// True if the file is text that is read line by line, so that its lines can be cited.
    #[must_use]
    pub fn has_lines(self) -> bool {
        match self {
            Self::Markdown | Self::Text | Self::Html | Self::Code | Self::Csv | Self::Jsonl => true,
            Self::Pdf | Self::Docx | Self::Pptx | Self::Xlsx | Self::Epub | Self::Eml => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Html => "html",
            Self::Code => "code",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Pptx => "pptx",
            Self::Xlsx => "xlsx",
            Self::Csv => "csv",
            Self::Epub => "epub",
            Self::Eml => "eml",
            Self::Jsonl => "jsonl",
        })
    }
}
