//! One measurement of a decoder for `bench/chat`: `chat_bench MODEL`, then a line of standard input
//! for each; answers are lines of JSON.
//!
//! Lines are `decode DEPTH COUNT`, `prompt COUNT`, `again PREFIX REST` (a prompt after another that begins
//! alike), `together ANSWERS COUNT` (tokens a second of all answers), `quote FILE COUNT` (an answer that
//! repeats a text, without and with look-up), `perplexity FILE CHUNK` (a file of token ids) and `memory`.

#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use wenyi_engine::decoder::{
    Decoder, DecoderOptions, GenerateOptions, RenderOptions, SamplingOptions,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected a model")?;
    let threads = arguments.next().map(|text| text.parse()).transpose()?;
    let options = DecoderOptions {
        threads,
        context: Some(1024),
        ..DecoderOptions::default()
    };
    let decoder = Decoder::open(Path::new(&model), &options)?;
    println!(
        "{{\"isa\": \"{}\", \"threads\": {}}}",
        decoder.isa(),
        decoder.threads()
    );
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["decode", depth, count] => decode(&decoder, depth.parse()?, count.parse()?)?,
            ["prompt", count] => prompt(&decoder, count.parse()?)?,
            ["again", prefix, rest] => again(&decoder, prefix.parse()?, rest.parse()?)?,
            ["together", answers, count] => together(&decoder, answers.parse()?, count.parse()?)?,
            ["quote", file, count] => quote(&decoder, file, count.parse()?)?,
            ["perplexity", file, chunk] => perplexity(&decoder, file, chunk.parse()?)?,
            ["memory"] => memory()?,
            _ => return Err(format!("unknown measurement: {line}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Tokens that are no text, the same on both sides.
fn ids(count: usize) -> Vec<u32> {
    (0..count)
        .map(|index| 300 + (index * 7 % 1000) as u32)
        .collect()
}

/// Seconds for the last `count` of `depth + count` tokens, one by one.
fn decode(decoder: &Decoder, depth: usize, count: usize) -> Result<String, Failure> {
    let mut session = decoder.session(1024)?;
    if depth > 0 {
        decoder.read(&mut session, &ids(depth))?;
    }
    let started = Instant::now();
    for id in ids(count) {
        decoder.step(&mut session, id)?;
    }
    Ok(format!(
        "{{\"seconds\": {}}}",
        started.elapsed().as_secs_f64()
    ))
}

/// Seconds until the scores after `count` tokens are there.
fn prompt(decoder: &Decoder, count: usize) -> Result<String, Failure> {
    let mut session = decoder.session(1024)?;
    let started = Instant::now();
    decoder.read(&mut session, &ids(count))?;
    Ok(format!(
        "{{\"seconds\": {}}}",
        started.elapsed().as_secs_f64()
    ))
}

/// Seconds for a prompt, and for another with the same `prefix` tokens at its beginning.
fn again(decoder: &Decoder, prefix: usize, rest: usize) -> Result<String, Failure> {
    let mut session = decoder.session(1024)?;
    let first = ids(prefix + rest);
    let started = Instant::now();
    decoder.read(&mut session, &first)?;
    let whole = started.elapsed().as_secs_f64();
    let mut second = first;
    second[prefix..].iter_mut().for_each(|id| *id += 1);
    let started = Instant::now();
    let held = decoder.resume(&mut session, &second, 0)?;
    decoder.read(&mut session, &second[held..])?;
    let again = started.elapsed().as_secs_f64();
    Ok(format!("{{\"seconds\": {whole}, \"again\": {again}}}"))
}

/// Seconds for `count` tokens of each of `answers` answers that are written at the same time.
fn together(decoder: &Decoder, answers: u32, count: usize) -> Result<String, Failure> {
    let options = GenerateOptions {
        max_tokens: Some(count),
        ignore_end: true,
        look_up: false,
        ..GenerateOptions::default()
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for answer in 0..answers {
            let options = &options;
            scope.spawn(move || {
                let mut session = decoder.session(256)?;
                let prompt = [300 + answer, 400, 500];
                let go_on = &mut |_: &_| std::ops::ControlFlow::Continue(());
                decoder.generate(&mut session, &prompt, options, go_on)
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("{{\"seconds\": {seconds}}}"))
}

/// Seconds for an answer to the request to repeat the text in `file`, without and with look-up.
fn quote(decoder: &Decoder, file: &str, count: usize) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)?;
    let content = format!("Repeat this text word for word:\n\n{text}");
    let message = serde_json::json!({"role": "user", "content": content});
    let render = RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    };
    let template = decoder.template().ok_or("expected a chat template")?;
    let prompt = template.render(&[message], &render)?;
    let prompt = decoder.tokenizer().encode(&prompt)?;
    let mut seconds = Vec::new();
    let mut answers = Vec::new();
    for look_up in [false, true] {
        let options = GenerateOptions {
            sampling: SamplingOptions {
                temperature: 0.0,
                ..SamplingOptions::default()
            },
            max_tokens: Some(count),
            look_up,
            ..GenerateOptions::default()
        };
        let mut session = decoder.session(1024)?;
        // The prompt is read beforehand: only the answer counts.
        decoder.read(&mut session, &prompt)?;
        let started = Instant::now();
        let go_on = &mut |_: &_| std::ops::ControlFlow::Continue(());
        let answer = decoder.generate(&mut session, &prompt, &options, go_on)?;
        seconds.push(started.elapsed().as_secs_f64());
        answers.push(answer);
    }
    let (plain, looked_up) = (seconds[0], seconds[1]);
    let same = answers[0].ids == answers[1].ids;
    let (tokens, text) = (answers[0].ids.len(), &answers[0].content);
    Ok(serde_json::json!({
        "seconds": plain, "looked_up": looked_up, "same": same, "tokens": tokens, "text": text,
    })
    .to_string())
}

/// Of whole chunks of the token ids in `file` the second halves are scored, as llama.cpp does.
fn perplexity(decoder: &Decoder, file: &str, chunk: usize) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)?;
    let ids: Vec<u32> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let (mut sum, mut count) = (0.0, 0_u32);
    for chunk in ids.chunks_exact(chunk) {
        let logprobs = decoder.token_logprobs(chunk)?;
        // The token at position `i` is scored by entry `i - 1`.
        for logprob in &logprobs[chunk.len() / 2..] {
            sum -= f64::from(*logprob);
            count += 1;
        }
    }
    let perplexity = (sum / f64::from(count)).exp();
    Ok(format!(
        "{{\"perplexity\": {perplexity}, \"scored\": {count}}}"
    ))
}

/// The most memory that this process has had, in KiB.
fn memory() -> Result<String, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("0");
    Ok(format!("{{\"kib\": {kib}}}"))
}
