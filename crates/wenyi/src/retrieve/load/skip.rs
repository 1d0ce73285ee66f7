//! Files that were not read, and why.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// A file that was not read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.reason)
    }
}

/// With the reason in words and the hint beside its data.
impl Serialize for Skip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            path: Cow<'a, str>,
            reason: &'a SkipReason,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'static str>,
        }
        Shown {
            path: self.path.to_string_lossy(),
            reason: &self.reason,
            message: self.reason.to_string(),
            hint: self.reason.hint(),
        }
        .serialize(serializer)
    }
}

/// A path as text: one that is not Unicode must not end a report.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        #[serde(serialize_with = "as_text")]
        to: PathBuf,
    },
    /// The same file was reached by another path.
    SameFile {
        /// The path that was read.
        #[serde(serialize_with = "as_text")]
        read: PathBuf,
    },
    /// A pipe, socket or device.
    NotAFile,
    /// The path is not Unicode.
    PathNotUnicode,
    /// No content at all, or only white space.
    Empty,
    /// Above [`super::LoadOptions::max_bytes`].
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not text.
    Binary,
    /// In no encoding that its bytes make sense in.
    UnknownEncoding {
        /// The first byte that is not UTF-8.
        at: usize,
    },
    /// A kind of file that is not read here.
    OtherKind {
        /// The name's extension, empty if it has none.
        extension: String,
    },
    /// It cannot be opened without a password.
    Encrypted,
    /// Its structure is damaged, or not what its name says.
    Broken {
        /// What is wrong.
        message: String,
    },
    /// Pages that are pictures: they have no text.
    Scanned {
        /// The pages without text, from 1.
        pages: Vec<u64>,
        /// Pages of the file.
        num_pages: u64,
    },
    /// Unpacked it is beyond all bounds.
    TooMuch {
        /// The bound, in bytes or parts.
        limit: u64,
    },
    /// A part that is not read; the rest was.
    Unread {
        /// What it is, and what to do about it if there is something.
        what: String,
    },
    /// An attachment could not be read; the mail was.
    Attachment {
        /// Its name.
        name: String,
        /// Why.
        reason: Box<SkipReason>,
    },
}

impl SkipReason {
    /// True if the file should have been read: it is damaged, locked or out of reach. False for
    /// what has nothing to read, or was read by another name.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::LinkLoop { .. }
            | Self::SameFile { .. }
            | Self::NotAFile
            | Self::Empty
            | Self::OtherKind { .. } => false,
            Self::Unreadable { .. }
            | Self::PathNotUnicode
            | Self::TooLarge { .. }
            | Self::Binary
            | Self::UnknownEncoding { .. }
            | Self::Encrypted
            | Self::Broken { .. }
            | Self::Scanned { .. }
            | Self::TooMuch { .. }
            | Self::Unread { .. }
            | Self::Attachment { .. } => true,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Encrypted => "save a copy without a password",
            Self::Broken { .. } => {
                "open it in its program and save it anew, or check that its name says what it is"
            }
            Self::Scanned { .. } => {
                "give it a text layer with a program for text recognition (OCR), such as `ocrmypdf`"
            }
            Self::UnknownEncoding { .. } => "save it as UTF-8",
            Self::Binary => "it is not text; leave it out with `--exclude`",
            Self::TooLarge { .. } | Self::TooMuch { .. } => "divide it into smaller files",
            Self::PathNotUnicode => "rename it",
            Self::Unreadable { .. } => "check its permissions",
            Self::Attachment { reason, .. } => return reason.hint(),
            Self::LinkLoop { .. }
            | Self::SameFile { .. }
            | Self::NotAFile
            | Self::Empty
            | Self::Unread { .. }
            | Self::OtherKind { .. } => return None,
        })
    }
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
                write!(
                    f,
                    "not UTF-8 (byte {at}), and its encoding is not told by its bytes"
                )
            }
            Self::OtherKind { extension } if extension.is_empty() => {
                f.write_str("not a kind of document that is read")
            }
            Self::OtherKind { extension } => {
                write!(f, "`.{extension}` is not a kind of document that is read")
            }
            Self::Encrypted => f.write_str("encrypted, it needs a password"),
            Self::Broken { message } => write!(f, "damaged: {message}"),
            Self::Scanned { pages, num_pages } if pages.len() as u64 == *num_pages => {
                f.write_str("scanned: its pages are pictures without text")
            }
            Self::Scanned { pages, num_pages } => {
                let some: Vec<String> = pages.iter().take(5).map(u64::to_string).collect();
                let more = if pages.len() > 5 { " …" } else { "" };
                write!(
                    f,
                    "{} of {num_pages} pages are pictures without text: {}{more}",
                    pages.len(),
                    some.join(", ")
                )
            }
            Self::TooMuch { limit } => write!(f, "more than {limit} bytes when unpacked"),
            Self::Unread { what } => write!(f, "not read: {what}"),
            Self::Attachment { name, reason } => write!(f, "its attachment `{name}`: {reason}"),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_that_is_not_unicode_can_be_written_as_json() {
        let path = PathBuf::from(OsStr::from_bytes(b"bad\xff.md"));
        let skip = Skip {
            path: path.clone(),
            reason: SkipReason::SameFile { read: path },
        };
        let json = serde_json::to_value(&skip).unwrap();
        assert_eq!(json["path"], "bad\u{fffd}.md");
        assert_eq!(json["reason"]["read"], "bad\u{fffd}.md");
    }
}
