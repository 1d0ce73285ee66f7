//! Colour on a terminal that wants it, plain text everywhere else.

use std::borrow::Cow;
use std::env;
use std::io::{self, IsTerminal};

/// Marks text with ANSI attributes, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    coloured: bool,
}

/// The style of standard output.
pub(crate) fn stdout() -> Style {
    Style::for_stream(io::stdout().is_terminal())
}

/// The style of standard error.
pub(crate) fn stderr() -> Style {
    Style::for_stream(io::stderr().is_terminal())
}

impl Style {
    /// Plain text, for tests and files.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { coloured: false };
    /// ANSI attributes, for tests.
    #[cfg(test)]
    pub(crate) const COLOURED: Self = Self { coloured: true };

    /// `NO_COLOR` (no-color.org) and `TERM=dumb` switch colour off, `CLICOLOR_FORCE` on.
    fn for_stream(is_terminal: bool) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let forced = set("CLICOLOR_FORCE");
        Self {
            coloured: !set("NO_COLOR") && (forced || (is_terminal && !dumb)),
        }
    }

    /// True if text gets ANSI attributes.
    pub(crate) fn is_coloured(self) -> bool {
        self.coloured
    }

    fn paint(self, attributes: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() {
            format!("\x1b[{attributes}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Headings, names.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What may be passed over.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Where to look: paths, hints.
    pub(crate) fn accent(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// What went wrong.
    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// A piece of a passage; `word` and `sentence` say what it matched.
    pub(crate) fn passage<'a>(self, text: &'a str, word: bool, sentence: bool) -> Cow<'a, str> {
        match (self.coloured, word, sentence) {
            (true, true, true) => self.paint("1;4;33", text).into(),
            (true, true, false) => self.paint("1;33", text).into(),
            (true, false, true) => self.paint("4", text).into(),
            _ => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(Style::PLAIN.error("错误"), "错误");
        assert_eq!(Style::PLAIN.passage("词", true, true), "词");
    }

    #[test]
    fn coloured_text_is_reset() {
        assert_eq!(Style::COLOURED.bold("文意"), "\x1b[1m文意\x1b[0m");
        assert_eq!(Style::COLOURED.bold(""), "");
    }
}
