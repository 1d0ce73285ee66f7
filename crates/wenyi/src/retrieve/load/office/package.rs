//! The ZIP files that office documents and books are: their parts by name, each within bounds.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::retrieve::load::{SkipReason, decode};

use super::xml::{self, Node};

/// All parts of one file together; more is a bomb, or a file that nobody reads.
const MOST_BYTES: u64 = 256 << 20;

/// Parts in one file.
const MOST_PARTS: usize = 65_536;

/// An opened package.
pub(in crate::retrieve::load) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    room: u64,
}

impl<'a> Package<'a> {
    pub(in crate::retrieve::load) fn open(bytes: &'a [u8]) -> Result<Self, SkipReason> {
        if bytes.starts_with(OLE_MAGIC) {
            // Office keeps a document with a password inside of an OLE file.
            return Err(if contains(bytes, &utf16("EncryptedPackage")) {
                SkipReason::Encrypted
            } else {
                let message = "a document of the old binary format".to_owned();
                SkipReason::Broken { message }
            });
        }
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
        if archive.len() > MOST_PARTS {
            let limit = MOST_PARTS as u64;
            return Err(SkipReason::TooMuch { limit });
        }
        let room = MOST_BYTES;
        Ok(Self { archive, room })
    }

    /// The names of the parts.
    pub(in crate::retrieve::load) fn names(&self) -> Vec<String> {
        let names = self.archive.file_names().flatten();
        names.map(Cow::into_owned).collect()
    }

    pub(in crate::retrieve::load) fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(name).is_some()
    }

    /// The bytes of the part called `name`.
    pub(in crate::retrieve::load) fn part(&mut self, name: &str) -> Result<Vec<u8>, SkipReason> {
        let part = self.archive.by_name(name).map_err(|error| match error {
            ZipError::FileNotFound => SkipReason::Broken {
                message: format!("its part `{name}` is missing"),
            },
            other => broken(&other),
        })?;
        if part.encrypted() {
            return Err(SkipReason::Encrypted);
        }
        // The size that the file tells may be a lie, so it is only a hint for the allocation.
        let mut bytes = Vec::with_capacity(usize::try_from(part.size().min(1 << 20)).unwrap_or(0));
        let read = part.take(self.room + 1).read_to_end(&mut bytes);
        let length = read.map_err(|error| SkipReason::Broken {
            message: format!("its part `{name}`: {error}"),
        })?;
        self.room = self
            .room
            .checked_sub(length as u64)
            .ok_or(SkipReason::TooMuch { limit: MOST_BYTES })?;
        Ok(bytes)
    }

    /// The part called `name` as XML text.
    pub(in crate::retrieve::load) fn xml(&mut self, name: &str) -> Result<String, SkipReason> {
        Ok(decode::decode(self.part(name)?, false)?.text)
    }

    /// The relations of a part: id, the last word of the type, and the part that is meant.
    pub(in crate::retrieve::load) fn relations(&mut self, part: &str) -> Vec<Relation> {
        let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
        let name = format!("{folder}/_rels/{file}.rels");
        let Ok(xml) = self.xml(name.trim_start_matches('/')) else {
            return Vec::new();
        };
        let mut relations = Vec::new();
        // Half a list of relations is still of use.
        let _ = xml::read(&xml, |node| {
            if let Node::Open(tag) = node
                && tag.name() == "Relationship"
                && tag.attribute("TargetMode").as_deref() != Some("External")
                && let (Some(id), Some(target)) = (tag.attribute("Id"), tag.attribute("Target"))
            {
                let kind = tag.attribute("Type").unwrap_or_default();
                relations.push(Relation {
                    id,
                    kind: kind.rsplit('/').next().unwrap_or_default().to_owned(),
                    target: resolve(folder, &target),
                });
            }
            Ok(())
        });
        relations
    }

    /// Unpacks everything once, for parsers that set no bounds themselves.
    pub(in crate::retrieve::load) fn expect_bounded(&mut self) -> Result<(), SkipReason> {
        for name in self.names() {
            if !name.ends_with('/') {
                self.part(&name)?;
            }
        }
        self.room = MOST_BYTES;
        Ok(())
    }
}

/// One part pointing to another.
pub(in crate::retrieve::load) struct Relation {
    pub(in crate::retrieve::load) id: String,
    pub(in crate::retrieve::load) kind: String,
    pub(in crate::retrieve::load) target: String,
}

/// `target` as seen from a part in `folder`: `../media/a.xml` and `/ppt/b.xml` to names of parts.
pub(in crate::retrieve::load) fn resolve(folder: &str, target: &str) -> String {
    let absolute = target.starts_with('/');
    let mut segments: Vec<&str> = Vec::new();
    let folder = if absolute { "" } else { folder };
    for segment in folder.split('/').chain(target.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    segments.join("/")
}

/// The first bytes of an OLE compound file.
const OLE_MAGIC: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

fn utf16(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn broken(error: &ZipError) -> SkipReason {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword => {
            SkipReason::Encrypted
        }
        other => SkipReason::Broken {
            message: other.to_string(),
        },
    }
}
