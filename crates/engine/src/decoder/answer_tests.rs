//! Answers are the same in company, with tokens tried ahead, and out of a copied beginning.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::tests::{folder, largest_difference, open};
use super::*;
use crate::encoder::Precision;

/// A model in `f32`, and one in blocks of 4 bits.
fn models() -> [Decoder; 2] {
    let blocks =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama-Q4_0.gguf");
    let options = DecoderOptions {
        precision: Some(Precision::Int8),
        threads: Some(2),
        ..DecoderOptions::default()
    };
    [
        open(&folder("llama"), 2),
        Decoder::open(&blocks, &options).unwrap(),
    ]
}

fn prompt(seed: u32) -> Vec<u32> {
    // Repeats itself, so that there is something to look up.
    (0..40)
        .map(|at| 5 + (at % 9 * 31 + seed * 7) % 600)
        .collect()
}

fn options(temperature: f32, look_up: bool) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature,
            seed: Some(7),
            ..SamplingOptions::default()
        },
        max_tokens: Some(40),
        ignore_end: true,
        look_up,
        ..GenerateOptions::default()
    }
}

fn answer(decoder: &Decoder, prompt: &[u32], options: &GenerateOptions) -> Vec<u32> {
    let mut session = decoder.session(128).unwrap();
    let mut on_piece = |_: &Piece| ControlFlow::Continue(());
    let answer = decoder.generate(&mut session, prompt, options, &mut on_piece);
    let answer = answer.unwrap();
    // What was tried in vain is not held.
    let held = [prompt, &answer.ids[..]].concat();
    assert_eq!(session.ids(), &held[..session.ids().len()]);
    assert!(session.ids().len() + 1 >= held.len());
    answer.ids
}

#[test]
fn tokens_tried_ahead_change_no_answer() {
    for decoder in models() {
        for (seed, temperature) in [(1, 0.0), (2, 0.0), (3, 0.9), (4, 1.5)] {
            let with = answer(&decoder, &prompt(seed), &options(temperature, true));
            let without = answer(&decoder, &prompt(seed), &options(temperature, false));
            assert_eq!(with, without, "temperature {temperature}");
            assert_eq!(with.len(), 40);
        }
    }
}

/// What repeats itself is tried ahead, past where the grammar has it end; it ends there all the same.
#[test]
fn tokens_tried_ahead_are_held_to_the_grammar() {
    for decoder in models() {
        let grammar = Grammar::Regex("((ab){7}c|(de ){9}f)( [0-9]{2}){4}".into());
        let held = |temperature, look_up| GenerateOptions {
            constraint: Some(decoder.constraint(&grammar, Begins::AtOnce).unwrap()),
            ignore_end: false,
            max_tokens: Some(80),
            ..options(temperature, look_up)
        };
        let alone: Vec<_> = (0_u8..6)
            .map(|step| answer(&decoder, &prompt(1), &held(f32::from(step), false)))
            .collect();
        for ids in &alone {
            let text = decoder.tokenizer.decode(ids, true).unwrap();
            let digits = text.trim_start_matches("abababababababc");
            let digits = digits.trim_start_matches("de de de de de de de de de f");
            assert!(
                text.len() - digits.len() >= 15 && digits.len() == 12,
                "{text}"
            );
        }
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0_u8..6)
                .map(|step| {
                    let options = held(f32::from(step), true);
                    let decoder = &decoder;
                    scope.spawn(move || answer(decoder, &prompt(1), &options))
                })
                .collect();
            let threads = threads.into_iter();
            threads.map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(alone, together);
    }
}

#[test]
fn answers_in_company_are_those_alone() {
    for decoder in models() {
        let alone: Vec<_> = (0..6)
            .map(|seed| answer(&decoder, &prompt(seed), &options(0.8, seed % 2 == 0)))
            .collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let decoder = &decoder;
            let threads: Vec<_> = (0..6)
                .map(|seed| {
                    let options = options(0.8, seed % 2 == 0);
                    scope.spawn(move || answer(decoder, &prompt(seed), &options))
                })
                .collect();
            let threads = threads.into_iter();
            threads.map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(alone, together);
    }
}

/// A receiver that stops in the middle, or is slow, holds nobody up for long and spoils nothing.
#[test]
fn who_leaves_or_is_slow_does_not_disturb_the_others() {
    let [decoder, _] = models();
    let alone = answer(&decoder, &prompt(1), &options(0.0, true));
    std::thread::scope(|scope| {
        let decoder = &decoder;
        for _ in 0..2 {
            scope.spawn(move || {
                let mut session = decoder.session(128).unwrap();
                let mut pieces = 0;
                let mut on_piece = |_: &Piece| {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    pieces += 1;
                    if pieces > 3 {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                };
                let options = options(0.0, true);
                let answer = decoder.generate(&mut session, &prompt(9), &options, &mut on_piece);
                assert_eq!(answer.unwrap().finish, Finish::Cancelled);
            });
        }
        for _ in 0..2 {
            assert_eq!(answer(decoder, &prompt(1), &options(0.0, true)), alone);
        }
    });
    assert_eq!(answer(&decoder, &prompt(1), &options(0.0, true)), alone);
}

#[test]
fn a_copied_beginning_is_the_beginning() {
    for decoder in models() {
        let first = prompt(1);
        let mut session = decoder.session(128).unwrap();
        decoder.read(&mut session, &first).unwrap();
        let second = [&first[..33], &[9, 8, 7][..]].concat();
        let mut whole = decoder.session(128).unwrap();
        let expected = decoder.read(&mut whole, &second).unwrap();
        let mut copied = decoder.session(128).unwrap();
        copied.copy_beginning(&session, 33);
        assert_eq!(decoder.resume(&mut copied, &second, 0).unwrap(), 33);
        let got = decoder.read(&mut copied, &second[33..]).unwrap();
        assert!(largest_difference(&got, &expected) < 1e-5);
        assert_eq!(session.ids(), first);
    }
}

#[test]
fn an_8_bit_cache_has_half_the_memory_and_nearly_the_scores() {
    let with = |cache| {
        let options = DecoderOptions {
            precision: Some(Precision::F32),
            threads: Some(2),
            cache,
            ..DecoderOptions::default()
        };
        Decoder::open(&folder("qwen3"), &options).unwrap()
    };
    let (exact, small) = (with(CacheFormat::F32), with(CacheFormat::Int8));
    let ratio = small.session_bytes(128) as f64 / exact.session_bytes(128) as f64;
    // A quarter, and two scales for each head of 32.
    assert!((0.25..0.32).contains(&ratio), "{ratio}");
    for seed in 0..4 {
        let ids = prompt(seed);
        let logits = |decoder: &Decoder| {
            let mut session = decoder.session(128).unwrap();
            decoder.read(&mut session, &ids[..30]).unwrap();
            decoder.read(&mut session, &ids[30..]).unwrap()
        };
        let (exact, small) = (logits(&exact), logits(&small));
        let spread = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let difference = largest_difference(&exact, &small);
        assert!(
            difference > 0.0 && difference < 0.05 * spread,
            "{difference} {spread}"
        );
    }
}

/// 32,768 tokens: a square of them would be 4 GiB.
#[test]
fn a_long_context_needs_memory_for_its_tokens_alone() {
    const TOKENS: usize = 32_768;
    let scratch = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder("llama")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, scratch.path().join(file.file_name().unwrap())).unwrap();
    }
    let config = scratch.path().join("config.json");
    let text = std::fs::read(&config).unwrap();
    let mut fields: serde_json::Value = serde_json::from_slice(&text).unwrap();
    fields["max_position_embeddings"] = TOKENS.into();
    fields["num_hidden_layers"] = 1.into();
    std::fs::write(&config, fields.to_string()).unwrap();
    let options = DecoderOptions {
        context: Some(TOKENS),
        ..DecoderOptions::default()
    };
    let decoder = Decoder::open(scratch.path(), &options).unwrap();
    let ids: Vec<u32> = (0..TOKENS as u32).map(|at| 5 + at * 31 % 600).collect();
    let before = resident();
    let mut session = decoder.session(TOKENS).unwrap();
    let logits = decoder.read(&mut session, &ids).unwrap();
    assert!(logits.iter().all(|score| score.is_finite()));
    assert_eq!(session.ids().len(), TOKENS);
    let kept = decoder.session_bytes(TOKENS);
    assert!(kept < 32 << 20, "{kept}");
    if let (Some(before), Some(after)) = (before, resident()) {
        // Other tests run beside this one.
        assert!(after < before + kept + (512 << 20), "{before} {after}");
    }
    assert!(decoder.step(&mut session, 5).is_err());
}

/// The most memory that this process has had.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}
