//! The measurements themselves: what is timed, on what, and what a figure means.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wenyi::embed::{EmbedOptions, Embedder, Overflow};
use wenyi::progress::{Progress, Unit};

use super::generate::Generator;

/// What was measured of one model in one precision.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Measurement {
    pub(super) model: String,
    pub(super) precision: String,
    pub(super) dimensions: usize,
    pub(super) threads: usize,
    /// Opening the model, its files in the system's cache or not.
    pub(super) load_ms: f64,
    /// From the first instruction of the program to the first vector.
    pub(super) first_vector_ms: f64,
    /// One text of 16 tokens at a time.
    pub(super) query: Latency,
    /// One text of 256 tokens at a time.
    pub(super) passage: Latency,
    /// Many texts at a time.
    pub(super) rates: Vec<Rate>,
    /// The most memory the process held until its first vector; not known on every system.
    pub(super) peak_memory_one_text_bytes: Option<u64>,
    /// The most memory the process held at all.
    pub(super) peak_memory_bytes: Option<u64>,
}

/// Times of one text after the other.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Latency {
    pub(super) tokens: usize,
    pub(super) runs: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// The median rate over passes through a set of texts.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Rate {
    /// What texts.
    pub(super) texts: String,
    pub(super) count: usize,
    /// Tokens of the set, special ones included.
    pub(super) tokens: usize,
    pub(super) passes: usize,
    pub(super) tokens_per_second: f64,
    pub(super) texts_per_second: f64,
}

/// When things began, how long to measure, and with what.
pub(super) struct Setting {
    /// The program's start.
    pub(super) started: Instant,
    /// How long opening the model took.
    pub(super) loaded: Duration,
    /// How long to measure each figure.
    pub(super) seconds: f64,
    /// Threads that the model computes with.
    pub(super) threads: usize,
}

/// Measures `embedder`, its rate on `texts` or on generated ones.
pub(super) fn embedding(
    embedder: &dyn Embedder,
    texts: Option<Vec<String>>,
    setting: &Setting,
    progress: &dyn Progress,
) -> anyhow::Result<Measurement> {
    embedder.embed(&["hello"], &EmbedOptions::default())?;
    let first_vector_ms = milliseconds(setting.started.elapsed());
    let peak_memory_one_text_bytes = peak_memory();

    let mut generator = Generator::new(embedder);
    let question = generator.text(16)?;
    let passage = generator.text(256)?;
    let sets = match texts {
        Some(texts) => vec![("given texts", texts)],
        None => vec![
            // Enough for a second or two of work on a fast machine, so that passes are few and long.
            ("sentences", generator.sentences(1500)?),
            ("passages", generator.passages(100)?),
        ],
    };
    progress.start("measuring", Some(2 + sets.len() as u64), Unit::Items);
    let query = latency(embedder, &question, setting.seconds, progress)?;
    progress.advance(1);
    let passage = latency(embedder, &passage, setting.seconds, progress)?;
    progress.advance(1);
    let mut rates = Vec::new();
    for (name, texts) in sets {
        rates.push(rate(embedder, name, &texts, setting.seconds, progress)?);
        progress.advance(1);
    }
    progress.finish();
    let fingerprint = embedder.fingerprint();
    Ok(Measurement {
        model: fingerprint.model.clone(),
        precision: fingerprint.precision.clone(),
        dimensions: fingerprint.dimensions,
        threads: setting.threads,
        load_ms: milliseconds(setting.loaded),
        first_vector_ms,
        query,
        passage,
        rates,
        peak_memory_one_text_bytes,
        peak_memory_bytes: peak_memory(),
    })
}

/// Runs of one text, after a few that warm caches and clocks.
fn latency(
    embedder: &dyn Embedder,
    text: &str,
    seconds: f64,
    progress: &dyn Progress,
) -> anyhow::Result<Latency> {
    const WARM_UP: usize = 3;
    let mut tokens = 0;
    let mut times = Vec::new();
    let started = Instant::now();
    for run in 0.. {
        let begun = Instant::now();
        let vectors = embedder.embed(&[text], &EmbedOptions::default())?;
        let elapsed = milliseconds(begun.elapsed());
        tokens = vectors.usage[0].kept;
        if run >= WARM_UP {
            times.push(elapsed);
        }
        let is_over = started.elapsed().as_secs_f64() > seconds || progress.is_cancelled();
        if is_over && !times.is_empty() {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Latency {
        tokens,
        runs: times.len(),
        p50_ms: percentile(&times, 0.50),
        p99_ms: percentile(&times, 0.99),
    })
}

/// Passes through all texts.
#[expect(clippy::cast_precision_loss, reason = "counts of texts and tokens")]
fn rate(
    embedder: &dyn Embedder,
    name: &str,
    texts: &[String],
    seconds: f64,
    progress: &dyn Progress,
) -> anyhow::Result<Rate> {
    let options = EmbedOptions {
        overflow: Overflow::Truncate,
        ..EmbedOptions::default()
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut tokens = 0;
    let mut times = Vec::new();
    let started = Instant::now();
    while times.is_empty()
        || (started.elapsed().as_secs_f64() < seconds && !progress.is_cancelled())
    {
        let begun = Instant::now();
        let vectors = embedder.embed(&texts, &options)?;
        times.push(begun.elapsed().as_secs_f64());
        tokens = vectors.usage.iter().map(|usage| usage.kept).sum();
    }
    times.sort_by(f64::total_cmp);
    let median = percentile(&times, 0.50);
    Ok(Rate {
        texts: name.to_owned(),
        count: texts.len(),
        tokens,
        passes: times.len(),
        tokens_per_second: tokens as f64 / median,
        texts_per_second: texts.len() as f64 / median,
    })
}

/// The nearest-rank percentile of sorted values.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank between 1 and the count"
)]
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let rank = (fraction * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The kernel's high-water mark of resident memory (`VmHWM`, in KiB; proc_pid_status(5)).
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&times, 0.50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(&times, 0.99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 0.99) - 7.0).abs() < f64::EPSILON);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_the_peak_memory() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
