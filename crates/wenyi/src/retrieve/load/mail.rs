//! E-mail (RFC 5322, MIME): the headers that people read, the body, and attachments that can be
//! read themselves.

use std::path::Path;

use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders};

use super::draft::Draft;
use super::{Kind, SkipReason, extract, guard, html};

/// Mails within mails, and mails attached to those.
const MOST_DEPTH: usize = 4;

pub(super) fn read(bytes: &[u8], depth: usize) -> Result<Draft, SkipReason> {
    guard::against_panics(|| {
        let message = MessageParser::default().parse(bytes);
        let message = message.ok_or_else(|| SkipReason::Broken {
            message: "no headers of an e-mail".to_owned(),
        })?;
        let mut draft = Draft::default();
        write(&message, &mut draft, depth)?;
        Ok(draft)
    })
}

fn write(message: &Message<'_>, draft: &mut Draft, depth: usize) -> Result<(), SkipReason> {
    if let Some(subject) = message.subject() {
        draft.heading(1, subject);
    }
    let mut headers = Vec::new();
    let addresses = [
        ("From", message.from()),
        ("To", message.to()),
        ("Cc", message.cc()),
    ];
    for (name, address) in addresses {
        if let Some(address) = address.map(shown).filter(|address| !address.is_empty()) {
            headers.push(format!("{name}: {address}"));
        }
    }
    if let Some(date) = message.date() {
        headers.push(format!("Date: {}", date.to_rfc3339()));
    }
    draft.paragraph(&headers.join("\n"));
    write_body(message, draft);
    for (number, part) in (1..).zip(message.attachments()) {
        draft.expect_room()?;
        match part.message() {
            Some(inner) if depth < MOST_DEPTH => {
                let mut attached = Draft::default();
                write(inner, &mut attached, depth + 1)?;
                draft.append(&attached, 1);
            }
            Some(inner) => {
                let name = inner.subject().unwrap_or_default().to_owned();
                draft.gap(too_deep(name));
            }
            None => attach(draft, &Attachment::of(part, number), depth),
        }
    }
    Ok(())
}

fn write_body(message: &Message<'_>, draft: &mut Draft) {
    // What was written as HTML only is read as HTML: a conversion to text loses its tables.
    let html = message.html_part(0).filter(|part| part.is_text_html());
    let has_text = message
        .text_part(0)
        .is_some_and(|part| !part.is_text_html());
    match html {
        Some(part) if !has_text => {
            let page = html::visible_text(part.text_contents().unwrap_or_default());
            draft.append_page(&page, 1);
        }
        _ => {
            for index in 0..message.text_body_count() {
                let text = message.body_text(index).unwrap_or_default();
                for paragraph in paragraphs(&text) {
                    draft.paragraph(&paragraph);
                }
            }
        }
    }
}

/// What blank lines part.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            paragraphs.push(String::new());
        } else if let Some(paragraph) = paragraphs.last_mut() {
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    paragraphs
}

/// A file that came with a mail.
struct Attachment<'a> {
    name: String,
    /// What its name tells, else its MIME type, else its first bytes.
    kind: Option<Kind>,
    /// A picture of the text, such as a signature's logo, and not a file for the reader.
    is_of_body: bool,
    bytes: &'a [u8],
}

impl<'a> Attachment<'a> {
    /// The attachment `part`, which is the `number`-th.
    fn of(part: &'a MessagePart<'_>, number: usize) -> Self {
        let bytes = part.contents();
        let mime = part.content_type().map(|mime| match mime.subtype() {
            Some(subtype) => format!("{}/{subtype}", mime.ctype()),
            None => mime.ctype().to_owned(),
        });
        let mime = mime.unwrap_or_default().to_ascii_lowercase();
        let name = part.attachment_name();
        let kind = name.and_then(|name| Kind::from_path(Path::new(name)));
        let is_attached = part
            .content_disposition()
            .is_some_and(|disposition| disposition.ctype().eq_ignore_ascii_case("attachment"));
        Self {
            name: name.map_or_else(|| format!("Attachment {number}"), str::to_owned),
            kind: kind
                .or_else(|| Kind::from_mime(&mime))
                .or_else(|| Kind::from_magic(bytes)),
            is_of_body: !is_attached && mime.starts_with("image/"),
            bytes,
        }
    }

    fn gap(&self, reason: SkipReason) -> SkipReason {
        SkipReason::Attachment {
            name: self.name.clone(),
            reason: Box::new(reason),
        }
    }
}

/// Reads an attachment as the file that it is, if it is one that is read here.
fn attach(draft: &mut Draft, attachment: &Attachment<'_>, depth: usize) {
    if attachment.is_of_body {
        return;
    }
    draft.heading(2, &attachment.name);
    let Some(kind) = attachment.kind else {
        let extension = Path::new(&attachment.name).extension();
        let extension = extension.and_then(|extension| extension.to_str());
        draft.gap(attachment.gap(SkipReason::OtherKind {
            extension: extension.unwrap_or_default().to_ascii_lowercase(),
        }));
        return;
    };
    if depth >= MOST_DEPTH {
        draft.gap(too_deep(attachment.name.clone()));
        return;
    }
    match extract(kind, attachment.bytes.to_vec(), depth + 1) {
        Ok(attached) => draft.append(&attached.draft, 2),
        Err(SkipReason::Empty) => {}
        Err(reason) => draft.gap(attachment.gap(reason)),
    }
}

fn too_deep(name: String) -> SkipReason {
    let what = format!("it is within more than {MOST_DEPTH} mails");
    SkipReason::Attachment {
        name,
        reason: Box::new(SkipReason::Unread { what }),
    }
}

fn shown(address: &Address<'_>) -> String {
    let one = |address: &mail_parser::Addr<'_>| match (address.name(), address.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    };
    address.iter().map(one).collect::<Vec<_>>().join(", ")
}
