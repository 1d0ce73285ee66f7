//! What `ask` and `chat` share: the answer of a chat model from documents, shown as it grows.

mod show;

use std::io::{self, Write};
use std::ops::ControlFlow;

use wenyi::rag::{Answer, AnsweredBy, Evidence, Rag, RagEvent};

use crate::exit::Stopped;
use crate::{interrupt, output};

pub(crate) use show::Show;

/// Lets the chat model of `rag` answer from `evidence`, which was shown, and shows what it says; what
/// it had said until then if Ctrl-C is pressed.
pub(crate) fn answer(rag: &Rag, evidence: Evidence, show: Show) -> anyhow::Result<Answer> {
    let mut flow = output::flow();
    let answer = rag.answer(evidence, &mut |event| {
        if let RagEvent::Text { text, claim, by } = event {
            // Quotes that stand in for an answer have been shown; a closed pipe ends the work, and
            // `write` will tell below.
            if by != AnsweredBy::Quotes && write(&show.text(text, claim, &mut flow)).is_err() {
                return ControlFlow::Break(());
            }
        }
        go_on()
    })?;
    write(&flow.rest())?;
    match interrupt::requested() {
        true => write("\n")?,
        false => write(&show.end(&answer))?,
    }
    Ok(answer)
}

/// Goes on unless Ctrl-C was pressed.
pub(crate) fn go_on() -> ControlFlow<()> {
    match interrupt::requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// An error if Ctrl-C was pressed.
pub(crate) fn stopped() -> anyhow::Result<()> {
    if interrupt::requested() {
        let message = "the answer was cut short".into();
        return Err(Stopped { message }.into());
    }
    Ok(())
}

/// Writes to standard output at once.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
