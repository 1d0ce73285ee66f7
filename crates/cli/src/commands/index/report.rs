//! What indexing did, in words: what came and went, and which files could not be read and why.

use std::io::{self, Write};
use std::path::PathBuf;

use wenyi::retrieve::{IndexReport, Skip};

use super::Indexed;
use crate::output::place::from_here;
use crate::output::style::Style;
use crate::output::{quantity, style};

/// Files that are listed; `--json` has all.
const MOST_LISTED: usize = 20;

pub(super) fn print(roots: &[PathBuf], indexed: &Indexed) -> anyhow::Result<()> {
    let style = style::stdout();
    let mut stdout = io::stdout().lock();
    let shown: Vec<String> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    writeln!(
        stdout,
        "{}: {}",
        style.bold(&shown.join(", ")),
        summary(&indexed.report)
    )?;
    let file = indexed.collection.display().to_string();
    writeln!(stdout, "  {}", style.dim(&file))?;
    let failures: Vec<&Skip> = indexed.report.failures().collect();
    write!(stdout, "{}", listed("could not be read", &failures, style))?;
    let incomplete: Vec<&Skip> = indexed.report.incomplete.iter().collect();
    write!(
        stdout,
        "{}",
        listed("could be read in part", &incomplete, style)
    )?;
    stdout.flush()?;
    Ok(())
}

/// The files with their reasons; files of the same reason share one hint.
fn listed(what: &str, skips: &[&Skip], style: Style) -> String {
    if skips.is_empty() {
        return String::new();
    }
    let count = quantity::counted(skips.len() as u64, "file");
    let mut text = format!("{}\n", style.accent(&format!("{count} {what}:")));
    let mut hints: Vec<&str> = Vec::new();
    for skip in skips.iter().take(MOST_LISTED) {
        text.push_str(&format!(
            "  {}: {}\n",
            from_here(&skip.path).display(),
            skip.reason
        ));
        if let Some(hint) = skip.reason.hint()
            && !hints.contains(&hint)
        {
            hints.push(hint);
            text.push_str(&format!("    {}\n", style.dim(&format!("hint: {hint}"))));
        }
    }
    if skips.len() > MOST_LISTED {
        let more = skips.len() - MOST_LISTED;
        text.push_str(&format!("  and {more} more; `--json` lists all\n"));
    }
    text
}

/// `3 documents added, 1 changed, 40 unchanged · 12,345 tokens in 2.1 s`.
pub(crate) fn summary(report: &IndexReport) -> String {
    let counts = [
        (report.added, "added"),
        (report.updated, "changed"),
        (report.removed, "removed"),
        (report.kept, "not readable now and kept"),
        (report.unchanged, "unchanged"),
    ];
    let mut parts = Vec::new();
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let number = if parts.is_empty() {
            quantity::counted(count, "document")
        } else {
            quantity::grouped(count)
        };
        parts.push(format!("{number} {what}"));
    }
    let documents = if parts.is_empty() {
        "no documents".to_owned()
    } else {
        parts.join(", ")
    };
    let seconds = quantity::seconds(report.seconds);
    if report.tokens == 0 {
        return format!("{documents} · {seconds}");
    }
    format!(
        "{documents} · {} in {seconds}",
        quantity::counted(report.tokens, "token")
    )
}

#[cfg(test)]
mod tests {
    use wenyi::retrieve::SkipReason;

    use super::*;

    #[test]
    fn the_summary_says_what_changed() {
        let report = IndexReport {
            added: 1,
            unchanged: 1200,
            tokens: 5000,
            seconds: 1.5,
            ..IndexReport::default()
        };
        assert_eq!(
            summary(&report),
            "1 document added, 1,200 unchanged · 5,000 tokens in 1.5 s"
        );
        assert_eq!(summary(&IndexReport::default()), "no documents · 0.00 ms");
    }

    #[test]
    fn failures_are_listed_with_a_hint_for_each_reason() {
        let skip = |name: &str, reason| Skip {
            path: name.into(),
            reason,
        };
        let skips = [
            skip("报告.pdf", SkipReason::Encrypted),
            skip("b.docx", SkipReason::Encrypted),
        ];
        let skips: Vec<&Skip> = skips.iter().collect();
        assert_eq!(
            listed("could not be read", &skips, Style::PLAIN),
            "2 files could not be read:\n  报告.pdf: encrypted, it needs a password\n    \
             hint: save a copy without a password\n  b.docx: encrypted, it needs a password\n"
        );
    }
}
