//! What people see: styles, text of others made harmless, wrapping by display width, tables, numbers;
//! and JSON for programs.

pub(crate) mod style;
pub(crate) mod printable;
pub(crate) mod wrap;
pub(crate) mod flow;
pub(crate) mod table;
pub(crate) mod quantity;
pub(crate) mod place;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use flow::Flow;

/// Writes `value` as the one JSON document of this run.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    writeln!(stdout)?;
    Ok(())
}

/// Prints one value on a line of its own, at once.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, value)?;
    writeln!(stdout)?;
    stdout.flush()?;
    Ok(())
}

/// Text that comes piece by piece to standard output: broken into lines on a terminal alone.
pub(crate) fn flow() -> Flow {
    Flow::new(io::stdout().is_terminal().then(width))
}

/// Columns of the terminal, or what suits a file or a pipe.
pub(crate) fn width() -> usize {
    const WITHOUT_TERMINAL: usize = 100;
    // Longer lines are hard to read; shorter ones would tear tables apart.
    const READABLE: std::ops::RangeInclusive<usize> = 40..=110;
    let columns = terminal_size::terminal_size_of(io::stdout())
        .map_or(WITHOUT_TERMINAL, |(width, _)| usize::from(width.0));
    columns.clamp(*READABLE.start(), *READABLE.end())
}
