//! Answers that are held to a grammar, by models of random weights, which write anything.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn open(name: &str) -> Decoder {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders");
    let options = DecoderOptions {
        threads: Some(1),
        ..DecoderOptions::default()
    };
    Decoder::open(&Path::new(folder).join(name), &options).unwrap()
}

/// What a model of random weights writes.
fn write(decoder: &Decoder, options: &GenerateOptions) -> Result<Generation> {
    let prompt = decoder.encode_prompt("The sense of a text. 文意").unwrap();
    let mut session = decoder.session(decoder.context()).unwrap();
    let mut pieces = String::new();
    let written = decoder.generate(&mut session, &prompt, options, &mut |piece| {
        if piece.channel == Channel::Call {
            pieces += &piece.text;
        }
        ControlFlow::Continue(())
    })?;
    assert_eq!(pieces, written.calls);
    Ok(written)
}

fn options(constraint: Constraint, max_tokens: usize, seed: u64) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature: 1.0,
            seed: Some(seed),
            ..SamplingOptions::default()
        },
        max_tokens: Some(max_tokens),
        constraint: Some(constraint),
        ..GenerateOptions::default()
    }
}

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"名": {"type": "string"},
                "input": {"type": "integer"}}, "required": ["名", "input"],
                "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 2}),
        json!({"type": "object", "properties": {"kind": {"enum": ["red", "绿", null]},
                "next": {"$ref": "#/$defs/next"}}, "required": ["kind", "next"],
                "$defs": {"next": {"anyOf": [{"type": "string", "minLength": 3},
                    {"type": "boolean"}]}}}),
    ]
}

#[test]
fn json_of_a_schema_parses_however_short_the_answer_must_be() {
    for name in ["llama", "gemma3", "qwen3"] {
        let decoder = open(name);
        for schema in schemas() {
            for seed in 0..3 {
                let most = [48, 60, 90][seed];
                let grammar = Grammar::JsonSchema(schema.clone());
                let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
                let written = write(&decoder, &options(constraint, most, seed as u64)).unwrap();
                let text = &written.content;
                let value: Value = serde_json::from_str(text)
                    .unwrap_or_else(|error| panic!("{name} {schema} {most} {text:?}: {error}"));
                assert_eq!(written.finish, Finish::Stop);
                assert!(written.ids.len() <= most);
                match &schema["type"] {
                    kind if kind == "array" => assert!(value.as_array().unwrap().len() > 1),
                    _ => {
                        for key in schema["required"].as_array().into_iter().flatten() {
                            assert!(value.get(key.as_str().unwrap()).is_some(), "{text}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn several_calls_are_closed_however_short_the_answer_must_be() {
    let decoder = open("llama");
    let lark = r#"start: call ("\n</tool_call>\n<tool_call>\n{\"name\": \"" call)*
call: call0 | call1
call0: "get_weather\", \"arguments\": " arguments0 "}"
arguments0: %json {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}}, "required": ["city"], "additionalProperties": false, "x-guidance": {"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}}
call1: "add\", \"arguments\": " arguments1 "}"
arguments1: %json {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false, "x-guidance": {"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}}
"#;
    for seed in 0..8 {
        let grammar = Grammar::Lark(lark.into());
        let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
        let most = 90 + seed * 17;
        let written = write(&decoder, &options(constraint, most, seed as u64)).unwrap();
        assert!(written.content.ends_with("}}"), "{}", written.content);
    }
}

#[test]
fn a_regular_expression_holds_from_end_to_end() {
    let decoder = open("llama3");
    let grammar = Grammar::Regex("[A-Z]{3}-[0-9]{4}(是|否)".into());
    for seed in 0..4 {
        let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
        let text = write(&decoder, &options(constraint, 64, seed))
            .unwrap()
            .content;
        let (code, answer) = text.split_at(8);
        assert!(answer == "是" || answer == "否", "{text}");
        assert!(code[..3].bytes().all(|byte| byte.is_ascii_uppercase()));
        assert!(code[4..].bytes().all(|byte| byte.is_ascii_digit()));
    }
}

#[test]
fn forms_that_no_answer_can_have_are_refused() {
    let decoder = open("llama");
    for schema in [
        json!({"type": "integer", "minimum": 5, "maximum": 4}),
        json!({"type": "nothing"}),
        json!({"$ref": "#/$defs/missing"}),
        json!(false),
    ] {
        let refused = decoder.constraint(&Grammar::JsonSchema(schema.clone()), Begins::AtOnce);
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{schema} was taken"));
        assert!(error.is_user_error() && error.hint().is_some());
        assert!(error.to_string().len() < 400, "{error}");
    }
    let grammar = Grammar::Regex("(unclosed".into());
    let error = decoder.constraint(&grammar, Begins::AtOnce).unwrap_err();
    assert!(error.to_string().contains("unclosed group"), "{error}");
    let grammar = Grammar::JsonSchema(schemas()[1].clone());
    let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
    let error = write(&decoder, &options(constraint, 3, 1)).unwrap_err();
    assert!(error.to_string().contains("room for 3"), "{error}");
}

#[test]
fn a_model_that_runs_in_circles_is_led_to_the_end() {
    let decoder = open("llama");
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"},
        "list": {"type": "array", "items": {"enum": ["文", "b"]}}, "n": {"type": "integer"}},
        "required": ["text", "list", "n"], "additionalProperties": false});
    let grammar = Grammar::JsonSchema(schema);
    let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
    let mut asked = options(constraint, 400, 1);
    let letter = decoder.tokenizer.token_to_id("a").unwrap();
    asked.sampling.logit_bias = vec![(letter, 100.0)];
    let written = write(&decoder, &asked).unwrap();
    assert_eq!(written.finish, Finish::Stop);
    assert!(written.ids.len() < 200, "{}", written.content);
    let value: Value = serde_json::from_str(&written.content).unwrap();
    assert!(value["text"].as_str().unwrap().ends_with("aaaaaaaa"));
    assert!(value["n"].is_number(), "{value}");
}

#[test]
fn a_way_out_that_only_some_words_lead_to_is_found() {
    let decoder = open("llama");
    for (seed, most) in [(1, 12), (2, 30), (3, 60)] {
        let grammar = Grammar::Regex("(ab)*c".into());
        let constraint = decoder.constraint(&grammar, Begins::AtOnce).unwrap();
        let text = write(&decoder, &options(constraint, most, seed))
            .unwrap()
            .content;
        assert!(text.ends_with('c'), "{text}");
    }
}

#[test]
fn biases_of_tokens_that_the_model_has_not_are_refused() {
    let decoder = open("llama");
    let mut asked = options(decoder.forbid("\0").unwrap(), 4, 1);
    asked.sampling.logit_bias = vec![(1_000_000, 1.0)];
    let error = write(&decoder, &asked).unwrap_err();
    assert!(error.is_user_error(), "{error}");
}

#[test]
fn a_grammar_begins_where_it_is_told_to() {
    let decoder = open("llama");
    // A random model writes the same text again, so a part of it can be the trigger.
    let free = GenerateOptions {
        constraint: None,
        ..options(decoder.forbid("\0").unwrap(), 24, 3)
    };
    let written = write(&decoder, &free).unwrap();
    let spelt = |id: &u32| decoder.tokenizer.decode(&[*id], false).unwrap();
    let texts: Vec<String> = written.ids.iter().map(spelt).collect();
    let (at, trigger) = (2..texts.len())
        .map(|at| (at, texts[at].clone()))
        .find(|(at, text)| {
            let before = texts[..*at].concat();
            !text.contains('\u{FFFD}') && !before.contains(text)
        })
        .unwrap();
    let before = texts[..at].concat();
    let grammar = Grammar::Regex("[0-9]{3}".into());
    let begins = Begins::On(trigger.clone());
    let asked = GenerateOptions {
        is_call: true,
        ..options(decoder.constraint(&grammar, begins).unwrap(), 60, 3)
    };
    let written = write(&decoder, &asked).unwrap();
    assert_eq!(written.content, before, "{written:?}");
    assert_eq!(written.calls.len(), 3, "{written:?}");
    assert!(written.calls.bytes().all(|byte| byte.is_ascii_digit()));

    let asked = options(decoder.forbid(&trigger).unwrap(), 60, 3);
    assert!(!write(&decoder, &asked).unwrap().content.contains(&trigger));
}
