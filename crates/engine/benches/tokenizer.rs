//! How fast tokenizers open and run, beside the `tokenizers` crate on the same files and texts.
//!
//! `cargo bench -p wenyi-engine --bench tokenizer -- MODEL [TEXT-FILE…]`, where `MODEL` is a folder
//! with `tokenizer.json` or a `.gguf` file (no comparison then). Without arguments: a small fixture
//! and generated sentences, which shows that it works rather than how fast real vocabularies are.
//! One thread; the best of several rounds, since anything else on the machine only adds time.
#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wenyi_engine::tokenizer::Tokenizer;
use wenyi_engine::weights::Weights;

const ROUNDS: usize = 5;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/xlm_roberta");
    let model = arguments
        .next()
        .map_or_else(|| PathBuf::from(fixture), PathBuf::from);
    let mut texts = Vec::new();
    for file in arguments {
        texts.extend(
            std::fs::read_to_string(file)?
                .split("\n\n")
                .map(str::to_owned),
        );
    }
    if texts.is_empty() {
        let generated =
            |index| format!("第{index}章 The quick brown fox jumps over 图书馆里的人工智能。");
        texts.extend((0..2_000).map(generated));
    }
    let (ours, opened) = fastest(|| open(&model))?;
    println!("{ours:?}");
    let (tokens, ran) = fastest(|| count(&texts, |text| Ok(ours.encode(text)?.len())))?;
    report("wenyi", opened, tokens, ran);
    let json = model.join("tokenizer.json");
    if json.exists() {
        let (mut crate_, crate_opened) = fastest(|| tokenizers::Tokenizer::from_file(&json))?;
        // Files ask for them, and both would change the count.
        crate_.with_truncation(None)?;
        crate_.with_padding(None);
        let encode = |text: &str| Ok(crate_.encode_fast(text, false)?.len());
        let (crate_tokens, crate_ran) = fastest(|| count(&texts, encode))?;
        report("tokenizers", crate_opened, crate_tokens, crate_ran);
        println!(
            "ratio: opens {:.1}x, runs {:.1}x",
            crate_opened.as_secs_f64() / opened.as_secs_f64(),
            crate_ran.as_secs_f64() / ran.as_secs_f64()
        );
        if tokens != crate_tokens {
            return Err(format!("{tokens} tokens, the crate has {crate_tokens}").into());
        }
    }
    Ok(())
}

fn open(model: &Path) -> Result<Tokenizer, AnyError> {
    if model.is_dir() {
        return Ok(Tokenizer::open(model)?);
    }
    let weights = Weights::open(model)?;
    let metadata = weights.gguf().ok_or("expected a folder or a GGUF file")?;
    Ok(Tokenizer::from_gguf(metadata)?)
}

fn count(
    texts: &[String],
    encode: impl Fn(&str) -> Result<usize, AnyError>,
) -> Result<usize, AnyError> {
    texts.iter().map(|text| encode(text)).sum()
}

/// The shortest of several runs.
fn fastest<T, E>(run: impl Fn() -> Result<T, E>) -> Result<(T, Duration), E> {
    let timed = || {
        let start = Instant::now();
        run().map(|value| (value, start.elapsed()))
    };
    let mut best = timed()?;
    for _ in 1..ROUNDS {
        let again = timed()?;
        if again.1 < best.1 {
            best = again;
        }
    }
    Ok(best)
}

fn report(name: &str, opened: Duration, tokens: usize, ran: Duration) {
    println!(
        "{name:>10}: opens in {:.1} ms, {tokens} tokens at {:.2} M/s",
        opened.as_secs_f64() * 1e3,
        tokens as f64 / ran.as_secs_f64() / 1e6
    );
}
