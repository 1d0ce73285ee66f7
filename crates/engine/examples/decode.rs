//! Speed and perplexity of a decoder: `decode MODEL [TEXT_FILE]`.
//!
//! Prints prompt processing of 512 tokens, decoding of 128 tokens after 0 and 512, and, given a
//! text, its perplexity as llama.cpp counts it: chunks of 512 tokens, the second half scored.

#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;
use std::time::Instant;

use wenyi_engine::decoder::{
    Decoder, DecoderOptions, GenerateOptions, RenderOptions, SamplingOptions,
};
use wenyi_engine::encoder::Precision;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected a model")?;
    let threads = std::env::var("THREADS")
        .ok()
        .and_then(|text| text.parse().ok());
    let precision = match std::env::var("PRECISION").as_deref() {
        Ok("f32") => Some(Precision::F32),
        Ok("bf16") => Some(Precision::Bf16),
        Ok("int8") => Some(Precision::Int8),
        _ => None,
    };
    let options = DecoderOptions {
        precision,
        threads,
        ..DecoderOptions::default()
    };
    let started = Instant::now();
    let decoder = Decoder::open(Path::new(&model), &options)?;
    let opened = started.elapsed().as_secs_f64();
    println!(
        "opened in {opened:.2} s, {} threads, {}",
        decoder.threads(),
        decoder.isa()
    );
    if let Some(text) = arguments.next() {
        perplexity(&decoder, &std::fs::read_to_string(text)?)?;
    }
    if let Ok(question) = std::env::var("QUESTION") {
        return ask(&decoder, &question);
    }
    let prompt: Vec<u32> = (0..512).map(|index| 300 + index * 7 % 1000).collect();
    for _ in 0..3 {
        for depth in [0, 512] {
            let mut session = decoder.session(1024)?;
            let mut reading = 0.0;
            if depth > 0 {
                let started = Instant::now();
                decoder.read(&mut session, &prompt[..depth])?;
                reading = started.elapsed().as_secs_f64();
            }
            let started = Instant::now();
            for index in 0..128 {
                decoder.step(&mut session, 400 + index)?;
            }
            let rate = 128.0 / started.elapsed().as_secs_f64();
            if depth > 0 {
                println!("prompt {:.0} tok/s", 512.0 / reading);
            }
            println!("decode at {depth}: {rate:.1} tok/s");
        }
    }
    Ok(())
}

fn perplexity(decoder: &Decoder, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    const CHUNK: usize = 512;
    let ids = decoder.encode_prompt(text)?;
    let (mut sum, mut count) = (0.0, 0);
    for chunk in ids.chunks_exact(CHUNK) {
        let logprobs = decoder.token_logprobs(chunk)?;
        // The token at position `i` is scored by entry `i - 1`.
        let scored = &logprobs[CHUNK / 2..];
        sum -= scored
            .iter()
            .map(|logprob| f64::from(*logprob))
            .sum::<f64>();
        count += scored.len();
    }
    println!(
        "perplexity {:.4} over {count} tokens",
        (sum / f64::from(u32::try_from(count)?)).exp()
    );
    Ok(())
}

fn ask(decoder: &Decoder, question: &str) -> Result<(), Box<dyn std::error::Error>> {
    let template = decoder.template().ok_or("expected a chat template")?;
    let options = RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    };
    let messages = [serde_json::json!({"role": "user", "content": question})];
    let prompt = decoder
        .tokenizer()
        .encode(&template.render(&messages, &options)?)?;
    let options = GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        max_tokens: Some(48),
        ..GenerateOptions::default()
    };
    let mut session = decoder.session(1024)?;
    let answer = decoder.generate(&mut session, &prompt, &options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })?;
    println!("{}", answer.content);
    Ok(())
}
