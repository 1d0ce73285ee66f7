use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server};
use super::{endpoint, endpoint_with};
use crate::embed::{EmbedError, EmbedOptions, Embedder, Overflow, Role};
use crate::providers::tokens::Tokenizer;
use crate::providers::{Error, ErrorKind, RemoteEmbedder};

const WIDTH: usize = 1536;

/// A vector that tells texts apart: the text's number is its direction.
fn vector(text: &str, width: usize) -> Vec<f32> {
    let mut vector = vec![0.0; width];
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    vector[digits.parse::<usize>().unwrap_or(0) % width] = 2.0;
    vector
}

fn texts_of(seen: &Seen) -> Vec<String> {
    let input = seen.body.get("input").unwrap();
    let input = input.get("texts").unwrap_or(input);
    match input {
        Value::String(text) => vec![text.clone()],
        list => serde_json::from_value(list.clone()).unwrap(),
    }
}

/// OpenAI's answer, in base64 and in another order than asked.
fn openai(seen: &Seen, width: usize) -> Reply {
    let texts = texts_of(seen);
    let data = texts.iter().enumerate().rev().map(|(index, text)| {
        let values = vector(text, width);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let embedding = match seen.body["encoding_format"].as_str() {
            Some("base64") => json!(STANDARD.encode(bytes)),
            _ => json!(values),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let counts = texts.iter().map(|text| Tokenizer::Cl100k.count(text));
    let tokens: usize = counts.sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Reply::json(
        200,
        &json!({"object": "list", "data": data, "usage": usage}),
    )
}

fn dashscope(seen: &Seen, width: usize) -> Reply {
    let texts = texts_of(seen);
    let all = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"text_index": index, "embedding": vector(text, width)}));
    let all: Vec<Value> = all.collect();
    Reply::json(
        200,
        &json!({"status_code": 200, "output": {"embeddings": all}}),
    )
}

fn open(provider: &str, server: &Server, model: &str) -> RemoteEmbedder {
    RemoteEmbedder::open(endpoint(provider, &server.url).unwrap(), model).unwrap()
}

fn remote(error: EmbedError) -> Error {
    match error {
        EmbedError::Remote(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn openai_is_asked_in_base64_and_answers_are_put_in_order() {
    let server = Server::start(|seen| openai(seen, WIDTH));
    let embedder = open("openai", &server, "text-embedding-3-small");
    let vectors = embedder
        .embed(&["0", "一 1", "2"], &EmbedOptions::default())
        .unwrap();
    assert_eq!((vectors.len(), vectors.dimensions), (3, WIDTH));
    for index in 0..3 {
        assert_eq!(vectors.vector(index)[index], 1.0, "unit length, in order");
    }
    let seen = &server.requests()[0];
    assert_eq!(seen.path, "/v1/embeddings");
    assert!(seen.headers.contains("Bearer sk-test-secret-key"));
    assert_eq!(seen.body["encoding_format"], "base64");
    assert!(seen.body.get("dimensions").is_none());
    assert_eq!(
        embedder.fingerprint().model,
        "openai:text-embedding-3-small"
    );
}

#[test]
fn nothing_is_sent_for_nothing() {
    let server = Server::start(|seen| openai(seen, WIDTH));
    let embedder = open("openai", &server, "text-embedding-3-small");
    assert!(
        embedder
            .embed(&[], &EmbedOptions::default())
            .unwrap()
            .is_empty()
    );
    assert!(server.requests().is_empty());
}

#[test]
fn dashscope_is_told_what_a_text_is_and_gets_ten_at_a_time() {
    let server = Server::start(|seen| dashscope(seen, 512));
    let embedder = open("dashscope", &server, "text-embedding-v4");
    let texts: Vec<String> = (0..25).map(|index| index.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let options = EmbedOptions {
        role: Role::Query,
        dimensions: Some(512),
        ..EmbedOptions::default()
    };
    let vectors = embedder.embed(&texts, &options).unwrap();
    for index in 0..25 {
        assert_eq!(vectors.vector(index)[index], 1.0);
    }
    let mut sizes: Vec<usize> = server
        .requests()
        .iter()
        .map(|seen| texts_of(seen).len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
    let seen = &server.requests()[0];
    assert_eq!(
        seen.path,
        "/api/v1/services/embeddings/text-embedding/text-embedding"
    );
    assert_eq!(
        seen.body["parameters"],
        json!({"text_type": "query", "dimension": 512})
    );
    let odd = EmbedOptions {
        dimensions: Some(500),
        ..EmbedOptions::default()
    };
    let error = remote(embedder.embed(&["0"], &odd).unwrap_err());
    assert!(error.to_string().contains("one of 2048, 1536"), "{error}");
}

#[test]
fn weights_of_words_come_with_the_vectors() {
    let server = Server::start(|seen| {
        let all = texts_of(seen).into_iter().enumerate().map(|(index, text)| {
            let sparse = json!([{"index": 9, "value": 0.5, "token": "x"},
                {"index": text.len(), "value": 0.25, "token": "y"}]);
            json!({"text_index": index, "embedding": vector(&text, 1024), "sparse_embedding": sparse})
        });
        let all: Vec<Value> = all.rev().collect();
        Reply::json(200, &json!({"output": {"embeddings": all}}))
    });
    let embedder = open("dashscope", &server, "text-embedding-v4");
    let texts: Vec<String> = (0..12).map(|index| "1".repeat(index % 4)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (vectors, sparse) = embedder
        .embed_with_sparse(&texts, &EmbedOptions::default())
        .unwrap();
    assert_eq!((vectors.len(), sparse.len()), (12, 12));
    for (index, sparse) in sparse.iter().enumerate() {
        assert_eq!(sparse.weights, [(index as u32 % 4, 0.25), (9, 0.5)]);
    }
    let seen = &server.requests()[0].body["parameters"];
    assert_eq!(
        seen,
        &json!({"text_type": "document", "output_type": "dense&sparse"})
    );
    let without = open("dashscope", &server, "text-embedding-v2");
    let error = remote(
        without
            .embed_with_sparse(&["a"], &EmbedOptions::default())
            .unwrap_err(),
    );
    assert!(
        error.is_user_error() && error.to_string().contains("dense&sparse"),
        "{error}"
    );
}

#[test]
fn a_failed_part_is_sent_again_alone() {
    let server = Server::start(|seen| {
        let first = seen.body["input"]["texts"][0] == "10" && seen.headers.contains("nothing");
        let again = seen.before == 1 || first;
        if again {
            Reply::json(503, &json!({"code": "x"}))
        } else {
            dashscope(seen, 1024)
        }
    });
    let toml = "[providers.dashscope]\nconcurrency = 1";
    let endpoint = endpoint_with("dashscope", &server.url, toml).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "text-embedding-v4").unwrap();
    let texts: Vec<String> = (0..30).map(|index| index.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
    assert_eq!(vectors.vector(29)[29], 1.0);
    let firsts: Vec<String> = server
        .requests()
        .iter()
        .map(|seen| texts_of(seen)[0].clone())
        .collect();
    assert_eq!(firsts, ["0", "10", "10", "20"]);
}

#[test]
fn a_cap_that_the_provider_tells_is_learnt() {
    let server = Server::start(|seen| match texts_of(seen).len() {
        size if size > 4 => Reply::json(
            422,
            &json!({
            "error": format!("batch size {size} > maximum allowed batch size 4"),
            "error_type": "Validation"}),
        ),
        _ => openai(seen, 8),
    });
    let toml = "[providers.tei]\nbase_url = \"URL/v1\"\nconcurrency = 1\n\
                models.m = { dimensions = 8 }";
    let endpoint = endpoint_with("tei", "", &toml.replace("URL", &server.url)).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "m").unwrap();
    for _ in 0..2 {
        let texts = ["0", "1", "2", "3", "4", "5"];
        let vectors = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
        assert_eq!(vectors.vector(5)[5], 1.0);
    }
    let sizes: Vec<usize> = server
        .requests()
        .iter()
        .map(|seen| texts_of(seen).len())
        .collect();
    assert_eq!(sizes, [6, 4, 2, 4, 2]);
}

#[test]
fn an_unknown_width_is_asked_for_and_prompts_are_put_before() {
    let server = Server::start(|seen| openai(seen, 7));
    let toml = "[providers.here]\nbase_url = \"URL/v1\"\n\
                models.m = { query_prompt = \"query: \", document_prompt = \"passage: \" }";
    let endpoint = endpoint_with("here", "", &toml.replace("URL", &server.url)).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "m").unwrap();
    assert_eq!(embedder.dimensions(), 7);
    embedder.embed_query("密钥 3").unwrap();
    embedder.embed_documents(&["4"]).unwrap();
    let requests = server.requests();
    assert_eq!(texts_of(&requests[1]), ["query: 密钥 3"]);
    assert_eq!(texts_of(&requests[2]), ["passage: 4"]);
    assert!(
        !requests[1].headers.contains("sk-test"),
        "a key is for its own provider only"
    );
}

#[test]
fn long_texts_follow_the_policy() {
    let server = Server::start(|seen| openai(seen, WIDTH));
    let embedder = open("openai", &server, "text-embedding-3-small");
    let long = "杏".repeat(4500);
    let embed = |overflow| {
        let options = EmbedOptions {
            overflow,
            ..EmbedOptions::default()
        };
        embedder.embed(&["1", &long], &options)
    };
    let error = remote(embed(Overflow::Error).unwrap_err());
    let ErrorKind::TooLong {
        index: 1,
        tokens: 9000,
        max_length: 8192,
        ..
    } = error.kind()
    else {
        panic!("{error}");
    };
    let cut = embed(Overflow::Truncate).unwrap().usage[1];
    assert!(
        cut.kept <= 8192 && cut.seen == 9000 && cut.windows == 1,
        "{cut:?}"
    );
    let split = embed(Overflow::SplitMean).unwrap().usage[1];
    assert_eq!((split.seen, split.kept, split.windows), (9000, 9000, 2));
}

#[test]
fn tokens_are_those_that_the_provider_counts() {
    let server = Server::start(|seen| {
        let all = texts_of(seen).into_iter().enumerate();
        let all =
            all.map(|(index, text)| json!({"index": index, "embedding": vector(&text, 1024)}));
        let embeddings: Vec<Value> = all.collect();
        let output = json!({"embeddings": embeddings});
        Reply::json(
            200,
            &json!({"output": output, "usage": {"total_tokens": 99}}),
        )
    });
    let embedder = open("dashscope", &server, "text-embedding-v4");
    let texts = ["1"; 25];
    let usage = embedder
        .embed(&texts, &EmbedOptions::default())
        .unwrap()
        .usage;
    // Three requests of 10, 10 and 5 texts.
    let kept: usize = usage.iter().map(|usage| usage.kept).sum();
    assert_eq!(kept, 3 * 99);
    assert!(
        usage
            .iter()
            .all(|usage| usage.seen == usage.kept && usage.kept > 0)
    );
}

#[test]
fn an_empty_text_goes_alone() {
    let server = Server::start(|seen| openai(seen, WIDTH));
    let embedder = open("openai", &server, "text-embedding-3-small");
    let vectors = embedder
        .embed(&["1", "", "2"], &EmbedOptions::default())
        .unwrap();
    assert_eq!(
        (
            vectors.vector(0)[1],
            vectors.vector(1)[0],
            vectors.vector(2)[2]
        ),
        (1.0, 1.0, 1.0)
    );
    assert!(
        server
            .requests()
            .iter()
            .any(|seen| seen.body["input"] == json!(""))
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn answers_that_cannot_be_believed_are_refused() {
    let item = |index: usize, embedding: Value| json!({"index": index, "embedding": embedding});
    let nan = STANDARD.encode([f32::NAN; WIDTH].map(f32::to_le_bytes).concat());
    let one = json!(vector("0", WIDTH));
    let cases: Vec<(Value, &str)> = vec![
        (
            json!({"data": [item(0, one.clone())]}),
            "sent 1 vectors for 2 texts",
        ),
        (json!({"data": []}), "sent 0 vectors for 2 texts"),
        (json!({}), "no `data`"),
        (
            json!({"data": [item(0, one.clone()), item(0, one.clone())]}),
            "indices",
        ),
        (
            json!({"data": [item(0, one.clone()), item(2, one.clone())]}),
            "indices",
        ),
        (
            json!({"data": [item(0, one.clone()), item(1, json!([1.0]))]}),
            "different widths",
        ),
        (
            json!({"data": [item(0, one.clone()), item(1, json!(nan))]}),
            "no numbers for text 1",
        ),
        (
            json!({"data": [item(0, json!(vec![0.0; WIDTH])), item(1, one.clone())]}),
            "zeros for text 0",
        ),
        (
            json!({"data": [item(0, json!([null])), item(1, one.clone())]}),
            "malformed",
        ),
        (
            json!({"data": [item(0, json!("A===")), item(1, one)]}),
            "base64",
        ),
        (
            json!({"data": [item(0, json!([1.0])), item(1, json!([1.0]))]}),
            "1 dimensions for `text-embedding-3-small`, expected 1536",
        ),
    ];
    for (body, expected) in cases {
        let server = Server::start(move |_| Reply::json(200, &body));
        let embedder = open("openai", &server, "text-embedding-3-small");
        let error = remote(
            embedder
                .embed(&["0", "1"], &EmbedOptions::default())
                .unwrap_err(),
        );
        assert!(
            error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
        assert_eq!(server.requests().len(), 1, "{error}: sent again in vain");
    }
}
