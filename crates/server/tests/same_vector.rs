//! A text's vector depends on the text, the model and the role: not on the dialect, the encoding,
//! the batch or the neighbours.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Random, Running, options};
use wenyi_server::{Alias, ServerOptions};

fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::String(text) => {
            let bytes = STANDARD.decode(text).unwrap();
            let (chunks, rest) = bytes.as_chunks::<4>();
            assert!(rest.is_empty());
            chunks
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        }
        Value::Array(values) =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "printed from an f32")]
            values
                .iter()
                .map(|value| value.as_f64().unwrap() as f32)
                .collect()
        }
        other => panic!("{other}"),
    }
}

fn openai(server: &Running, input: Value, encoding: &str) -> Vec<Vec<f32>> {
    let body = json!({"model": "bert", "input": input, "encoding_format": encoding});
    let reply = server.post("/v1/embeddings", body.to_string());
    assert_eq!(reply.status, 200, "{reply:?}");
    let data = reply.json()["data"].as_array().unwrap().clone();
    for (index, entry) in data.iter().enumerate() {
        assert_eq!(entry["index"], index);
    }
    data.iter()
        .map(|entry| floats(&entry["embedding"]))
        .collect()
}

fn rows(value: &Value, name: &str) -> Vec<Vec<f32>> {
    let rows = value.as_array().unwrap().iter();
    rows.map(|row| floats(if name.is_empty() { row } else { &row[name] }))
        .collect()
}

/// The vectors of `texts` through one of the dialects.
fn through(server: &Running, dialect: usize, texts: &[String]) -> Vec<Vec<f32>> {
    match dialect {
        0 => openai(server, json!(texts), "float"),
        1 => openai(server, json!(texts), "base64"),
        2 => {
            let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
            let body = json!({"model": "bert", "input": {"texts": texts}});
            rows(
                &server.post(path, body.to_string()).json()["output"]["embeddings"],
                "embedding",
            )
        }
        3 => rows(
            &server
                .post("/embed", json!({"inputs": texts}).to_string())
                .json(),
            "",
        ),
        4 => {
            let body = json!({"model": "bert:latest", "input": texts});
            rows(
                &server.post("/api/embed", body.to_string()).json()["embeddings"],
                "",
            )
        }
        5 => texts
            .iter()
            .map(|text| {
                let body = json!({"model": "bert", "prompt": text});
                floats(&server.post("/api/embeddings", body.to_string()).json()["embedding"])
            })
            .collect(),
        6 => texts
            .iter()
            .map(|text| openai(server, json!(text), "base64").remove(0))
            .collect(),
        _ => {
            let ids: Vec<Vec<u32>> = (texts.iter())
                .map(|text| tiktoken_rs::cl100k_base_singleton().encode_ordinary(text))
                .collect();
            openai(server, json!(ids), "float")
        }
    }
}

const DIALECTS: usize = 8;

fn random_text(random: &mut Random) -> String {
    let words = [
        "the", "sense", "of", "a", "text", "文意", "句子", "的", "意思", "naïve", "42", "🚀",
    ];
    let count = random.below(40);
    let words = (0..count).map(|_| words[random.below(words.len())]);
    words
        .collect::<Vec<_>>()
        .join([" ", "", "\n"][random.below(3)])
}

#[test]
fn a_text_has_one_vector() {
    // Without the cache, so that every answer is computed.
    for cache in [0, 1 << 20] {
        let server = Running::start(ServerOptions { cache, ..options() });
        let mut random = Random(7);
        for round in 0..12 {
            let texts: Vec<_> = (0..=random.below(9))
                .map(|_| random_text(&mut random))
                .collect();
            let alone: Vec<_> = texts
                .iter()
                .map(|text| openai(&server, json!([text]), "float").remove(0))
                .collect();
            for dialect in 0..DIALECTS {
                let vectors = through(&server, dialect, &texts);
                assert_eq!(
                    vectors, alone,
                    "round {round}, dialect {dialect}, {texts:?}"
                );
            }
        }
    }
}

#[test]
fn requests_at_the_same_time_do_not_change_each_other() {
    let server = Running::start(ServerOptions {
        cache: 0,
        ..options()
    });
    let texts: Vec<_> = (0..16).map(|seed| random_text(&mut Random(seed))).collect();
    let expected = through(&server, 0, &texts);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (server, texts, expected) = (&server, &texts, &expected);
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..10 {
                    let picked: Vec<_> = (0..=random.below(6)).map(|_| random.below(16)).collect();
                    let asked: Vec<_> = picked.iter().map(|index| texts[*index].clone()).collect();
                    let vectors = through(server, random.below(DIALECTS), &asked);
                    for (index, vector) in picked.iter().zip(vectors) {
                        assert_eq!(vector, expected[*index], "{}", texts[*index]);
                    }
                }
            });
        }
    });
}

#[test]
fn fewer_dimensions_are_the_first_ones_normalised_again() {
    let server = Running::start(options());
    let whole = openai(&server, json!("文意"), "float").remove(0);
    let body = json!({"model": "bert", "input": "文意", "dimensions": 5});
    let reply = server.post("/v1/embeddings", body.to_string());
    let short = floats(&reply.json()["data"][0]["embedding"]);
    let length = whole[..5]
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt();
    assert_eq!(short.len(), 5);
    for (one, other) in whole.iter().zip(&short) {
        assert!((one / length - other).abs() < 1e-6);
    }
}

#[test]
fn split_and_truncated_texts_are_told() {
    let server = Running::start(options());
    let long = "meaning ".repeat(3000);
    let ask = |overflow: &str| {
        let body = json!({"model": "bert", "input": ["short", long], "overflow": overflow});
        server.post("/v1/embeddings", body.to_string())
    };
    let split = ask("split-mean");
    assert_eq!(split.header("x-wenyi-split"), Some("1"));
    assert!(
        split.json()["wenyi"]["split"][0]["windows"]
            .as_u64()
            .unwrap()
            > 1
    );
    let truncated = ask("truncate");
    assert_eq!(truncated.header("x-wenyi-truncated"), Some("1"));
    let kept = truncated.json()["wenyi"]["truncated"][0]["kept"]
        .as_u64()
        .unwrap();
    let total = truncated.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(
        kept < total && total < kept + 10,
        "true usage: {kept} of {total}"
    );
    let refused = ask("error");
    assert_eq!(refused.status, 400);
    let message = refused.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("This model's maximum context length is"),
        "{message}"
    );
}

#[test]
fn an_alias_is_the_same_model_and_no_name_stands_in_for_another() {
    let alias = Alias {
        name: "text-embedding-ada-002".into(),
        model: "bert".into(),
    };
    let server = Running::start(ServerOptions {
        aliases: vec![alias],
        ..options()
    });
    let ask = |model: &str| {
        let body = json!({"model": model, "input": "hello"});
        server.post("/v1/embeddings", body.to_string())
    };
    let (one, other) = (ask("bert"), ask("text-embedding-ada-002"));
    assert_eq!(one.body, other.body);
    let unknown = ask("text-embedding-3-small");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    assert_eq!(ask("cross_encoder").status, 400);
    let listed = server.get("/v1/models").json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 5);
}

#[test]
fn every_rerank_dialect_gives_the_same_order_and_scores() {
    let server = Running::start(options());
    let documents = ["the sense of a text", "a cat", "文意", ""];
    let body = json!({"model": "cross_encoder", "query": "meaning", "documents": documents});
    let nested =
        json!({"model": "cross_encoder", "input": {"query": "meaning", "documents": documents}});
    let tei = json!({"query": "meaning", "texts": documents});
    let path = "/api/v1/services/rerank/text-rerank/text-rerank";
    let replies = [
        server.post("/v2/rerank", body.to_string()).json()["results"].clone(),
        server.post("/v1/rerank", body.to_string()).json()["results"].clone(),
        server
            .post("/compatible-api/v1/reranks", body.to_string())
            .json()["output"]["results"]
            .clone(),
        server.post(path, nested.to_string()).json()["output"]["results"].clone(),
        server.post("/rerank", tei.to_string()).json(),
    ];
    let read = |reply: &Value| -> Vec<(u64, f64)> {
        let results = reply.as_array().unwrap().iter();
        let score = |result: &Value| {
            let score = &result["relevance_score"];
            score.as_f64().or(result["score"].as_f64()).unwrap()
        };
        results
            .map(|result| (result["index"].as_u64().unwrap(), score(result)))
            .collect()
    };
    let first = read(&replies[0]);
    assert_eq!(first.len(), documents.len());
    assert!(
        first.windows(2).all(|pair| pair[0].1 >= pair[1].1),
        "best first"
    );
    for reply in &replies {
        assert_eq!(read(reply), first);
    }
}

#[test]
fn sparse_vectors_agree_between_dialects() {
    let server = Running::start(options());
    let tei = server
        .post("/embed_sparse", json!({"inputs": "meaning"}).to_string())
        .json();
    let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
    let body = json!({"model": "splade", "input": {"texts": ["meaning"]},
                      "parameters": {"output_type": "sparse"}});
    let reply = server.post(path, body.to_string()).json();
    let sparse = reply["output"]["embeddings"][0]["sparse_embedding"]
        .as_array()
        .unwrap();
    let tei = tei[0].as_array().unwrap();
    assert_eq!(tei.len(), sparse.len());
    for (one, other) in tei.iter().zip(sparse) {
        assert_eq!(
            (&one["index"], &one["value"]),
            (&other["index"], &other["value"])
        );
        assert!(other["token"].is_string());
    }
}

#[test]
fn tokens_come_back_as_text() {
    let server = Running::start(options());
    let tokens = server
        .post("/tokenize", json!({"inputs": "hello world"}).to_string())
        .json();
    let ids: Vec<_> = tokens[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].clone())
        .collect();
    assert_eq!(tokens[0][0]["special"], true);
    let text = server
        .post("/decode", json!({"ids": ids}).to_string())
        .json();
    assert_eq!(text, json!(["hello world"]));
    let vectors = |inputs: Value| {
        server
            .post("/embed", json!({"inputs": inputs}).to_string())
            .body
    };
    assert_eq!(vectors(json!(ids)), vectors(json!("hello world")));
}
