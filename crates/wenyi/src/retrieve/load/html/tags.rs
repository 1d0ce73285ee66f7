//! Tags and their attributes, as lenient as a browser reads them.

/// The length of the tag at the start of `rest`, `>` included; quoted values may hold `>`.
pub(super) fn tag_end(rest: &str) -> Option<usize> {
    let mut quote = None;
    let mut after_equals = false;
    for (index, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            // A quote opens a value only behind `=`: `<p class=it's>` is a tag.
            (None, b'"' | b'\'') if after_equals => quote = Some(byte),
            (None, b'>') => return Some(index + 1),
            (None, _) => {}
        }
        if !byte.is_ascii_whitespace() {
            after_equals = byte == b'=';
        }
    }
    None
}

/// Where the closing tag of the element `name` begins and ends, from `from` on; the end of the
/// source if it is never closed.
pub(super) fn closing(source: &str, from: usize, name: &str) -> (usize, usize) {
    let bytes = source.as_bytes();
    let mut at = from;
    while let Some(offset) = source[at..].find("</") {
        let start = at + offset + 2;
        let end = start + name.len();
        if bytes
            .get(start..end)
            .is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        {
            let after = source[end..].find('>');
            return (
                start - 2,
                after.map_or(source.len(), |close| end + close + 1),
            );
        }
        at = start;
    }
    (source.len(), source.len())
}

/// The value of an attribute as it is written, empty if it has none; `tag` is what stands between
/// `<` and `>`.
pub(super) fn attribute<'a>(tag: &'a str, wanted: &str) -> Option<&'a str> {
    let is_between = |c: char| c.is_ascii_whitespace() || c == '/';
    let mut rest = &tag[tag.find(is_between)?..];
    loop {
        rest = rest.trim_start_matches(is_between);
        // An `=` without a name is one, as in browsers.
        let end = rest
            .char_indices()
            .find(|&(at, c)| is_between(c) || (c == '=' && at > 0));
        let (name, behind) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        if name.is_empty() {
            return None;
        }
        let (value, after) = match behind.trim_start().strip_prefix('=') {
            Some(value) => value_of(value.trim_start()),
            None => ("", behind),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// The value at the start of `text`, and what follows it.
fn value_of(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    let end = text.find(|c: char| c.is_ascii_whitespace());
    text.split_at(end.unwrap_or(text.len()))
}

/// True if the element says itself that it is not shown. What a style sheet says is not known.
pub(super) fn is_hidden(tag: &str) -> bool {
    // Most tags have neither word, and need not be taken apart.
    let lower = tag.to_ascii_lowercase();
    if !lower.contains("hidden") && !lower.contains("display") {
        return false;
    }
    let style: String = attribute(&lower, "style")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    attribute(&lower, "hidden").is_some_and(|value| value != "until-found")
        || style.contains("display:none")
        || style.contains("visibility:hidden")
}

/// An element whose content is not shown, while it is open.
pub(super) struct Hidden {
    name: String,
    depth: usize,
}

/// What a tag means to a hidden element around it.
#[derive(PartialEq, Eq)]
pub(super) enum Within {
    /// It is hidden itself.
    Hidden,
    /// It closes the element.
    Closing,
    /// It stands behind the element, which was never closed.
    Behind,
}

/// Elements without content.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
];

/// Elements whose end may be left out, so that the next of them, or the end of what they are in,
/// ends them.
const UNCLOSED: &[&str] = &["p", "li", "td", "th", "tr", "option", "dt", "dd"];

/// Elements that those stand in.
const CONTAINERS: &[&str] = &[
    "ul", "ol", "menu", "dl", "table", "tbody", "thead", "tfoot", "tr", "select", "div", "body",
];

impl Hidden {
    /// The element that `tag` opens, if it is hidden.
    pub(super) fn opened(name: &str, tag: &str) -> Option<Self> {
        let is_element = !VOID.contains(&name) && !tag.ends_with('/') && name != "body";
        (is_element && is_hidden(tag)).then(|| Self {
            name: name.to_owned(),
            depth: 1,
        })
    }

    pub(super) fn meets(&mut self, name: &str, closing: bool) -> Within {
        let is_same = self.name == name;
        if UNCLOSED.contains(&self.name.as_str()) {
            return match (is_same, closing) {
                (true, true) => Within::Closing,
                (true, false) => Within::Behind,
                (false, true) if CONTAINERS.contains(&name) => Within::Behind,
                _ => Within::Hidden,
            };
        }
        match (is_same, closing) {
            (true, true) => self.depth -= 1,
            (true, false) => self.depth += 1,
            _ => {}
        }
        if self.depth == 0 {
            Within::Closing
        } else {
            Within::Hidden
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_however_they_are_written() {
        let tag = "td a=1 COLSPAN = '2' title=\"a > b\" hidden data-x=\"colspan=9\"/";
        assert_eq!(attribute(tag, "colspan"), Some("2"));
        assert_eq!(attribute(tag, "title"), Some("a > b"));
        assert_eq!(attribute(tag, "hidden"), Some(""));
        assert_eq!(attribute(tag, "b"), None);
        assert_eq!(attribute("td", "a"), None);
        assert_eq!(attribute("td =a=b c", "c"), Some(""));
        assert!(is_hidden("div style='color: red; DISPLAY : none'"));
        assert!(!is_hidden("div aria-hidden=true style='display: block'"));
    }
}
