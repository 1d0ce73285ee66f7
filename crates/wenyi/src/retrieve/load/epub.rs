//! Electronic books: the chapters in reading order, each a page of HTML.

use std::collections::HashMap;

use super::draft::Draft;
use super::office::package::{Package, resolve};
use super::office::xml::{self, Node};
use super::places::Unit;
use super::{SkipReason, decode, html};

const CONTAINER: &str = "META-INF/container.xml";
const ENCRYPTION: &str = "META-INF/encryption.xml";

pub(super) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    let mut package = Package::open(bytes)?;
    let mut root = None;
    xml::read(&package.xml(CONTAINER)?, |node| {
        if let Node::Open(tag) = node
            && tag.name() == "rootfile"
            && root.is_none()
        {
            root = tag.attribute("full-path");
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| SkipReason::Broken {
        message: "its container names no book".to_owned(),
    })?;
    let book = Book::read(&package.xml(&root)?, &root)?;
    if package.has(ENCRYPTION) && is_protected(&package.xml(ENCRYPTION)?, &book)? {
        return Err(SkipReason::Encrypted);
    }
    let mut draft = Draft::default();
    draft.heading(1, &book.title);
    for (number, chapter) in (1..).zip(&book.chapters) {
        let page = package
            .part(chapter)
            .and_then(|bytes| decode::decode(bytes, true));
        if let Some(page) = draft.part(chapter, page)? {
            draft.place(Unit::Chapter, number, None);
            draft.append_page(&html::visible_text(&page.text), 1);
        }
        draft.expect_room()?;
    }
    if book.chapters.is_empty() {
        let message = "it names no chapters".to_owned();
        return Err(SkipReason::Broken { message });
    }
    Ok(draft)
}

#[derive(Default)]
struct Book {
    title: String,
    /// Names of parts in reading order.
    chapters: Vec<String>,
}

impl Book {
    fn read(xml: &str, root: &str) -> Result<Self, SkipReason> {
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut book = Self::default();
        let mut parts: HashMap<String, String> = HashMap::new();
        let mut spine = Vec::new();
        let (mut in_title, mut title_done) = (false, false);
        xml::read(xml, |node| {
            match node {
                Node::Open(tag) => match tag.name() {
                    "title" => in_title = !title_done,
                    "item" => {
                        let id = tag.attribute("id").unwrap_or_default();
                        let href = tag.attribute("href").unwrap_or_default();
                        parts.insert(id, resolve(folder, &percent_decoded(&href)));
                    }
                    "itemref" => spine.extend(tag.attribute("idref")),
                    _ => {}
                },
                Node::Close("title") => (in_title, title_done) = (false, true),
                Node::Text(text) if in_title => book.title.push_str(&text),
                _ => {}
            }
            Ok(())
        })?;
        // One that the manifest does not name is looked up by its id, and missed.
        let part = |id: String| parts.get(&id).cloned().unwrap_or(id);
        book.chapters = spine.into_iter().map(part).collect();
        Ok(book)
    }
}

/// True if a chapter is encrypted; obscured fonts do not matter.
fn is_protected(xml: &str, book: &Book) -> Result<bool, SkipReason> {
    let mut protected = false;
    xml::read(xml, |node| {
        if let Node::Open(tag) = node
            && tag.name() == "CipherReference"
            && let Some(uri) = tag.attribute("URI")
        {
            protected |= book.chapters.contains(&percent_decoded(&uri));
        }
        Ok(())
    })?;
    Ok(protected)
}

/// `a%20b` to `a b`; what is no escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
