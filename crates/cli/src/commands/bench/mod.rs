//! `wenyi bench`: what this machine does with a model, in numbers.

mod generate;
mod measure;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use wenyi::embed::Precision;
use wenyi::progress::{Progress, Unit};

use crate::arguments::{ComputeArguments, ModelArguments, positive, precision_parser};
use crate::exit::{Relayed, Stopped, UserError};
use crate::model;
use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};
use crate::progress::Terminal;
use crate::texts::Texts;

use measure::Measurement;

/// Measure speed and memory on this machine
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Embed(EmbedArguments),
}

/// Measure embedding: tokens a second, latency, start, memory
///
/// Latency is that of one text at a time: a question of 16 tokens and a passage of 256. Rates are
/// the median over passes through many texts. Each precision is measured in a process of its own.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct EmbedArguments {
    /// Model, as for `wenyi embed`
    #[arg(short, long, value_name = "ID|PATH")]
    model: Option<String>,

    /// Precisions to measure, separated by commas; the model's usual one if not given
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = precision_parser())]
    precision: Vec<Precision>,

    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// Measure the rate on these texts, one a line or JSON lines with a `text` field, instead of on
    /// built-in sentences and passages
    #[arg(short, long, value_name = "FILE|-")]
    input: Option<PathBuf>,

    /// How long to measure each figure
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = duration)]
    seconds: f64,

    /// Use only what is on this machine; open no connection
    #[arg(long)]
    offline: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi bench embed
  wenyi bench embed --model all-MiniLM-L6-v2 --precision f32,bf16,int8 --threads 2
  wenyi bench embed --input sentences.txt --json";

/// What `--json` prints.
#[derive(Debug, Deserialize, Serialize)]
struct Report {
    results: Vec<Measurement>,
}

pub(crate) fn run(arguments: &Arguments, started: Instant) -> anyhow::Result<()> {
    let What::Embed(arguments) = &arguments.what;
    let results = match arguments.precision.as_slice() {
        [] => vec![measure_here(arguments, None, started)?],
        [precision] => vec![measure_here(arguments, Some(*precision), started)?],
        several => several
            .iter()
            .map(|precision| measure_in_child(arguments, *precision))
            .collect::<anyhow::Result<_>>()?,
    };
    if arguments.json {
        return output::json(&Report { results });
    }
    print(&results)
}

fn duration(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0.05 to 3600 seconds".into()),
    }
}

/// Measures in this process.
fn measure_here(
    arguments: &EmbedArguments,
    precision: Option<Precision>,
    started: Instant,
) -> anyhow::Result<Measurement> {
    let texts = arguments.input.as_deref().map(read_all).transpose()?;
    let progress = Terminal::new(arguments.json);
    let model = ModelArguments {
        model: arguments.model.clone(),
        compute: ComputeArguments {
            precision,
            threads: arguments.threads,
            offline: arguments.offline,
        },
    };
    let opening = Instant::now();
    let embedder = model::open(&model, None, &progress)?;
    let loaded = opening.elapsed();
    let threads = arguments.threads.unwrap_or_else(cores);
    let setting = measure::Setting {
        started,
        loaded,
        seconds: arguments.seconds,
        threads,
    };
    let measurement = measure::embedding(embedder.as_ref(), texts, &setting, &progress)?;
    if progress.is_cancelled() {
        return Err(Stopped {
            message: "nothing measured to the end".into(),
        }
        .into());
    }
    Ok(measurement)
}

/// What the engine uses if it is not told.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read_all(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Texts::open(path)?;
    let mut all = Vec::new();
    while let Some((_, text)) = texts.next()? {
        all.push(text);
    }
    if all.is_empty() {
        let error = UserError::new(format!("`{}` holds no texts to measure on", path.display()));
        return Err(error.into());
    }
    Ok(all)
}

/// Measures in a process of its own, so that start and memory are those of this precision alone.
fn measure_in_child(
    arguments: &EmbedArguments,
    precision: Precision,
) -> anyhow::Result<Measurement> {
    if arguments
        .input
        .as_deref()
        .is_some_and(|path| path.as_os_str() == "-")
    {
        let error = UserError::new("standard input can be read once, for one precision");
        return Err(error.with_hint("give a file, or one precision").into());
    }
    let program = env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args([
        "bench",
        "embed",
        "--json",
        "--precision",
        &precision.to_string(),
    ]);
    command.args(["--seconds", &arguments.seconds.to_string()]);
    if let Some(model) = &arguments.model {
        command.args(["--model", model]);
    }
    if let Some(threads) = arguments.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(input) = &arguments.input {
        command.arg("--input").arg(input);
    }
    if arguments.offline {
        command.arg("--offline");
    }
    let progress = Terminal::new(arguments.json);
    progress.start(&format!("measuring {precision}"), None, Unit::Items);
    // The child's own words about an error go straight to the user.
    let output = command.stderr(Stdio::inherit()).output();
    progress.finish();
    let output = output.context("cannot start a process to measure in")?;
    if progress.is_cancelled() {
        return Err(Stopped {
            message: "nothing measured to the end".into(),
        }
        .into());
    }
    if let Some(code) = output
        .status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        && code != 0
    {
        return Err(Relayed { code }.into());
    }
    if !output.status.success() {
        bail!("measuring {precision} failed ({})", output.status);
    }
    let report: Report = serde_json::from_slice(&output.stdout)?;
    report
        .results
        .into_iter()
        .next()
        .context("the measuring process reported nothing")
}

fn print(results: &[Measurement]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let style = style::stdout();
    if let Some(first) = results.first() {
        let threads = quantity::counted(first.threads as u64, "thread");
        let line = format!(
            "{} · {} dimensions · {threads}",
            first.model, first.dimensions
        );
        writeln!(stdout, "{}\n", style.dim(&line))?;
    }
    write!(stdout, "{}", table(results).render(style))?;
    Ok(())
}

/// One column a precision, one row a figure.
fn table(results: &[Measurement]) -> Table {
    let mut columns = vec![("", Align::Left)];
    columns.extend(
        results
            .iter()
            .map(|result| (result.precision.as_str(), Align::Right)),
    );
    let mut table = Table::new(&columns);
    let mut row = |name: &str, cell: &dyn Fn(&Measurement) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(results.iter().map(cell));
        table.row(cells);
    };
    let rates = results.first().map_or(&[][..], |first| &first.rates);
    for (index, rate) in rates.iter().enumerate() {
        row(&format!("{}, tokens/s", rate.texts), &|result| {
            result
                .rates
                .get(index)
                .map_or_else(String::new, |rate| whole(rate.tokens_per_second))
        });
        row(&format!("{}, texts/s", rate.texts), &|result| {
            result
                .rates
                .get(index)
                .map_or_else(String::new, |rate| whole(rate.texts_per_second))
        });
    }
    let tokens = |latency: fn(&Measurement) -> &measure::Latency| {
        results.first().map_or(0, |result| latency(result).tokens)
    };
    // A model may take fewer tokens than were asked for.
    let (query, passage) = (
        tokens(|result| &result.query),
        tokens(|result| &result.passage),
    );
    row(&format!("one question of {query} tokens, p50"), &|r| {
        milliseconds(r.query.p50_ms)
    });
    row(&format!("one question of {query} tokens, p99"), &|r| {
        milliseconds(r.query.p99_ms)
    });
    row(&format!("one passage of {passage} tokens, p50"), &|r| {
        milliseconds(r.passage.p50_ms)
    });
    row(&format!("one passage of {passage} tokens, p99"), &|r| {
        milliseconds(r.passage.p99_ms)
    });
    row("loading the model", &|result| milliseconds(result.load_ms));
    row("program start to first vector", &|result| {
        milliseconds(result.first_vector_ms)
    });
    row("peak memory, one text", &|result| {
        memory(result.peak_memory_one_text_bytes)
    });
    row("peak memory, all texts", &|result| {
        memory(result.peak_memory_bytes)
    });
    table
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a shown rate"
)]
fn whole(number: f64) -> String {
    quantity::grouped(number.round() as u64)
}

fn milliseconds(value: f64) -> String {
    format!("{value:.2} ms")
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not known here".into(), quantity::bytes)
}
