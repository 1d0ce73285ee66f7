//! What the styles of a document say of its paragraphs: which are headings, which are items.

use std::collections::HashMap;

use super::xml::{self, Node};
use crate::retrieve::load::SkipReason;

/// Styles based on each other.
const MOST_STEPS: usize = 16;

/// What a style says itself.
#[derive(Default)]
struct Style {
    based_on: Option<String>,
    heading: Option<u8>,
    /// Told by the style's name, which its outline level overrules.
    named: Option<u8>,
    list: Option<String>,
    list_level: Option<usize>,
}

/// The styles of a document by their ids.
#[derive(Default)]
pub(super) struct Styles(HashMap<String, Style>);

impl Styles {
    pub(super) fn read(xml: &str) -> Result<Self, SkipReason> {
        let mut styles = HashMap::new();
        let (mut id, mut style) = (String::new(), Style::default());
        xml::read(xml, |node| {
            match node {
                Node::Open(tag) => {
                    let value = || tag.attribute("val").unwrap_or_default();
                    match tag.name() {
                        "style" => {
                            id = tag.attribute("styleId").unwrap_or_default();
                            style = Style::default();
                        }
                        "basedOn" => style.based_on = Some(value()),
                        "name" => style.named = named_level(&value().to_lowercase()),
                        // 9 is body text.
                        "outlineLvl" => {
                            let level = value().parse::<u8>().ok().filter(|&level| level < 9);
                            style.heading = level.map(|level| level + 1);
                        }
                        "numId" => style.list = Some(value()),
                        "ilvl" => style.list_level = value().parse().ok(),
                        _ => {}
                    }
                }
                Node::Close("style") => {
                    styles.insert(std::mem::take(&mut id), std::mem::take(&mut style));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self(styles))
    }

    /// The level of the heading that paragraphs of this style are: by its outline level, its name,
    /// or the style that it is based on.
    pub(super) fn heading(&self, id: &str) -> Option<u8> {
        self.found(id, |style| style.heading.or(style.named))
    }

    /// The list and the level in it that paragraphs of this style are items of.
    pub(super) fn list(&self, id: &str) -> Option<(String, usize)> {
        let list = self.found(id, |style| style.list.clone())?;
        let level = self.found(id, |style| style.list_level).unwrap_or(0);
        // The number 0 takes a style out of the list that it would inherit.
        (list != "0").then_some((list, level))
    }

    fn found<T>(&self, id: &str, told: impl Fn(&Style) -> Option<T>) -> Option<T> {
        let mut style = self.0.get(id)?;
        for _ in 0..MOST_STEPS {
            if let Some(told) = told(style) {
                return Some(told);
            }
            style = self.0.get(style.based_on.as_deref()?)?;
        }
        None
    }
}

/// `title`, `heading 2`, and what Chinese editions call it.
fn named_level(name: &str) -> Option<u8> {
    if name == "title" {
        return Some(1);
    }
    let number = ["heading", "标题", "標題"]
        .iter()
        .find_map(|word| name.strip_prefix(word))?;
    number.trim().parse().ok().filter(|&level| level <= 9)
}
