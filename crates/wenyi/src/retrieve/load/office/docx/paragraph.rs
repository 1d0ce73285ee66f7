//! A paragraph of a document: a heading, an item of a list, code, or text.

use super::Reader;

#[derive(Default)]
pub(super) struct Paragraph {
    pub(super) text: String,
    pub(super) style: String,
    pub(super) outline: Option<u8>,
    /// The list that it is an item of, whatever its style says; `0` is none.
    pub(super) list: Option<String>,
    /// The level in the list.
    pub(super) level: Option<usize>,
}

impl Reader {
    pub(super) fn end_paragraph(&mut self) {
        let Some(mut paragraph) = self.open.pop() else {
            return;
        };
        let list = self.list_of(&paragraph);
        // An item without text is counted all the same.
        let mark = list
            .as_ref()
            .and_then(|(list, level)| self.numbering.next(list, *level));
        if paragraph.text.trim().is_empty() {
            return;
        }
        if !self.prefix.is_empty() {
            paragraph
                .text
                .insert_str(0, &std::mem::take(&mut self.prefix));
        }
        let text = match &mark {
            Some(mark) => format!("{mark} {}", paragraph.text),
            None => paragraph.text.clone(),
        };
        if let Some(cell) = self.tables.last_mut().and_then(|row| row.cells.last_mut()) {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(&text);
            return;
        }
        self.place(self.page);
        let level = paragraph.outline.map(|level| level + 1);
        let level = level.or_else(|| self.styles.heading(&paragraph.style));
        match (level, list) {
            (Some(level), _) => self.draft.heading(level, &text),
            (None, Some((_, depth))) => {
                let mark = mark.as_deref().unwrap_or("-");
                self.draft.marked_item(depth, mark, &paragraph.text);
            }
            (None, None) if is_code(&paragraph) => self.draft.code(&text),
            (None, None) => self.draft.paragraph(&text),
        }
    }

    /// The list that the paragraph is an item of, by itself or by its style, and the level.
    fn list_of(&self, paragraph: &Paragraph) -> Option<(String, usize)> {
        let styled = || self.styles.list(&paragraph.style);
        match &paragraph.list {
            Some(list) if list == "0" => None,
            Some(list) => {
                let level = paragraph.level.or_else(|| Some(styled()?.1));
                Some((list.clone(), level.unwrap_or(0)))
            }
            None => {
                let (list, level) = styled()?;
                Some((list, paragraph.level.unwrap_or(level)))
            }
        }
    }
}

/// Pandoc and others call the style of listings so.
fn is_code(paragraph: &Paragraph) -> bool {
    let style = paragraph.style.to_lowercase();
    style.contains("sourcecode") || style.contains("verbatim") || style == "code"
}
