//! Where the lines of a conversation come from: a line editor on a terminal, which knows how wide a
//! Chinese character is and calls earlier lines back; else a pipe, as it is.

use std::io::{self, BufRead, IsTerminal, Write};

use rustyline::DefaultEditor;
use rustyline::config::Config;
use rustyline::error::{ReadlineError, Signal};

use crate::exit::UserError;
use crate::interrupt;
use crate::output::style;

/// What comes next.
pub(super) enum Line {
    Said(String),
    /// Not text; the next line may be.
    Unreadable(UserError),
    /// Ctrl-C before the line was whole.
    Interrupted,
    /// There are no more.
    End,
}

/// Reads lines.
pub(super) enum Lines {
    /// A person's, who may edit them.
    Edited(Box<DefaultEditor>),
    /// A program's, or those of a terminal whose screen goes elsewhere.
    Plain { number: u64 },
}

impl Lines {
    /// Lines from standard input; `earlier` ones can be called back.
    pub(super) fn open<'a>(earlier: impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        // The editor draws on standard output: an answer that goes to a file must not have it.
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Plain { number: 0 });
        }
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config)?;
        for line in earlier {
            editor.add_history_entry(line)?;
        }
        Ok(Self::Edited(Box::new(editor)))
    }

    /// True if whoever speaks can be asked again.
    pub(super) fn are_edited(&self) -> bool {
        matches!(self, Self::Edited(_))
    }

    /// The next line.
    pub(super) fn next(&mut self) -> anyhow::Result<Line> {
        match self {
            Self::Edited(editor) => edited(editor),
            Self::Plain { number } => {
                *number += 1;
                plain(*number)
            }
        }
    }
}

fn edited(editor: &mut DefaultEditor) -> anyhow::Result<Line> {
    let prompt = ("> ", format!("{} ", style::stdout().accent(">")));
    match interrupt::waiting(|| editor.readline(&prompt)) {
        Ok(line) => Ok(Line::Said(line)),
        Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
        // What else there is is a new size of the window, which the editor sees to itself.
        Err(ReadlineError::Signal(signal)) if signal != Signal::Resize => Ok(Line::Interrupted),
        Err(ReadlineError::Eof) => Ok(Line::End),
        Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            let error = UserError::new("the line is not UTF-8");
            Ok(Line::Unreadable(error.with_hint(
                "set the terminal to UTF-8, or type the line again",
            )))
        }
        Err(error) => Err(error.into()),
    }
}

fn plain(number: u64) -> anyhow::Result<Line> {
    if io::stdin().is_terminal() {
        write!(io::stderr(), "{} ", style::stderr().accent(">"))?;
    }
    let mut bytes = Vec::new();
    let read = interrupt::waiting(|| io::stdin().lock().read_until(b'\n', &mut bytes))?;
    if read == 0 {
        return Ok(Line::End);
    }
    Ok(match String::from_utf8(bytes) {
        Ok(line) => Line::Said(line),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let message = format!(
                "line {number} is not UTF-8: byte 0x{:02x} at offset {offset}; it is left out",
                error.as_bytes()[offset]
            );
            let hint = "convert the input first, for example with `iconv -f GB18030 -t UTF-8`";
            Line::Unreadable(UserError::new(message).with_hint(hint))
        }
    })
}
