//! Progress on standard error: a bar with rate and time left on a terminal, else a line a stage.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use wenyi::progress::{Progress, Unit};

use crate::interrupt;
use crate::output::printable::printable;
use crate::output::{quantity, style};

/// Shows how far long work is; stops it on Ctrl-C.
#[derive(Debug)]
pub(crate) struct Terminal {
    stage: Mutex<Option<Stage>>,
    is_terminal: bool,
    /// Say nothing but notes.
    quiet: bool,
}

#[derive(Debug)]
struct Stage {
    name: String,
    unit: Unit,
    started: Instant,
    done: u64,
    /// Hidden where standard error is no terminal.
    bar: ProgressBar,
}

impl Terminal {
    /// Progress for people; `quiet` leaves only notes, as suits `--json`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            stage: Mutex::new(None),
            is_terminal: io::stderr().is_terminal(),
            quiet,
        }
    }

    fn stage(&self) -> MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds words behind the bar, such as a second rate.
    pub(crate) fn describe(&self, message: String) {
        if let Some(stage) = self.stage().as_ref() {
            stage.bar.set_message(message);
        }
    }
}

impl Progress for Terminal {
    fn start(&self, stage: &str, total: Option<u64>, unit: Unit) {
        self.finish();
        let bar = if self.is_terminal && !self.quiet {
            ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10))
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(bar_style(total.is_some(), unit));
        bar.set_prefix(stage.to_owned());
        if self.is_terminal {
            // Without ticks the time left would stand still while a slow step runs.
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let name = stage.to_owned();
        *self.stage() = Some(Stage {
            name,
            unit,
            started: Instant::now(),
            done: 0,
            bar,
        });
    }

    fn advance(&self, amount: u64) {
        if let Some(stage) = self.stage().as_mut() {
            stage.done += amount;
            stage.bar.inc(amount);
        }
    }

    fn finish(&self) {
        let Some(stage) = self.stage().take() else {
            return;
        };
        stage.bar.finish_and_clear();
        // A stage too short to notice deserves no line.
        const NOTICEABLE: Duration = Duration::from_secs(1);
        let elapsed = stage.started.elapsed();
        if !self.quiet && stage.done > 0 && elapsed > NOTICEABLE && !interrupt::requested() {
            say(&format!(
                "{}: {} in {}",
                stage.name,
                amount(stage.done, stage.unit),
                quantity::seconds(elapsed.as_secs_f64())
            ));
        }
    }

    fn note(&self, message: &str) {
        // A note may name files or say what a server answered.
        let message = printable(message);
        let line = format!("{}: {message}", style::stderr().accent("note"));
        match self.stage().as_ref() {
            Some(stage) => stage.bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }

    fn is_cancelled(&self) -> bool {
        interrupt::requested()
    }
}

impl Drop for Terminal {
    /// An error must not be printed into a half-drawn bar.
    fn drop(&mut self) {
        if let Some(stage) = self.stage().take() {
            stage.bar.finish_and_clear();
        }
    }
}

/// Progress is a courtesy: a closed standard error must not end the work.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn bar_style(has_total: bool, unit: Unit) -> ProgressStyle {
    // The templates are ours; a mistake in one must not take the program down.
    ProgressStyle::with_template(&template(has_total, unit))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("left", time_left)
        .progress_chars("━╸─")
}

fn template(has_total: bool, unit: Unit) -> String {
    let counts = match (unit, has_total) {
        (Unit::Bytes, true) => "{decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}",
        (Unit::Bytes, false) => "{decimal_bytes}  {decimal_bytes_per_sec}",
        (_, true) => "{human_pos}/{human_len}  {per_sec}",
        (_, false) => "{human_pos}  {per_sec}",
    };
    if has_total {
        format!("{{prefix}}  {{bar:24.cyan}}  {counts}{{left}}  {{msg}}")
    } else {
        format!("{{prefix}}  {{spinner}}  {counts}  {{msg}}")
    }
}

/// The time left, once there is a rate to tell it from.
fn time_left(state: &ProgressState, text: &mut dyn fmt::Write) {
    if state.pos() > 0 {
        // Writing to a string in memory does not fail.
        let _ = write!(text, "  {:#} left", HumanDuration(state.eta()));
    }
}

fn amount(done: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => quantity::bytes(done),
        Unit::Files => quantity::counted(done, "file"),
        Unit::Tokens => quantity::counted(done, "token"),
        Unit::Items => quantity::counted(done, "item"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_template_is_understood() {
        for unit in [Unit::Bytes, Unit::Files, Unit::Tokens, Unit::Items] {
            for has_total in [true, false] {
                let template = template(has_total, unit);
                assert!(
                    ProgressStyle::with_template(&template).is_ok(),
                    "{template}"
                );
            }
        }
    }

    #[test]
    fn amounts_name_their_unit() {
        assert_eq!(amount(2_000_000, Unit::Bytes), "2.0 MB");
        assert_eq!(amount(1, Unit::Files), "1 file");
    }
}
