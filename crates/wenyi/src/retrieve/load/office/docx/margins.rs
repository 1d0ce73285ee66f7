//! Headers and footers: what stands above and below the pages is read once, before the text.

use std::collections::HashSet;

use super::super::package::{Package, Relation};
use super::Reader;
use crate::retrieve::load::SkipReason;

impl Reader {
    /// Reads the headers and the footers, which sections and left pages may have of their own; of equal
    /// ones the first.
    pub(super) fn read_margins(
        &mut self,
        package: &mut Package<'_>,
        related: &[Relation],
    ) -> Result<(), SkipReason> {
        let mut known = HashSet::new();
        for kind in ["header", "footer"] {
            let parts = related.iter().filter(|relation| relation.kind == kind);
            for part in parts.map(|relation| relation.target.as_str()) {
                if !package.has(part) {
                    continue;
                }
                let mut margin = Self::default();
                let read = package.xml(part).and_then(|xml| margin.read(&xml));
                self.draft.part(part, read)?;
                for block in &margin.draft.blocks {
                    let text = &margin.draft.text[block.span.clone()];
                    if !is_page_number(text) && known.insert(text.to_owned()) {
                        self.place(1);
                        self.draft.paragraph(text);
                    }
                }
                self.draft.expect_room()?;
            }
        }
        Ok(())
    }
}

/// True for a number of a page and what is written around it: `Page 3 of 7`, `- iv -`, `第 3 页 共 7 页`.
fn is_page_number(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "page", "pages", "of", "p", "pg", "pp", "seite", "von", "sur", "第", "页", "頁", "共",
    ];
    let words = text.split(|c: char| !c.is_alphabetic());
    words.map(str::to_lowercase).all(|word| {
        // Before the text, pages have Roman numbers.
        word.chars().all(|c| "ivx".contains(c)) || WORDS.contains(&word.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::is_page_number;

    #[test]
    fn numbers_of_pages_are_told_from_what_says_something() {
        for text in [
            "3",
            "Page 3 of 7",
            "- iv -",
            "第 3 页 共 7 页",
            "第3页",
            "",
            "p. 12 | 40",
        ] {
            assert!(is_page_number(text), "{text}");
        }
        for text in [
            "Report 2024",
            "机密",
            "第三章",
            "Page 3: Keys",
            "Draft",
            "ACME | 3",
        ] {
            assert!(!is_page_number(text), "{text}");
        }
    }
}
