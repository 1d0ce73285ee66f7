//! XML as a stream of opened, closed and text, with names without their prefixes.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::retrieve::load::SkipReason;

/// What comes next in a part.
pub(in crate::retrieve::load) enum Node<'a> {
    Open(Tag<'a>),
    /// The local name.
    Close(&'a str),
    Text(Cow<'a, str>),
}

/// A start tag.
pub(in crate::retrieve::load) struct Tag<'a>(BytesStart<'a>);

impl Tag<'_> {
    /// The name without its prefix.
    pub(in crate::retrieve::load) fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// The value of the attribute of this local name.
    pub(in crate::retrieve::load) fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attributes = attributes.with_checks(false).flatten();
        for attribute in attributes {
            if attribute.key.local_name().into_inner() == name {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                return Some(value.map_or_else(|_| attribute.value.to_string(), Cow::into_owned));
            }
        }
        None
    }

    /// The value of the first attribute of this local name that has a prefix, such as `r:id`.
    pub(in crate::retrieve::load) fn prefixed_attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let mut attributes = attributes.with_checks(false).flatten();
        let found = attributes.find(|attribute| {
            let key = attribute.key;
            key.prefix().is_some() && key.local_name().into_inner() == name
        });
        found.map(|attribute| attribute.value.into_owned())
    }
}

/// Calls `visit` for everything in `xml`. References to characters are resolved, those to entities
/// of the file's own are left out, so nothing expands.
pub(in crate::retrieve::load) fn read(
    xml: &str,
    mut visit: impl FnMut(Node<'_>) -> Result<(), SkipReason>,
) -> Result<(), SkipReason> {
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    loop {
        let event = reader.read_event().map_err(|error| SkipReason::Broken {
            message: format!("XML, byte {}: {error}", reader.buffer_position()),
        })?;
        match event {
            Event::Start(tag) => visit(Node::Open(Tag(tag)))?,
            Event::Empty(tag) => {
                let name = tag.local_name().into_inner().to_owned();
                visit(Node::Open(Tag(tag)))?;
                visit(Node::Close(&name))?;
            }
            Event::End(tag) => visit(Node::Close(tag.local_name().into_inner()))?,
            Event::Text(text) => visit(Node::Text(text.xml10_content()))?,
            Event::CData(text) => visit(Node::Text(text.xml10_content()))?,
            Event::GeneralRef(reference) => {
                if let Some(text) = resolved(&reference) {
                    visit(Node::Text(Cow::Owned(text)))?;
                }
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

fn resolved(reference: &quick_xml::events::BytesRef<'_>) -> Option<String> {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return Some(c.to_string());
    }
    let name = reference.xml10_content();
    quick_xml::escape::resolve_xml_entity(&name).map(str::to_owned)
}
