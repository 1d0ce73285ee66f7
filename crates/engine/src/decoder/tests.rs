//! Every fixture model against its exact outputs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::encoder::Precision;

pub(super) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/decoders")
        .join(name)
}

pub(super) fn expected(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub(super) fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap();
    list.iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

pub(super) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().unwrap();
    list.iter()
        .map(|value| value.as_u64().unwrap() as u32)
        .collect()
}

pub(super) fn open(path: &Path, threads: usize) -> Decoder {
    let options = DecoderOptions {
        precision: Some(Precision::F32),
        threads: Some(threads),
        cache: CacheFormat::F32,
        ..DecoderOptions::default()
    };
    Decoder::open(path, &options).unwrap()
}

const FAMILIES: [&str; 12] = [
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3",
    "phi3",
    "phi3_longrope",
    "gpt2",
    "qwen3_moe",
    "deepseek_v2",
    "deepseek_v3",
];

pub(super) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

fn best(logits: &[f32]) -> u32 {
    let order = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]);
    (0..logits.len()).max_by(order).unwrap() as u32
}

pub(super) fn logits_of(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let mut session = decoder.session(ids.len()).unwrap();
    decoder.resume(&mut session, ids, ids.len()).unwrap();
    decoder.read(&mut session, ids).unwrap()
}

fn greedy(decoder: &Decoder, prompt: &[u32], count: usize) -> Vec<u32> {
    let total = prompt.len() + count;
    let mut session = decoder.session(total).unwrap();
    decoder.resume(&mut session, prompt, total).unwrap();
    let mut logits = decoder.read(&mut session, prompt).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..count {
        tokens.push(best(&logits));
        logits = decoder
            .read(&mut session, &tokens[tokens.len() - 1..])
            .unwrap();
    }
    tokens
}

#[test]
fn logits_of_the_last_token_agree() {
    for name in FAMILIES {
        let folder = folder(name);
        let expected = expected(&folder);
        let decoder = open(&folder, 2);
        let tolerance = expected["tolerance"]["logits"].as_f64().unwrap() as f32;
        for text in expected["texts"].as_array().unwrap() {
            if text["logits"].is_null() {
                continue;
            }
            let logits = logits_of(&decoder, &ids(&text["input_ids"]));
            let difference = largest_difference(&logits, &floats(&text["logits"]));
            assert!(
                difference <= tolerance,
                "{name} {}: {difference}",
                text["id"]
            );
        }
    }
}

#[test]
fn greedy_tokens_agree() {
    for name in FAMILIES {
        let folder = folder(name);
        let expected = expected(&folder);
        let decoder = open(&folder, 2);
        for case in expected["greedy"].as_array().unwrap() {
            let tokens = ids(&case["tokens"]);
            let got = greedy(&decoder, &ids(&case["input_ids"]), tokens.len());
            assert_eq!(got, tokens, "{name} {}", case["prompt"]);
        }
    }
}

#[test]
fn losses_agree() {
    for name in FAMILIES {
        let folder = folder(name);
        let expected = expected(&folder);
        let decoder = open(&folder, 2);
        let loss = &expected["loss"];
        let got = decoder.token_logprobs(&ids(&loss["input_ids"])).unwrap();
        let tolerance = expected["tolerance"]["token_logprobs"].as_f64().unwrap() as f32;
        let difference = largest_difference(&got, &floats(&loss["token_logprobs"]));
        assert!(difference <= tolerance, "{name}: {difference}");
    }
}

/// The float32 products of dequantised weights.
#[test]
fn gguf_files_agree() {
    let folder = folder("gguf");
    let expected = expected(&folder);
    for (file, expected) in expected.as_object().unwrap() {
        let shared = folder.join("../../gguf").join(file);
        let own = folder.join(file);
        let decoder = open(if own.exists() { &own } else { &shared }, 2);
        let tolerance = expected["tolerance"]["logits"].as_f64().unwrap() as f32;
        for text in expected["texts"].as_array().unwrap() {
            let logits = logits_of(&decoder, &ids(&text["input_ids"]));
            let difference = largest_difference(&logits, &floats(&text["logits"]));
            assert!(
                difference <= tolerance,
                "{file} {}: {difference}",
                text["id"]
            );
        }
        for case in expected["greedy"].as_array().unwrap() {
            if case["min_margin"].as_f64().unwrap() > 2.0 * f64::from(tolerance) {
                let tokens = ids(&case["tokens"]);
                let got = greedy(&decoder, &ids(&case["input_ids"]), tokens.len());
                assert_eq!(got, tokens, "{file} {}", case["prompt"]);
            }
        }
    }
}

#[test]
fn conversations_in_parts_and_on_every_isa_have_the_same_scores() {
    let folder = folder("llama");
    let expected = expected(&folder);
    let long = expected["texts"].as_array().unwrap().iter();
    let long = long
        .map(|text| ids(&text["input_ids"]))
        .max_by_key(Vec::len)
        .unwrap();
    let decoder = open(&folder, 2);
    let whole = logits_of(&decoder, &long);
    let mut session = decoder.session(long.len()).unwrap();
    let mut logits = Vec::new();
    for part in long.chunks(7) {
        logits = decoder.read(&mut session, part).unwrap();
    }
    assert!(largest_difference(&whole, &logits) < 5e-4);
    // What was held is not read again, and a changed ending is.
    assert_eq!(
        decoder.resume(&mut session, &long, 0).unwrap(),
        long.len() - 1
    );
    let logits = decoder.read(&mut session, &long[long.len() - 1..]).unwrap();
    assert!(largest_difference(&whole, &logits) < 5e-4);
    let mut changed = long.clone();
    changed[20] ^= 1;
    assert_eq!(decoder.resume(&mut session, &changed, 0).unwrap(), 20);
}

fn messages(chat: &Value) -> Vec<Value> {
    chat["messages"].as_array().unwrap().clone()
}

#[test]
fn chats_are_rendered_and_answered_as_in_transformers() {
    for name in FAMILIES {
        let folder = folder(name);
        let expected = expected(&folder);
        let chat = &expected["chat"];
        let decoder = open(&folder, 2);
        let template = decoder.template().unwrap();
        let all = messages(chat);
        let mut options = RenderOptions {
            add_generation_prompt: true,
            ..RenderOptions::default()
        };
        let rendered = template.render(&all, &options).unwrap();
        assert_eq!(rendered, chat["rendered"].as_str().unwrap(), "{name}");
        let first_user = all
            .iter()
            .find(|message| message["role"] == "user")
            .unwrap();
        if let Some(alone) = chat["rendered_no_system"].as_str() {
            let alone_rendered = template.render(std::slice::from_ref(first_user), &options);
            assert_eq!(alone_rendered.unwrap(), alone, "{name}");
        }
        if let Some(quick) = chat["rendered_enable_thinking_false"].as_str() {
            options
                .variables
                .insert("enable_thinking".into(), false.into());
            assert_eq!(template.render(&all, &options).unwrap(), quick, "{name}");
        }
        let plain = template.render(&all, &RenderOptions::default()).unwrap();
        let expected_plain = chat["rendered_without_generation_prompt"].as_str().unwrap();
        assert_eq!(plain, expected_plain, "{name}");
        let prompt = decoder.tokenizer().encode(&rendered).unwrap();
        assert_eq!(prompt, ids(&chat["input_ids"]), "{name}");
        let tolerance = expected["tolerance"]["logits"].as_f64().unwrap();
        let margin = chat["greedy_min_margin"].as_f64().unwrap_or(0.0);
        if margin > 2.0 * tolerance {
            let tokens = ids(&chat["greedy_tokens"]);
            assert_eq!(greedy(&decoder, &prompt, tokens.len()), tokens, "{name}");
        }
    }
}

fn deterministic(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        max_tokens: Some(max_tokens),
        ignore_end: true,
        ..GenerateOptions::default()
    }
}

#[test]
fn answers_stream_whole_characters_and_reuse_what_was_read() {
    use std::ops::ControlFlow;
    let folder = folder("llama");
    let expected = expected(&folder);
    let decoder = open(&folder, 1);
    for case in expected["greedy"].as_array().unwrap() {
        let prompt = ids(&case["input_ids"]);
        let mut session = decoder.session(200).unwrap();
        let mut streamed = String::new();
        let mut on_piece = |piece: &Piece| {
            streamed.push_str(&piece.text);
            ControlFlow::Continue(())
        };
        let options = GenerateOptions {
            split_reasoning: false,
            logprobs: Some(3),
            ..deterministic(24)
        };
        let answer = decoder
            .generate(&mut session, &prompt, &options, &mut on_piece)
            .unwrap();
        assert_eq!(answer.ids, ids(&case["tokens"]));
        assert_eq!(streamed, answer.content);
        assert_eq!(answer.content, case["text"].as_str().unwrap());
        assert_eq!(answer.finish, Finish::Length);
        assert_eq!(answer.cached_tokens, 0);
        assert_eq!(answer.logprobs.len(), 24);
        assert!(
            answer
                .logprobs
                .iter()
                .all(|entry| entry.top[0].id == entry.id)
        );
        // The next turn has read all but the last token.
        let mut longer = prompt.clone();
        longer.extend(&answer.ids);
        longer.push(5);
        let mut ignore = |_: &Piece| ControlFlow::Continue(());
        let second = decoder.generate(&mut session, &longer, &deterministic(2), &mut ignore);
        assert_eq!(second.unwrap().cached_tokens, longer.len() - 2);
        // A stop string inside the text cuts it there.
        let text: Vec<char> = answer.content.chars().collect();
        let stop: String = text[text.len() / 2..text.len() / 2 + 2].iter().collect();
        let options = GenerateOptions {
            stop: vec![stop.clone()],
            ..options
        };
        let cut = decoder
            .generate(&mut session, &prompt, &options, &mut ignore)
            .unwrap();
        assert_eq!(cut.finish, Finish::Stop);
        assert_eq!(
            cut.content,
            answer.content[..answer.content.find(&stop).unwrap()]
        );
    }
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_and_a_receiver_may_stop() {
    use std::ops::ControlFlow;
    let decoder = open(&folder("llama"), 1);
    let mut session = decoder.session(32).unwrap();
    let prompt: Vec<u32> = (3..3 + session.capacity() as u32).collect();
    let mut stop = |_: &Piece| ControlFlow::Break(());
    let refused = decoder.generate(&mut session, &prompt, &deterministic(5), &mut stop);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("expected 1 to 32")
    );
    assert!(decoder.session(decoder.context() + 1).is_err());
    let answer = decoder.generate(&mut session, &[5, 6, 7], &deterministic(9), &mut stop);
    assert_eq!(answer.unwrap().finish, Finish::Cancelled);
}
