//! The token ids of every parity fixture, as `transformers` computes them, exact.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wenyi_engine::tokenizer::{Tokenizer, TokenizerOptions};
use wenyi_engine::weights::Weights;
use wenyi_engine::weights::gguf::Writer;

/// Every fixture folder that has a tokenizer.
fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<_> = fs::read_dir(root)
        .expect("fixtures are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|folder| folder.join("tokenizer.json").exists())
        .collect();
    folders.sort();
    assert!(
        folders.len() >= 13,
        "only {} fixtures with a tokenizer",
        folders.len()
    );
    folders
}

fn expected(folder: &Path) -> Value {
    let bytes = fs::read(folder.join("expected.json")).expect("fixture has expected.json");
    serde_json::from_slice(&bytes).expect("expected.json is JSON")
}

fn list<'a>(expected: &'a Value, key: &str) -> &'a [Value] {
    expected[key].as_array().map_or(&[], Vec::as_slice)
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .expect("ids")
        .iter()
        .map(|id| id.as_u64().expect("id") as u32)
        .collect()
}

/// The texts of a fixture: plain ones and those behind a prompt, with what is expected of them.
fn texts(expected: &Value) -> Vec<(String, &Value)> {
    let plain = list(expected, "texts");
    let prompted = list(expected, "prompted").iter().map(|entry| {
        let prompt = expected["prompts"][entry["prompt_name"].as_str().expect("name")].as_str();
        let text = plain
            .iter()
            .find(|text| text["id"] == entry["text_id"])
            .expect("text");
        (
            prompt.expect("prompt").to_owned() + text["text"].as_str().expect("text"),
            entry,
        )
    });
    plain
        .iter()
        .map(|text| (text["text"].as_str().expect("text").to_owned(), text))
        .chain(prompted)
        .collect()
}

#[test]
fn every_text_has_the_ids_of_transformers() {
    for folder in fixtures() {
        let tokenizer = Tokenizer::open(&folder).expect("fixture opens");
        let expected = expected(&folder);
        let max_length = expected["max_length"].as_u64().expect("max_length") as usize;
        for (text, entry) in texts(&expected) {
            let tokens = tokenizer.encode(&text).expect("encodes");
            let name = folder.display();
            assert_eq!(
                tokenizer.assemble(&tokens, max_length),
                ids(&entry["input_ids"]),
                "{name}: {text:?}"
            );
            if let Some(untruncated) = entry["n_tokens_untruncated"].as_u64() {
                let around = tokenizer.prefix().len() + tokenizer.suffix().len();
                assert_eq!(
                    tokens.len() + around,
                    untruncated as usize,
                    "{name}: {text:?}"
                );
            }
        }
    }
}

#[test]
fn special_tokens_can_be_read_as_text() {
    let options = TokenizerOptions {
        special_as_text: true,
    };
    let mut seen = 0;
    for folder in fixtures() {
        let tokenizer = Tokenizer::open_with(&folder, &options).expect("fixture opens");
        let expected = expected(&folder);
        let max_length = expected["max_length"].as_u64().expect("max_length") as usize;
        for (text, entry) in texts(&expected) {
            let as_text = entry.get("input_ids_special_as_text");
            seen += usize::from(as_text.is_some());
            let tokens = tokenizer.encode(&text).expect("encodes");
            if entry.get("prompt_name").is_none() {
                assert_eq!(
                    tokenizer.assemble(&tokens, max_length),
                    ids(as_text.unwrap_or(&entry["input_ids"])),
                    "{}: {text:?}",
                    folder.display()
                );
            }
        }
    }
    assert!(seen >= 12, "only {seen} texts with special tokens");
}

#[test]
fn every_pair_has_the_ids_and_types_of_transformers() {
    let mut seen = 0;
    for folder in fixtures() {
        let expected = expected(&folder);
        let pairs = list(&expected, "pairs");
        if pairs.is_empty() {
            continue;
        }
        let tokenizer = Tokenizer::open(&folder).expect("fixture opens");
        let max_length = expected["max_length"].as_u64().expect("max_length") as usize;
        for pair in pairs {
            let encode = |key: &str| {
                tokenizer
                    .encode(pair[key].as_str().expect("text"))
                    .expect("encodes")
            };
            let both = tokenizer.assemble_pair(&encode("query"), &encode("passage"), max_length);
            assert_eq!(both.input_ids, ids(&pair["input_ids"]), "{pair}");
            assert_eq!(both.token_type_ids, ids(&pair["token_type_ids"]), "{pair}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} pairs");
}

/// The template that was read off the post-processor agrees with running it on real texts.
#[test]
fn templates_agree_with_the_post_processor() {
    for folder in fixtures() {
        let tokenizer = Tokenizer::open(&folder).expect("fixture opens");
        let mut library =
            tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).expect("opens");
        library.with_truncation(None).expect("no truncation");
        library.with_padding(None);
        let texts = ["", "a", "The fox.", "图书馆 学习"];
        for first in texts {
            let single = library.encode(first, true).expect("encodes");
            let tokens = tokenizer.encode(first).expect("encodes");
            assert_eq!(
                tokenizer.assemble(&tokens, 512),
                single.get_ids(),
                "{}",
                folder.display()
            );
            for second in texts {
                let pair = library.encode((first, second), true).expect("encodes");
                let other = tokenizer.encode(second).expect("encodes");
                let both = tokenizer.assemble_pair(&tokens, &other, 512);
                assert_eq!(both.input_ids, pair.get_ids(), "{}", folder.display());
                assert_eq!(
                    both.token_type_ids,
                    pair.get_type_ids(),
                    "{}",
                    folder.display()
                );
            }
        }
    }
}

/// A folder with `vocab.txt` alone, as older BERT models ship it, yields the same ids.
#[test]
fn vocab_txt_alone_is_enough_for_bert() {
    for name in ["bert", "bert_cls"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let copy = tempfile::tempdir().expect("temporary folder");
        for file in ["vocab.txt", "tokenizer_config.json"] {
            fs::copy(folder.join(file), copy.path().join(file)).expect("copied");
        }
        let whole = Tokenizer::open(&folder).expect("opens");
        let bare = Tokenizer::open(copy.path()).expect("opens");
        assert_eq!(bare.special_ids(), whole.special_ids());
        assert_eq!(bare.pair_template(), whole.pair_template());
        for (text, _) in texts(&expected(&folder)) {
            let tokens = bare.encode(&text).expect("encodes");
            assert_eq!(
                tokens,
                whole.encode(&text).expect("encodes"),
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn special_ids_come_from_the_configuration() {
    for folder in fixtures() {
        let tokenizer = Tokenizer::open(&folder).expect("opens");
        let pad = expected(&folder)["pad_token_id"].as_u64().expect("pad id") as u32;
        assert_eq!(tokenizer.pad_id(), Some(pad), "{}", folder.display());
        let largest = tokenizer.vocab_size() as u32 - 1;
        assert!(
            tokenizer.id_to_token(largest).is_some(),
            "{}",
            folder.display()
        );
        assert!(
            tokenizer.id_to_token(largest + 1).is_none(),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn offsets_point_into_the_text() {
    for folder in fixtures() {
        let tokenizer = Tokenizer::open(&folder).expect("opens");
        for (text, _) in texts(&expected(&folder)) {
            let (tokens, offsets) = tokenizer.encode_with_offsets(&text).expect("encodes");
            assert_eq!(tokens, tokenizer.encode(&text).expect("encodes"));
            assert_eq!(tokens.len(), offsets.len());
            for &(start, end) in &offsets {
                assert!(start <= end && end <= text.len(), "{}", folder.display());
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let message = |content: &str| {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("tokenizer.json"), content).expect("written");
        Tokenizer::open(folder.path())
            .expect_err("refused")
            .to_string()
    };
    assert!(message("{\"model\": {\"type\": \"BPE\"").contains("tokenizer.json"));
    assert!(message("<html>").contains("expected a tokenizer in JSON"));
    assert!(message(r#"{"model": {"type": "Quantum", "vocab": {}}}"#).contains("`Quantum`"));
    let merges = r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}"#;
    assert!(message(merges).contains("tokenizer.json"));
    // Both pieces exist, but together they are longer than any token.
    let merges = r#"{"model": {"type": "BPE", "vocab": {"abc": 0}, "merges": ["abc abc"]}}"#;
    assert!(message(merges).contains("tokenizer.json"));
    let nothing = tempfile::tempdir().expect("temporary folder");
    let error = Tokenizer::open(nothing.path()).expect_err("refused");
    assert!(error.is_user_error() && error.to_string().contains("tokenizer.json"));
}

/// GGUF files without tensors, and the ids that `transformers` gives with the same tokenizers.
#[test]
fn gguf_tokenizers_have_the_ids_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf_tokenizers");
    for name in ["llama", "qwen2", "qwen3", "gemma3"] {
        let weights = Weights::open(&root.join(name).with_extension("gguf")).expect("opens");
        let metadata = weights.gguf().expect("metadata");
        let bytes = fs::read(root.join(name).with_extension("json")).expect("readable");
        let expected: Value = serde_json::from_slice(&bytes).expect("JSON");
        let max_length = expected["max_length"].as_u64().expect("max_length") as usize;
        let plain = Tokenizer::from_gguf(metadata).expect("tokenizer");
        let options = TokenizerOptions {
            special_as_text: true,
        };
        let as_text = Tokenizer::from_gguf_with(metadata, &options).expect("tokenizer");
        for entry in list(&expected, "texts") {
            let text = entry["text"].as_str().expect("text");
            let tokens = plain.encode(text).expect("encodes");
            let wanted = ids(&entry["input_ids"]);
            assert_eq!(
                plain.assemble(&tokens, max_length),
                wanted,
                "{name}: {text:?}"
            );
            assert_eq!(
                plain.decode(&wanted, false).expect("decodes"),
                entry["decoded"]
            );
            assert_eq!(
                plain.decode(&wanted, true).expect("decodes"),
                entry["decoded_skip_special"]
            );
            let tokens = as_text.encode(text).expect("encodes");
            let wanted = ids(entry
                .get("input_ids_special_as_text")
                .unwrap_or(&entry["input_ids"]));
            assert_eq!(
                as_text.assemble(&tokens, max_length),
                wanted,
                "{name}: {text:?}"
            );
        }
    }
}

/// The metadata that a converter writes for the tokenizer of a fixture.
fn as_gguf(folder: &Path, tokens: &[String], write: impl FnOnce(&mut Writer)) -> Tokenizer {
    let whole = Tokenizer::open(folder).expect("opens");
    let special = whole.special_ids();
    let mut writer = Writer::new();
    writer.str("general.architecture", "bert");
    writer.strings("tokenizer.ggml.tokens", tokens);
    let control = [
        special.pad,
        special.cls,
        special.sep,
        special.unk,
        special.mask,
    ];
    let kind = |id: u32| if control.contains(&Some(id)) { 3 } else { 1 };
    writer.i32s(
        "tokenizer.ggml.token_type",
        (0..tokens.len() as u32).map(kind),
    );
    for (role, id) in ["padding", "cls", "seperator", "unknown", "mask"]
        .into_iter()
        .zip(control)
    {
        writer.u32(
            &format!("tokenizer.ggml.{role}_token_id"),
            id.expect("has the role"),
        );
    }
    write(&mut writer);
    let bytes = writer
        .begin(Vec::new())
        .and_then(|out| out.finish())
        .expect("written");
    let weights = Weights::from_bytes(bytes).expect("opens");
    Tokenizer::from_gguf(weights.gguf().expect("metadata")).expect("tokenizer")
}

fn assert_same(folder: &Path, ours: &Tokenizer) {
    let whole = Tokenizer::open(folder).expect("opens");
    assert_eq!(ours.pair_template(), whole.pair_template());
    assert_eq!(ours.vocab_size(), whole.vocab_size());
    for (text, _) in texts(&expected(folder)) {
        let tokens = whole.encode(&text).expect("encodes");
        assert_eq!(ours.encode(&text).expect("encodes"), tokens, "{text:?}");
        assert_eq!(ours.assemble(&tokens, 64), whole.assemble(&tokens, 64));
        let decoded = whole.decode(&tokens, true).expect("decodes");
        assert_eq!(ours.decode(&tokens, true).expect("decodes"), decoded);
    }
}

#[test]
fn wordpiece_from_gguf_is_that_of_the_folder() {
    for name in ["bert", "bert_cls"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let whole = Tokenizer::open(&folder).expect("opens");
        let tokens = (0..whole.vocab_size() as u32).map(|id| {
            let token = whole.id_to_token(id).expect("token");
            match token.strip_prefix("##") {
                Some(rest) => rest.to_owned(),
                None if token.starts_with('[') && token.ends_with(']') => token,
                None => format!("▁{token}"),
            }
        });
        let tokens: Vec<_> = tokens.collect();
        let ours = as_gguf(&folder, &tokens, |writer| {
            writer.str("tokenizer.ggml.model", "bert");
        });
        assert_same(&folder, &ours);
    }
}

#[test]
fn unigram_from_gguf_is_that_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xlm_roberta");
    let bytes = fs::read(folder.join("tokenizer.json")).expect("readable");
    let file: Value = serde_json::from_slice(&bytes).expect("JSON");
    let entries = list(&file["model"], "vocab");
    let token = |entry: &Value| entry[0].as_str().expect("token").to_owned();
    let mut tokens: Vec<_> = entries.iter().map(token).collect();
    tokens.push("<mask>".into());
    tokens.truncate(Tokenizer::open(&folder).expect("opens").vocab_size());
    let scores = entries
        .iter()
        .map(|entry| entry[1].as_f64().expect("score") as f32)
        .chain([0.0]);
    let charsmap = file["normalizer"]["precompiled_charsmap"]
        .as_str()
        .expect("base64");
    let ours = as_gguf(&folder, &tokens, |writer| {
        writer.str("tokenizer.ggml.model", "t5");
        writer.f32s("tokenizer.ggml.scores", scores.take(tokens.len()));
        writer.bytes("tokenizer.ggml.precompiled_charsmap", &base64(charsmap));
    });
    assert_same(&folder, &ours);
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .trim_end_matches('=')
        .chars()
        .map(|c| DIGITS.find(c).expect("digit") as u32);
    let digits: Vec<_> = digits.collect();
    let bytes = digits.chunks(4).flat_map(|chunk| {
        let group = chunk.iter().fold(0, |group, digit| group << 6 | digit);
        let group = group << (6 * (4 - chunk.len()));
        group.to_be_bytes()[1..chunk.len()].to_vec()
    });
    bytes.collect()
}

#[test]
fn what_is_wrong_with_gguf_metadata_is_said() {
    let message = |write: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::new();
        write(&mut writer);
        let bytes = writer
            .begin(Vec::new())
            .and_then(|out| out.finish())
            .expect("written");
        let weights = Weights::from_bytes(bytes).expect("opens");
        let metadata = weights.gguf().expect("metadata");
        Tokenizer::from_gguf(metadata)
            .expect_err("refused")
            .to_string()
    };
    let model = |name: &'static str| {
        move |writer: &mut Writer| {
            writer.str("tokenizer.ggml.model", name);
            writer.strings("tokenizer.ggml.tokens", ["<unk>", "a", "b"]);
        }
    };
    assert!(message(&|_| ()).contains("no `tokenizer.ggml.model`"));
    assert!(message(&|writer| writer.u32("tokenizer.ggml.model", 7)).contains("expected text"));
    assert!(message(&|writer| writer.str("tokenizer.ggml.model", "t5")).contains("ggml.tokens`"));
    assert!(message(&model("rwkv")).contains("`rwkv`"));
    assert!(message(&model("t5")).contains("no `tokenizer.ggml.scores`"));
    assert!(message(&model("gpt2")).contains("no `tokenizer.ggml.merges`"));
    let with = |name: &'static str, write: fn(&mut Writer)| {
        message(&move |writer| {
            model(name)(writer);
            write(writer);
        })
    };
    let short = with("t5", |writer| writer.f32s("tokenizer.ggml.scores", [0.0]));
    assert!(short.contains("has 1 entries, expected 3"), "{short}");
    let typed = with("t5", |writer| writer.str("tokenizer.ggml.scores", "0 1 2"));
    assert!(typed.contains("expected an array of f32"), "{typed}");
    let unknown = with("t5", |writer| {
        writer.f32s("tokenizer.ggml.scores", [0.0, -1.0, -2.0]);
        writer.u32("tokenizer.ggml.unknown_token_id", 9);
    });
    assert!(unknown.contains("id 9"), "{unknown}");
    let nan = with("t5", |writer| {
        writer.f32s("tokenizer.ggml.scores", [0.0, f32::NAN, -2.0]);
        writer.u32("tokenizer.ggml.unknown_token_id", 0);
    });
    assert!(nan.contains("score NaN"), "{nan}");
    let pre = with("gpt2", |writer| writer.str("tokenizer.ggml.pre", "klingon"));
    assert!(pre.contains("`klingon`"), "{pre}");
    for merge in ["a c", "a", "a b", ""] {
        let refused = message(&|writer| {
            model("gpt2")(writer);
            writer.strings("tokenizer.ggml.merges", [merge]);
        });
        assert!(
            refused.contains("there is no token"),
            "{merge:?}: {refused}"
        );
    }
    let kinds = with("gpt2", |writer| {
        writer.i32s("tokenizer.ggml.token_type", [1]);
    });
    assert!(kinds.contains("token_type"), "{kinds}");
    let eos = with("gpt2", |writer| {
        writer.strings("tokenizer.ggml.merges", [""; 0]);
        writer.bool("tokenizer.ggml.add_eos_token", true);
        writer.u32("tokenizer.ggml.eos_token_id", 77);
    });
    assert!(eos.contains("token 77"), "{eos}");
}
