//! Text of others, so that a terminal shows it and does not obey it.

use std::borrow::Cow;

/// `text` with a picture for every control character but line breaks and tabs: an escape sequence in
/// a document must not move the cursor, rename the window or write to the clipboard.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    // Windows ends lines so.
    let text = text.replace("\r\n", "\n");
    text.chars().map(picture).collect::<String>().into()
}

/// C0 but line break and tab, DEL, and C1: some terminals take U+009B for an escape and a bracket.
fn is_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

/// The sign of Unicode's block "Control Pictures"; C1 has none there.
fn picture(character: char) -> char {
    /// U+2400 stands for U+0000, and so on.
    const PICTURES: u32 = 0x2400;
    const DELETE: char = '\u{2421}';
    match character {
        _ if !is_control(character) => character,
        '\u{7f}' => DELETE,
        '\0'..='\u{1f}' => {
            char::from_u32(PICTURES + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_and_not_obeyed() {
        let text = "a\u{1b}[31mred\u{7}\u{7f}\u{9b}2J\rover\0";
        assert_eq!(printable(text), "a␛[31mred␇␡\u{fffd}2J␍over␀");
        let link = "\u{1b}]8;;http://x\u{1b}\\名";
        assert_eq!(printable(link), "␛]8;;http://x␛\\名");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        let text = "一行\n\ttwo 👩‍👩‍👧";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        assert_eq!(printable("one\r\ntwo\r\n"), "one\ntwo\n");
    }
}
