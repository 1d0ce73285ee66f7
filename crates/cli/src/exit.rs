//! How the program ends: the one place that prints errors and chooses exit codes.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use wenyi::embed::EmbedError;
use wenyi_engine::ErrorKind;

use crate::interrupt;
use crate::output::printable::printable;
use crate::output::style::{self, Style};

/// The user can cure it: wrong arguments, wrong input.
const USER_ERROR: u8 = 2;
/// The machine, the network or the program failed.
const FAILURE: u8 = 1;
/// Ended by Ctrl-C, as shells count it: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error of the command line's own: what came, and what to do about it.
#[derive(Debug)]
pub(crate) struct UserError {
    message: String,
    hint: Option<String>,
}

impl UserError {
    /// An error with this message, in the house form: lower case, no full stop, literals quoted.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a remedy.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UserError {}

/// What was found is not as it should be, which is not the command's fault but can be cured.
#[derive(Debug)]
pub(crate) struct Unsound {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unsound {}

/// The user pressed Ctrl-C; what remains of the work is said by `message`.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) message: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stopped {}

/// Another process of ours failed; it has told the user why.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) code: u8,
}

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a process ended with exit code {}", self.code)
    }
}

impl std::error::Error for Relayed {}

/// Prints what went wrong, if anything did, and returns the exit code.
pub(crate) fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Whoever read our output (`head`, a closed pager) has seen enough: that is success.
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    if let Some(relayed) = error.downcast_ref::<Relayed>() {
        return ExitCode::from(relayed.code);
    }
    let verdict = Verdict::of(&error);
    // If stderr is closed too, there is nobody left to tell.
    let _ = print(&mut io::stderr().lock(), &error, &verdict);
    ExitCode::from(match verdict.code {
        INTERRUPTED => interrupt::code(),
        code => code,
    })
}

/// Prints what went wrong where the program goes on.
pub(crate) fn tell(error: &anyhow::Error) -> io::Result<()> {
    print(&mut io::stderr().lock(), error, &Verdict::of(error))
}

/// What an error means to the one who ran the program.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    code: u8,
    hint: Option<String>,
}

impl Verdict {
    /// The outermost cause that knows decides.
    fn of(error: &anyhow::Error) -> Self {
        let verdict = error.chain().find_map(Self::of_cause);
        verdict.unwrap_or(Self {
            code: FAILURE,
            hint: None,
        })
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<Stopped>() {
            return Some(Self {
                code: INTERRUPTED,
                hint: None,
            });
        }
        if let Some(error) = cause.downcast_ref::<UserError>() {
            return Some(Self {
                code: USER_ERROR,
                hint: error.hint.clone(),
            });
        }
        if let Some(error) = cause.downcast_ref::<Unsound>() {
            return Some(Self {
                code: FAILURE,
                hint: Some(error.hint.clone()),
            });
        }
        if let Some(error) = cause.downcast_ref::<wenyi_server::StartError>() {
            return Some(Self::of_library(false, true, error.hint()));
        }
        if let Some(EmbedError::Engine(error)) = cause.downcast_ref() {
            return Some(Self::of_engine(error));
        }
        if let Some(EmbedError::Remote(error)) = cause.downcast_ref() {
            return Some(Self::of_library(false, error.is_user_error(), error.hint()));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::providers::Error>() {
            return Some(Self::of_library(false, error.is_user_error(), error.hint()));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::rerank::RerankError>() {
            return Some(Self::of_library(false, error.is_user_error(), error.hint()));
        }
        if cause.is::<wenyi::config::ConfigError>() {
            return Some(Self::of_library(false, true, None));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::chat::ChatError>() {
            let cancelled = matches!(error.kind(), wenyi::chat::ChatErrorKind::Cancelled);
            return Some(Self::of_library(
                cancelled,
                error.is_user_error(),
                error.hint(),
            ));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::rag::RagError>() {
            return Some(Self::of_rag(error));
        }
        if let Some(error) = cause.downcast_ref::<wenyi_store::Error>() {
            return Some(Self::of_library(false, error.is_user_error(), error.hint()));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::vector_store::ExportError>() {
            return Some(Self::of_library(false, error.is_user_error(), error.hint()));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::hub::Error>() {
            let cancelled = matches!(error.kind(), wenyi::hub::ErrorKind::Cancelled);
            return Some(Self::of_library(
                cancelled,
                error.is_user_error(),
                error.hint(),
            ));
        }
        if let Some(error) = cause.downcast_ref::<wenyi::retrieve::Error>() {
            let cancelled = matches!(error.kind(), wenyi::retrieve::ErrorKind::Cancelled);
            return Some(Self::of_library(
                cancelled,
                error.is_user_error(),
                error.hint(),
            ));
        }
        cause.downcast_ref().map(Self::of_engine)
    }

    fn of_rag(error: &wenyi::rag::RagError) -> Self {
        use wenyi::rag::RagError;
        use wenyi::{chat::ChatErrorKind, retrieve};
        let cancelled = match error {
            RagError::Retrieve(error) => matches!(error.kind(), retrieve::ErrorKind::Cancelled),
            RagError::Chat(error) => matches!(error.kind(), ChatErrorKind::Cancelled),
            _ => false,
        };
        Self::of_library(cancelled, error.is_user_error(), error.hint())
    }

    fn of_engine(error: &wenyi_engine::Error) -> Self {
        let cancelled = matches!(error.kind(), ErrorKind::Cancelled);
        Self::of_library(cancelled, error.is_user_error(), error.hint())
    }

    fn of_library(is_cancelled: bool, is_user_error: bool, hint: Option<String>) -> Self {
        match (is_cancelled, is_user_error) {
            (true, _) => Self {
                code: INTERRUPTED,
                hint: None,
            },
            (_, true) => Self {
                code: USER_ERROR,
                hint,
            },
            (_, false) => Self {
                code: FAILURE,
                hint,
            },
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let written = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let serialised = || {
            cause
                .downcast_ref()
                .and_then(serde_json::Error::io_error_kind)
        };
        written.or_else(serialised) == Some(io::ErrorKind::BrokenPipe)
    })
}

fn print(stderr: &mut impl Write, error: &anyhow::Error, verdict: &Verdict) -> io::Result<()> {
    let style = style::stderr();
    if verdict.code == INTERRUPTED && interrupt::requested() {
        return writeln!(stderr, "{}", stopped(error, style));
    }
    // Errors name files and say what servers answered.
    let (message, word) = (chain(error), style.error("error"));
    writeln!(stderr, "{word}: {}", printable(&message))?;
    if let Some(hint) = &verdict.hint {
        writeln!(stderr, "\n{}: {}", style.accent("hint"), printable(hint))?;
    }
    Ok(())
}

/// That the user stopped the work, and what remains of it if the error says so.
fn stopped(error: &anyhow::Error, style: Style) -> String {
    /// What libraries say that know no more.
    const ALONE: &str = "stopped";
    match (style.bold(ALONE), error.to_string()) {
        (word, message) if message == ALONE => word,
        (word, message) => format!("{word}: {}", printable(&message)),
    }
}

/// The causes, outermost first, as `{:#}` prints them, but none twice: many libraries put the
/// cause's words into their own.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn verdict(error: impl Into<anyhow::Error>) -> Verdict {
        Verdict::of(&error.into())
    }

    #[test]
    fn user_errors_end_with_2_and_others_with_1() {
        assert_eq!(verdict(UserError::new("bad")).code, USER_ERROR);
        assert_eq!(verdict(io::Error::other("disk on fire")).code, FAILURE);
        let engine = wenyi_engine::Error::from(ErrorKind::Dimensions {
            requested: 0,
            available: 8,
        });
        assert_eq!(verdict(engine).code, USER_ERROR);
    }

    #[test]
    fn the_hint_is_found_below_context_and_below_the_embedder() {
        let engine = wenyi_engine::Error::from(ErrorKind::Dimensions {
            requested: 9,
            available: 8,
        });
        let error = Err::<(), _>(EmbedError::from(engine))
            .context("while embedding")
            .unwrap_err();
        assert_eq!(verdict(error).hint.as_deref(), Some("choose 1 to 8"));
    }

    #[test]
    fn stopping_ends_with_130() {
        let engine = wenyi_engine::Error::from(ErrorKind::Cancelled);
        assert_eq!(verdict(EmbedError::from(engine)).code, INTERRUPTED);
        assert_eq!(
            verdict(Stopped {
                message: "3 texts kept".into()
            })
            .code,
            INTERRUPTED
        );
    }

    #[test]
    fn that_it_stopped_is_said_once() {
        let said = |error: anyhow::Error| stopped(&error, Style::PLAIN);
        let hub = wenyi::hub::Error::from(wenyi::hub::ErrorKind::Cancelled);
        assert_eq!(said(hub.into()), "stopped");
        let message = "3 texts done".into();
        assert_eq!(said(Stopped { message }.into()), "stopped: 3 texts done");
    }

    #[test]
    fn no_cause_is_said_twice() {
        let kind = ErrorKind::Io {
            path: "模型".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        let error = anyhow::Error::from(wenyi_engine::Error::from(kind)).context("while opening");
        assert_eq!(
            chain(&error),
            "while opening: cannot read `模型`: entity not found"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = Err::<(), _>(error).context("while writing").unwrap_err();
        assert!(is_broken_pipe(&error));
    }
}
